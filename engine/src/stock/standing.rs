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

/// A key that an order of the bucket was bought with; it stays when the order closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedKey {
    pub user: UserId,
    pub key: IdemKey,
    pub fingerprint: Fingerprint,
    pub order: OrderId,
}

/// A field of the bucket's orders: every order there was, and of the live ones the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderField {
    pub used: UsedKey,
    pub hold: Option<Hold>,
}

impl OrderField {
    /// From `user:key` and `fingerprint:order`, of a live order with
    /// `:version:mark:the whole order`.
    pub fn parse(field: &str, value: &Bytes) -> Option<Self> {
        let (user, key) = field.split_once(':')?;
        let mut ends = value.iter().enumerate().filter(|(_, b)| **b == b':');
        let fingerprint_end = ends.next()?.0;
        let name_end = ends.next().map(|(at, _)| at);
        let text = |from: usize, to: usize| std::str::from_utf8(&value[from..to]).ok();
        let order = text(fingerprint_end + 1, name_end.unwrap_or(value.len()))?;
        Some(Self {
            used: UsedKey {
                user: UserId::parse(user).ok()?,
                key: IdemKey::parse(key).ok()?,
                fingerprint: Fingerprint::parse_hex(text(0, fingerprint_end)?)?,
                order: OrderId::parse(order)?,
            },
            hold: match name_end {
                Some(end) => Some(Hold::parse(&value.slice(end + 1..))?),
                None => None,
            },
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

/// What the ledger decided and no hold carries: a closed order, a payment, an entitlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailEntry {
    /// The kind of the ledger's record.
    pub kind: u8,
    /// The id of its entity, as text.
    pub id: String,
    pub version: u64,
    /// As the ledger keeps it.
    pub body: Bytes,
}

impl TailEntry {
    pub fn field(kind: u8, id: &str) -> String {
        format!("{kind}:{id}")
    }

    pub fn value(version: u64, body: &[u8]) -> Vec<u8> {
        [version.to_string().as_bytes(), b":", body].concat()
    }

    /// The reverse of the two.
    pub fn parse(field: &str, value: &Bytes) -> Option<Self> {
        let (kind, id) = field.split_once(':')?;
        let colon = value.iter().position(|byte| *byte == b':')?;
        Some(Self {
            kind: kind.parse().ok()?,
            id: id.to_owned(),
            version: std::str::from_utf8(&value[..colon]).ok()?.parse().ok()?,
            body: value.slice(colon + 1..),
        })
    }
}

/// Some of a bucket's tail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    pub entries: Vec<TailEntry>,
    /// Where to look next; `None`: that was all.
    pub next: Option<u64>,
}
