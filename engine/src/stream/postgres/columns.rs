//! A batch as arrays, one a column, bound by their types: nothing is formatted row
//! by row, and a statement's text does not depend on how many rows there are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::hash::Hash;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use super::after::{Entitlements, Messages, Payments};
use crate::domain::ids::OrderId;
use crate::stream::row::{OrderRow, Row, RowKind};
use crate::stream::store::Batch;

#[derive(Default)]
pub(super) struct Columns<'a> {
    pub orders: Orders<'a>,
    pub items: Items<'a>,
    pub events: Events<'a>,
    pub payments: Payments<'a>,
    pub entitlements: Entitlements<'a>,
    pub messages: Messages<'a>,
}

#[derive(Default)]
pub(super) struct Orders<'a> {
    pub order_id: Vec<Uuid>,
    pub sale_id: Vec<&'a str>,
    pub user_id: Vec<&'a str>,
    pub idempotency_key: Vec<&'a str>,
    pub status: Vec<&'a str>,
    pub version: Vec<i64>,
    pub pay_amount_cent: Vec<i64>,
    pub currency: Vec<&'a str>,
    pub created_at: Vec<i64>,
    pub updated_at: Vec<i64>,
    pub pay_deadline_at: Vec<i64>,
    pub snapshot: Vec<&'a [u8]>,
}

#[derive(Default)]
pub(super) struct Items<'a> {
    pub order_id: Vec<Uuid>,
    pub sku_id: Vec<&'a str>,
    pub quantity: Vec<i64>,
    pub price_cent: Vec<i64>,
}

/// Each is a row of the events and one of the outbox.
#[derive(Default)]
pub(super) struct Events<'a> {
    pub order_id: Vec<Uuid>,
    pub version: Vec<i64>,
    pub event: Vec<&'a str>,
    pub at: Vec<i64>,
    pub id: Vec<Uuid>,
    pub payload: Vec<Json<'a>>,
}

impl<'a> Columns<'a> {
    pub fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        let (mut orders, mut payments, mut entitlements) = (Vec::new(), Vec::new(), Vec::new());
        for row in &batch.rows {
            match row {
                Row::Order(row) => orders.push(row),
                Row::Payment(row) => payments.push(row),
                Row::Entitlement(row) => entitlements.push(row),
            }
        }
        for row in newest(&orders, |row| (&row.order.id, row.order.version.0)) {
            columns.order(row);
        }
        for row in newest(&payments, |row| (&row.fact.payment.id, row.fact.version)) {
            columns.payments.push(row);
        }
        for row in newest(&entitlements, |row| {
            (&row.fact.entitlement.id, row.fact.version)
        }) {
            columns.entitlements.push(row);
        }
        for row in batch.rows.iter().chain(&batch.events) {
            match row {
                Row::Order(row) => columns.event(row),
                Row::Payment(row) => {
                    let id = row.fact.payment.id.as_str();
                    columns.messages.push(RowKind::Payment, id, &row.outbox);
                }
                Row::Entitlement(row) => {
                    let id = row.fact.entitlement.id.as_str();
                    if let Some(outbox) = &row.outbox {
                        columns.messages.push(RowKind::Entitlement, id, outbox);
                    }
                }
            }
        }
        columns
    }

    fn order(&mut self, row: &'a OrderRow) {
        let (o, to) = (&row.order, &mut self.orders);
        let id = uuid(&o.id);
        to.order_id.push(id);
        to.sale_id.push(o.sale.as_str());
        to.user_id.push(o.user.as_str());
        to.idempotency_key.push(o.key.as_str());
        to.status.push(o.state.name());
        to.version.push(o.version.0.cast_signed());
        to.pay_amount_cent.push(o.pay_amount().0.cast_signed());
        to.currency.push(o.currency.as_str());
        to.created_at.push(o.created_at.0.cast_signed());
        to.updated_at.push(o.updated_at.0.cast_signed());
        to.pay_deadline_at.push(o.pay_deadline.0.cast_signed());
        to.snapshot.push(&row.body);
        for item in &o.items {
            self.items.order_id.push(id);
            self.items.sku_id.push(item.sku.as_str());
            self.items.quantity.push(item.quantity.into());
            self.items.price_cent.push(item.price.0.cast_signed());
        }
    }

    fn event(&mut self, row: &'a OrderRow) {
        let to = &mut self.events;
        to.order_id.push(uuid(&row.order.id));
        to.version.push(row.order.version.0.cast_signed());
        to.event.push(row.outbox.event);
        to.at.push(row.outbox.at.0.cast_signed());
        to.id.push(row.outbox.id);
        to.payload.push(Json((&*row.outbox.payload).into()));
    }
}

/// What a statement is given.
pub(super) type Params<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];

impl Orders<'_> {
    pub fn params(&self) -> Params<'_, 12> {
        [
            &self.order_id,
            &self.sale_id,
            &self.user_id,
            &self.idempotency_key,
            &self.status,
            &self.version,
            &self.pay_amount_cent,
            &self.currency,
            &self.created_at,
            &self.updated_at,
            &self.pay_deadline_at,
            &self.snapshot,
        ]
    }
}

impl Items<'_> {
    pub fn params(&self) -> Params<'_, 4> {
        [
            &self.order_id,
            &self.sku_id,
            &self.quantity,
            &self.price_cent,
        ]
    }
}

impl Events<'_> {
    pub fn params(&self) -> Params<'_, 4> {
        [&self.order_id, &self.version, &self.event, &self.at]
    }

    pub fn messages(&self) -> Params<'_, 5> {
        [
            &self.id,
            &self.order_id,
            &self.event,
            &self.payload,
            &self.at,
        ]
    }
}

/// One row of each, the newest: a statement may not touch a row twice.
fn newest<'a, R, I: Hash + Eq + 'a>(
    rows: &[&'a R],
    of: impl Fn(&'a R) -> (&'a I, u64),
) -> impl Iterator<Item = &'a R> {
    let mut by_id: HashMap<&I, (u64, usize)> = HashMap::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let (id, version) = of(row);
        by_id
            .entry(id)
            .and_modify(|kept| {
                if kept.0 < version {
                    *kept = (version, at);
                }
            })
            .or_insert((version, at));
    }
    let mut kept: Vec<usize> = by_id.into_values().map(|(_, at)| at).collect();
    kept.sort_unstable();
    kept.into_iter().map(|at| rows[at])
}

pub(super) fn uuid(id: &OrderId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// JSON that is text already.
#[derive(Debug)]
pub(super) struct Json<'a>(pub Cow<'a, str>);

impl ToSql for Json<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if *ty == Type::JSONB {
            out.put_u8(1); // The version of the format.
        }
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSON, JSONB);
    to_sql_checked!();
}
