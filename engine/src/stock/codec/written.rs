//! How orders and what belongs to them are written in a bucket, and how a live one is
//! read; see `lua/README.md`.

use bytes::Bytes;

use super::super::standing::TailEntry;
use super::shapes::Side;
use crate::domain::ids::{SkuId, UserId};
use crate::domain::order::{self, Order, Version};

/// One field of one of the bucket's keys, for a rebuild or for its tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub field: Vec<u8>,
    pub value: Vec<u8>,
}

/// A live order as it stands in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub version: Version,
    pub mark: u64,
    /// The whole order as the ledger keeps it, on a host that is a second copy.
    pub order: Bytes,
}

impl Hold {
    /// What follows the name: version, mark, the whole order.
    pub fn parse(value: &Bytes) -> Option<Self> {
        let mut ends = value.iter().enumerate().filter(|(_, b)| **b == b':');
        let (version, mark) = (ends.next()?.0, ends.next()?.0);
        let number = |from: usize, to: usize| -> Option<u64> {
            std::str::from_utf8(&value[from..to]).ok()?.parse().ok()
        };
        Some(Self {
            version: Version(number(0, version)?),
            mark: number(version + 1, mark)?,
            order: value.slice(mark + 1..),
        })
    }
}

impl Row {
    pub fn live(order: &Order, blob: &[u8]) -> Self {
        let (mut field, mut value) = (Vec::new(), Vec::new());
        slot(&mut field, order);
        head(&mut value, order, order.version);
        value.extend_from_slice(blob);
        Self { field, value }
    }

    pub fn closed(order: &Order) -> Self {
        let (mut field, mut value) = (Vec::new(), Vec::new());
        slot(&mut field, order);
        name(&mut value, order);
        Self { field, value }
    }

    pub fn user(user: &UserId, units_live: u32) -> Self {
        Self {
            field: user.as_bytes().to_vec(),
            value: units_live.to_string().into_bytes(),
        }
    }

    pub fn stock(kind: char, sku: &SkuId, units: u64) -> Self {
        Self {
            field: format!("{kind}:{sku}").into_bytes(),
            value: units.to_string().into_bytes(),
        }
    }

    pub fn tail(kind: u8, id: &str, version: u64, body: &[u8]) -> Self {
        Self {
            field: TailEntry::field(kind, id).into_bytes(),
            value: TailEntry::value(version, body),
        }
    }

    pub fn allotment(id: &str) -> Self {
        Self::done(format!("a:{id}"))
    }

    pub fn transfer(side: Side, id: &str) -> Self {
        Self::done(format!("t:{}:{id}", side.name()))
    }

    fn done(field: String) -> Self {
        Self {
            field: field.into_bytes(),
            value: b"1".to_vec(),
        }
    }
}

pub(super) fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The field of an order: what no other order of the sale has.
fn slot(out: &mut Vec<u8>, order: &Order) {
    out.extend_from_slice(order.user.as_bytes());
    out.push(b':');
    out.extend_from_slice(order.key.as_bytes());
}

/// What stands before an order that stands with its user.
pub(super) fn place(out: &mut Vec<u8>, order: &Order) {
    let key = order.key.as_bytes();
    number(out, key.len());
    out.push(b':');
    out.extend_from_slice(key);
    out.push(b':');
}

/// What an order is called for ever; all that stands there once it is closed.
pub(super) fn name(out: &mut Vec<u8>, order: &Order) {
    out.extend_from_slice(&order.fingerprint.hex());
    out.push(b':');
    out.extend_from_slice(order.id.text().as_bytes());
}

/// What a live order begins with; the whole order follows.
pub(super) fn head(out: &mut Vec<u8>, order: &Order, version: Version) {
    name(out, order);
    for part in [version.0, order::mark(&order.id, version)] {
        out.push(b':');
        number(out, part);
    }
    out.push(b':');
}
