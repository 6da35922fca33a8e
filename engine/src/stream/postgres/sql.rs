//! Every statement, prepared once a line.
//!
//! Portable: arrays through `unnest`, `ON CONFLICT`, and nothing that only one of
//! PostgreSQL's relatives knows. `COPY` has no conflict clause.

use tokio_postgres::{Client, Error, Statement};

pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// A look at the orders and the mark they stand at is one moment.
pub(super) const BEGIN_LOOK: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";

const MARK: &str = "SELECT ledger, seq, hash FROM stream_marks WHERE node = $1";
const HOLD_MARK: &str = "SELECT 1 FROM stream_marks WHERE node = $1 FOR UPDATE";
const FIRST_MARK: &str =
    "INSERT INTO stream_marks (node, ledger, seq, hash) VALUES ($1, $2, $3, $4)
     ON CONFLICT (node) DO NOTHING";
const MOVE_MARK: &str = "UPDATE stream_marks SET ledger = $2, seq = $3, hash = $4
     WHERE node = $1 AND ledger = $5 AND seq = $6 AND hash = $7";
const ORDERS: &str = "INSERT INTO orders (order_id, sale_id, user_id, idempotency_key, status, version,
                         pay_amount_cent, currency, created_at, updated_at, pay_deadline_at, snapshot)
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                          $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[])
     ON CONFLICT (order_id) DO UPDATE SET
       status = excluded.status, version = excluded.version, updated_at = excluded.updated_at,
       pay_deadline_at = excluded.pay_deadline_at, snapshot = excluded.snapshot
     WHERE orders.version < excluded.version";
const ITEMS: &str = "INSERT INTO order_items (order_id, sku_id, quantity, price_cent)
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[])
     ON CONFLICT (order_id, sku_id) DO NOTHING";
const EVENTS: &str = "INSERT INTO order_events (order_id, version, event_type, occurred_at)
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[])";
const UNLESS_EVENT: &str = "ON CONFLICT (order_id, version) DO NOTHING";
const OUTBOX: &str =
    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, created_at)
     SELECT e.id, 'order', e.order_id::text, e.event, e.payload, e.at
     FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::bigint[])
       AS e (id, order_id, event, payload, at)";
const UNLESS_MESSAGE: &str = "ON CONFLICT (id) DO NOTHING";
const PAYMENTS: &str = "INSERT INTO payments (payment_id, channel, channel_txn_no, order_id, sale_id, status, version,
                           amount_cent, currency, paid_at, received_at, updated_at, note, refund_no, raw, snapshot)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bigint[],
                          $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[],
                          $14::text[], $15::text[], $16::bytea[])
     ON CONFLICT (payment_id) DO UPDATE SET
       order_id = excluded.order_id, status = excluded.status, version = excluded.version,
       updated_at = excluded.updated_at, note = excluded.note, refund_no = excluded.refund_no,
       raw = excluded.raw, snapshot = excluded.snapshot
     WHERE payments.version < excluded.version";
const ENTITLEMENTS: &str = "INSERT INTO entitlements (entitlement_id, user_id, work_id, order_id, sku_id, sale_id, status,
                               version, granted_at, valid_until, devices_max, devices, revoked_at, updated_at, snapshot)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                          $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::jsonb[], $13::bigint[],
                          $14::bigint[], $15::bytea[])
     ON CONFLICT (entitlement_id) DO UPDATE SET
       status = excluded.status, version = excluded.version, valid_until = excluded.valid_until,
       devices_max = excluded.devices_max, devices = excluded.devices, revoked_at = excluded.revoked_at,
       updated_at = excluded.updated_at, snapshot = excluded.snapshot
     WHERE entitlements.version < excluded.version";
/// Of other aggregates than orders.
const MESSAGES: &str =
    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, created_at)
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bigint[])";
const PAYMENTS_PAGE: &str =
    "SELECT snapshot, version, status, updated_at, sale_id, payment_id FROM payments
     WHERE sale_id = $1 AND payment_id > $2 ORDER BY payment_id LIMIT $3";
/// For which no order of ours was named.
const LOOSE_PAYMENTS_PAGE: &str =
    "SELECT snapshot, version, status, updated_at, sale_id, payment_id FROM payments
     WHERE sale_id IS NULL AND payment_id > $1 ORDER BY payment_id LIMIT $2";
const ENTITLEMENTS_PAGE: &str =
    "SELECT snapshot, version, status, updated_at, sale_id, entitlement_id FROM entitlements
     WHERE sale_id = $1 AND entitlement_id > $2 ORDER BY entitlement_id LIMIT $3";
const PAGE: &str = "SELECT o.snapshot, o.version, o.status,
            (SELECT count(*) FROM order_events e WHERE e.order_id = o.order_id)
     FROM orders o WHERE o.sale_id = $1 AND o.order_id > $2 ORDER BY o.order_id LIMIT $3";
const ORDER_FACTS_PAGE: &str = "SELECT o.order_id, o.version, o.status, i.sku_id, i.quantity
     FROM (SELECT order_id, version, status FROM orders
           WHERE sale_id = $1 AND order_id > $2 ORDER BY order_id LIMIT $3) o
     LEFT JOIN order_items i ON i.order_id = o.order_id
     ORDER BY o.order_id, i.sku_id COLLATE \"C\"";

pub(super) struct Statements {
    pub mark: Statement,
    pub hold_mark: Statement,
    pub first_mark: Statement,
    pub move_mark: Statement,
    pub orders: Statement,
    pub items: Statement,
    pub payments: Statement,
    pub entitlements: Statement,
    /// What is told, where none of it is there yet, and where some may be.
    pub told_first: Told,
    pub told_again: Told,
    pub page: Statement,
    pub payments_page: Statement,
    pub loose_payments_page: Statement,
    pub entitlements_page: Statement,
    pub order_facts_page: Statement,
}

/// Events, and messages of orders and of others.
pub(super) struct Told {
    pub events: Statement,
    pub outbox: Statement,
    pub messages: Statement,
}

impl Told {
    async fn prepare(client: &Client, unless: [&str; 2]) -> Result<Self, Error> {
        let [event, message] = unless;
        let (events, outbox, messages) = (
            format!("{EVENTS} {event}"),
            format!("{OUTBOX} {message}"),
            format!("{MESSAGES} {message}"),
        );
        let (events, outbox, messages) = tokio::try_join!(
            client.prepare(&events),
            client.prepare(&outbox),
            client.prepare(&messages),
        )?;
        Ok(Self {
            events,
            outbox,
            messages,
        })
    }
}

impl Statements {
    /// One flight: each is asked for before the first is answered.
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let (marks, rows, told_first, told_again, looks) = tokio::try_join!(
            async {
                tokio::try_join!(
                    client.prepare(MARK),
                    client.prepare(HOLD_MARK),
                    client.prepare(FIRST_MARK),
                    client.prepare(MOVE_MARK),
                )
            },
            async {
                tokio::try_join!(
                    client.prepare(ORDERS),
                    client.prepare(ITEMS),
                    client.prepare(PAYMENTS),
                    client.prepare(ENTITLEMENTS),
                )
            },
            Told::prepare(client, ["", ""]),
            Told::prepare(client, [UNLESS_EVENT, UNLESS_MESSAGE]),
            async {
                tokio::try_join!(
                    client.prepare(PAGE),
                    client.prepare(PAYMENTS_PAGE),
                    client.prepare(LOOSE_PAYMENTS_PAGE),
                    client.prepare(ENTITLEMENTS_PAGE),
                    client.prepare(ORDER_FACTS_PAGE),
                )
            },
        )?;
        let (mark, hold_mark, first_mark, move_mark) = marks;
        let (orders, items, payments, entitlements) = rows;
        let (page, payments_page, loose_payments_page, entitlements_page, order_facts_page) = looks;
        Ok(Self {
            mark,
            hold_mark,
            first_mark,
            move_mark,
            orders,
            items,
            payments,
            entitlements,
            told_first,
            told_again,
            page,
            payments_page,
            loose_payments_page,
            entitlements_page,
            order_facts_page,
        })
    }
}
