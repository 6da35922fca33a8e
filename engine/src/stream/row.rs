//! Ledger records to rows: pure.

use floodgate_ledger::{Kind, Record};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::codec::{CodecError, decode_order};
use crate::domain::order::{Order, OrderState};

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
        OrderState::RefundDue => "order.refund_due",
        OrderState::Refunded => "order.refunded",
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
    let items: Vec<_> = order
        .items
        .iter()
        .map(|i| json!({"skuId": i.sku.as_str(), "quantity": i.quantity, "priceCent": i.price.0}))
        .collect();
    let payload = json!({
        "eventId": id.to_string(),
        "eventType": event,
        "bizKey": order.id.to_string(),
        "occurredAt": order.updated_at.rfc3339(),
        "traceId": order.id.to_string(),
        "payload": {
            "orderId": order.id.to_string(),
            "saleId": order.sale.as_str(),
            "userId": order.user.as_str(),
            "status": order.state.name(),
            "version": order.version.0.to_string(),
            "items": items,
            "payAmountCent": order.pay_amount().0,
            "currency": order.currency.as_str(),
            "createdAt": order.created_at.rfc3339(),
            "payDeadlineAt": order.pay_deadline.rfc3339(),
        },
    });
    OutboxRow {
        id,
        event,
        payload: payload.to_string(),
    }
}
