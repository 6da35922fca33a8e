//! How units come into a bucket and leave it without being sold.

use super::ids::{BucketNo, SkuId};

/// Units given to (or, below zero, taken from) one bucket under one allotment id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allotment {
    pub bucket: BucketNo,
    pub lines: Vec<(SkuId, i64)>,
}

/// Free units that went from one bucket to another under one transfer id: durable
/// once they have left the source, and the target's from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub from: BucketNo,
    pub to: BucketNo,
    pub lines: Vec<(SkuId, u32)>,
}
