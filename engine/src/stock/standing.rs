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

/// An order of the bucket, wherever it stands there: every order there was, and of the
/// live ones the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderField {
    pub used: UsedKey,
    pub hold: Option<Hold>,
}

impl OrderField {
    /// From a field of its own: `user:key` and the order.
    pub fn parse(field: &str, value: &Bytes) -> Option<Self> {
        let (user, key) = field.split_once(':')?;
        Self::read(user, key, value)
    }

    /// From what stands under its user: `units`, and with an order
    /// `units:length of its key:key:order`. Outside `None`: it has another form; inside:
    /// no order stands there.
    pub fn parse_with_user(user: &str, value: &Bytes) -> Option<Option<Self>> {
        let colon = |from: usize| value[from..].iter().position(|b| *b == b':');
        let text = |from: usize, to: usize| std::str::from_utf8(value.get(from..to)?).ok();
        let units_end = colon(0).unwrap_or(value.len());
        text(0, units_end)?.parse::<u64>().ok()?;
        if units_end == value.len() {
            return Some(None);
        }
        let key_at = units_end + 1 + colon(units_end + 1)? + 1;
        let length: usize = text(units_end + 1, key_at - 1)?.parse().ok()?;
        let key_end = key_at.checked_add(length)?;
        let key = text(key_at, key_end)?;
        let order = value.get(key_end..)?.starts_with(b":");
        let order = order.then(|| value.slice(key_end + 1..))?;
        Self::read(user, key, &order).map(Some)
    }

    /// From `fingerprint:order`, of a live order with `:version:mark:the whole order`.
    fn read(user: &str, key: &str, value: &Bytes) -> Option<Self> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "000102030405060708090a0b0c0d0e0f:01a17720-ca00-8003-8001-c01000900005";

    fn with_user(value: &str) -> Option<Option<OrderField>> {
        OrderField::parse_with_user("ana", &Bytes::copy_from_slice(value.as_bytes()))
    }

    #[test]
    fn an_order_is_the_same_wherever_it_stands() {
        let order = format!("{NAME}:4294967297:77:5:3:the whole");
        let own = OrderField::parse("ana:a-key", &Bytes::from(order.clone()));
        let own = own.expect("an order");
        let hold = own.hold.as_ref().expect("it is live");
        assert_eq!((hold.mark, &hold.order[..]), (77, &b"5:3:the whole"[..]));
        assert_eq!(with_user(&format!("3:5:a-key:{order}")), Some(Some(own)));
    }

    #[test]
    fn units_alone_are_no_order_and_nonsense_is_told() {
        assert_eq!(with_user("0"), Some(None));
        assert_eq!(with_user("12"), Some(None));
        let whole = format!("1:2:k1:{NAME}:1:2:");
        assert!(with_user(&whole).is_some_and(|order| order.is_some()));
        for odd in [
            "",
            ":",
            "x",
            "1:",
            "1:2",
            "1:x:k1",
            "1:2:k1",
            "1:99:k1:x",
            "-1",
            "1:18446744073709551615:k1:x",
            &whole.replace("1:2:k1:", "1:1:k1:"),
            &whole.replace("1:2:k1:", "1:3:k1:"),
        ] {
            assert_eq!(with_user(odd), None, "{odd}");
        }
    }
}
