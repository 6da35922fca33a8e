//! Stock: one set of scripts, several hosts, one encoder and decoder.
//!
//! Above this room everybody speaks in orders and verdicts; below it there are
//! only keys, arguments and replies. A reply that does not have the shape that
//! `lua/README.md` promises is an error, never a panic.

mod call;
mod codec;
pub mod embedded;
mod host;
pub mod redis;
mod script;
mod standing;

pub use call::{BucketCaller, CallError, Owner, Silence};
pub use codec::{
    AuditReply, Counters, Hold, HoldRequest, Row, RowKind, SettleMove, SettleRequest, Settled,
    Side, Verdict,
};
pub use host::{Args, BucketRef, HostError, HostFuture, Reply, Script, StockHost};
pub use script::text;
pub use standing::{Holds, Meta, Tail, TailEntry, UsedKey, UsedKeys};
