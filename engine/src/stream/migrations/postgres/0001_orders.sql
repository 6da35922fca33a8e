-- Orders as the ledger has them: full snapshots by version, every version once
-- as an event, and the mark that says how far the ledger was carried here.
-- Times are milliseconds since the Unix epoch, money is integer cents.
-- Versions are 64-bit (owner epoch in the upper half); epochs stay below 2^31,
-- so a signed column keeps their order.

CREATE TABLE orders (
    order_id        UUID   PRIMARY KEY,
    sale_id         TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    idempotency_key TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    version         BIGINT NOT NULL,
    pay_amount_cent BIGINT NOT NULL,
    currency        TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    pay_deadline_at BIGINT NOT NULL,
    snapshot        BYTEA  NOT NULL,
    UNIQUE (sale_id, user_id, idempotency_key)
);
CREATE INDEX orders_by_user ON orders (user_id, created_at);
CREATE INDEX orders_by_status ON orders (status, created_at);
CREATE INDEX orders_by_sale ON orders (sale_id, order_id);

CREATE TABLE order_items (
    order_id   UUID   NOT NULL,
    sku_id     TEXT   NOT NULL,
    quantity   BIGINT NOT NULL,
    price_cent BIGINT NOT NULL,
    PRIMARY KEY (order_id, sku_id)
);

CREATE TABLE order_events (
    order_id    UUID   NOT NULL,
    version     BIGINT NOT NULL,
    event_type  TEXT   NOT NULL,
    occurred_at BIGINT NOT NULL,
    PRIMARY KEY (order_id, version)
);

CREATE TABLE payments (
    channel        TEXT   NOT NULL,
    channel_txn_no TEXT   NOT NULL,
    order_id       UUID   NOT NULL,
    status         TEXT   NOT NULL,
    version        BIGINT NOT NULL,
    amount_cent    BIGINT NOT NULL,
    currency       TEXT   NOT NULL,
    paid_at        BIGINT NOT NULL,
    raw            TEXT,
    PRIMARY KEY (channel, channel_txn_no)
);

CREATE TABLE entitlements (
    user_id    TEXT   NOT NULL,
    work_id    TEXT   NOT NULL,
    order_id   UUID   NOT NULL,
    status     TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, work_id, order_id)
);

-- The columns that Debezium's outbox router expects; it may read them as they are.
CREATE TABLE outbox (
    id            UUID   PRIMARY KEY,
    aggregatetype TEXT   NOT NULL,
    aggregateid   TEXT   NOT NULL,
    type          TEXT   NOT NULL,
    payload       JSONB  NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE stream_marks (
    node   BIGINT PRIMARY KEY,
    ledger BYTEA  NOT NULL,
    seq    BIGINT NOT NULL,
    hash   BYTEA  NOT NULL
);
