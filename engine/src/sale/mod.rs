//! Selling: from an admitted request to a durable order.
//!
//! One desk owns each bucket and makes every call to it; the guard decides from
//! ledger facts; the teller speaks only after the fsync. This room does not know
//! HTTP, and nothing below it knows sales.

mod adopt;
mod answer;
mod bucket;
mod desk;
pub(crate) mod facts;
mod guard;
mod index;
mod judge;
mod live;
mod metrics;
mod order_ids;
mod owed;
mod rebuild;
mod recovery;
mod refill;
mod revoked;
mod selling;
mod tail;
mod teller;
mod unclaimed;
mod windows;

pub(crate) use adopt::{patient, read_holds};
pub use answer::{Answer, Captured, Changed, Licensing, Refusal};
pub use bucket::BucketAudit;
pub use facts::FactError;
pub use guard::{Line, Units};
pub(crate) use judge::{Judge, Setback};
pub use live::LiveSale;
pub use metrics::SaleMetrics;
pub use owed::{Due, Owed, OwedList};
pub use recovery::RecoveryError;
pub use revoked::Revoked;
pub use selling::{
    Bought, Created, OrdersPage, OwnOrders, Purchase, Selling, SellingParts, Switched,
};
pub use tail::Stored;
