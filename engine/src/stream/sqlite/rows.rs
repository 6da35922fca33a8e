//! Rows into their tables, one statement after the other, and their messages.

use rusqlite::{Error, Transaction, params};

use crate::domain::payment::Raw;
use crate::stream::message::OutboxRow;
use crate::stream::row::{EntitlementRow, OrderRow, PaymentRow, Row, RowKind, clean};

pub(super) fn put(tx: &Transaction<'_>, row: &Row) -> Result<(), Error> {
    match row {
        Row::Order(row) => put_order(tx, row),
        Row::Payment(row) => put_payment(tx, row),
        Row::Entitlement(row) => put_entitlement(tx, row),
    }?;
    // An older version that comes late changes no snapshot, but it did happen.
    put_event(tx, row)
}

fn put_order(tx: &Transaction<'_>, row: &OrderRow) -> Result<(), Error> {
    let o = &row.order;
    let id = o.id.to_string();
    let version = o.version.0.cast_signed();
    let money = |cents: u64| cents.cast_signed();
    let written = tx
        .prepare_cached(
            "INSERT INTO orders (order_id, sale_id, user_id, idempotency_key, status, version, pay_amount_cent,
                                 currency, created_at, updated_at, pay_deadline_at, snapshot)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (order_id) DO UPDATE SET
               status = excluded.status, version = excluded.version, updated_at = excluded.updated_at,
               pay_deadline_at = excluded.pay_deadline_at, snapshot = excluded.snapshot
             WHERE orders.version < excluded.version",
        )?
        .execute(params![
            id,
            o.sale.as_str(),
            o.user.as_str(),
            o.key.as_str(),
            o.state.name(),
            version,
            money(o.pay_amount().0),
            o.currency.as_str(),
            o.created_at.0.cast_signed(),
            o.updated_at.0.cast_signed(),
            o.pay_deadline.0.cast_signed(),
            row.body,
        ])?;
    if written > 0 {
        let mut items = tx.prepare_cached(
            "INSERT INTO order_items (order_id, sku_id, quantity, price_cent) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (order_id, sku_id) DO NOTHING",
        )?;
        for item in &o.items {
            items.execute(params![
                id,
                item.sku.as_str(),
                item.quantity,
                money(item.price.0)
            ])?;
        }
    }
    Ok(())
}

fn put_payment(tx: &Transaction<'_>, row: &PaymentRow) -> Result<(), Error> {
    let (fact, p) = (&row.fact, &row.fact.payment);
    tx.prepare_cached(
        "INSERT INTO payments (payment_id, channel, channel_txn_no, order_id, sale_id, status, version,
                               amount_cent, currency, paid_at, received_at, updated_at, note, refund_no,
                               raw, snapshot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT (payment_id) DO UPDATE SET
           order_id = excluded.order_id, status = excluded.status, version = excluded.version,
           updated_at = excluded.updated_at, note = excluded.note, refund_no = excluded.refund_no,
           raw = excluded.raw, snapshot = excluded.snapshot
         WHERE payments.version < excluded.version",
    )?
    .execute(params![
        p.id.as_str(),
        p.channel.as_str(),
        p.channel_txn_no.as_str(),
        p.order.map(|id| id.to_string()),
        fact.sale.as_ref().map(|sale| sale.as_str()),
        p.state.name(),
        fact.version.cast_signed(),
        p.amount.0.cast_signed(),
        p.currency.as_str(),
        p.paid_at.0.cast_signed(),
        p.received_at.0.cast_signed(),
        fact.at.0.cast_signed(),
        clean(&p.note),
        clean(&p.refund_no),
        p.raw.as_ref().map(Raw::as_str),
        row.body,
    ])?;
    Ok(())
}

fn put_entitlement(tx: &Transaction<'_>, row: &EntitlementRow) -> Result<(), Error> {
    let (fact, e) = (&row.fact, &row.fact.entitlement);
    tx.prepare_cached(
        "INSERT INTO entitlements (entitlement_id, user_id, work_id, order_id, sku_id, sale_id, status,
                                   version, granted_at, valid_until, devices_max, devices, revoked_at,
                                   updated_at, snapshot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (entitlement_id) DO UPDATE SET
           status = excluded.status, version = excluded.version, valid_until = excluded.valid_until,
           devices_max = excluded.devices_max, devices = excluded.devices,
           revoked_at = excluded.revoked_at, updated_at = excluded.updated_at,
           snapshot = excluded.snapshot
         WHERE entitlements.version < excluded.version",
    )?
    .execute(params![
        e.id.as_str(),
        e.user.as_str(),
        e.work.as_str(),
        e.order.to_string(),
        e.sku.as_str(),
        fact.sale.as_str(),
        fact.status(),
        fact.version.cast_signed(),
        e.granted_at.0.cast_signed(),
        e.valid_until.0.cast_signed(),
        e.devices_max,
        fact.devices_json(),
        e.revoked_at.map(|at| at.0.cast_signed()),
        fact.at.0.cast_signed(),
        row.body,
    ])?;
    Ok(())
}

pub(super) fn put_event(tx: &Transaction<'_>, row: &Row) -> Result<(), Error> {
    match row {
        Row::Order(row) => {
            let id = row.order.id.to_string();
            tx.prepare_cached(
                "INSERT INTO order_events (order_id, version, event_type, occurred_at)
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT (order_id, version) DO NOTHING",
            )?
            .execute(params![
                id,
                row.order.version.0.cast_signed(),
                row.outbox.event,
                row.outbox.at.0.cast_signed()
            ])?;
            put_message(tx, RowKind::Order, &id, &row.outbox)
        }
        Row::Payment(row) => {
            let id = row.fact.payment.id.as_str();
            put_message(tx, RowKind::Payment, id, &row.outbox)
        }
        Row::Entitlement(row) => {
            let Some(outbox) = &row.outbox else {
                return Ok(());
            };
            let id = row.fact.entitlement.id.as_str();
            put_message(tx, RowKind::Entitlement, id, outbox)
        }
    }
}

fn put_message(
    tx: &Transaction<'_>,
    kind: RowKind,
    id: &str,
    outbox: &OutboxRow,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![
        outbox.id.to_string(),
        kind.name(),
        id,
        outbox.event,
        outbox.payload,
        outbox.at.0.cast_signed()
    ])?;
    Ok(())
}
