//! How a running sale is steered: by an operator, and by the rate it lets buyers in.

use super::time::UnixMs;

/// From here on `served` tickets have been called, and more are at this rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSegment {
    pub from: UnixMs,
    pub served: u64,
    pub tickets_per_1000_s: u64,
}

/// What an operator asked for, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAction {
    pub actor: String,
    pub action: String,
    /// A SKU, an order, a payment; empty: the sale.
    pub subject: String,
    pub request_json: String,
}
