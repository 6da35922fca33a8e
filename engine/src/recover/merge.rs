//! What several copies say of a sale, brought together.
//!
//! Pure. Of each order the highest version wins; of two copies in one version the one
//! nearer to the ledger is taken, and a difference is told. Units are handed out anew:
//! each bucket is allotted what its orders hold and its part of what is free.

mod after;

use std::collections::{BTreeMap, HashMap, HashSet};

use floodgate_ledger::Kind;

pub use self::after::After;
use crate::domain::allotment::Allotment;
use crate::domain::codec::decode_order;
use crate::domain::ids::{BucketNo, OrderId};
use crate::domain::order::{CloseReason, Order, OrderEvent, OrderState, Version};
use crate::domain::sale::Sale;
use crate::domain::time::UnixMs;
use crate::sale::{Judge, Setback, facts};
use crate::stock::UsedKey;
use crate::stream::{RowKind, Source};

/// Where a copy of an order was found, the most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Copy {
    Ledger,
    Store,
    Stock,
}

/// Everything that was found of one sale.
#[derive(Debug, Default)]
pub struct Pile {
    orders: BTreeMap<OrderId, (Order, Copy)>,
    /// Where each order stands in the order store.
    stored: HashMap<OrderId, Stored>,
    /// Orders that two copies tell differently in one version.
    pub differing: Vec<OrderId>,
    pub after: After,
}

/// What the order store has of an order.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    pub version: Version,
    is_sold: bool,
}

/// The sale as it goes on.
#[derive(Debug)]
pub struct Merged {
    pub orders: Vec<Order>,
    pub allotments: Vec<Allotment>,
    /// Where each order stands in the order store, which is told what came after.
    pub stored: HashMap<OrderId, Stored>,
    /// What only the stock host held and may not be; it is not sold.
    pub set_aside: Vec<(Order, Setback)>,
    pub after: After,
    /// What payments said of their orders and orders of their payments, done.
    pub mended: Vec<String>,
    /// Orders that are paid and whose payment stands in no copy.
    pub unproven: Vec<OrderId>,
}

impl Merged {
    /// What is known of an order's way: what the order store has, and what it lacks. Of an
    /// earlier version only the step is certain, and not who owned the order then.
    pub fn way(&self, order: &Order) -> (Vec<Order>, Vec<Order>) {
        let Some(stored) = self.stored.get(&order.id) else {
            let mut way = order.earlier();
            way.push(order.clone());
            return (Vec::new(), way);
        };
        let earlier = order.earlier().into_iter();
        let (mut has, mut lacks): (Vec<_>, Vec<_>) =
            earlier.partition(|earlier| earlier.version.step() <= stored.version.step());
        // One that was granted before it was given back was not paid twice.
        lacks.retain(|earlier| !(stored.is_sold && earlier.state == OrderState::Paid));
        if order.version <= stored.version {
            has.push(order.clone());
        } else {
            lacks.push(order.clone());
        }
        (has, lacks)
    }

    /// An order that the store has as it is.
    pub fn known_good(&self) -> Option<&Order> {
        let is_there = |order: &&Order| {
            let stored = self.stored.get(&order.id);
            stored.is_some_and(|stored| stored.version == order.version)
        };
        self.orders.iter().rev().find(is_there)
    }
}

impl Pile {
    /// What a bucket keeps beside its holds: a closed order, a payment, an entitlement,
    /// as the ledger had it.
    pub fn take_tail(
        &mut self,
        sale: &Sale,
        (kind, version): (Kind, u64),
        body: &[u8],
        now: UnixMs,
    ) -> Result<(), String> {
        let Some(kind) = RowKind::ALL.into_iter().find(|row| row.kind() == kind) else {
            return Err(format!("kind {} stands beside no hold", kind.0));
        };
        let source = Source {
            seq: 0,
            kind: kind.kind(),
            group: sale.id.as_bytes(),
            version,
            // Its record's time went with the record.
            at: now,
            body,
        };
        match kind {
            RowKind::Order => {
                let order = decode_order(body).map_err(|e| format!("an order: {e}"))?;
                self.add(order, Copy::Stock);
                Ok(())
            }
            RowKind::Payment | RowKind::Entitlement => self.after.take(kind, &source, Copy::Stock),
        }
    }

    /// Copies are added in the order of their trust.
    pub fn add(&mut self, order: Order, copy: Copy) {
        if copy == Copy::Store {
            let stored = Stored {
                version: order.version,
                is_sold: order.state.is_sold(),
            };
            self.stored.insert(order.id, stored);
        }
        match self.orders.get_mut(&order.id) {
            None => {
                self.orders.insert(order.id, (order, copy));
            }
            Some((known, _)) if known.version == order.version => {
                if *known != order {
                    self.differing.push(order.id);
                }
            }
            Some((known, from)) => {
                if known.version < order.version {
                    (*known, *from) = (order, copy);
                }
            }
        }
    }

    /// An order whose key a whole bucket knows, and that it holds no longer, was closed:
    /// the hold went after the closing was durable. One that stands nowhere else comes
    /// back as far as the key tells of it: whose it was, and that it is closed. Returns
    /// how many were closed here.
    pub fn close_gone(
        &mut self,
        sale: &Sale,
        used: &[UsedKey],
        held: &HashSet<OrderId>,
        now: UnixMs,
    ) -> usize {
        let gone: HashMap<OrderId, &UsedKey> = used
            .iter()
            .filter(|key| !held.contains(&key.order))
            .map(|key| (key.order, key))
            .collect();
        let mut n_closed = 0;
        for (id, key) in &gone {
            if !self.orders.contains_key(id) {
                self.orders
                    .insert(*id, (only_closed(sale, key), Copy::Stock));
                n_closed += 1;
            }
        }
        for (order, _) in self.orders.values_mut() {
            let OrderState::PendingPayment { until, .. } = order.state else {
                continue;
            };
            if !gone.contains_key(&order.id) {
                continue;
            }
            let event = if until <= now {
                OrderEvent::WindowEnded { now }
            } else {
                OrderEvent::Cancel
            };
            if let Ok(Some((closed, _))) = order.step(event, order.version.epoch(), now) {
                *order = closed;
                n_closed += 1;
            }
        }
        n_closed
    }

    /// An error names the SKU of which more is live, beyond doubt, than was opened.
    pub fn settle(self, sale: &Sale, now: UnixMs) -> Result<Merged, String> {
        let opened: Vec<u64> = sale.skus.iter().map(|sku| u64::from(sku.units)).collect();
        // Buckets are given their units only below: here each could have all of them.
        let mut judge = Judge::with_units(sale, &opened);
        let (doubtful, certain): (Vec<_>, Vec<_>) = self
            .orders
            .into_values()
            .partition(|(_, copy)| *copy == Copy::Stock);
        let mut live = Live::new(sale, opened);
        let mut orders = Vec::with_capacity(certain.len() + doubtful.len());
        for (order, _) in certain {
            judge.count(&order);
            live.count(&order);
            orders.push(order);
        }
        live.check()?;
        let mut set_aside = Vec::new();
        for (order, _) in doubtful {
            let fits = if !order.state.is_live() || live.fits(&order) {
                judge.take(&order)
            } else {
                Err(Setback::NoUnits)
            };
            match fits {
                Ok(()) => {
                    live.count(&order);
                    orders.push(order);
                }
                Err(why) => set_aside.push((order, why)),
            }
        }
        orders.sort_by_key(|order| order.id);
        let mut after = self.after;
        let mended = after.knit(&mut orders, now);
        Ok(Merged {
            stored: self.stored,
            allotments: live.allotments(),
            set_aside,
            unproven: after.unproven(&orders),
            orders,
            after,
            mended,
        })
    }
}

/// What a used key still tells of its order.
fn only_closed(sale: &Sale, key: &UsedKey) -> Order {
    let made_at = UnixMs(key.order.parts().ms);
    let first = Version::first(1);
    Order {
        id: key.order,
        sale: sale.id.clone(),
        user: key.user.clone(),
        key: key.key.clone(),
        fingerprint: key.fingerprint,
        items: std::iter::empty().collect(),
        currency: sale.skus[0].currency,
        state: OrderState::Closed {
            reason: CloseReason::Canceled,
        },
        version: first.next(first.epoch()),
        created_at: made_at,
        updated_at: made_at,
        pay_deadline: made_at,
        device: None,
    }
}

/// Units of orders that are live or were withdrawn, by bucket and SKU.
struct Live<'a> {
    sale: &'a Sale,
    opened: Vec<u64>,
    by_bucket: Vec<Vec<u64>>,
}

impl<'a> Live<'a> {
    fn new(sale: &'a Sale, opened: Vec<u64>) -> Self {
        let by_bucket = vec![vec![0; sale.skus.len()]; usize::from(sale.buckets)];
        Self {
            sale,
            opened,
            by_bucket,
        }
    }

    fn count(&mut self, order: &Order) {
        let bucket = self.by_bucket.get_mut(usize::from(order.id.bucket().0));
        // What was withdrawn is not for sale again, and its bucket says so.
        let counts = order.state.is_live() || order.state.is_withdrawn();
        if let Some(bucket) = bucket.filter(|_| counts) {
            for (sku, n) in facts::units_of(self.sale, order) {
                bucket[sku] += u64::from(n);
            }
        }
    }

    fn total(&self, sku: usize) -> u64 {
        self.by_bucket.iter().map(|bucket| bucket[sku]).sum()
    }

    fn fits(&self, order: &Order) -> bool {
        let units = facts::units_of(self.sale, order);
        let fits = |(sku, n): &(usize, u32)| self.total(*sku) + u64::from(*n) <= self.opened[*sku];
        units.iter().all(fits)
    }

    fn check(&self) -> Result<(), String> {
        for (at, sku) in self.sale.skus.iter().enumerate() {
            let (live, opened) = (self.total(at), self.opened[at]);
            if live > opened {
                let sale = &self.sale.id;
                return Err(format!(
                    "sale {sale}: {live} units of {} are live, {opened} were opened",
                    sku.id
                ));
            }
        }
        Ok(())
    }

    fn allotments(&self) -> Vec<Allotment> {
        let buckets = u64::from(self.sale.buckets);
        (0..self.sale.buckets)
            .map(|no| {
                let lines = self.sale.skus.iter().enumerate().map(|(at, sku)| {
                    let free = self.opened[at] - self.total(at);
                    let share = free / buckets + u64::from(u64::from(no) < free % buckets);
                    let units = self.by_bucket[usize::from(no)][at] + share;
                    // A SKU has at most 2^32 units.
                    (sku.id.clone(), i64::try_from(units).unwrap_or(i64::MAX))
                });
                Allotment {
                    bucket: BucketNo(no),
                    lines: lines.filter(|(_, units)| *units > 0).collect(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
