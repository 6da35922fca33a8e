//! What is written today is what every later version must read.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::domain::allotment::{Allotment, Transfer};
use crate::domain::entitlement::{Entitlement, WhenFull};
use crate::domain::ids::{
    BucketNo, Channel, ChannelTxnNo, DeviceId, EntitlementId, Fingerprint, IdemKey, NodeNo,
    OrderId, OrderIdParts, PaymentId, SaleId, SaleNo, SkuId, UserId, WorkId,
};
use crate::domain::money::{Cents, Currency};
use crate::domain::order::{CloseReason, Item, Order, OrderState, Version};
use crate::domain::payment::{Payment, PaymentState, Raw};
use crate::domain::sale::{RawSale, SaleRecord, Switches};
use crate::domain::steering::{AdminAction, RateSegment};
use crate::domain::time::UnixMs;

const T: u64 = 1_793_000_000_000;

/// The value's bytes are these, and these bytes are the value.
fn pin<V: PartialEq + Debug>(
    value: V,
    encode: fn(&V) -> Vec<u8>,
    decode: fn(&[u8]) -> Result<V, CodecError>,
    golden: &str,
) {
    let bytes = encode(&value);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, golden, "the bytes of {value:?}");
    assert_eq!(decode(&bytes), Ok(value));
}

fn order_id() -> OrderId {
    OrderId::from_parts(OrderIdParts {
        ms: T,
        bucket: BucketNo(3),
        sale: SaleNo(7),
        node: NodeNo(1),
        counter: 9,
        random: 5,
    })
}

fn sku() -> SkuId {
    SkuId::parse("t").expect("valid")
}

fn user() -> UserId {
    UserId::parse("ana").expect("valid")
}

fn eur() -> Currency {
    Currency::parse("EUR").expect("valid")
}

fn device() -> DeviceId {
    DeviceId::parse("d1").expect("valid")
}

fn order(state: OrderState) -> Order {
    Order {
        id: order_id(),
        sale: SaleId::parse("tea").expect("valid"),
        user: user(),
        key: IdemKey::parse("k1").expect("valid"),
        fingerprint: Fingerprint(0x0102_0304),
        items: std::iter::once(Item {
            sku: sku(),
            quantity: 2,
            price: Cents(1_990),
        })
        .collect(),
        currency: eur(),
        state,
        version: Version::first(2),
        created_at: UnixMs(T),
        updated_at: UnixMs(T + 1),
        pay_deadline: UnixMs(T + 900_000),
        device: Some(device()),
    }
}

fn payment(state: PaymentState) -> Payment {
    Payment {
        id: PaymentId::parse("p1").expect("valid"),
        order: Some(order_id()),
        channel: Channel::parse("mock").expect("valid"),
        channel_txn_no: ChannelTxnNo::parse("x-77").expect("valid"),
        amount: Cents(3_980),
        currency: eur(),
        state,
        paid_at: UnixMs(T + 2),
        received_at: UnixMs(T + 3),
        note: "why".into(),
        refund_no: "r9".into(),
        raw: None,
    }
}

fn entitlement(when_full: WhenFull, revoked_at: Option<UnixMs>) -> Entitlement {
    Entitlement {
        id: EntitlementId::parse("e1").expect("valid"),
        order: order_id(),
        user: user(),
        sku: sku(),
        work: WorkId::parse("w1").expect("valid"),
        granted_at: UnixMs(T + 4),
        valid_until: UnixMs(T + 5),
        devices_max: 5,
        when_full,
        devices: vec![(device(), UnixMs(T + 6))],
        revoked_at,
    }
}

#[test]
fn order_1() {
    let until = UnixMs(T + 900_000);
    pin(
        order(OrderState::PendingPayment {
            until,
            grace_used: false,
        }),
        encode_order,
        decode_order,
        "0a1001a17720ca0080038001c0100090000512037465611a03616e6122026b312a100000000000000000000000000102030432080a0174100218c60f3a03455552400158818080802060809483b9973468819483b9973470a08bbab997347a026431",
    );
}

#[test]
fn sale_2() {
    let raw: RawSale = serde_json::from_str(
        r#"{"id":"tea","name":"Tea","startsAt":"2026-11-11T00:00:00Z","endsAt":"2026-11-12T00:00:00Z",
            "unitsPerUser":1,"skus":[{"id":"t","name":"T","priceCent":1990,"currency":"EUR","units":9}]}"#,
    )
    .expect("valid");
    pin(
        SaleRecord {
            definition: raw.check().expect("valid"),
            number: SaleNo(7),
            switches: Switches {
                paused: true,
                ended: true,
            },
        },
        encode_sale,
        decode_sale,
        "0ad2027b226964223a22746561222c226e616d65223a22546561222c227374617274734174223a22323032362d31312d31315430303a30303a30305a222c22656e64734174223a22323032362d31312d31325430303a30303a30305a222c2270617957696e646f775365636f6e6473223a3930302c227061796d656e7447726163655365636f6e6473223a302c22756e69747350657255736572223a312c226275636b657473223a312c226f7264657273506572557365724d6178223a3130302c2261646d697373696f6e223a7b2272617465223a3130303030302c226275727374223a31303030302c2271756575654d6178223a31303030302c22776169744d73223a313030307d2c22736b7573223a5b7b226964223a2274222c226e616d65223a2254222c22707269636543656e74223a313939302c2263757272656e6379223a22455552222c22756e697473223a397d5d7d100718012001",
    );
}

/// A sale's body says a grant where there is one, and is what it was where there is none.
#[test]
fn sale_2_with_a_grant() {
    let raw: RawSale = serde_json::from_str(
        r#"{"id":"tea","name":"Tea","startsAt":"2026-11-11T00:00:00Z","endsAt":"2026-11-12T00:00:00Z",
            "unitsPerUser":1,"skus":[{"id":"t","name":"T","priceCent":1990,"currency":"EUR","units":9,
            "grant":{"workId":"w1","validDays":365,"whenFull":"kick_oldest"}}]}"#,
    )
    .expect("valid");
    pin(
        SaleRecord {
            definition: raw.check().expect("valid"),
            number: SaleNo(7),
            switches: Switches::default(),
        },
        encode_sale,
        decode_sale,
        "0aa2037b226964223a22746561222c226e616d65223a22546561222c227374617274734174223a22323032362d31312d31315430303a30303a30305a222c22656e64734174223a22323032362d31312d31325430303a30303a30305a222c2270617957696e646f775365636f6e6473223a3930302c227061796d656e7447726163655365636f6e6473223a302c22756e69747350657255736572223a312c226275636b657473223a312c226f7264657273506572557365724d6178223a3130302c2261646d697373696f6e223a7b2272617465223a3130303030302c226275727374223a31303030302c2271756575654d6178223a31303030302c22776169744d73223a313030307d2c22736b7573223a5b7b226964223a2274222c226e616d65223a2254222c22707269636543656e74223a313939302c2263757272656e6379223a22455552222c22756e697473223a392c226772616e74223a7b22776f726b4964223a227731222c2276616c696444617973223a3336352c22646576696365734d6178223a352c227768656e46756c6c223a226b69636b5f6f6c64657374227d7d5d7d1007",
    );
}

#[test]
fn allotment_3() {
    pin(
        Allotment {
            bucket: BucketNo(300),
            lines: vec![(sku(), 1_000), (sku(), -3)],
        },
        encode_allotment,
        decode_allotment,
        "08ac0212060a017410d00f12050a01741005",
    );
}

#[test]
fn transfer_4() {
    pin(
        Transfer {
            from: BucketNo(1),
            to: BucketNo(300),
            lines: vec![(sku(), 12)],
        },
        encode_transfer,
        decode_transfer,
        "080110ac021a050a01741018",
    );
}

#[test]
fn payment_5() {
    pin(
        payment(PaymentState::RefundDue),
        encode_payment,
        decode_payment,
        "0a027031121001a17720ca0080038001c010009000051a046d6f636b2204782d3737288c1f3203455552380440829483b9973448839483b9973452037768795a027239",
    );
    let said = Payment {
        raw: Raw::of("ok"),
        ..payment(PaymentState::RefundDue)
    };
    pin(
        said,
        encode_payment,
        decode_payment,
        "0a027031121001a17720ca0080038001c010009000051a046d6f636b2204782d3737288c1f3203455552380440829483b9973448839483b9973452037768795a02723962026f6b",
    );
}

#[test]
fn entitlement_6() {
    pin(
        entitlement(WhenFull::KickOldest, Some(UnixMs(T + 7))),
        encode_entitlement,
        decode_entitlement,
        "0a026531121001a17720ca0080038001c010009000051a03616e612201742a02773130849483b9973438859483b9973440054802520b0a02643110869483b9973458879483b99734",
    );
}

#[test]
fn rate_7() {
    pin(
        RateSegment {
            from: UnixMs(T),
            served: 4_000,
            tickets_per_1000_s: 2_500_000,
        },
        encode_rate,
        decode_rate,
        "08809483b9973410a01f18a0cb9801",
    );
}

#[test]
fn admin_action_8() {
    pin(
        AdminAction {
            actor: "ops".into(),
            action: "top-up".into(),
            subject: "t".into(),
            request_json: "{}".into(),
        },
        encode_action,
        decode_action,
        "0a036f70731206746f702d75701a017422027b7d",
    );
}

#[test]
fn every_state_survives_the_bytes() {
    let until = UnixMs(T + 900_000);
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
        OrderState::RefundDue { restocked: true },
        OrderState::RefundDue { restocked: false },
        OrderState::Refunded { restocked: true },
        OrderState::Refunded { restocked: false },
    ] {
        let order = order(state);
        assert_eq!(decode_order(&encode_order(&order)), Ok(order));
    }
    for state in [
        PaymentState::Captured,
        PaymentState::Applied,
        PaymentState::Review,
        PaymentState::RefundDue,
        PaymentState::Refunded,
    ] {
        let payment = Payment {
            order: None,
            ..payment(state)
        };
        assert_eq!(decode_payment(&encode_payment(&payment)), Ok(payment));
    }
    let refused = entitlement(WhenFull::Refuse, None);
    assert_eq!(
        decode_entitlement(&encode_entitlement(&refused)),
        Ok(refused)
    );
}

/// Whatever a decoder takes, it has understood: it says the same again.
fn understood<V: PartialEq + Debug>(
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<V, CodecError>,
    encode: fn(&V) -> Vec<u8>,
) -> Result<(), TestCaseError> {
    if let Ok(value) = decode(bytes) {
        prop_assert_eq!(decode(&encode(&value)), Ok(value));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_a_body_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        understood(&bytes, decode_order, encode_order)?;
        understood(&bytes, decode_sale, encode_sale)?;
        understood(&bytes, decode_allotment, encode_allotment)?;
        understood(&bytes, decode_transfer, encode_transfer)?;
        understood(&bytes, decode_payment, encode_payment)?;
        understood(&bytes, decode_entitlement, encode_entitlement)?;
        understood(&bytes, decode_rate, encode_rate)?;
        understood(&bytes, decode_action, encode_action)?;
    }
}
