//! Dead letters: what the order store refuses, kept in the ledger until replayed.
//!
//! A letter is durable before the mark moves past its record, and it is seen until
//! the store took its row. Between the two a crash may repeat either
//! step: burying the same record again is the same letter, replaying a row
//! again changes nothing. What becomes of it then: `again.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
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
    /// In the store; nobody sees the letter any more.
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
pub(super) struct Known {
    sale: Option<SaleId>,
    id: RowId,
    at: UnixMs,
}

pub struct Letters {
    pub(super) ledger: Ledger,
    store: Arc<dyn OrderStore>,
    node: u16,
    clock: Arc<dyn Clock>,
    gauge: IntGauge,
    /// The ledger's letters by seq; changed only after the ledger was.
    pub(super) known: Mutex<BTreeMap<u64, Known>>,
    /// Those that were replayed, and where the ledger ended then. None of them is known.
    pub(super) taken: Mutex<BTreeMap<u64, Seq>>,
    /// One writes at a time, so that no replay takes away what is being buried.
    pub(super) turn: Mutex<()>,
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
            taken: Mutex::default(),
            turn: Mutex::default(),
        };
        let mut after = Seq(0);
        loop {
            let found = letters.ledger.dead_letters(after, READ_PAGE)?;
            let Some(last) = found.last() else { break };
            after = last.seq;
            for found in &found {
                let letter = read(found)?;
                match letter.taken_at {
                    Some(tip) => {
                        letters.taken.lock().insert(letter.seq, tip);
                    }
                    None => letters.know([(&letter.row, letter.at)].into_iter()),
                }
            }
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
        let seqs: Vec<u64> = {
            let known = self.known.lock();
            let later = known.range((Bound::Excluded(after), Bound::Unbounded));
            later.map(|(seq, _)| *seq).collect()
        };
        let found = seqs.into_iter().filter_map(|seq| {
            let found = self.found(seq).transpose()?;
            Some(found.and_then(|found| read(&found)))
        });
        // One may have been replayed in between.
        let there = found.filter(|l| l.as_ref().map_or(true, |l| l.taken_at.is_none()));
        there.take(limit).collect()
    }

    pub(super) fn found(&self, seq: u64) -> Result<Option<DeadLetter>, LetterError> {
        let Some(before) = seq.checked_sub(1) else {
            return Ok(None);
        };
        let found = self.ledger.dead_letters(Seq(before), 1)?;
        Ok(found.into_iter().next().filter(|l| l.seq.0 == seq))
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
        if !self.has(seq) {
            return Ok(Replayed::Missing);
        }
        let Some(found) = self.found(seq)? else {
            return Ok(Replayed::Missing);
        };
        let letter = read(&found)?;
        let batch = self.batch_of(std::slice::from_ref(&letter))?;
        let dead = letter.row;
        let (kind, id) = (dead.kind().name(), dead.id());
        match self.put(&batch)? {
            None => {
                self.lay_by(&[seq])?;
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

    /// What these letters are of as it is now, and the events of the dead versions.
    pub(super) fn batch_of(&self, letters: &[Letter]) -> Result<Batch, LetterError> {
        let mut batch = Batch::default();
        for Letter { row: dead, .. } in letters {
            match self.current(dead.sale(), &dead.id())? {
                // The refusal may concern the old snapshot only, so that one stays out.
                Some(newer) if newer.version() > dead.version() => {
                    batch.rows.push(newer);
                    batch.events.push(dead.clone());
                }
                Some(_) | None => batch.rows.push(dead.clone()),
            }
        }
        batch.rows.sort_by_key(Row::seq);
        batch.rows.dedup_by_key(|row| row.seq());
        Ok(batch)
    }

    /// The mark stays where it is; that it is this ledger's is part of the question.
    /// Returns why the store refuses, if it does.
    pub(super) fn put(&self, batch: &Batch) -> Result<Option<String>, LetterError> {
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
        self.lay_by(&stale)
    }

    pub(super) fn write(&self, entries: &[(&Row, String)]) -> Result<(), LetterError> {
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
        self.write_notes(letters)?;
        let seqs: BTreeSet<u64> = entries.iter().map(|(row, _)| row.seq()).collect();
        self.taken.lock().retain(|seq, _| !seqs.contains(seq));
        self.know(entries.iter().map(|(row, _)| (*row, at(row.seq()))));
        Ok(())
    }

    pub(super) fn write_notes(&self, letters: Vec<DeadLetter>) -> Result<(), LetterError> {
        durably(async {
            let receipt = self.ledger.bury(letters).await.map_err(text)?;
            receipt.await.map_err(text)
        })?;
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
        self.show(known.len());
    }

    pub(super) fn show(&self, n: usize) {
        self.gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
    }
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn shortened(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    why
}

/// Waits for the fsync on a thread that may block.
pub(super) fn durably<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, LetterError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(text)
        .and_then(|runtime| runtime.block_on(work))
        .map_err(LetterError::Write)
}
