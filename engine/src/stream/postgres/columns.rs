//! A batch as arrays, one a column, bound by their types: nothing is formatted row
//! by row, and a statement's text does not depend on how many rows there are.

use std::collections::HashMap;
use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use crate::domain::ids::OrderId;
use crate::stream::row::OrderRow;
use crate::stream::store::Batch;

#[derive(Default)]
pub(super) struct Columns<'a> {
    pub orders: Orders<'a>,
    pub items: Items<'a>,
    pub events: Events<'a>,
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
        for row in newest(&batch.orders) {
            columns.order(row);
        }
        for row in batch.orders.iter().chain(&batch.events) {
            columns.event(row);
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
        to.at.push(row.order.updated_at.0.cast_signed());
        to.id.push(row.outbox.id);
        to.payload.push(Json(&row.outbox.payload));
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

/// One row an order, the newest: a statement may not touch a row twice.
fn newest(rows: &[OrderRow]) -> impl Iterator<Item = &OrderRow> {
    let mut by_id: HashMap<&OrderId, usize> = HashMap::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        by_id
            .entry(&row.order.id)
            .and_modify(|kept| {
                if rows[*kept].order.version < row.order.version {
                    *kept = at;
                }
            })
            .or_insert(at);
    }
    rows.iter()
        .enumerate()
        .filter(move |(at, row)| by_id.get(&row.order.id) == Some(at))
        .map(|(_, row)| row)
}

fn uuid(id: &OrderId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// JSON that is text already.
#[derive(Debug)]
pub(super) struct Json<'a>(&'a str);

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
