//! What follows a win: payments and entitlements, version by version, as the ledger has
//! them.

#![allow(dead_code)] // Each test file uses its own part of this.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

use bytes::Bytes;
use floodgate_engine::domain::codec::{encode_entitlement, encode_order, encode_payment};
use floodgate_engine::domain::entitlement::{Entitlement, WhenFull};
use floodgate_engine::domain::ids::{
    Channel, ChannelTxnNo, DeviceId, EntitlementId, PaymentId, SaleId, WorkId,
};
use floodgate_engine::domain::order::Order;
use floodgate_engine::domain::payment::{NO_SALE, Payment, PaymentState, Raw};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stream::{Row, rows_of};
use floodgate_ledger::{ChainHash, Draft, Kind, Record, Seq};

/// The nth capture; without an order, the provider named none of ours.
pub fn payment(order: Option<&Order>, n: u16, state: PaymentState) -> Payment {
    let made_at = order.map_or(1_794_355_200_000, |order| order.created_at.0);
    Payment {
        id: PaymentId::parse(&format!("pay_{n:032x}")).unwrap(),
        order: order.map(|order| order.id),
        channel: Channel::parse("card").unwrap(),
        channel_txn_no: ChannelTxnNo::parse(&format!("txn-{n}")).unwrap(),
        amount: order.map_or_else(Default::default, Order::pay_amount),
        currency: floodgate_engine::domain::money::Currency::parse("EUR").unwrap(),
        state,
        paid_at: UnixMs(made_at + 2_000),
        received_at: UnixMs(made_at + 3_000),
        note: match state {
            PaymentState::Captured | PaymentState::Applied => String::new(),
            PaymentState::Review | PaymentState::RefundDue | PaymentState::Refunded => {
                // A person's words, and a database's worry.
                "as\0asked".into()
            }
        },
        refund_no: match state {
            PaymentState::Refunded => format!("refund-{n}"),
            PaymentState::Captured
            | PaymentState::Applied
            | PaymentState::Review
            | PaymentState::RefundDue => String::new(),
        },
        raw: (n.is_multiple_of(2))
            .then(|| Raw::of(r#"{"card":"*4711"}"#))
            .flatten(),
    }
}

pub fn payment_draft(sale: Option<&SaleId>, payment: &Payment) -> Draft {
    Draft {
        kind: Kind(5),
        group: Bytes::copy_from_slice(sale.map_or(NO_SALE, SaleId::as_bytes)),
        id: Bytes::copy_from_slice(payment.id.as_bytes()),
        version: payment.state.rank(),
        live: payment.state.is_open(),
        owner: payment
            .order
            .map(|id| Bytes::copy_from_slice(id.as_bytes())),
        uniques: Vec::new(),
        at_ms: payment.received_at.0 + payment.state.rank(),
        body: encode_payment(payment).into(),
    }
}

/// The nth, with its first version's device, one more a version, and revoked at the end.
pub fn entitlement(order: &Order, n: u16, version: u16, is_revoked: bool) -> Entitlement {
    let granted_at = order.created_at.0 + 4_000;
    let device = |d| {
        let id = DeviceId::parse(&format!("phone-{d}")).unwrap();
        (id, UnixMs(granted_at + u64::from(d)))
    };
    Entitlement {
        id: EntitlementId::parse(&format!("ent_{n:032x}")).unwrap(),
        order: order.id,
        user: order.user.clone(),
        sku: order.items[0].sku.clone(),
        work: WorkId::parse("symphony").unwrap(),
        granted_at: UnixMs(granted_at),
        valid_until: UnixMs(granted_at + 30 * 86_400_000),
        devices_max: 5,
        when_full: WhenFull::KickOldest,
        devices: (1..version).map(device).collect(),
        revoked_at: is_revoked.then_some(UnixMs(granted_at + 9_000)),
    }
}

pub fn entitlement_draft(order: &Order, n: u16, version: u16, is_revoked: bool) -> Draft {
    let entitlement = entitlement(order, n, version, is_revoked);
    Draft {
        kind: Kind(6),
        group: Bytes::copy_from_slice(order.sale.as_bytes()),
        id: Bytes::copy_from_slice(entitlement.id.as_bytes()),
        version: version.into(),
        live: entitlement.is_live(),
        owner: Some(Bytes::copy_from_slice(order.user.as_bytes())),
        uniques: Vec::new(),
        at_ms: entitlement.granted_at.0 + u64::from(version),
        body: encode_entitlement(&entitlement).into(),
    }
}

pub fn order_draft(order: &Order) -> Draft {
    Draft {
        kind: Kind(1),
        group: Bytes::copy_from_slice(order.sale.as_bytes()),
        id: Bytes::copy_from_slice(order.id.as_bytes()),
        version: order.version.0,
        live: order.state.is_live(),
        owner: Some(Bytes::copy_from_slice(order.user.as_bytes())),
        uniques: Vec::new(),
        at_ms: order.updated_at.0,
        body: encode_order(order).into(),
    }
}

/// Of an order whose nth capture was applied, granted, used on two devices, and given
/// back: everything but the order itself.
pub fn a_life_after(order: &Order, n: u16) -> Vec<Draft> {
    let paid = |state| payment_draft(Some(&order.sale), &payment(Some(order), n, state));
    vec![
        paid(PaymentState::Applied),
        entitlement_draft(order, n, 1, false),
        entitlement_draft(order, n, 2, false),
        entitlement_draft(order, n, 3, false),
        paid(PaymentState::RefundDue),
        entitlement_draft(order, n, 4, true),
        paid(PaymentState::Refunded),
    ]
}

/// The nth capture, for which no order of ours was named.
pub fn stray(n: u16) -> Draft {
    payment_draft(None, &payment(None, n, PaymentState::Review))
}

/// As a ledger would tell it, at this place.
pub fn record(draft: &Draft, seq: u64) -> Record {
    Record {
        seq: Seq(seq),
        hash: ChainHash([0; 32]),
        kind: draft.kind,
        group: draft.group.clone(),
        id: draft.id.clone(),
        version: draft.version,
        live: draft.live,
        owner: draft.owner.clone(),
        uniques: draft.uniques.clone(),
        at_ms: draft.at_ms,
        body: draft.body.clone(),
    }
}

pub fn row(draft: &Draft) -> Row {
    rows_of(&record(draft, 1)).unwrap().unwrap()
}
