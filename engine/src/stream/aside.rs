//! Putting aside what the store refuses, so that everything else flows.
//!
//! In this order: find the refused rows, have them on disk as dead letters, move
//! the mark past them. A crash anywhere in between leads to the same letters and
//! the same rows. When nothing of a kind is taken, of several orders, nothing is put
//! aside either.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floodgate_ledger::Ledger;

use super::letters::Letters;
use super::row::{Row, RowId, RowKind};
use super::sift::{Refused, Sifted, sift};
use super::store::{Batch, Mark, OrderStore, Put};
use super::worker::Halt;
use crate::domain::ids::{OrderId, UserId};

/// So many whose rows were refused one after the other, each alone with its kind in its
/// batch and none taken between them: one more, and it is the schema and not the rows.
const LONE_REFUSALS_MAX: usize = 10;

/// What a row may be poisoned by, and others with it: all that one order has, or all that
/// one buyer ordered, may be refused for the same reason, and says nothing of the schema.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    User(UserId),
    Order(OrderId),
    /// A payment for which no order of ours was named.
    Own(RowId),
}

impl Whose {
    fn row(row: &Row) -> Self {
        match row {
            Row::Order(row) => Self::User(row.order.user.clone()),
            Row::Payment(_) | Row::Entitlement(_) => {
                row.order().map_or_else(|| Self::Own(row.id()), Self::Order)
            }
        }
    }
}

pub(super) struct Aside {
    pub ledger: Ledger,
    pub store: Arc<dyn OrderStore>,
    pub letters: Arc<Letters>,
    pub node: u16,
    /// Whose rows were refused alone, since the last of their kind that was taken.
    pub lone_refusals: BTreeMap<RowKind, BTreeSet<Whose>>,
}

impl Aside {
    /// A batch was taken as it was.
    pub fn taken(&mut self, batch: &Batch, from: u64, to: &Mark) -> Result<(), Halt> {
        for row in &batch.rows {
            if self.lone_refusals.is_empty() {
                break;
            }
            self.lone_refusals.remove(&row.kind());
        }
        Ok(self.letters.settle(from..=to.seq.0, &[])?)
    }

    /// Carries a batch that the store refused as a whole.
    pub fn put(&mut self, batch: Batch, mark: Option<&Mark>, to: &Mark) -> Result<Put, Halt> {
        let stand = match self.stand_on(mark)? {
            Ok(stand) => stand,
            Err(actual) => return Ok(Put::MarkMoved(actual)),
        };
        let refused = match sift(&*self.store, self.node, batch.rows, &stand)? {
            Sifted::Done { taken, refused } => {
                self.bury(&taken, &refused)?;
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

    /// Has what was refused on disk when it returns. `taken` are the kinds of what was
    /// not refused.
    pub fn bury(&mut self, taken: &BTreeSet<RowKind>, refused: &[Refused]) -> Result<(), Halt> {
        for kind in RowKind::ALL {
            if taken.contains(&kind) {
                self.lone_refusals.remove(&kind);
            } else {
                self.judge(kind, refused)?;
            }
        }
        if !refused.is_empty() {
            self.letters.bury(refused)?;
            fail::fail_point!("stream-letters-buried");
        }
        Ok(())
    }

    fn move_mark(&self, from: Option<&Mark>, to: &Mark) -> Result<Put, Halt> {
        Ok(self.store.put(self.node, &Batch::default(), from, to)?)
    }

    /// A store that takes nothing of a kind any more has a broken schema, and a thousand
    /// dead letters would only hide it. One order alone, or one buyer's, proves nothing
    /// yet, and what has a letter already nothing new.
    fn judge(&mut self, kind: RowKind, refused: &[Refused]) -> Result<(), Halt> {
        let of_kind = refused.iter().filter(|r| r.row.kind() == kind);
        let new: Vec<&Refused> = of_kind.filter(|r| !self.letters.had(r.row.seq())).collect();
        let Some(first) = new.first() else {
            return Ok(());
        };
        let whose: BTreeSet<Whose> = new.iter().map(|r| Whose::row(&r.row)).collect();
        if whose.len() == 1 {
            let lone = self.lone_refusals.entry(kind).or_default();
            lone.extend(whose);
            if lone.len() <= LONE_REFUSALS_MAX {
                return Ok(());
            }
        }
        Err(Halt::Stop(format!(
            "the order store refuses every {}, {} in the batch from record {} on, the first of \
             them {}: {}. They are not put aside: mend the store and start the engine again",
            kind.name(),
            new.len(),
            first.row.seq(),
            first.row.id(),
            first.why
        )))
    }
}
