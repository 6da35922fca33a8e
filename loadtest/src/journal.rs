//! The buyers' own memory: every send and what came back, on disk.
//!
//! Answers that matter as evidence (wins, cancels, anything unexpected) are kept
//! verbatim and parsed only by the audit. Sending costs a copy into a block;
//! a thread writes the blocks. The queue of blocks is bounded: when the disk
//! cannot follow, the generator waits, because a journal with holes proves
//! nothing.
//!
//! Format: `FGJ2`, header length (u32 LE), header (JSON), then records:
//! attempt u32, act u8, outcome u8, status u16, sent_us u64, took_us u32,
//! body_len u16, body. All little-endian. `DONE` behind the last one says that
//! nobody was cut off: what was not told in the end never was.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::answer::Outcome;
use crate::plan::{Plan, Variant};

const MAGIC: &[u8; 4] = b"FGJ2";
/// Shorter than a record.
const DONE: &[u8; 4] = b"DONE";
const FIXED_BYTES: usize = 22;
const BLOCK_BYTES: usize = 256 << 10;
/// 16 MB between the sockets and the disk.
const BLOCKS_QUEUED_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Error)]
pub enum JournalError {
    #[error("journal {path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("journal {path}: {why}")]
    Format { path: PathBuf, why: String },
}

/// What a run promises about itself; the audit needs nothing else of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    pub plan: Plan,
    pub attempts: u32,
    pub started_unix_ms: i64,
    /// Facts of the sale as defined by this run; none with `--no-create`.
    pub defined: Option<Defined>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defined {
    pub units_per_user: Option<u32>,
    pub skus: Vec<DefinedSku>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinedSku {
    pub id: String,
    pub price_cent: i64,
    pub currency: String,
    pub units: i64,
    /// The work that a paid order is granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Buy(Variant),
    Cancel,
    /// By an operator.
    Refund,
    /// By the provider: which of the plan's callbacks of this attempt.
    Callback(u8),
}

/// Of an attempt, at most; the plan has three.
const CALLBACKS_MAX: u8 = 16;
/// Callbacks are numbered from here.
const CALLBACKS_AT: u8 = 16;

impl Act {
    fn number(self) -> u8 {
        match self {
            Self::Buy(Variant::First) => 0,
            Self::Buy(Variant::Other) => 1,
            Self::Cancel => 2,
            Self::Refund => 3,
            Self::Callback(no) => CALLBACKS_AT + no,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [
            Self::Buy(Variant::First),
            Self::Buy(Variant::Other),
            Self::Cancel,
            Self::Refund,
        ]
        .into_iter()
        .chain((0..CALLBACKS_MAX).map(Self::Callback))
        .find(|act| act.number() == number)
    }
}

/// One send and its end. Times are microseconds since the run's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub attempt: u32,
    pub act: Act,
    pub outcome: Outcome,
    /// 0 when there was no answer.
    pub status: u16,
    pub sent_us: u64,
    pub took_us: u32,
    pub body: &'a [u8],
}

impl Entry<'_> {
    pub fn answered_us(&self) -> u64 {
        self.sent_us + u64::from(self.took_us)
    }
}

pub struct Writer {
    block: Vec<u8>,
    blocks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    path: PathBuf,
}

impl Writer {
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::create(path).map_err(io)?;
        let text = serde_json::to_vec(header).map_err(|e| JournalError::Format {
            path: path.to_owned(),
            why: e.to_string(),
        })?;
        let mut block = Vec::with_capacity(BLOCK_BYTES + 1024);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&(text.len() as u32).to_le_bytes());
        block.extend_from_slice(&text);
        let (blocks, queue) = sync_channel::<Vec<u8>>(BLOCKS_QUEUED_MAX);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                for block in queue {
                    file.write_all(&block)?;
                }
                file.sync_all()
            })
            .map_err(io)?;
        Ok(Self {
            block,
            blocks: Some(blocks),
            thread: Some(thread),
            path: path.to_owned(),
        })
    }

    pub fn append(&mut self, entry: &Entry<'_>) {
        let body_len = entry.body.len().min(usize::from(u16::MAX));
        self.block.extend_from_slice(&entry.attempt.to_le_bytes());
        self.block
            .extend_from_slice(&[entry.act.number(), entry.outcome as u8]);
        self.block.extend_from_slice(&entry.status.to_le_bytes());
        self.block.extend_from_slice(&entry.sent_us.to_le_bytes());
        self.block.extend_from_slice(&entry.took_us.to_le_bytes());
        self.block
            .extend_from_slice(&(body_len as u16).to_le_bytes());
        self.block.extend_from_slice(&entry.body[..body_len]);
        if self.block.len() >= BLOCK_BYTES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let full = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES + 1024));
        // A writer that failed closed its end; `finish` reports why.
        if let Some(blocks) = &self.blocks
            && blocks.send(full).is_err()
        {
            self.blocks = None;
        }
    }

    /// Everything on disk, or the reason why not. `whole`: everybody was served to the end.
    pub fn finish(mut self, whole: bool) -> Result<PathBuf, JournalError> {
        if whole {
            self.block.extend_from_slice(DONE);
        }
        self.hand_over();
        self.blocks = None;
        let result = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(std::io::Error::other("the journal's thread is gone")),
        };
        let path = self.path.clone();
        match result {
            Ok(()) => Ok(path),
            Err(source) => Err(JournalError::Io { path, source }),
        }
    }
}

/// A journal read back. Entries are decoded on the way, not stored twice.
#[derive(Debug)]
pub struct Journal {
    pub header: Header,
    bytes: Vec<u8>,
    records_at: usize,
    /// The run went to its end; of one that was stopped or killed the last sends, and
    /// what would have been sent again, are missing.
    pub whole: bool,
}

impl Journal {
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|source| JournalError::Io {
                path: path.to_owned(),
                source,
            })?;
        Self::decode(bytes).map_err(|why| JournalError::Format {
            path: path.to_owned(),
            why,
        })
    }

    pub fn decode(bytes: Vec<u8>) -> Result<Self, String> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or("not a floodgate-loadtest journal (it begins with FGJ2)")?;
        let (length, rest) = rest
            .split_first_chunk::<4>()
            .ok_or("cut inside the header")?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > HEADER_BYTES_MAX {
            return Err(format!("a header of {length} bytes is not believable"));
        }
        let text = rest.get(..length).ok_or("cut inside the header")?;
        let header = serde_json::from_slice(text).map_err(|e| format!("header: {e}"))?;
        let mut journal = Self {
            header,
            records_at: 8 + length,
            bytes,
            whole: false,
        };
        let mut at = journal.records_at;
        while at < journal.bytes.len() {
            match journal.entry_at(at)? {
                Some((_, next)) => at = next,
                None => {
                    journal.whole = journal.bytes[at..] == *DONE;
                    break;
                }
            }
        }
        Ok(journal)
    }

    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut at = self.records_at;
        std::iter::from_fn(move || {
            let (entry, next) = self.entry_at(at).ok().flatten()?;
            at = next;
            Some(entry)
        })
    }

    fn entry_at(&self, at: usize) -> Result<Option<(Entry<'_>, usize)>, String> {
        let Some(fixed) = self.bytes.get(at..at + FIXED_BYTES) else {
            return Ok(None);
        };
        let number = |from: usize, n: usize| {
            fixed[from..from + n]
                .iter()
                .rev()
                .fold(0u64, |sum, &byte| sum << 8 | u64::from(byte))
        };
        let act = Act::from_number(fixed[4])
            .ok_or_else(|| format!("unknown act {} at byte {at}", fixed[4]))?;
        let outcome = Outcome::from_number(fixed[5])
            .ok_or_else(|| format!("unknown outcome {} at byte {at}", fixed[5]))?;
        let attempt = number(0, 4) as u32;
        if attempt >= self.header.attempts {
            return Err(format!(
                "attempt {attempt} at byte {at} is beyond the header's {}",
                self.header.attempts
            ));
        }
        let end = at + FIXED_BYTES + number(20, 2) as usize;
        let Some(body) = self.bytes.get(at + FIXED_BYTES..end) else {
            return Ok(None);
        };
        let entry = Entry {
            attempt,
            act,
            outcome,
            status: number(6, 2) as u16,
            sent_us: number(8, 8),
            took_us: number(16, 4) as u32,
            body,
        };
        Ok(Some((entry, end)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            plan: crate::plan::tests::plan(),
            attempts: 10,
            started_unix_ms: 5,
            defined: None,
        }
    }

    fn entry(attempt: u32, body: &[u8]) -> Entry<'_> {
        Entry {
            attempt,
            act: Act::Buy(Variant::Other),
            outcome: Outcome::SoldOut,
            status: 422,
            sent_us: 1 << 40,
            took_us: 77,
            body,
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let mut writer = Writer::create(&path, &header()).unwrap();
        let long = vec![b'x'; 1000];
        for i in 0..1000u32 {
            writer.append(&entry(i % 10, if i % 2 == 0 { &long } else { b"" }));
        }
        writer.finish(true).unwrap();
        let journal = Journal::read(&path).unwrap();
        assert_eq!((journal.header.clone(), journal.whole), (header(), true));
        assert_eq!(journal.entries().count(), 1000);
        assert_eq!(journal.entries().nth(8), Some(entry(8, &long)));
        assert_eq!(journal.entries().nth(9), Some(entry(9, b"")));
    }

    #[test]
    fn every_act_has_a_number_of_its_own() {
        let acts: Vec<_> = (0..=u8::MAX).filter_map(Act::from_number).collect();
        assert_eq!(acts.len(), 4 + usize::from(CALLBACKS_MAX));
        for act in acts {
            assert_eq!(Act::from_number(act.number()), Some(act));
        }
    }

    #[test]
    fn an_end_that_was_cut_off_keeps_what_came_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let mut writer = Writer::create(&path, &header()).unwrap();
        writer.append(&entry(1, b"one"));
        writer.append(&entry(2, b"two"));
        writer.finish(true).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in 1..=DONE.len() + FIXED_BYTES + 3 {
            let journal = Journal::decode(bytes[..bytes.len() - cut].to_vec()).unwrap();
            assert!(!journal.whole);
            let whole = if cut <= DONE.len() { 2 } else { 1 };
            assert_eq!(journal.entries().count(), whole);
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(
            Journal::decode(b"PNG".to_vec())
                .unwrap_err()
                .contains("not a floodgate-loadtest journal")
        );
        assert!(
            Journal::decode(b"FGJ2\xff\xff\xff\xff".to_vec())
                .unwrap_err()
                .contains("not believable")
        );
    }
}
