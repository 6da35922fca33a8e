//! May this order be, beside all others of its sale? Said from facts alone.
//!
//! Pure. It judges orders that were found elsewhere than in the ledger by what a desk's
//! guard and the index would have judged them: units of its bucket, the buyer's limit,
//! one key for one order.

use std::collections::HashMap;

use super::facts;
use super::guard::Guard;
use crate::domain::ids::{IdemKey, OrderId, UserId};
use crate::domain::order::Order;
use crate::domain::sale::Sale;

/// Why an order that was found is not taken for one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Setback {
    #[error("it names bucket {0}, which the sale does not have")]
    NoSuchBucket(u16),
    #[error("it names a SKU that the sale does not have")]
    NoSuchSku,
    #[error("its bucket has no units left for it")]
    NoUnits,
    #[error("its buyer would have more units than the sale allows")]
    OverLimit,
    #[error("its key names another order")]
    KeyTaken,
}

pub struct Judge<'a> {
    sale: &'a Sale,
    guards: Vec<Guard>,
    units: HashMap<UserId, u32>,
    keys: HashMap<(UserId, IdemKey), OrderId>,
}

impl<'a> Judge<'a> {
    /// `guards`: what each bucket was allotted.
    pub fn new(sale: &'a Sale, guards: Vec<Guard>) -> Self {
        Self {
            sale,
            guards,
            units: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// Each bucket with as many units of each SKU as this.
    pub fn with_units(sale: &'a Sale, units: &[u64]) -> Self {
        let mut guard = Guard::new(sale.skus.len());
        for (line, units) in guard.lines.iter_mut().zip(units) {
            line.allotted = *units;
        }
        Self::new(sale, vec![guard; usize::from(sale.buckets)])
    }

    /// Counts an order whose right to be nobody asks.
    pub fn count(&mut self, order: &Order) {
        let slot = (order.user.clone(), order.key.clone());
        self.keys.insert(slot, order.id);
        let Some(guard) = self.guards.get_mut(usize::from(order.id.bucket().0)) else {
            return;
        };
        if order.state.is_withdrawn() {
            guard.withdraw(&facts::units_of(self.sale, order));
        }
        if order.state.is_live() {
            let units = facts::units_of(self.sale, order);
            guard.restore(&units, order.state.is_held(), order.mark());
            *self.units.entry(order.user.clone()).or_default() += order.units();
        }
    }

    /// Counts an order if it may be.
    pub fn take(&mut self, order: &Order) -> Result<(), Setback> {
        let no = order.id.bucket().0;
        let guard = self.guards.get(usize::from(no));
        let guard = guard.ok_or(Setback::NoSuchBucket(no))?;
        let units = facts::units_of(self.sale, order);
        if units.len() != order.items.len() {
            return Err(Setback::NoSuchSku);
        }
        let slot = (order.user.clone(), order.key.clone());
        if self.keys.get(&slot).is_some_and(|known| *known != order.id) {
            return Err(Setback::KeyTaken);
        }
        if order.state.is_live() {
            if !guard.allows(&units) {
                return Err(Setback::NoUnits);
            }
            let has = self.units.get(&order.user).copied().unwrap_or(0);
            if has.saturating_add(order.units()) > self.sale.units_per_user {
                return Err(Setback::OverLimit);
            }
        }
        self.count(order);
        Ok(())
    }
}
