-- Orders as the ledger has them: full snapshots by version, every version once
-- as an event, and the mark that says how far the ledger was carried here.
-- Times are milliseconds since the Unix epoch, money is integer cents.
-- Versions are 64-bit (owner epoch in the upper half); epochs stay below 2^31,
-- so a signed column keeps their order.

CREATE TABLE orders (
    order_id        TEXT PRIMARY KEY,
    sale_id         TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    status          TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    pay_amount_cent INTEGER NOT NULL,
    currency        TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    pay_deadline_at INTEGER NOT NULL,
    snapshot        BLOB    NOT NULL,
    UNIQUE (sale_id, user_id, idempotency_key)
) WITHOUT ROWID;
CREATE INDEX orders_by_user ON orders (user_id, created_at);
CREATE INDEX orders_by_status ON orders (status, created_at);
CREATE INDEX orders_by_sale ON orders (sale_id, order_id);

CREATE TABLE order_items (
    order_id   TEXT    NOT NULL,
    sku_id     TEXT    NOT NULL,
    quantity   INTEGER NOT NULL,
    price_cent INTEGER NOT NULL,
    PRIMARY KEY (order_id, sku_id)
) WITHOUT ROWID;

CREATE TABLE order_events (
    order_id    TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    event_type  TEXT    NOT NULL,
    occurred_at INTEGER NOT NULL,
    PRIMARY KEY (order_id, version)
) WITHOUT ROWID;

CREATE TABLE payments (
    channel         TEXT    NOT NULL,
    channel_txn_no  TEXT    NOT NULL,
    order_id        TEXT    NOT NULL,
    status          TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    amount_cent     INTEGER NOT NULL,
    currency        TEXT    NOT NULL,
    paid_at         INTEGER NOT NULL,
    raw             TEXT,
    PRIMARY KEY (channel, channel_txn_no)
) WITHOUT ROWID;

CREATE TABLE entitlements (
    user_id    TEXT    NOT NULL,
    work_id    TEXT    NOT NULL,
    order_id   TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, work_id, order_id)
) WITHOUT ROWID;

CREATE TABLE outbox (
    id            TEXT PRIMARY KEY,
    aggregatetype TEXT    NOT NULL,
    aggregateid   TEXT    NOT NULL,
    type          TEXT    NOT NULL,
    payload       TEXT    NOT NULL,
    created_at    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE stream_marks (
    node   INTEGER PRIMARY KEY,
    ledger BLOB    NOT NULL,
    seq    INTEGER NOT NULL,
    hash   BLOB    NOT NULL
);
