//! Dead letters: what the order store refuses, kept in the ledger until replayed.
//!
//! A letter is durable before the mark moves past its record, and it goes only
//! after the store took its row. Between the two a crash may repeat either
//! step: burying the same record again is the same letter, replaying a row
//! again changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floodgate_ledger::{DeadLetter, Ledger, ReadError, Seq};
use parking_lot::Mutex;
use prometheus::IntGauge;
use prost::Message;

use super::note::{Letter, Note, read, unreadable};
use super::row::{Row, RowId};
use super::sift::Refused;
use super::store::{Batch, Mark, OrderStore, Put, StoreError};
use super::witness::{self, Disagreement};
use crate::domain::ids::SaleId;
use crate::domain::payment::NO_SALE;
use crate::domain::time::{Clock, UnixMs};

/// A store may quote the whole row; the beginning says what is wrong.
const WHY_BYTES_MAX: usize = 500;
/// Letters read at a time at the start.
const READ_PAGE: usize = 1_000;
/// A replay stands beside a stream that moves the mark; this often in a row it
/// loses only if something else is wrong.
const TRIES: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// In the store; the letter is gone.
    Taken,
    /// Kept, with this new reason.
    Refused(String),
    /// There is no such letter.
    Missing,
}

#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    #[error("read the dead letters: {0}")]
    Read(#[from] ReadError),
    #[error("dead letter {seq}: {what}")]
    Note { seq: u64, what: String },
    #[error("write a dead letter: {0}")]
    Write(String),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Mark(#[from] Disagreement),
    #[error("the order store's mark moved all the time; try again")]
    Busy,
}

/// What is asked about letters all the time, without reading them.
struct Known {
    sale: Option<SaleId>,
    id: RowId,
    at: UnixMs,
}

pub struct Letters {
    ledger: Ledger,
    store: Arc<dyn OrderStore>,
    node: u16,
    clock: Arc<dyn Clock>,
    gauge: IntGauge,
    /// The ledger's letters by seq; changed only after the ledger was.
    known: Mutex<BTreeMap<u64, Known>>,
    /// One writes at a time, so that no replay takes away what is being buried.
    turn: Mutex<()>,
}

impl Letters {
    pub fn open(
        ledger: Ledger,
        store: Arc<dyn OrderStore>,
        node: u16,
        clock: Arc<dyn Clock>,
        gauge: IntGauge,
    ) -> Result<Self, LetterError> {
        let letters = Self {
            ledger,
            store,
            node,
            clock,
            gauge,
            known: Mutex::default(),
            turn: Mutex::default(),
        };
        let mut after = 0;
        loop {
            let page = letters.page(after, READ_PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            letters.know(page.iter().map(|l| (&l.row, l.at)));
        }
        match letters.count() {
            0 => {}
            n => tracing::warn!(n, "dead letters wait for a replay"),
        }
        Ok(letters)
    }

    pub(super) fn now(&self) -> UnixMs {
        self.clock.now()
    }

    pub fn count(&self) -> usize {
        self.known.lock().len()
    }

    /// Whether this record has a dead letter.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.known.lock().contains_key(&seq)
    }

    /// What of a sale has a dead letter; without one, of payments that are of none.
    pub fn of_sale(&self, sale: Option<&SaleId>) -> BTreeSet<RowId> {
        let known = self.known.lock();
        let of_sale = known.values().filter(|k| k.sale.as_ref() == sale);
        of_sale.map(|k| k.id.clone()).collect()
    }

    /// Letters after `after`, in the order of their records.
    pub fn page(&self, after: u64, limit: usize) -> Result<Vec<Letter>, LetterError> {
        if after == u64::MAX {
            return Ok(Vec::new()); // No record comes after the last number there is.
        }
        let found = self.ledger.dead_letters(Seq(after), limit)?;
        found.iter().map(read).collect()
    }

    /// As the ledger has it now.
    pub fn current(&self, sale: Option<&SaleId>, id: &RowId) -> Result<Option<Row>, LetterError> {
        let group = sale.map_or(NO_SALE, SaleId::as_bytes);
        let found = self.ledger.entity(group, id.kind().kind(), id.as_bytes())?;
        let Some(found) = found else { return Ok(None) };
        Row::of_snapshot(&found).map_err(|e| unreadable(found.seq.0, &e))
    }

    /// Puts what was refused into the store as it is now, and the event of the dead
    /// version; what became of it since is not undone. Blocks.
    pub fn replay(&self, seq: u64) -> Result<Replayed, LetterError> {
        let _turn = self.turn.lock();
        let Some(before) = seq.checked_sub(1) else {
            return Ok(Replayed::Missing);
        };
        let found = self.ledger.dead_letters(Seq(before), 1)?;
        let Some(found) = found.first().filter(|l| l.seq.0 == seq) else {
            return Ok(Replayed::Missing);
        };
        let dead = read(found)?.row;
        let batch = match self.current(dead.sale(), &dead.id())? {
            // The refusal may concern the old snapshot only, so that one stays out.
            Some(newer) if newer.version() > dead.version() => Batch {
                rows: vec![newer],
                events: vec![dead.clone()],
            },
            Some(_) | None => Batch {
                rows: vec![dead.clone()],
                ..Batch::default()
            },
        };
        let (kind, id) = (dead.kind().name(), dead.id());
        match self.put(&batch)? {
            None => {
                self.remove(&[seq])?;
                tracing::info!(seq, kind, %id, "a dead letter was replayed");
                Ok(Replayed::Taken)
            }
            Some(why) => {
                let why = shortened(why);
                self.write(&[(&dead, why.clone())])?;
                Ok(Replayed::Refused(why))
            }
        }
    }

    /// The mark stays where it is; that it is this ledger's is part of the question.
    /// Returns why the store refuses, if it does.
    fn put(&self, batch: &Batch) -> Result<Option<String>, LetterError> {
        let mut mark = self.store.mark(self.node)?;
        for _ in 0..TRIES {
            if let Some(mark) = &mark {
                witness::check(&self.ledger, mark)?;
            }
            let to = mark.clone().unwrap_or_else(|| Mark::genesis(&self.ledger));
            match self.store.put(self.node, batch, mark.as_ref(), &to) {
                Ok(Put::Advanced) => return Ok(None),
                Ok(Put::MarkMoved(actual)) => mark = actual,
                Err(error) => return Ok(Some(error.refusal()?)),
            }
        }
        Err(LetterError::Busy)
    }

    /// Durable when it returns. Whoever comes again after a crash writes the same.
    pub(super) fn bury(&self, refused: &[Refused]) -> Result<(), LetterError> {
        let _turn = self.turn.lock();
        for Refused { row, why } in refused {
            if !self.has(row.seq()) {
                tracing::error!(
                    seq = row.seq(),
                    kind = row.kind().name(),
                    id = %row.id(),
                    sale = row.sale().map(SaleId::as_str),
                    why,
                    "the order store refuses this record; it becomes a dead letter"
                );
            }
        }
        let entries: Vec<_> = refused
            .iter()
            .map(|r| (&r.row, shortened(r.why.clone())))
            .collect();
        self.write(&entries)
    }

    /// Letters of records that the mark has just passed without refusal: they were
    /// buried by a run that ended before it moved the mark, and the store has
    /// changed its mind since.
    pub(super) fn settle(
        &self,
        passed: std::ops::RangeInclusive<u64>,
        refused: &[Refused],
    ) -> Result<(), LetterError> {
        let stale: Vec<u64> = self
            .known
            .lock()
            .range(passed)
            .map(|(seq, _)| *seq)
            .filter(|seq| refused.iter().all(|r| r.row.seq() != *seq))
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock();
        self.remove(&stale)
    }

    fn write(&self, entries: &[(&Row, String)]) -> Result<(), LetterError> {
        let now = self.clock.now();
        let at = |seq: u64| self.known.lock().get(&seq).map_or(now, |k| k.at);
        let letters = entries
            .iter()
            .map(|(row, why)| DeadLetter {
                seq: Seq(row.seq()),
                note: Note::of(row, why.clone(), at(row.seq()))
                    .encode_to_vec()
                    .into(),
            })
            .collect();
        durably(async {
            self.ledger
                .bury(letters)
                .await
                .map_err(text)?
                .await
                .map_err(text)
        })?;
        self.know(entries.iter().map(|(row, _)| (*row, at(row.seq()))));
        Ok(())
    }

    fn remove(&self, seqs: &[u64]) -> Result<(), LetterError> {
        let letters: Vec<Seq> = seqs.iter().copied().map(Seq).collect();
        durably(async {
            self.ledger
                .unbury(&letters)
                .await
                .map_err(text)?
                .await
                .map_err(text)
        })?;
        let mut known = self.known.lock();
        known.retain(|seq, _| !seqs.contains(seq));
        self.gauge
            .set(i64::try_from(known.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn know<'a>(&self, letters: impl Iterator<Item = (&'a Row, UnixMs)>) {
        let letters: Vec<_> = letters
            .map(|(row, at)| {
                let (sale, id) = (row.sale().cloned(), row.id());
                (row.seq(), Known { sale, id, at })
            })
            .collect();
        let mut known = self.known.lock();
        known.extend(letters);
        self.gauge
            .set(i64::try_from(known.len()).unwrap_or(i64::MAX));
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn shortened(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    why
}

/// Waits for the fsync on a thread that may block.
fn durably<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, LetterError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(text)
        .and_then(|runtime| runtime.block_on(work))
        .map_err(LetterError::Write)
}
