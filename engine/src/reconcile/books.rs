//! What the order store has of each sale, counted as seldom as will do.
//!
//! A count reads everything of the sale. So the store is asked for its mark first,
//! which costs nothing: one that is not at the ledger's tip cannot be compared, and
//! where neither mark nor dead letters have moved the last count still stands. And
//! counting takes a twentieth of the time at most, however large the sale. Whoever
//! asks by hand gets a fresh count.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use floodgate_ledger::{Ledger, Seq};
use parking_lot::Mutex;

use super::after::{self, After, Drift};
use crate::domain::ids::{OrderId, SaleId, SkuId};
use crate::domain::sale::Sale;
use crate::domain::time::UnixMs;
use crate::stream::witness::{self, Disagreement};
use crate::stream::{LetterError, Letters, Mark, OrderStore, Row, RowId, StoreError};

/// Rests between two counts per time that one takes.
const REST: u32 = 19;

/// Live units of one SKU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Units {
    pub held: u64,
    pub sold: u64,
}

/// Whether a count that still stands will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Routine,
    Fresh,
}

/// What the store has of a sale.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// By position of the SKU.
    pub units: Vec<Units>,
    pub payments: Drift,
    pub entitlements: Drift,
}

/// What a look at the store came to.
#[derive(Debug)]
pub(super) enum Told {
    /// At this record.
    Counted { counted: Arc<Counted>, seq: Seq },
    /// The store is behind the ledger, or was counted a moment ago.
    NotNow,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BooksError {
    /// What it holds is not of this ledger.
    #[error(transparent)]
    Foreign(#[from] Disagreement),
    /// It holds what the engine never wrote.
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Letter(#[from] LetterError),
}

impl From<StoreError> for BooksError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::Damaged(error.to_string()),
            StoreError::Away(_) | StoreError::Poison { .. } | StoreError::Newer { .. } => {
                Self::Letter(error.into())
            }
        }
    }
}

impl From<after::Error> for BooksError {
    fn from(error: after::Error) -> Self {
        match error {
            after::Error::Store(error) => error.into(),
            after::Error::Read(error) => Self::Letter(error.into()),
        }
    }
}

/// A count, and until when it will have to do.
struct Count {
    mark: Option<Mark>,
    dead: BTreeSet<RowId>,
    counted: Arc<Counted>,
    rests_until: UnixMs,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Count,
    /// The last count is of the same rows.
    Stands(Arc<Counted>),
    NotNow,
}

fn decide(
    last: Option<&Count>,
    (mark, dead): (Option<&Mark>, &BTreeSet<RowId>),
    now: UnixMs,
    depth: Depth,
) -> Decision {
    match (last, depth) {
        (Some(last), Depth::Routine) if now < last.rests_until => {
            if last.mark.as_ref() == mark && last.dead == *dead {
                Decision::Stands(Arc::clone(&last.counted))
            } else {
                Decision::NotNow
            }
        }
        (Some(_) | None, Depth::Routine | Depth::Fresh) => Decision::Count,
    }
}

pub struct Books {
    store: Arc<dyn OrderStore>,
    letters: Arc<Letters>,
    ledger: Ledger,
    node: u16,
    last: Mutex<HashMap<Option<SaleId>, Count>>,
}

impl Books {
    pub fn new(
        store: Arc<dyn OrderStore>,
        letters: Arc<Letters>,
        ledger: Ledger,
        node: u16,
    ) -> Self {
        Self {
            store,
            letters,
            ledger,
            node,
            last: Mutex::default(),
        }
    }

    /// What the store refuses; it is compared as the ledger has it.
    pub(super) fn dead(&self, sale: Option<&SaleId>) -> BTreeSet<RowId> {
        self.letters.of_sale(sale)
    }

    /// Blocks. Only a store at `tip` is counted. Without a sale: the payments that are of
    /// none.
    pub(super) fn look(
        &self,
        sale: Option<&Sale>,
        dead: BTreeSet<RowId>,
        tip: Seq,
        now: UnixMs,
        depth: Depth,
    ) -> Result<Told, BooksError> {
        let mark = self.store.mark(self.node)?;
        if let Some(mark) = &mark {
            witness::check(&self.ledger, mark)?;
        }
        let seq = seq_of(mark.as_ref());
        if seq != tip {
            return Ok(Told::NotNow);
        }
        let id = sale.map(|sale| sale.id.clone());
        let of = (mark.as_ref(), &dead);
        match decide(self.last.lock().get(&id), of, now, depth) {
            Decision::Stands(counted) => return Ok(Told::Counted { counted, seq }),
            Decision::NotNow => return Ok(Told::NotNow),
            Decision::Count => {}
        }
        let began = Instant::now();
        let Some(counted) = self.count(sale, &dead, mark.as_ref())?.map(Arc::new) else {
            return Ok(Told::NotNow);
        };
        let rest = began.elapsed().saturating_mul(REST);
        let count = Count {
            mark,
            dead,
            counted: Arc::clone(&counted),
            rests_until: now.plus(rest),
        };
        self.last.lock().insert(id, count);
        Ok(Told::Counted { counted, seq })
    }

    /// `None`: the store has moved on from `mark` meanwhile.
    fn count(
        &self,
        sale: Option<&Sale>,
        dead: &BTreeSet<RowId>,
        mark: Option<&Mark>,
    ) -> Result<Option<Counted>, BooksError> {
        let units = match sale {
            None => Vec::new(),
            Some(sale) => {
                let (units, at) = self.units(sale, dead)?;
                if at.as_ref() != mark {
                    return Ok(None);
                }
                units
            }
        };
        let after = After {
            ledger: &self.ledger,
            store: &*self.store,
            node: self.node,
            dead,
            sale: sale.map(|sale| &sale.id),
            mark,
        };
        let (Some(payments), Some(entitlements)) = (after.payments()?, after.entitlements()?)
        else {
            return Ok(None);
        };
        Ok(Some(Counted {
            units,
            payments,
            entitlements,
        }))
    }

    fn units(
        &self,
        sale: &Sale,
        dead: &BTreeSet<RowId>,
    ) -> Result<(Vec<Units>, Option<Mark>), BooksError> {
        let mut units = vec![Units::default(); sale.skus.len()];
        let without: BTreeSet<OrderId> = dead.iter().filter_map(order_of).collect();
        let (counts, mark) = self.store.stock_counts(self.node, &sale.id, &without)?;
        for count in counts {
            let sku = SkuId::parse(&count.sku).ok();
            let Some((at, _)) = sku.and_then(|id| sale.sku(&id)) else {
                continue;
            };
            units[at].held += count.held;
            units[at].sold += count.sold;
        }
        // As the ledger has these orders now: what the store has of them, if
        // anything, may be one version old or another.
        for id in without {
            let found = self.letters.current(Some(&sale.id), &RowId::Order(id))?;
            let Some(Row::Order(row)) = found else {
                continue;
            };
            for item in &row.order.items {
                let Some((at, _)) = sale.sku(&item.sku) else {
                    continue;
                };
                if row.order.state.is_held() {
                    units[at].held += u64::from(item.quantity);
                }
                if row.order.state.is_sold() {
                    units[at].sold += u64::from(item.quantity);
                }
            }
        }
        Ok((units, mark))
    }
}

fn order_of(id: &RowId) -> Option<OrderId> {
    match id {
        RowId::Order(id) => Some(*id),
        RowId::Payment(_) | RowId::Entitlement(_) => None,
    }
}

/// A store without a mark has nothing.
fn seq_of(mark: Option<&Mark>) -> Seq {
    mark.map_or(Seq::ZERO, |m| m.seq)
}

#[cfg(test)]
mod tests {
    use floodgate_ledger::{ChainHash, LedgerId};

    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark {
            ledger: LedgerId([1; 16]),
            seq: Seq(seq),
            hash: ChainHash([2; 32]),
        }
    }

    #[test]
    fn a_count_stands_until_something_moves_and_is_not_made_too_often() {
        let counted = Arc::new(Counted {
            units: vec![Units { held: 1, sold: 0 }],
            ..Counted::default()
        });
        let none = BTreeSet::new();
        let last = Count {
            mark: Some(mark(5)),
            dead: none.clone(),
            counted: Arc::clone(&counted),
            rests_until: UnixMs(1_000),
        };
        let ask = |seq, dead: &BTreeSet<RowId>, now, depth| {
            decide(Some(&last), (Some(&mark(seq)), dead), UnixMs(now), depth)
        };
        let routine = |seq, now| ask(seq, &none, now, Depth::Routine);
        assert_eq!(routine(5, 999), Decision::Stands(counted));
        assert_eq!(routine(6, 999), Decision::NotNow, "the store has moved");
        assert_eq!(routine(6, 1_000), Decision::Count);
        // Rows change without a mark only by another's hand; that is found in time.
        assert_eq!(routine(5, 1_000), Decision::Count);
        let one = OrderId::from_bytes(&[0x80; 16]).expect("an id");
        let one = BTreeSet::from([RowId::Order(one)]);
        assert_eq!(ask(5, &one, 999, Depth::Routine), Decision::NotNow);
        assert_eq!(ask(5, &none, 999, Depth::Fresh), Decision::Count);
        let first = decide(None, (None, &none), UnixMs(0), Depth::Routine);
        assert_eq!(first, Decision::Count);
    }
}
