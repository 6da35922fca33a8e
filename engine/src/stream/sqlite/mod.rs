//! The order store in one SQLite file: the embedded default.
//!
//! WAL mode, so that audits read while the stream writes; synchronous FULL,
//! because the mark lets the ledger forget what the store has.

mod file;
mod rows;

use std::path::Path;

use floodgate_ledger::{ChainHash, LedgerId, Seq};
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, TransactionBehavior, params};

use self::file::File;
use super::fact::{EntitlementFact, PaymentFact, Stored};
use super::row::RowId;
use super::store::{
    Batch, FactPage, Mark, OrderFact, OrderStore, Put, StoreError, StoredOrder, StoredPage,
};
use crate::domain::ids::{EntitlementId, OrderId, PaymentId, SaleId};

/// In order; the position is the schema version it leads to.
const MIGRATIONS: [&str; 2] = [
    include_str!("../migrations/sqlite/0001_orders.sql"),
    include_str!("../migrations/sqlite/0002_after_the_win.sql"),
];

pub struct SqliteStore {
    file: File,
}

fn away(error: rusqlite::Error) -> StoreError {
    StoreError::Away(error.to_string())
}

impl SqliteStore {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path)?;
        Ok(Self { file })
    }
}

fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    // The lock first: two engines that start together migrate one after the other.
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Exclusive)
        .map_err(away)?;
    let found: i64 = tx
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(away)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    if found == known {
        return Ok(());
    }
    for sql in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(sql).map_err(away)?;
    }
    tx.pragma_update(None, "user_version", known)
        .map_err(away)?;
    tx.commit().map_err(away)
}

fn read_mark(db: &Connection, node: u16) -> Result<Option<Mark>, StoreError> {
    db.prepare_cached("SELECT ledger, seq, hash FROM stream_marks WHERE node = ?1")
        .and_then(|mut s| {
            s.query_row([node], |row| {
                Ok((
                    row.get::<_, [u8; 16]>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, [u8; 32]>(2)?,
                ))
            })
            .optional()
        })
        .map_err(away)
        .map(|found| {
            found.map(|(ledger, seq, hash)| Mark {
                ledger: LedgerId(ledger),
                seq: Seq(seq.cast_unsigned()),
                hash: ChainHash(hash),
            })
        })
}

/// Whether the row itself is at fault, and would be again.
fn is_poison(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            rusqlite::ErrorCode::ConstraintViolation
                | rusqlite::ErrorCode::TypeMismatch
                | rusqlite::ErrorCode::TooBig
        )
    )
}

fn refused(row: Option<RowId>, error: rusqlite::Error) -> StoreError {
    if is_poison(&error) {
        let why = error.to_string();
        StoreError::Poison { row, why }
    } else {
        away(error)
    }
}

impl SqliteStore {
    /// Rows and the mark they stand at, from one moment.
    fn facts<T>(
        &self,
        node: u16,
        sql: &str,
        (sale, after, limit): (&dyn ToSql, &dyn ToSql, usize),
        read: impl Fn(&Stored<'_>) -> Result<T, StoreError>,
    ) -> Result<FactPage<T>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut db = self.file.reader()?;
        let tx = db.transaction().map_err(away)?;
        let mark = read_mark(&tx, node)?;
        let mut select = tx.prepare_cached(sql).map_err(away)?;
        let mut rows = select.query(params![sale, after, limit]).map_err(away)?;
        let mut facts = Vec::new();
        while let Some(row) = rows.next().map_err(away)? {
            facts.push(read(&columns(row)?)?);
        }
        Ok(FactPage { facts, mark })
    }
}

/// Another type than the schema's is nobody's but a stranger's hand.
fn odd(error: FromSqlError) -> StoreError {
    StoreError::Damaged(error.to_string())
}

fn columns<'a>(row: &'a Row<'_>) -> Result<Stored<'a>, StoreError> {
    let column = |at| row.get_ref(at).map_err(away);
    Ok(Stored {
        snapshot: column(0)?.as_blob().map_err(odd)?,
        version: column(1)?.as_i64().map_err(odd)?,
        status: column(2)?.as_str().map_err(odd)?,
        at: column(3)?.as_i64().map_err(odd)?,
        sale: column(4)?.as_str_or_null().map_err(odd)?,
        id: column(5)?.as_str().map_err(odd)?,
    })
}

impl OrderStore for SqliteStore {
    fn mark(&self, node: u16) -> Result<Option<Mark>, StoreError> {
        // Not on the reader: an audit may hold it for long.
        let db = self.file.writer()?;
        read_mark(&db, node)
    }

    fn put(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
    ) -> Result<Put, StoreError> {
        let mut db = self.file.writer()?;
        let tx = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(away)?;
        for row in &batch.rows {
            rows::put(&tx, row).map_err(|e| refused(Some(row.id()), e))?;
        }
        for row in &batch.events {
            rows::put_event(&tx, row).map_err(|e| refused(Some(row.id()), e))?;
        }
        let (ledger, seq, hash) = (to.ledger.0, to.seq.0.cast_signed(), to.hash.0);
        let moved = match from {
            None => tx.execute(
                "INSERT INTO stream_marks (node, ledger, seq, hash) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (node) DO NOTHING",
                params![node, ledger, seq, hash],
            ),
            Some(was) => tx.execute(
                "UPDATE stream_marks SET ledger = ?2, seq = ?3, hash = ?4
                 WHERE node = ?1 AND ledger = ?5 AND seq = ?6 AND hash = ?7",
                params![
                    node,
                    ledger,
                    seq,
                    hash,
                    was.ledger.0,
                    was.seq.0.cast_signed(),
                    was.hash.0
                ],
            ),
        }
        .map_err(away)?;
        if moved == 0 {
            let actual = read_mark(&tx, node)?;
            tx.rollback().map_err(away)?;
            return Ok(Put::MarkMoved(actual));
        }
        // Deferred constraints speak up only now, and name nobody.
        tx.commit().map_err(|e| refused(None, e))?;
        Ok(Put::Advanced)
    }

    fn sales(&self) -> Result<Vec<SaleId>, StoreError> {
        let db = self.file.reader()?;
        let mut select = db
            .prepare_cached(
                "SELECT sale_id FROM orders UNION SELECT sale_id FROM entitlements
                 UNION SELECT sale_id FROM payments WHERE sale_id IS NOT NULL ORDER BY sale_id",
            )
            .map_err(away)?;
        let found = select
            .query_map([], |row| row.get::<_, String>(0))
            .map_err(away)?;
        found
            .map(|id| {
                SaleId::parse(&id.map_err(away)?).map_err(|e| StoreError::Damaged(e.to_string()))
            })
            .collect()
    }

    fn orders_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<StoredPage, StoreError> {
        let mut db = self.file.reader()?;
        let tx = db.transaction().map_err(away)?;
        let mark = read_mark(&tx, node)?;
        let mut orders = Vec::new();
        {
            let mut select = tx
                .prepare_cached(
                    "SELECT o.snapshot, o.version, o.status,
                            (SELECT count(*) FROM order_events e WHERE e.order_id = o.order_id)
                     FROM orders o WHERE o.sale_id = ?1 AND o.order_id > ?2 ORDER BY o.order_id LIMIT ?3",
                )
                .map_err(away)?;
            let after = after.map(|id| id.to_string()).unwrap_or_default();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = select
                .query(params![sale.as_str(), after, limit])
                .map_err(away)?;
            while let Some(row) = rows.next().map_err(away)? {
                let snapshot: Vec<u8> = row.get(0).map_err(away)?;
                let status: String = row.get(2).map_err(away)?;
                let (version, n_events) = (row.get(1).map_err(away)?, row.get(3).map_err(away)?);
                orders.push(StoredOrder::read(&snapshot, version, &status, n_events)?);
            }
        }
        Ok(StoredPage::of(orders, limit, mark))
    }

    fn payments_page(
        &self,
        node: u16,
        sale: Option<&SaleId>,
        after: Option<&PaymentId>,
        limit: usize,
    ) -> Result<FactPage<PaymentFact>, StoreError> {
        let after = after.map_or("", PaymentId::as_str);
        self.facts(
            node,
            "SELECT snapshot, version, status, updated_at, sale_id, payment_id FROM payments
             WHERE sale_id IS ?1 AND payment_id > ?2 ORDER BY payment_id LIMIT ?3",
            (&sale.map(SaleId::as_str), &after, limit),
            PaymentFact::stored,
        )
    }

    fn entitlements_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<&EntitlementId>,
        limit: usize,
    ) -> Result<FactPage<EntitlementFact>, StoreError> {
        let after = after.map_or("", EntitlementId::as_str);
        self.facts(
            node,
            "SELECT snapshot, version, status, updated_at, sale_id, entitlement_id FROM entitlements
             WHERE sale_id = ?1 AND entitlement_id > ?2 ORDER BY entitlement_id LIMIT ?3",
            (&sale.as_str(), &after, limit),
            EntitlementFact::stored,
        )
    }

    fn order_facts_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<FactPage<OrderFact>, StoreError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut db = self.file.reader()?;
        let tx = db.transaction().map_err(away)?;
        let mark = read_mark(&tx, node)?;
        let mut select = tx
            .prepare_cached(
                "SELECT o.order_id, o.version, o.status, i.sku_id, i.quantity
                 FROM (SELECT order_id, version, status FROM orders
                       WHERE sale_id = ?1 AND order_id > ?2 ORDER BY order_id LIMIT ?3) o
                 LEFT JOIN order_items i ON i.order_id = o.order_id
                 ORDER BY o.order_id, i.sku_id",
            )
            .map_err(away)?;
        let mut rows = select
            .query(params![sale.as_str(), after, limit])
            .map_err(away)?;
        let mut facts = Vec::new();
        while let Some(row) = rows.next().map_err(away)? {
            let column = |at| row.get_ref(at).map_err(away);
            let id = column(0)?.as_str().map_err(odd)?;
            let id = OrderId::parse(id).ok_or_else(|| OrderFact::no_id(id))?;
            let (version, status) = (column(1)?.as_i64(), column(2)?.as_str());
            let order = (id, version.map_err(odd)?, status.map_err(odd)?);
            let item = match column(3)?.as_str_or_null().map_err(odd)? {
                Some(sku) => Some((sku, column(4)?.as_i64().map_err(odd)?)),
                None => None,
            };
            OrderFact::add(&mut facts, order, item)?;
        }
        Ok(FactPage { facts, mark })
    }
}
