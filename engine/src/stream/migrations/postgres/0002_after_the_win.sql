-- Payments and entitlements as the ledger has them. The tables of 0001 have never held
-- a row: made anew with what the records turned out to say.
-- `updated_at` is the time of the record, `version` its version.

DROP TABLE payments;
DROP TABLE entitlements;

CREATE TABLE payments (
    payment_id     TEXT PRIMARY KEY,
    channel        TEXT    NOT NULL,
    channel_txn_no TEXT    NOT NULL,
    order_id       UUID,               -- none: the provider named no order of ours,
    sale_id        TEXT,               -- and so no sale
    status         TEXT    NOT NULL,
    version        BIGINT  NOT NULL,
    amount_cent    BIGINT  NOT NULL,
    currency       TEXT    NOT NULL,
    paid_at        BIGINT  NOT NULL,
    received_at    BIGINT  NOT NULL,
    updated_at     BIGINT  NOT NULL,
    note           TEXT    NOT NULL,
    refund_no      TEXT    NOT NULL,
    raw            TEXT,
    snapshot       BYTEA   NOT NULL,
    UNIQUE (channel, channel_txn_no)
);
CREATE INDEX payments_by_order ON payments (order_id);
CREATE INDEX payments_by_sale ON payments (sale_id, payment_id);
CREATE INDEX payments_by_status ON payments (status, received_at);

CREATE TABLE entitlements (
    entitlement_id TEXT PRIMARY KEY,
    user_id        TEXT    NOT NULL,
    work_id        TEXT    NOT NULL,
    order_id       UUID    NOT NULL,
    sku_id         TEXT    NOT NULL,
    sale_id        TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    version        BIGINT  NOT NULL,
    granted_at     BIGINT  NOT NULL,
    valid_until    BIGINT  NOT NULL,
    devices_max    BIGINT  NOT NULL,
    devices        JSONB   NOT NULL,   -- [{"deviceId": …, "since": …}], the oldest first
    revoked_at     BIGINT,
    updated_at     BIGINT  NOT NULL,
    snapshot       BYTEA   NOT NULL,
    UNIQUE (user_id, work_id, order_id, sku_id)
);
CREATE INDEX entitlements_by_order ON entitlements (order_id);
CREATE INDEX entitlements_by_sale ON entitlements (sale_id, entitlement_id);
