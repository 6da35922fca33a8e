//! Bytes of the record bodies: protobuf messages with fixed tags.
//!
//! These bytes outlive every version of the engine. Tags are never reused;
//! a new field gets a new tag; the golden tests pin what is written today.

use prost::Message;

use super::ids::{DeviceId, Fingerprint, IdemKey, OrderId, SaleId, SkuId, UserId};
use super::money::{Cents, Currency};
use super::order::{CloseReason, Item, Order, OrderState, Version};
use super::time::UnixMs;

/// A body that does not say what this kind of record must say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("not a protobuf message of this kind: {0}")]
    Wire(#[from] prost::DecodeError),
    #[error("field {0} is missing or out of range")]
    Field(&'static str),
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Order {
        #[prost(bytes = "vec", tag = "1")]
        pub id: Vec<u8>,
        #[prost(string, tag = "2")]
        pub sale: String,
        #[prost(string, tag = "3")]
        pub user: String,
        #[prost(string, tag = "4")]
        pub key: String,
        #[prost(bytes = "vec", tag = "5")]
        pub fingerprint: Vec<u8>,
        #[prost(message, repeated, tag = "6")]
        pub items: Vec<Item>,
        #[prost(string, tag = "7")]
        pub currency: String,
        /// 1 pending payment, 2 paid, 3 delivered, 4 closed, 5 refund due, 6 refunded
        #[prost(uint32, tag = "8")]
        pub state: u32,
        /// with state 4: 1 timeout, 2 canceled
        #[prost(uint32, tag = "9")]
        pub close_reason: u32,
        #[prost(bool, tag = "10")]
        pub grace_used: bool,
        #[prost(uint64, tag = "11")]
        pub version: u64,
        #[prost(uint64, tag = "12")]
        pub created_at_ms: u64,
        #[prost(uint64, tag = "13")]
        pub updated_at_ms: u64,
        #[prost(uint64, tag = "14")]
        pub pay_deadline_ms: u64,
        #[prost(string, tag = "15")]
        pub device: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Item {
        #[prost(string, tag = "1")]
        pub sku: String,
        #[prost(uint32, tag = "2")]
        pub quantity: u32,
        #[prost(uint64, tag = "3")]
        pub price_cent: u64,
    }

    /// The sale entity: its definition as the JSON of the admin API, and the switches.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sale {
        #[prost(string, tag = "1")]
        pub definition_json: String,
        #[prost(uint32, tag = "2")]
        pub number: u32,
        #[prost(bool, tag = "3")]
        pub paused: bool,
        #[prost(bool, tag = "4")]
        pub ended: bool,
    }

    /// Units given to (or taken from) one bucket, once.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Allotment {
        #[prost(uint32, tag = "1")]
        pub bucket: u32,
        #[prost(message, repeated, tag = "2")]
        pub lines: Vec<AllotmentLine>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AllotmentLine {
        #[prost(string, tag = "1")]
        pub sku: String,
        #[prost(sint64, tag = "2")]
        pub units: i64,
    }
}

pub fn encode_order(o: &Order) -> Vec<u8> {
    let (state, close_reason, grace_used) = match o.state {
        OrderState::PendingPayment { grace_used, .. } => (1, 0, grace_used),
        OrderState::Paid => (2, 0, false),
        OrderState::Delivered => (3, 0, false),
        OrderState::Closed {
            reason: CloseReason::Timeout,
        } => (4, 1, false),
        OrderState::Closed {
            reason: CloseReason::Canceled,
        } => (4, 2, false),
        OrderState::RefundDue => (5, 0, false),
        OrderState::Refunded => (6, 0, false),
    };
    wire::Order {
        id: o.id.as_bytes().to_vec(),
        sale: o.sale.to_string(),
        user: o.user.to_string(),
        key: o.key.to_string(),
        fingerprint: o.fingerprint.0.to_be_bytes().to_vec(),
        items: o
            .items
            .iter()
            .map(|i| wire::Item {
                sku: i.sku.to_string(),
                quantity: i.quantity,
                price_cent: i.price.0,
            })
            .collect(),
        currency: o.currency.to_string(),
        state,
        close_reason,
        grace_used,
        version: o.version.0,
        created_at_ms: o.created_at.0,
        updated_at_ms: o.updated_at.0,
        pay_deadline_ms: o.pay_deadline.0,
        device: o
            .device
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
    .encode_to_vec()
}

pub fn decode_order(bytes: &[u8]) -> Result<Order, CodecError> {
    let w = wire::Order::decode(bytes)?;
    let field = CodecError::Field;
    let state = match (w.state, w.close_reason) {
        (1, _) => OrderState::PendingPayment {
            until: UnixMs(w.pay_deadline_ms),
            grace_used: w.grace_used,
        },
        (2, _) => OrderState::Paid,
        (3, _) => OrderState::Delivered,
        (4, 1) => OrderState::Closed {
            reason: CloseReason::Timeout,
        },
        (4, 2) => OrderState::Closed {
            reason: CloseReason::Canceled,
        },
        (5, _) => OrderState::RefundDue,
        (6, _) => OrderState::Refunded,
        _ => return Err(field("state")),
    };
    let items = w
        .items
        .iter()
        .map(|i| {
            Ok(Item {
                sku: SkuId::parse(&i.sku).map_err(|_| field("items.sku"))?,
                quantity: i.quantity,
                price: Cents(i.price_cent),
            })
        })
        .collect::<Result<_, CodecError>>()?;
    Ok(Order {
        id: OrderId::from_bytes(&w.id).ok_or(field("id"))?,
        sale: SaleId::parse(&w.sale).map_err(|_| field("sale"))?,
        user: UserId::parse(&w.user).map_err(|_| field("user"))?,
        key: IdemKey::parse(&w.key).map_err(|_| field("key"))?,
        fingerprint: Fingerprint(u128::from_be_bytes(
            w.fingerprint
                .as_slice()
                .try_into()
                .map_err(|_| field("fingerprint"))?,
        )),
        items,
        currency: Currency::parse(&w.currency).ok_or(field("currency"))?,
        state,
        version: Version(w.version),
        created_at: UnixMs(w.created_at_ms),
        updated_at: UnixMs(w.updated_at_ms),
        pay_deadline: UnixMs(w.pay_deadline_ms),
        device: match w.device.as_str() {
            "" => None,
            text => Some(DeviceId::parse(text).map_err(|_| field("device"))?),
        },
    })
}

/// The sale entity as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleRecord {
    pub definition: super::sale::Sale,
    pub number: super::ids::SaleNo,
    pub switches: super::sale::Switches,
}

pub fn encode_sale(s: &SaleRecord) -> Vec<u8> {
    wire::Sale {
        definition_json: serde_json::to_string(&s.definition.to_raw())
            .expect("a struct of texts and numbers always has a JSON form"),
        number: u32::from(s.number.0),
        paused: s.switches.paused,
        ended: s.switches.ended,
    }
    .encode_to_vec()
}

pub fn decode_sale(bytes: &[u8]) -> Result<SaleRecord, CodecError> {
    let w = wire::Sale::decode(bytes)?;
    let raw: super::sale::RawSale = serde_json::from_str(&w.definition_json)
        .map_err(|_| CodecError::Field("definition_json"))?;
    Ok(SaleRecord {
        definition: raw
            .check()
            .map_err(|_| CodecError::Field("definition_json"))?,
        number: super::ids::SaleNo(
            u16::try_from(w.number).map_err(|_| CodecError::Field("number"))?,
        ),
        switches: super::sale::Switches {
            paused: w.paused,
            ended: w.ended,
        },
    })
}

/// Units given to one bucket under one allotment id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allotment {
    pub bucket: super::ids::BucketNo,
    pub lines: Vec<(SkuId, i64)>,
}

pub fn encode_allotment(a: &Allotment) -> Vec<u8> {
    wire::Allotment {
        bucket: u32::from(a.bucket.0),
        lines: a
            .lines
            .iter()
            .map(|(sku, units)| wire::AllotmentLine {
                sku: sku.to_string(),
                units: *units,
            })
            .collect(),
    }
    .encode_to_vec()
}

pub fn decode_allotment(bytes: &[u8]) -> Result<Allotment, CodecError> {
    let w = wire::Allotment::decode(bytes)?;
    Ok(Allotment {
        bucket: super::ids::BucketNo(
            u16::try_from(w.bucket).map_err(|_| CodecError::Field("bucket"))?,
        ),
        lines: w
            .lines
            .iter()
            .map(|l| {
                Ok((
                    SkuId::parse(&l.sku).map_err(|_| CodecError::Field("lines.sku"))?,
                    l.units,
                ))
            })
            .collect::<Result<_, CodecError>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{BucketNo, NodeNo, OrderIdParts, SaleNo};
    use proptest::prelude::*;

    pub(crate) fn sample(state: OrderState) -> Order {
        Order {
            id: OrderId::from_parts(OrderIdParts {
                ms: 1_793_000_000_000,
                bucket: BucketNo(3),
                sale: SaleNo(7),
                node: NodeNo(1),
                counter: 9,
                random: 5,
            }),
            sale: SaleId::parse("tea").expect("valid"),
            user: UserId::parse("ana").expect("valid"),
            key: IdemKey::parse("k1").expect("valid"),
            fingerprint: Fingerprint(0x0102_0304),
            items: std::iter::once(Item {
                sku: SkuId::parse("t").expect("valid"),
                quantity: 2,
                price: Cents(1_990),
            })
            .collect(),
            currency: Currency::parse("EUR").expect("valid"),
            state,
            version: Version::first(2),
            created_at: UnixMs(1_793_000_000_000),
            updated_at: UnixMs(1_793_000_000_001),
            pay_deadline: UnixMs(1_793_000_900_000),
            device: DeviceId::parse("d1").ok(),
        }
    }

    #[test]
    fn every_state_survives_the_bytes() {
        let until = UnixMs(1_793_000_900_000);
        for state in [
            OrderState::PendingPayment {
                until,
                grace_used: false,
            },
            OrderState::PendingPayment {
                until,
                grace_used: true,
            },
            OrderState::Paid,
            OrderState::Delivered,
            OrderState::Closed {
                reason: CloseReason::Timeout,
            },
            OrderState::Closed {
                reason: CloseReason::Canceled,
            },
            OrderState::RefundDue,
            OrderState::Refunded,
        ] {
            let order = sample(state);
            assert_eq!(decode_order(&encode_order(&order)), Ok(order));
        }
    }

    #[test]
    fn the_bytes_of_an_order_are_pinned() {
        let order = sample(OrderState::PendingPayment {
            until: UnixMs(1_793_000_900_000),
            grace_used: false,
        });
        let hex: String = encode_order(&order)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hex, GOLDEN_ORDER);
    }
    const GOLDEN_ORDER: &str = "0a1001a17720ca0080038001c0100090000512037465611a03616e6122026b312a100000000000000000000000000102030432080a0174100218c60f3a03455552400158818080802060809483b9973468819483b9973470a08bbab997347a026431";

    proptest! {
        #[test]
        fn any_bytes_are_an_order_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(order) = decode_order(&bytes) {
                prop_assert_eq!(decode_order(&encode_order(&order)), Ok(order));
            }
        }
    }
}
