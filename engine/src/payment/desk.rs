//! What this room asks of the desks, which alone write payments and orders.

use std::future::Future;
use std::pin::Pin;

use crate::domain::payment::Payment;

/// It is not known whether it is durable: ask again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeskError(pub String);

pub type Done<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeskError>> + Send + 'a>>;

/// Where refunds come from, and where it is told that one is done.
pub trait RefundDesk: Send + Sync {
    /// Payments that the ledger says are due, at most so many. Reads a disk; not for a
    /// thread that serves buyers.
    fn due(&self, max: usize) -> Result<Vec<Payment>, DeskError>;

    /// The provider gave the money back: durable when this returns. Said again, it
    /// changes nothing.
    fn refunded<'a>(&'a self, payment: &'a Payment, refund_no: String) -> Done<'a, ()>;
}
