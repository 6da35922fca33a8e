//! What the outbox tells of a version: pure.
//!
//! A replay is the same event: its id comes from kind, id and version. Fields stand in
//! the order of their names: the same event is the same text, whichever version of the
//! engine tells it.

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::fact::{EntitlementFact, PaymentFact};
use super::row::{RowKind, clean};
use crate::domain::order::{Item, Order, OrderState};
use crate::domain::payment::PaymentState;
use crate::domain::time::UnixMs;

/// A row of the outbox, in the columns that Debezium's outbox router expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: Uuid,
    pub event: &'static str,
    /// When it happened.
    pub at: UnixMs,
    pub payload: String,
}

/// The envelope around what is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a, T> {
    biz_key: &'a str,
    event_id: &'a str,
    event_type: &'static str,
    occurred_at: String,
    payload: T,
    /// One for everything that came of one purchase.
    trace_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldOrder<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_reason: Option<&'static str>,
    created_at: String,
    currency: &'a str,
    items: Vec<ToldItem<'a>>,
    order_id: &'a str,
    pay_amount_cent: u64,
    pay_deadline_at: String,
    /// Of a refund: whether its units are on sale again.
    #[serde(skip_serializing_if = "Option::is_none")]
    restocked: Option<bool>,
    sale_id: &'a str,
    status: &'static str,
    user_id: &'a str,
    /// A 64-bit number as text: JSON readers lose digits of such numbers.
    version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldItem<'a> {
    price_cent: u64,
    quantity: u32,
    sku_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldPayment<'a> {
    amount_cent: u64,
    channel: &'a str,
    channel_txn_no: &'a str,
    currency: &'a str,
    note: &'a str,
    order_id: Option<&'a str>,
    paid_at: String,
    payment_id: &'a str,
    received_at: String,
    refund_no: &'a str,
    sale_id: Option<&'a str>,
    status: &'static str,
    version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldEntitlement<'a> {
    devices_max: u32,
    entitlement_id: &'a str,
    granted_at: String,
    order_id: &'a str,
    revoked_at: Option<String>,
    sale_id: &'a str,
    sku_id: &'a str,
    status: &'static str,
    user_id: &'a str,
    valid_until: String,
    version: String,
    work_id: &'a str,
}

impl<'a> ToldItem<'a> {
    fn of(item: &'a Item) -> Self {
        Self {
            price_cent: item.price.0,
            quantity: item.quantity,
            sku_id: item.sku.as_str(),
        }
    }
}

pub(super) fn of_order(order: &Order) -> OutboxRow {
    let mut hash = Sha256::new();
    hash.update(order.id.as_bytes());
    hash.update(order.version.0.to_be_bytes());
    let id = order.id.to_string();
    let event = Event {
        id: event_id(hash),
        name: match order.state {
            OrderState::PendingPayment { .. } if order.version.is_first() => "order.created",
            // A payment began, or came late and found fresh units.
            OrderState::PendingPayment { .. } => "order.extended",
            OrderState::Paid => "order.paid",
            OrderState::Delivered => "order.delivered",
            OrderState::Closed { .. } => "order.closed",
            OrderState::RefundDue { .. } => "order.refund_due",
            OrderState::Refunded { .. } => "order.refunded",
        },
        at: order.updated_at,
    };
    let told = ToldOrder {
        closed_reason: order.state.closed_reason(),
        created_at: order.created_at.rfc3339(),
        currency: order.currency.as_str(),
        items: order.items.iter().map(ToldItem::of).collect(),
        order_id: &id,
        pay_amount_cent: order.pay_amount().0,
        pay_deadline_at: order.pay_deadline.rfc3339(),
        restocked: order.state.restocked(),
        sale_id: order.sale.as_str(),
        status: order.state.name(),
        user_id: order.user.as_str(),
        version: order.version.0.to_string(),
    };
    event.tells(&id, &id, told)
}

pub(super) fn of_payment(fact: &PaymentFact) -> OutboxRow {
    let payment = &fact.payment;
    let id = payment.id.as_str();
    let order = payment.order.map(|order| order.to_string());
    let event = Event {
        id: after_id(RowKind::Payment, id, fact.version),
        name: match payment.state {
            PaymentState::Captured => "payment.captured",
            PaymentState::Applied => "payment.applied",
            PaymentState::Review => "payment.review",
            PaymentState::RefundDue => "payment.refund_due",
            PaymentState::Refunded => "payment.refunded",
        },
        at: fact.at,
    };
    let told = ToldPayment {
        amount_cent: payment.amount.0,
        channel: payment.channel.as_str(),
        channel_txn_no: payment.channel_txn_no.as_str(),
        currency: payment.currency.as_str(),
        note: &clean(&payment.note),
        order_id: order.as_deref(),
        paid_at: payment.paid_at.rfc3339(),
        payment_id: id,
        received_at: payment.received_at.rfc3339(),
        refund_no: &clean(&payment.refund_no),
        sale_id: fact.sale.as_ref().map(|sale| sale.as_str()),
        status: payment.state.name(),
        version: fact.version.to_string(),
    };
    event.tells(id, order.as_deref().unwrap_or(id), told)
}

/// The first version grants and one that is revoked revokes; what lies between changes
/// devices, and is nobody else's business.
pub(super) fn of_entitlement(fact: &EntitlementFact) -> Option<OutboxRow> {
    let entitlement = &fact.entitlement;
    let (name, at) = match entitlement.revoked_at {
        Some(at) => ("entitlement.revoked", at),
        None if fact.version == 1 => ("entitlement.granted", entitlement.granted_at),
        None => return None,
    };
    let (id, order) = (entitlement.id.as_str(), entitlement.order.to_string());
    let event = Event {
        id: after_id(RowKind::Entitlement, id, fact.version),
        name,
        at,
    };
    let told = ToldEntitlement {
        devices_max: entitlement.devices_max,
        entitlement_id: id,
        granted_at: entitlement.granted_at.rfc3339(),
        order_id: &order,
        revoked_at: entitlement.revoked_at.map(UnixMs::rfc3339),
        sale_id: fact.sale.as_str(),
        sku_id: entitlement.sku.as_str(),
        status: fact.status(),
        user_id: entitlement.user.as_str(),
        valid_until: entitlement.valid_until.rfc3339(),
        version: fact.version.to_string(),
        work_id: entitlement.work.as_str(),
    };
    Some(event.tells(id, &order, told))
}

struct Event {
    id: Uuid,
    name: &'static str,
    at: UnixMs,
}

impl Event {
    fn tells(self, biz_key: &str, trace_id: &str, payload: impl Serialize) -> OutboxRow {
        let message = Message {
            biz_key,
            event_id: &self.id.to_string(),
            event_type: self.name,
            occurred_at: self.at.rfc3339(),
            payload,
            trace_id,
        };
        OutboxRow {
            id: self.id,
            event: self.name,
            at: self.at,
            payload: serde_json::to_string(&message).expect("texts and numbers are JSON"),
        }
    }
}

/// Of what came after orders. No id has a zero byte in it.
fn after_id(kind: RowKind, id: &str, version: u64) -> Uuid {
    let mut hash = Sha256::new();
    for part in [kind.name(), id] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(version.to_be_bytes());
    event_id(hash)
}

fn event_id(hash: Sha256) -> Uuid {
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Uuid::new_v8(bytes)
}
