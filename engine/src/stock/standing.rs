//! What stands in a host that outlives the engine: read, never changed, by whoever
//! compares it with what the ledger knows.

use bytes::Bytes;

use super::codec::Hold;
use crate::domain::ids::{Fingerprint, IdemKey, OrderId, UserId};

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

/// A key that an order of the bucket was bought with; it stays when the hold goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedKey {
    pub user: UserId,
    pub key: IdemKey,
    pub fingerprint: Fingerprint,
    pub order: OrderId,
}

impl UsedKey {
    /// From field and value: `user:key` and `fingerprint:order`.
    pub fn parse(field: &str, value: &str) -> Option<Self> {
        let ((user, key), (fingerprint, order)) = (field.split_once(':')?, value.split_once(':')?);
        Some(Self {
            user: UserId::parse(user).ok()?,
            key: IdemKey::parse(key).ok()?,
            fingerprint: Fingerprint::parse_hex(fingerprint)?,
            order: OrderId::parse(order)?,
        })
    }
}

/// Some of a bucket's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsedKeys {
    pub keys: Vec<UsedKey>,
    /// Where to look next; `None`: that was all.
    pub next: Option<u64>,
}
