//! The order: its snapshot, and the one pure function that owns its states.
//!
//! ```text
//! PENDING_PAYMENT ──paid──▶ PAID ──granted──▶ DELIVERED
//!       │                     └───────┬──────────┘
//!       │ window ends / cancel        └──refund──▶ REFUND_DUE ──▶ REFUNDED
//!       ▼
//!     CLOSED ──payment arrives late: fresh units──▶ PENDING_PAYMENT ──▶ PAID, in one go
//! ```
//! Each step that changes something raises the version and says what it does to
//! the stock; the caller makes it durable before the stock hears of it.

use smallvec::SmallVec;

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
        self.0 & 0xFFFF_FFFF == 1
    }

    /// The next version under `epoch`; grows even if `epoch` fell behind.
    pub fn next(self, epoch: u32) -> Self {
        let step = (self.0 & 0xFFFF_FFFF) + 1;
        let epoch = u64::from(epoch.max(self.epoch()));
        Self((epoch << 32) + step)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    Timeout,
    Canceled,
}

impl CloseReason {
    /// As the API and messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
        }
    }
}

/// States carry only what is true in that state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    /// `grace_used`: the window was already extended once by a payment session.
    PendingPayment {
        until: UnixMs,
        grace_used: bool,
    },
    Paid,
    Delivered,
    Closed {
        reason: CloseReason,
    },
    /// `restocked`: its units are on sale again; else they are withdrawn.
    RefundDue {
        restocked: bool,
    },
    Refunded {
        restocked: bool,
    },
}

/// What can happen to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderEvent {
    /// A payment session began; the window may grow once, up to `until`.
    PaymentStarted {
        until: UnixMs,
    },
    /// A captured payment matches this order.
    PaymentApplied,
    /// A payment came after the order closed, and fresh units were found for it: it is
    /// pending again for the moment that its payment takes, in the window it always had.
    HeldAgain {
        until: UnixMs,
    },
    Granted,
    WindowEnded {
        now: UnixMs,
    },
    Cancel,
    RefundAsked {
        restock: bool,
    },
    RefundDone,
}

/// What a step does to the stock, in the words of the `settle` script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockMove {
    None,
    /// held → sold
    Pay,
    /// held → available
    Close,
    /// available → held, for a payment that came after the order closed
    Rehold,
    /// sold → available
    Restock,
    /// sold → withdrawn
    Withdraw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Said twice, or said early: nothing changes, and that is right.
    Unchanged,
    Changed(OrderState, StockMove),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {} cannot take {event:?}", state.name())]
pub struct IllegalStep {
    pub state: OrderState,
    pub event: OrderEvent,
}

/// The states without what is only true in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    PendingPayment,
    Paid,
    Delivered,
    Closed,
    RefundDue,
    Refunded,
}

impl Status {
    const ALL: [Self; 6] = [
        Self::PendingPayment,
        Self::Paid,
        Self::Delivered,
        Self::Closed,
        Self::RefundDue,
        Self::Refunded,
    ];

    /// The name in the API and in the order store.
    pub fn name(self) -> &'static str {
        match self {
            Self::PendingPayment => "PENDING_PAYMENT",
            Self::Paid => "PAID",
            Self::Delivered => "DELIVERED",
            Self::Closed => "CLOSED",
            Self::RefundDue => "REFUND_DUE",
            Self::Refunded => "REFUNDED",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Units count as held.
    pub fn is_held(self) -> bool {
        match self {
            Self::PendingPayment => true,
            Self::Paid | Self::Delivered | Self::Closed | Self::RefundDue | Self::Refunded => false,
        }
    }

    /// Units count as sold.
    pub fn is_sold(self) -> bool {
        match self {
            Self::Paid | Self::Delivered => true,
            Self::PendingPayment | Self::Closed | Self::RefundDue | Self::Refunded => false,
        }
    }
}

impl OrderState {
    pub fn status(self) -> Status {
        match self {
            Self::PendingPayment { .. } => Status::PendingPayment,
            Self::Paid => Status::Paid,
            Self::Delivered => Status::Delivered,
            Self::Closed { .. } => Status::Closed,
            Self::RefundDue { .. } => Status::RefundDue,
            Self::Refunded { .. } => Status::Refunded,
        }
    }

    pub fn name(self) -> &'static str {
        self.status().name()
    }

    /// Of a closed order.
    pub fn closed_reason(self) -> Option<&'static str> {
        match self {
            Self::Closed { reason } => Some(reason.name()),
            Self::PendingPayment { .. }
            | Self::Paid
            | Self::Delivered
            | Self::RefundDue { .. }
            | Self::Refunded { .. } => None,
        }
    }

    pub fn is_held(self) -> bool {
        self.status().is_held()
    }

    pub fn is_sold(self) -> bool {
        self.status().is_sold()
    }

    /// Of a refund: whether its units are on sale again.
    pub fn restocked(self) -> Option<bool> {
        match self {
            Self::RefundDue { restocked } | Self::Refunded { restocked } => Some(restocked),
            Self::PendingPayment { .. } | Self::Paid | Self::Delivered | Self::Closed { .. } => {
                None
            }
        }
    }

    /// Units that were sold, given back, and are not for sale again.
    pub fn is_withdrawn(self) -> bool {
        self.restocked() == Some(false)
    }

    /// Live orders count against stock and against the user's limit.
    pub fn is_live(self) -> bool {
        self.is_held() || self.is_sold()
    }

    /// The machine. No clock, no I/O; every pair is named.
    pub fn step(self, event: OrderEvent) -> Result<Step, IllegalStep> {
        use OrderEvent as E;
        use OrderState as S;
        let changed = |state, moved| Ok(Step::Changed(state, moved));
        match (self, event) {
            (
                S::PendingPayment {
                    until,
                    grace_used: false,
                },
                E::PaymentStarted { until: longer },
            ) => changed(
                S::PendingPayment {
                    until: until.max(longer),
                    grace_used: true,
                },
                StockMove::None,
            ),
            // Once only: a buyer cannot hold units for ever by starting payments.
            (
                S::PendingPayment {
                    grace_used: true, ..
                },
                E::PaymentStarted { .. },
            ) => Ok(Step::Unchanged),
            (S::PendingPayment { .. }, E::PaymentApplied) => changed(S::Paid, StockMove::Pay),
            (S::PendingPayment { until, .. }, E::WindowEnded { now }) if until <= now => changed(
                S::Closed {
                    reason: CloseReason::Timeout,
                },
                StockMove::Close,
            ),
            // The timer woke early, or the window grew meanwhile.
            (S::PendingPayment { .. }, E::WindowEnded { .. }) => Ok(Step::Unchanged),
            (S::PendingPayment { .. }, E::Cancel) => changed(
                S::Closed {
                    reason: CloseReason::Canceled,
                },
                StockMove::Close,
            ),

            (S::Paid, E::Granted) => changed(S::Delivered, StockMove::None),
            (S::Paid | S::Delivered, E::RefundAsked { restock }) => changed(
                S::RefundDue { restocked: restock },
                if restock {
                    StockMove::Restock
                } else {
                    StockMove::Withdraw
                },
            ),
            (S::RefundDue { restocked }, E::RefundDone) => {
                changed(S::Refunded { restocked }, StockMove::None)
            }
            (S::Closed { .. }, E::HeldAgain { until }) => changed(
                S::PendingPayment {
                    until,
                    grace_used: true,
                },
                StockMove::Rehold,
            ),

            // Said again: callbacks, timers and impatient people repeat themselves.
            (S::Delivered, E::Granted)
            | (
                S::Closed {
                    reason: CloseReason::Canceled,
                },
                E::Cancel,
            )
            | (S::RefundDue { .. } | S::Refunded { .. }, E::RefundAsked { .. })
            | (S::Refunded { .. }, E::RefundDone)
            | (
                S::Paid
                | S::Delivered
                | S::Closed { .. }
                | S::RefundDue { .. }
                | S::Refunded { .. },
                E::WindowEnded { .. },
            ) => Ok(Step::Unchanged),

            (
                S::PendingPayment { .. },
                E::HeldAgain { .. } | E::Granted | E::RefundAsked { .. } | E::RefundDone,
            )
            | (
                S::Paid | S::Delivered,
                E::PaymentStarted { .. }
                | E::PaymentApplied
                | E::HeldAgain { .. }
                | E::Cancel
                | E::RefundDone,
            )
            | (
                S::Closed { .. },
                E::PaymentStarted { .. }
                | E::PaymentApplied
                | E::Granted
                | E::RefundAsked { .. }
                | E::RefundDone,
            )
            | (
                S::Closed {
                    reason: CloseReason::Timeout,
                },
                E::Cancel,
            )
            | (
                S::RefundDue { .. } | S::Refunded { .. },
                E::PaymentStarted { .. }
                | E::PaymentApplied
                | E::HeldAgain { .. }
                | E::Granted
                | E::Cancel,
            ) => Err(IllegalStep { state: self, event }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = OrderEvent> {
        prop_oneof![
            (0_u64..200).prop_map(|t| OrderEvent::PaymentStarted { until: UnixMs(t) }),
            Just(OrderEvent::PaymentApplied),
            (0_u64..200).prop_map(|t| OrderEvent::HeldAgain { until: UnixMs(t) }),
            Just(OrderEvent::Granted),
            (0_u64..200).prop_map(|t| OrderEvent::WindowEnded { now: UnixMs(t) }),
            Just(OrderEvent::Cancel),
            any::<bool>().prop_map(|restock| OrderEvent::RefundAsked { restock }),
            Just(OrderEvent::RefundDone),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order, the moves told to the stock keep
        /// one unit in exactly the place that the state says it is in.
        #[test]
        fn stock_moves_follow_the_state(events in prop::collection::vec(event(), 0..40)) {
            let mut state = OrderState::PendingPayment { until: UnixMs(100), grace_used: false };
            let (mut held, mut sold, mut available, mut withdrawn) = (1_i32, 0_i32, 0_i32, 0_i32);
            for event in events {
                match state.step(event) {
                    Err(_) | Ok(Step::Unchanged) => {}
                    Ok(Step::Changed(next, moved)) => {
                        prop_assert_ne!(next, state);
                        match moved {
                            StockMove::None => {}
                            StockMove::Pay => { held -= 1; sold += 1 }
                            StockMove::Close => { held -= 1; available += 1 }
                            StockMove::Rehold => { available -= 1; held += 1 }
                            StockMove::Restock => { sold -= 1; available += 1 }
                            StockMove::Withdraw => { sold -= 1; withdrawn += 1 }
                        }
                        state = next;
                    }
                }
                prop_assert_eq!(held, i32::from(state.is_held()));
                prop_assert_eq!(sold, i32::from(state.is_sold()));
                prop_assert_eq!(withdrawn, i32::from(state.is_withdrawn()));
                prop_assert_eq!(held + sold + available + withdrawn, 1);
                prop_assert!(available >= 0 && withdrawn >= 0);
            }
        }

        /// Saying the same thing twice changes nothing the second time, except
        /// a payment, which must never be applied twice, and what comes with one.
        #[test]
        fn repeats_change_nothing(events in prop::collection::vec(event(), 0..40)) {
            let mut state = OrderState::PendingPayment { until: UnixMs(100), grace_used: false };
            for event in events {
                if let Ok(Step::Changed(next, _)) = state.step(event) {
                    match next.step(event) {
                        Ok(Step::Unchanged) => {}
                        Err(_) => {
                            let with_money = matches!(
                                event,
                                OrderEvent::PaymentApplied | OrderEvent::HeldAgain { .. }
                            );
                            prop_assert!(with_money);
                        }
                        Ok(Step::Changed(again, _)) => prop_assert!(false, "{:?} became {:?}", next, again),
                    }
                    state = next;
                }
            }
        }
    }

    #[test]
    fn a_window_never_closes_early_and_never_a_paid_order() {
        let open = OrderState::PendingPayment {
            until: UnixMs(100),
            grace_used: false,
        };
        assert_eq!(
            open.step(OrderEvent::WindowEnded { now: UnixMs(99) }),
            Ok(Step::Unchanged)
        );
        assert_eq!(
            open.step(OrderEvent::WindowEnded { now: UnixMs(100) }),
            Ok(Step::Changed(
                OrderState::Closed {
                    reason: CloseReason::Timeout
                },
                StockMove::Close
            ))
        );
        for paid in [OrderState::Paid, OrderState::Delivered] {
            assert_eq!(
                paid.step(OrderEvent::WindowEnded { now: UnixMs(500) }),
                Ok(Step::Unchanged)
            );
            assert!(paid.step(OrderEvent::Cancel).is_err());
        }
    }

    #[test]
    fn versions_grow_under_any_epoch() {
        let v = Version::first(3);
        assert!(v.next(3) > v && v.next(4) > v.next(3) && v.next(1) > v);
        assert_eq!(v.next(7).epoch(), 7);
    }
}
