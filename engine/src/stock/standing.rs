//! What stands in a host that outlives the engine: read, never changed, by whoever
//! compares it with what the ledger knows.

use bytes::Bytes;

use super::codec::Hold;
use crate::domain::ids::OrderId;

/// What a bucket says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub epoch: u32,
    pub n: u64,
    /// Its rebuild was not finished.
    pub is_building: bool,
    /// The ledger that last called it, and how far that was durable by then.
    pub ledger: String,
    pub seq: u64,
    /// The sale as it was when the bucket was made, as the ledger keeps it.
    pub sale: Bytes,
}

/// Some of a bucket's holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    pub holds: Vec<(OrderId, Hold)>,
    /// Where to look next; `None`: that was all.
    pub next: Option<u64>,
}
