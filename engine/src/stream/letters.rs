//! Dead letters: what the order store refuses, kept in the ledger until replayed.
//!
//! A letter is durable before the mark moves past its record, and it goes only
//! after the store took the order. Between the two a crash may repeat either
//! step: burying the same record again is the same letter, replaying an order
//! again changes no row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floodgate_ledger::{DeadLetter, Ledger, ReadError, Seq};
use parking_lot::Mutex;
use prometheus::IntGauge;
use prost::Message;

use super::note::{Letter, Note, read, unreadable};
use super::row::{ORDER, OrderRow};
use super::sift::Refused;
use super::store::{Batch, Mark, OrderStore, Put, StoreError};
use super::witness::{self, Disagreement};
use crate::domain::ids::{OrderId, SaleId};
use crate::domain::order::Order;
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
    sale: SaleId,
    order: OrderId,
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
            letters.know(page.iter().map(|l| (l.seq, &l.order, l.at)));
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

    /// The orders of a sale that have a dead letter.
    pub fn orders_of(&self, sale: &SaleId) -> BTreeSet<OrderId> {
        let known = self.known.lock();
        let of_sale = known.values().filter(|k| k.sale == *sale);
        of_sale.map(|k| k.order).collect()
    }

    /// Letters after `after`, in the order of their records.
    pub fn page(&self, after: u64, limit: usize) -> Result<Vec<Letter>, LetterError> {
        if after == u64::MAX {
            return Ok(Vec::new()); // No record comes after the last number there is.
        }
        let found = self.ledger.dead_letters(Seq(after), limit)?;
        found.iter().map(read).map(|r| Ok(r?.0)).collect()
    }

    /// An order as the ledger has it now.
    pub fn current(&self, sale: &SaleId, id: &OrderId) -> Result<Option<OrderRow>, LetterError> {
        let found = self.ledger.entity(sale.as_bytes(), ORDER, id.as_bytes())?;
        found
            .map(|s| OrderRow::read(s.seq.0, &s.body).map_err(|e| unreadable(s.seq.0, &e)))
            .transpose()
    }

    /// Puts the order into the store as it is now, and the event of the dead
    /// version; what became of the order since is not undone. Blocks.
    pub fn replay(&self, seq: u64) -> Result<Replayed, LetterError> {
        let _turn = self.turn.lock();
        let Some(before) = seq.checked_sub(1) else {
            return Ok(Replayed::Missing);
        };
        let found = self.ledger.dead_letters(Seq(before), 1)?;
        let Some(found) = found.first().filter(|l| l.seq.0 == seq) else {
            return Ok(Replayed::Missing);
        };
        let (letter, body) = read(found)?;
        let dead = OrderRow::read(seq, &body).map_err(|e| unreadable(seq, &e))?;
        let batch = match self.current(&dead.order.sale, &dead.order.id)? {
            // The refusal may concern the old snapshot only, so that one stays out.
            Some(newer) if newer.order.version > dead.order.version => Batch {
                orders: vec![newer],
                events: vec![dead],
            },
            Some(_) | None => Batch {
                orders: vec![dead],
                ..Batch::default()
            },
        };
        match self.put(&batch)? {
            None => {
                self.remove(&[seq])?;
                tracing::info!(seq, order = %letter.order.id, "a dead letter was replayed");
                Ok(Replayed::Taken)
            }
            Some(why) => {
                let why = shortened(why);
                self.write(&[(seq, &letter.order, body, why.clone())])?;
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
            if !self.known.lock().contains_key(&row.seq) {
                tracing::error!(
                    seq = row.seq,
                    order = %row.order.id,
                    sale = %row.order.sale,
                    why,
                    "the order store refuses this record; it becomes a dead letter"
                );
            }
        }
        let entries: Vec<_> = refused
            .iter()
            .map(|r| {
                (
                    r.row.seq,
                    &r.row.order,
                    r.row.body.clone(),
                    shortened(r.why.clone()),
                )
            })
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
            .filter(|seq| refused.iter().all(|r| r.row.seq != *seq))
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock();
        self.remove(&stale)
    }

    fn write(&self, entries: &[(u64, &Order, Vec<u8>, String)]) -> Result<(), LetterError> {
        let now = self.clock.now();
        let at = |seq: u64| self.known.lock().get(&seq).map_or(now, |k| k.at);
        let letters = entries
            .iter()
            .map(|(seq, _, body, why)| {
                let note = Note {
                    order: body.clone(),
                    why: why.clone(),
                    at_ms: at(*seq).0,
                };
                DeadLetter {
                    seq: Seq(*seq),
                    note: note.encode_to_vec().into(),
                }
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
        self.know(
            entries
                .iter()
                .map(|(seq, order, ..)| (*seq, *order, at(*seq))),
        );
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

    fn know<'a>(&self, letters: impl Iterator<Item = (u64, &'a Order, UnixMs)>) {
        let letters: Vec<_> = letters
            .map(|(seq, order, at)| {
                let (sale, order) = (order.sale.clone(), order.id);
                (seq, Known { sale, order, at })
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
