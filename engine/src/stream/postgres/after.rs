//! Payments and entitlements as arrays, and the messages that tell of them.

use std::borrow::Cow;

use uuid::Uuid;

use super::columns::{Json, Params, uuid};
use crate::domain::payment::Raw;
use crate::stream::message::OutboxRow;
use crate::stream::row::{EntitlementRow, PaymentRow, RowKind, clean};

#[derive(Default)]
pub(super) struct Payments<'a> {
    pub payment_id: Vec<&'a str>,
    pub channel: Vec<&'a str>,
    pub channel_txn_no: Vec<&'a str>,
    pub order_id: Vec<Option<Uuid>>,
    pub sale_id: Vec<Option<&'a str>>,
    pub status: Vec<&'a str>,
    pub version: Vec<i64>,
    pub amount_cent: Vec<i64>,
    pub currency: Vec<&'a str>,
    pub paid_at: Vec<i64>,
    pub received_at: Vec<i64>,
    pub updated_at: Vec<i64>,
    pub note: Vec<Cow<'a, str>>,
    pub refund_no: Vec<Cow<'a, str>>,
    pub raw: Vec<Option<&'a str>>,
    pub snapshot: Vec<&'a [u8]>,
}

#[derive(Default)]
pub(super) struct Entitlements<'a> {
    pub entitlement_id: Vec<&'a str>,
    pub user_id: Vec<&'a str>,
    pub work_id: Vec<&'a str>,
    pub order_id: Vec<Uuid>,
    pub sku_id: Vec<&'a str>,
    pub sale_id: Vec<&'a str>,
    pub status: Vec<&'a str>,
    pub version: Vec<i64>,
    pub granted_at: Vec<i64>,
    pub valid_until: Vec<i64>,
    pub devices_max: Vec<i64>,
    pub devices: Vec<Json<'a>>,
    pub revoked_at: Vec<Option<i64>>,
    pub updated_at: Vec<i64>,
    pub snapshot: Vec<&'a [u8]>,
}

/// Rows of the outbox that tell of no order.
#[derive(Default)]
pub(super) struct Messages<'a> {
    pub id: Vec<Uuid>,
    pub aggregate: Vec<&'a str>,
    pub aggregate_id: Vec<&'a str>,
    pub event: Vec<&'a str>,
    pub payload: Vec<Json<'a>>,
    pub at: Vec<i64>,
}

impl<'a> Payments<'a> {
    pub fn push(&mut self, row: &'a PaymentRow) {
        let (fact, p) = (&row.fact, &row.fact.payment);
        self.payment_id.push(p.id.as_str());
        self.channel.push(p.channel.as_str());
        self.channel_txn_no.push(p.channel_txn_no.as_str());
        self.order_id.push(p.order.as_ref().map(uuid));
        self.sale_id.push(fact.sale.as_ref().map(|s| s.as_str()));
        self.status.push(p.state.name());
        self.version.push(fact.version.cast_signed());
        self.amount_cent.push(p.amount.0.cast_signed());
        self.currency.push(p.currency.as_str());
        self.paid_at.push(p.paid_at.0.cast_signed());
        self.received_at.push(p.received_at.0.cast_signed());
        self.updated_at.push(fact.at.0.cast_signed());
        self.note.push(clean(&p.note));
        self.refund_no.push(clean(&p.refund_no));
        self.raw.push(p.raw.as_ref().map(Raw::as_str));
        self.snapshot.push(&row.body);
    }
}

impl<'a> Entitlements<'a> {
    pub fn push(&mut self, row: &'a EntitlementRow) {
        let (fact, e) = (&row.fact, &row.fact.entitlement);
        self.entitlement_id.push(e.id.as_str());
        self.user_id.push(e.user.as_str());
        self.work_id.push(e.work.as_str());
        self.order_id.push(uuid(&e.order));
        self.sku_id.push(e.sku.as_str());
        self.sale_id.push(fact.sale.as_str());
        self.status.push(fact.status());
        self.version.push(fact.version.cast_signed());
        self.granted_at.push(e.granted_at.0.cast_signed());
        self.valid_until.push(e.valid_until.0.cast_signed());
        self.devices_max.push(e.devices_max.into());
        self.devices.push(Json(fact.devices_json().into()));
        self.revoked_at
            .push(e.revoked_at.map(|at| at.0.cast_signed()));
        self.updated_at.push(fact.at.0.cast_signed());
        self.snapshot.push(&row.body);
    }
}

impl<'a> Messages<'a> {
    pub fn push(&mut self, kind: RowKind, id: &'a str, outbox: &'a OutboxRow) {
        self.id.push(outbox.id);
        self.aggregate.push(kind.name());
        self.aggregate_id.push(id);
        self.event.push(outbox.event);
        self.payload.push(Json((&*outbox.payload).into()));
        self.at.push(outbox.at.0.cast_signed());
    }
}

impl Payments<'_> {
    pub fn params(&self) -> Params<'_, 16> {
        [
            &self.payment_id,
            &self.channel,
            &self.channel_txn_no,
            &self.order_id,
            &self.sale_id,
            &self.status,
            &self.version,
            &self.amount_cent,
            &self.currency,
            &self.paid_at,
            &self.received_at,
            &self.updated_at,
            &self.note,
            &self.refund_no,
            &self.raw,
            &self.snapshot,
        ]
    }
}

impl Entitlements<'_> {
    pub fn params(&self) -> Params<'_, 15> {
        [
            &self.entitlement_id,
            &self.user_id,
            &self.work_id,
            &self.order_id,
            &self.sku_id,
            &self.sale_id,
            &self.status,
            &self.version,
            &self.granted_at,
            &self.valid_until,
            &self.devices_max,
            &self.devices,
            &self.revoked_at,
            &self.updated_at,
            &self.snapshot,
        ]
    }
}

impl Messages<'_> {
    pub fn params(&self) -> Params<'_, 6> {
        [
            &self.id,
            &self.aggregate,
            &self.aggregate_id,
            &self.event,
            &self.payload,
            &self.at,
        ]
    }
}
