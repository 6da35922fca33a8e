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
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[])
     ON CONFLICT (order_id, version) DO NOTHING";
const OUTBOX: &str =
    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, created_at)
     SELECT e.id, 'order', e.order_id::text, e.event, e.payload, e.at
     FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::bigint[])
       AS e (id, order_id, event, payload, at)
     ON CONFLICT (id) DO NOTHING";
const PAGE: &str = "SELECT o.snapshot, o.version, o.status,
            (SELECT count(*) FROM order_events e WHERE e.order_id = o.order_id)
     FROM orders o WHERE o.sale_id = $1 AND o.order_id > $2 ORDER BY o.order_id LIMIT $3";
const COUNTS: &str = "SELECT i.sku_id,
            sum(CASE WHEN o.status = 'PENDING_PAYMENT' THEN i.quantity ELSE 0 END)::bigint,
            sum(CASE WHEN o.status IN ('PAID', 'DELIVERED') THEN i.quantity ELSE 0 END)::bigint
     FROM orders o JOIN order_items i ON i.order_id = o.order_id
     WHERE o.sale_id = $1 AND o.order_id <> ALL ($2::uuid[])
     GROUP BY i.sku_id ORDER BY i.sku_id";

pub(super) struct Statements {
    pub mark: Statement,
    pub first_mark: Statement,
    pub move_mark: Statement,
    pub orders: Statement,
    pub items: Statement,
    pub events: Statement,
    pub outbox: Statement,
    pub page: Statement,
    pub counts: Statement,
}

impl Statements {
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let (mark, first_mark, move_mark, orders, items, events, outbox, page, counts) = tokio::try_join!(
            client.prepare(MARK),
            client.prepare(FIRST_MARK),
            client.prepare(MOVE_MARK),
            client.prepare(ORDERS),
            client.prepare(ITEMS),
            client.prepare(EVENTS),
            client.prepare(OUTBOX),
            client.prepare(PAGE),
            client.prepare(COUNTS),
        )?;
        Ok(Self {
            mark,
            first_mark,
            move_mark,
            orders,
            items,
            events,
            outbox,
            page,
            counts,
        })
    }
}
