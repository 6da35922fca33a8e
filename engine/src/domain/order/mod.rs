//! The order: its snapshot, its versions, and what a step makes of it.
//!
//! Each step that changes something raises the version and says what it does to the
//! stock; the caller makes it durable before the stock hears of it. Which steps there are
//! is said in `state.rs`.

mod state;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

pub use self::state::{CloseReason, IllegalStep, OrderEvent, OrderState, Status, Step, StockMove};
use super::ids::{DeviceId, Fingerprint, IdemKey, OrderId, SaleId, SkuId, UserId};
use super::money::{Cents, Currency};
use super::time::UnixMs;

/// One SKU of an order. Quantities of a SKU named twice are summed at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub sku: SkuId,
    pub quantity: u32,
    pub price: Cents,
}

/// Sorted by SKU, each SKU once; nearly always one.
pub type Items = SmallVec<[Item; 1]>;

/// (owner epoch, step) as one number: a new owner always outranks the one
/// before, whatever that one did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    pub fn first(epoch: u32) -> Self {
        Self(u64::from(epoch) << 32 | 1)
    }

    pub fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Nothing has changed since it was made.
    pub fn is_first(self) -> bool {
        self.step() == 1
    }

    /// Counts what happened to the order, its making included, whoever owned it then.
    pub fn step(self) -> u64 {
        self.0 & 0xFFFF_FFFF
    }

    /// The next version under `epoch`; grows even if `epoch` fell behind.
    pub fn next(self, epoch: u32) -> Self {
        let step = self.step() + 1;
        let epoch = u64::from(epoch.max(self.epoch()));
        Self((epoch << 32) + step)
    }
}

/// Everything there is to know about an order: what the ledger keeps, the stock
/// host carries beside the hold, and the order store shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub sale: SaleId,
    pub user: UserId,
    pub key: IdemKey,
    pub fingerprint: Fingerprint,
    pub items: Items,
    pub currency: Currency,
    pub state: OrderState,
    pub version: Version,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
    /// The end of the pay window, kept for the buyer's receipt in every state.
    pub pay_deadline: UnixMs,
    pub device: Option<DeviceId>,
}

impl Order {
    /// Saturates: prices and quantities are bounded when the sale is checked.
    pub fn pay_amount(&self) -> Cents {
        Cents(self.items.iter().fold(0_u64, |sum, i| {
            sum.saturating_add(i.price.0.saturating_mul(u64::from(i.quantity)))
        }))
    }

    pub fn units(&self) -> u32 {
        self.items.iter().map(|i| i.quantity).sum()
    }

    /// The next snapshot, or `None` when the event changes nothing.
    pub fn step(
        &self,
        event: OrderEvent,
        epoch: u32,
        now: UnixMs,
    ) -> Result<Option<(Order, StockMove)>, IllegalStep> {
        match self.state.step(event)? {
            Step::Unchanged => Ok(None),
            Step::Changed(state, moved) => {
                let mut next = self.clone();
                if let OrderState::PendingPayment { until, .. } = state {
                    next.pay_deadline = until;
                }
                next.state = state;
                next.version = self.version.next(epoch);
                next.updated_at = now.max(self.updated_at);
                Ok(Some((next, moved)))
            }
        }
    }

    /// Versions that a copy which kept only the newest lets us know of: it was made, it was
    /// paid before it could be granted or given back, and its money was due before it went
    /// back. Which version had been paid is certain only where nothing else happened.
    pub fn earlier(&self) -> Vec<Order> {
        let made = Order {
            state: OrderState::PendingPayment {
                until: self.pay_deadline,
                grace_used: false,
            },
            version: Version::first(self.version.epoch()),
            updated_at: self.created_at,
            ..self.clone()
        };
        let before = |state, steps| Order {
            state,
            version: Version(self.version.0.saturating_sub(steps)),
            ..self.clone()
        };
        let mut earlier = match self.state {
            OrderState::PendingPayment { .. } => Vec::new(),
            OrderState::Closed { .. } | OrderState::Paid => vec![made],
            OrderState::Delivered | OrderState::RefundDue { .. } => {
                vec![made, before(OrderState::Paid, 1)]
            }
            OrderState::Refunded { restocked } => {
                let due = OrderState::RefundDue { restocked };
                vec![made, before(OrderState::Paid, 2), before(due, 1)]
            }
        };
        earlier.dedup_by_key(|order| order.version);
        let first = Version::first(self.version.epoch());
        earlier.retain(|order| first <= order.version && order.version < self.version);
        earlier
    }

    /// A 40-bit number for this order in this version: the stock host sums them
    /// into a digest, and the desk's mirror must have the same sum.
    pub fn mark(&self) -> u64 {
        mark(&self.id, self.version)
    }
}

/// Marks, and the digests that sum them, are smaller.
pub const MARK_SPAN: u64 = 1 << 40;

/// See [`Order::mark`]. Low 40 bits of XXH3-64 over id and version.
pub fn mark(id: &OrderId, version: Version) -> u64 {
    let mut buf = [0_u8; 24];
    buf[..16].copy_from_slice(id.as_bytes());
    buf[16..].copy_from_slice(&version.0.to_be_bytes());
    xxhash_rust::xxh3::xxh3_64(&buf) % MARK_SPAN
}
