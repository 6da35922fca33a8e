//! What a bucket may be asked and what it may answer, as the rooms above say it.

use crate::domain::order::{Order, Version};

/// One order that asks for its units.
#[derive(Debug)]
pub struct HoldRequest<'a> {
    pub order: &'a Order,
    /// The whole order, as the ledger will keep it; empty where the hold need not
    /// carry it ([`BucketCaller::carried`](crate::stock::BucketCaller::carried)).
    pub blob: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Replay,
    KeyReused,
    NotOpen,
    Ended,
    OverLimit,
    NotEnough,
    UnknownSku,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleMove {
    None,
    Pay,
    Close,
    Restock,
    Withdraw,
}

/// One order that took a durable step.
#[derive(Debug)]
pub struct SettleRequest<'a> {
    /// As it is now.
    pub order: &'a Order,
    /// The version that the step was made from.
    pub from: Version,
    pub moved: SettleMove,
    /// As in [`HoldRequest`].
    pub blob: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Done,
    OtherVersion,
    NotLive,
    Impossible,
}

/// The two ends of a transfer between buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Debit,
    Credit,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Debit => "debit",
            Self::Credit => "credit",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    Live,
    Closed,
    User,
    Stock,
    Move,
    Tail,
}

/// Units of one SKU as the bucket counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub allotted: u64,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
    pub withdrawn: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReply {
    pub digest: u64,
    pub n_live: u64,
    pub n_moves: u64,
    pub skus: Vec<Counters>,
}
