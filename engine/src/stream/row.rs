//! Ledger records to rows: pure.

use floodgate_ledger::{Kind, Record};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::codec::{CodecError, decode_order};
use crate::domain::order::{Item, Order, OrderState};

/// The kind of order records in the ledger.
pub(super) const ORDER: Kind = Kind(1);

/// One version of one order, with the message that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    pub seq: u64,
    pub order: Order,
    /// The order's own bytes, for readers that want all of it.
    pub body: Vec<u8>,
    pub outbox: OutboxRow,
}

/// A row of the outbox, in the columns that Debezium's outbox router expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// From order id and version, so that a replay is the same event.
    pub id: Uuid,
    pub event: &'static str,
    pub payload: String,
}

/// What a record means for the store; records of other kinds only move the mark.
pub fn rows_of(record: &Record) -> Result<Option<OrderRow>, CodecError> {
    if record.kind != ORDER {
        return Ok(None);
    }
    OrderRow::read(record.seq.0, &record.body).map(Some)
}

impl OrderRow {
    /// From the body of an order's record or snapshot.
    pub(super) fn read(seq: u64, body: &[u8]) -> Result<Self, CodecError> {
        let order = decode_order(body)?;
        let outbox = outbox(&order);
        Ok(Self {
            seq,
            order,
            body: body.to_vec(),
            outbox,
        })
    }
}

fn event(state: OrderState) -> &'static str {
    match state {
        OrderState::PendingPayment { .. } => "order.created",
        OrderState::Paid => "order.paid",
        OrderState::Delivered => "order.delivered",
        OrderState::Closed { .. } => "order.closed",
        OrderState::RefundDue { .. } => "order.refund_due",
        OrderState::Refunded { .. } => "order.refunded",
    }
}

fn outbox(order: &Order) -> OutboxRow {
    let mut hash = Sha256::new();
    hash.update(order.id.as_bytes());
    hash.update(order.version.0.to_be_bytes());
    let digest = hash.finalize();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    let id = Uuid::new_v8(bytes);
    let event = event(order.state);
    let order_id = order.id.to_string();
    let message = Message {
        biz_key: &order_id,
        event_id: &id.to_string(),
        event_type: event,
        occurred_at: order.updated_at.rfc3339(),
        payload: Told {
            created_at: order.created_at.rfc3339(),
            currency: order.currency.as_str(),
            items: order.items.iter().map(ToldItem::of).collect(),
            order_id: &order_id,
            pay_amount_cent: order.pay_amount().0,
            pay_deadline_at: order.pay_deadline.rfc3339(),
            sale_id: order.sale.as_str(),
            status: order.state.name(),
            user_id: order.user.as_str(),
            version: order.version.0.to_string(),
        },
        trace_id: &order_id,
    };
    OutboxRow {
        id,
        event,
        payload: serde_json::to_string(&message).expect("texts and numbers are JSON"),
    }
}

/// What a message says. Its fields stand in the order of their names: the same event
/// is the same text, whichever version of the engine tells it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    biz_key: &'a str,
    event_id: &'a str,
    event_type: &'static str,
    occurred_at: String,
    payload: Told<'a>,
    trace_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    created_at: String,
    currency: &'a str,
    items: Vec<ToldItem<'a>>,
    order_id: &'a str,
    pay_amount_cent: u64,
    pay_deadline_at: String,
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

impl<'a> ToldItem<'a> {
    fn of(item: &'a Item) -> Self {
        Self {
            price_cent: item.price.0,
            quantity: item.quantity,
            sku_id: item.sku.as_str(),
        }
    }
}
