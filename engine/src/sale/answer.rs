//! What a purchase can come to. A "no" is an answer; an error is news.

use std::sync::Arc;

use crate::domain::entitlement::{Entitlement, Licensed};
use crate::domain::ids::OrderId;
use crate::domain::order::Order;
use crate::domain::payment::Payment;

/// A correct "no": nothing was set aside, and asking again in the same
/// circumstances gets the same "no".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NotOpen,
    Paused,
    Ended,
    NotEnough,
    /// Units of live orders, or the number of orders, reached the limit.
    OverLimit,
    /// The key names another body's order.
    KeyReused,
}

/// Shared by the buyer who asked and everyone who joined under the same key.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Durable: the fsync that covers the order returned.
    Won(Arc<Order>),
    Refused(Refusal),
    /// The script or the commit may or may not have happened; the key knows later.
    Unknown,
}

/// What became of a capture, or of what somebody asked of a payment.
#[derive(Debug, Clone)]
pub enum Captured {
    /// Durable, now or before; `replayed`: the transaction was known.
    Stands {
        payment: Arc<Payment>,
        replayed: bool,
    },
    /// The state of the payment, or of its order, does not allow it.
    Illegal(Arc<Payment>),
    Missing,
    Unknown,
}

/// What became of a device's wish for a licence.
#[derive(Debug, Clone)]
pub enum Licensing {
    /// And the entitlement as it stands now.
    Said(Box<Licensed>, Arc<Entitlement>),
    Missing,
    Unknown,
}

/// What became of a change that somebody asked of an order.
#[derive(Debug, Clone)]
pub enum Changed {
    /// Done now or, `replayed`, before: the order as it stands.
    Stands {
        order: Arc<Order>,
        replayed: bool,
    },
    /// The state does not allow it.
    Illegal(Arc<Order>),
    /// A refund of an order that is paid by a payment nobody here knows.
    Unproven(Arc<Order>),
    Missing(OrderId),
    Unknown,
}
