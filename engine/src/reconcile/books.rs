//! What the order store has of each sale, compared as seldom as will do.
//!
//! A cut reads everything of the sale. So the store is asked for its mark first,
//! which costs nothing: where neither mark nor dead letters have moved the last cut
//! still stands. And cuts take a fiftieth of the time at most, however large the sale: nine
//! tenths of a cut it rests, and after it four times as long. Whoever asks by hand gets a
//! fresh one, and in one go.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use floodgate_ledger::{Ledger, Seq};
use parking_lot::Mutex;

use super::cut::{self, Cut, Drift, Orders};
use crate::domain::ids::SaleId;
use crate::domain::sale::Sale;
use crate::domain::time::UnixMs;
use crate::stream::witness::{self, Disagreement};
use crate::stream::{LetterError, Letters, Mark, OrderStore, RowId, StoreError};

/// Rests after each page of a cut, per time that it took.
const PAGE_RESTS: u32 = 9;
/// Rests between two cuts per time that one takes.
const RESTS: u32 = 4;

/// Whether a cut that still stands will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Routine,
    Fresh,
}

/// What a cut found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub orders: Orders,
    pub payments: Drift,
    pub entitlements: Drift,
    /// Of the ledger in the cut.
    pub tip: Seq,
    /// Of these records the store had heard: what they say was compared.
    pub mark: Seq,
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
    #[error("the engine stops")]
    Over,
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

impl From<cut::Error> for BooksError {
    fn from(error: cut::Error) -> Self {
        match error {
            cut::Error::Store(error) => error.into(),
            cut::Error::Over => Self::Over,
            cut::Error::Read(error) => Self::Letter(error.into()),
        }
    }
}

/// The last cut, and until when it will have to do.
struct Last {
    mark: Mark,
    dead: BTreeSet<RowId>,
    compared: Arc<Compared>,
    rests_until: UnixMs,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Compare,
    /// The last cut is of the same rows.
    Stands(Arc<Compared>),
    NotNow,
}

fn decide(
    last: Option<&Last>,
    (mark, dead): (&Mark, &BTreeSet<RowId>),
    now: UnixMs,
    depth: Depth,
) -> Decision {
    match (last, depth) {
        (Some(last), Depth::Routine) if now < last.rests_until => {
            if last.mark == *mark && last.dead == *dead {
                Decision::Stands(Arc::clone(&last.compared))
            } else {
                Decision::NotNow
            }
        }
        (Some(_) | None, Depth::Routine | Depth::Fresh) => Decision::Compare,
    }
}

pub struct Books {
    store: Arc<dyn OrderStore>,
    letters: Arc<Letters>,
    ledger: Ledger,
    node: u16,
    last: Mutex<HashMap<Option<SaleId>, Last>>,
    is_over: AtomicBool,
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
            is_over: AtomicBool::new(false),
        }
    }

    /// The engine stops: whoever is in the middle of a cut leaves it.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// How much of a sale the store refuses; it is left out of cuts.
    pub(super) fn n_dead(&self, sale: Option<&SaleId>) -> usize {
        self.letters.of_sale(sale).len()
    }

    /// Blocks. Without a sale: the payments that are of none. `None`: not now, since the
    /// store was compared a moment ago, has nothing yet, or is being put back.
    pub(super) fn look(
        &self,
        sale: Option<&Sale>,
        now: UnixMs,
        depth: Depth,
    ) -> Result<Option<Arc<Compared>>, BooksError> {
        let mark = match self.store.mark(self.node)? {
            Some(mark) => mark,
            None if self.ledger.tip().seq == Seq::ZERO => Mark::genesis(&self.ledger),
            None => return Ok(None),
        };
        witness::check(&self.ledger, &mark)?;
        let id = sale.map(|sale| sale.id.clone());
        let dead = self.letters.of_sale(id.as_ref());
        match decide(self.last.lock().get(&id), (&mark, &dead), now, depth) {
            Decision::Stands(compared) => return Ok(Some(compared)),
            Decision::NotNow => return Ok(None),
            Decision::Compare => {}
        }
        fail::fail_point!("books-compared", |_| Ok(None));
        let began = Instant::now();
        let page_rests = match depth {
            Depth::Routine => PAGE_RESTS,
            Depth::Fresh => 0,
        };
        let compared = self.compare(sale, &mark, &dead, page_rests)?;
        let Some(compared) = compared.map(Arc::new) else {
            return Ok(None);
        };
        let rest = began.elapsed().saturating_mul(RESTS);
        let last = Last {
            mark,
            dead,
            compared: Arc::clone(&compared),
            rests_until: now.plus(rest),
        };
        self.last.lock().insert(id, last);
        Ok(Some(compared))
    }

    fn compare(
        &self,
        sale: Option<&Sale>,
        mark: &Mark,
        dead: &BTreeSet<RowId>,
        page_rests: u32,
    ) -> Result<Option<Compared>, BooksError> {
        let store = (&*self.store, self.node);
        let pace = (page_rests, &self.is_over);
        let cut = Cut::new(&self.ledger, store, sale, mark, dead, pace);
        let cut = cut.map_err(cut::Error::from)?;
        let orders = match sale {
            Some(sale) => cut.orders(sale)?,
            None => Some(Orders::default()),
        };
        let (Some(orders), Some(payments), Some(entitlements)) =
            (orders, cut.payments()?, cut.entitlements()?)
        else {
            return Ok(None);
        };
        Ok(Some(Compared {
            orders,
            payments,
            entitlements,
            tip: cut.tip(),
            mark: mark.seq,
        }))
    }
}

#[cfg(test)]
mod tests {
    use floodgate_ledger::{ChainHash, LedgerId};

    use super::*;
    use crate::domain::ids::OrderId;

    fn mark(seq: u64) -> Mark {
        Mark {
            ledger: LedgerId([1; 16]),
            seq: Seq(seq),
            hash: ChainHash([2; 32]),
        }
    }

    #[test]
    fn a_cut_stands_until_something_moves_and_is_not_made_too_often() {
        let compared = Arc::new(Compared {
            orders: Orders::default(),
            payments: Drift::default(),
            entitlements: Drift::default(),
            tip: Seq(7),
            mark: Seq(5),
        });
        let none = BTreeSet::new();
        let last = Last {
            mark: mark(5),
            dead: none.clone(),
            compared: Arc::clone(&compared),
            rests_until: UnixMs(1_000),
        };
        let ask = |seq, dead: &BTreeSet<RowId>, now, depth| {
            decide(Some(&last), (&mark(seq), dead), UnixMs(now), depth)
        };
        let routine = |seq, now| ask(seq, &none, now, Depth::Routine);
        assert_eq!(routine(5, 999), Decision::Stands(compared));
        assert_eq!(routine(6, 999), Decision::NotNow, "the store has moved");
        assert_eq!(routine(6, 1_000), Decision::Compare);
        // Rows change without a mark only by another's hand; that is found in time.
        assert_eq!(routine(5, 1_000), Decision::Compare);
        let one = OrderId::from_bytes(&[0x80; 16]).expect("an id");
        let one = BTreeSet::from([RowId::Order(one)]);
        assert_eq!(ask(5, &one, 999, Depth::Routine), Decision::NotNow);
        assert_eq!(ask(5, &none, 999, Depth::Fresh), Decision::Compare);
        let first = decide(None, (&mark(0), &none), UnixMs(0), Depth::Routine);
        assert_eq!(first, Decision::Compare);
    }
}
