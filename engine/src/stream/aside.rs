//! Putting aside what the store refuses, so that everything else flows.
//!
//! In this order: find the refused rows, have them on disk as dead letters, move
//! the mark past them. A crash anywhere in between leads to the same letters and
//! the same rows. When nothing at all is taken, nothing is put aside either.

use std::collections::BTreeSet;
use std::sync::Arc;

use floodgate_ledger::Ledger;

use super::letters::Letters;
use super::sift::{Refused, Sifted, sift};
use super::store::{Batch, Mark, OrderStore, Put};
use super::worker::Halt;

/// Orders refused one after the other, each alone in its batch and none taken
/// between them: after so many it is the schema and not the orders.
const LONE_REFUSALS_MAX: usize = 10;

pub(super) struct Aside {
    pub ledger: Ledger,
    pub store: Arc<dyn OrderStore>,
    pub letters: Arc<Letters>,
    pub node: u16,
    /// Records of orders that were refused alone, since the last that was taken. By
    /// seq, because a batch that meets a store that is away comes again.
    pub lone_refusals: BTreeSet<u64>,
}

impl Aside {
    /// A batch was taken as it was.
    pub fn taken(&mut self, batch: &Batch, from: u64, to: &Mark) -> Result<(), Halt> {
        if !batch.orders.is_empty() {
            self.lone_refusals.clear();
        }
        Ok(self.letters.settle(from..=to.seq.0, &[])?)
    }

    /// Carries a batch that the store refused as a whole.
    pub fn put(&mut self, batch: Batch, mark: Option<&Mark>, to: &Mark) -> Result<Put, Halt> {
        let stand = match self.stand_on(mark)? {
            Ok(stand) => stand,
            Err(actual) => return Ok(Put::MarkMoved(actual)),
        };
        let refused = match sift(&*self.store, self.node, batch.orders, &stand)? {
            Sifted::Done { n_taken, refused } => {
                self.bury(n_taken, &refused)?;
                refused
            }
            Sifted::MarkMoved(actual) => return Ok(Put::MarkMoved(actual)),
        };
        let moved = self.move_mark(Some(&stand), to)?;
        if moved == Put::Advanced {
            let passed = stand.seq.next().0..=to.seq.0;
            self.letters.settle(passed, &refused)?;
        }
        Ok(moved)
    }

    /// Sifting needs a mark to stand on. An error is the mark of somebody else.
    pub fn stand_on(&self, mark: Option<&Mark>) -> Result<Result<Mark, Option<Mark>>, Halt> {
        if let Some(stand) = mark {
            return Ok(Ok(stand.clone()));
        }
        let genesis = Mark::genesis(&self.ledger);
        Ok(match self.move_mark(None, &genesis)? {
            Put::Advanced => Ok(genesis),
            Put::MarkMoved(actual) => Err(actual),
        })
    }

    /// Has what was refused on disk when it returns.
    pub fn bury(&mut self, n_taken: usize, refused: &[Refused]) -> Result<(), Halt> {
        self.judge(n_taken, refused)?;
        if !refused.is_empty() {
            self.letters.bury(refused)?;
            fail::fail_point!("stream-letters-buried");
        }
        Ok(())
    }

    fn move_mark(&self, from: Option<&Mark>, to: &Mark) -> Result<Put, Halt> {
        Ok(self.store.put(self.node, &Batch::default(), from, to)?)
    }

    /// A store that takes nothing any more has a broken schema, and a thousand
    /// dead letters would only hide it. One order alone proves nothing yet.
    fn judge(&mut self, n_taken: usize, refused: &[Refused]) -> Result<(), Halt> {
        let Some(first) = refused.first().filter(|_| n_taken == 0) else {
            self.lone_refusals.clear();
            return Ok(());
        };
        self.lone_refusals.insert(first.row.seq);
        let alone = refused.iter().all(|r| r.row.order.id == first.row.order.id);
        if alone && self.lone_refusals.len() <= LONE_REFUSALS_MAX {
            return Ok(());
        }
        Err(Halt::Stop(format!(
            "the order store refuses every order, {} in the batch from record {} on, the first \
             of them {}: {}. They are not put aside: mend the store and start the engine again",
            refused.len(),
            first.row.seq,
            first.row.order.id,
            first.why
        )))
    }
}
