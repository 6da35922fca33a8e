//! The states of an order, and the one pure function that owns them.
//!
//! ```text
//! PENDING_PAYMENT ──paid──▶ PAID ──granted──▶ DELIVERED
//!       │                     └───────┬──────────┘
//!       │ window ends / cancel        └──refund──▶ REFUND_DUE ──▶ REFUNDED
//!       ▼
//!     CLOSED ──payment arrives late: fresh units──▶ PENDING_PAYMENT ──▶ PAID, in one go
//! ```

use super::super::time::UnixMs;

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
