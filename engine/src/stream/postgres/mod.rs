//! The order store in PostgreSQL, or in what speaks its protocol.
//!
//! A line writes and another one reads, so that audits do not hold up the stream. A batch
//! is two flights there and back: move the mark, which also settles who writes, then
//! all rows as arrays together with the commit. How durable a commit is, is the
//! server's to say: rows and mark are lost together or not at all.
//!
//! A server works with one processor a line. So a second line may write the next batch
//! meanwhile: its rows first, then it waits for the mark's row, which the first line
//! holds until it has committed or failed, and goes in only if the mark is where the
//! first batch puts it. The server sees every wait, so none of them is for ever.

mod after;
mod apart;
mod columns;
mod line;
mod migrate;
mod sql;
mod tls;
mod verdict;

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use floodgate_ledger::{ChainHash, LedgerId, Seq};
use parking_lot::Mutex;
use tokio_postgres::Row;
use uuid::Uuid;

use self::apart::are_apart;
use self::columns::{Columns, Params};
use self::line::{Line, Link, Trouble};
use self::sql::{BEGIN, BEGIN_LOOK, COMMIT, ROLLBACK, Statements, Told};
use super::fact::{EntitlementFact, PaymentFact, Stored};
use super::store::{
    Batch, FactPage, Mark, OrderStore, Put, StockCount, StoreError, StoredOrder, StoredPage,
};
use crate::config::PostgresConfig;
use crate::domain::ids::{EntitlementId, OrderId, PaymentId, SaleId};

/// A count reads every order of a sale; so long may it take.
const COUNT_MAX: Duration = Duration::from_secs(600);
/// Of the second line after a fault: a server that has no place for it, or no strength
/// for two, would hold up the first batch with every try.
const SECOND_RESTS: Duration = Duration::from_secs(60);

pub struct PostgresStore {
    writer: Mutex<Line>,
    /// Writes the batch that follows the writer's; drawn when there is one.
    second: Mutex<Line>,
    second_rests_until: Mutex<Option<Instant>>,
    reader: Mutex<Line>,
    /// For any question but a count.
    answer_max: Duration,
}

impl PostgresStore {
    /// Reaches the database and brings its schema up to date.
    pub fn open(config: &PostgresConfig) -> Result<Self, StoreError> {
        let line = |limit| {
            let line = Line::new(config, limit).map_err(StoreError::Away)?;
            Ok::<_, StoreError>(Mutex::new(line))
        };
        let store = Self {
            writer: line(config.statement_max)?,
            second: line(config.statement_max)?,
            second_rests_until: Mutex::new(None),
            reader: line(COUNT_MAX)?,
            answer_max: config.statement_max,
        };
        store.ask(&store.writer, store.answer_max, async |_| Ok(()))?;
        Ok(store)
    }

    /// Whoever stands in line waits as long as for an answer, and no longer.
    fn ask<T>(
        &self,
        line: &Mutex<Line>,
        answer_max: Duration,
        question: impl AsyncFn(&Link) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        match line.try_lock_for(answer_max) {
            Some(mut line) => line.ask(answer_max, question),
            None => Err(StoreError::Away("others ask it all the time".to_owned())),
        }
    }

    /// Puts a batch on the writer's line. It says whenever it holds the mark's row.
    fn put_first(&self, batch: &Sent<'_>, mark_is_held: impl Fn()) -> Result<Put, StoreError> {
        let put = |time| {
            self.ask(&self.writer, self.answer_max, async |link| {
                put(link, batch, time, &mark_is_held).await
            })
        };
        // A mark that stays where it is comes with rows that may be there.
        if batch.from == Some(batch.to) {
            return put(Time::Again);
        }
        match put(Time::First) {
            // Perhaps only for what was told before.
            Err(StoreError::Poison { .. }) => put(Time::Again),
            put => put,
        }
    }

    /// Puts `next` on the second line as soon as the batch before it holds the mark's
    /// row, which ends at `from`; never if it does not come to that.
    fn put_second(
        &self,
        node: u16,
        (next, from, to): (&Batch, &Mark, &Mark),
        mark_held: &mpsc::Receiver<()>,
    ) -> bool {
        let batch = Sent {
            node,
            columns: Columns::of(next),
            from: Some(from),
            to,
        };
        if mark_held.recv().is_err() {
            return false;
        }
        let put = self.ask(&self.second, self.answer_max, async |link| {
            put_behind(link, &batch).await
        });
        put.unwrap_or_else(|error| {
            // The stream puts it again, and then the error is everybody's.
            tracing::warn!(%error, "the second line into the order store rests for a minute");
            *self.second_rests_until.lock() = Some(Instant::now() + SECOND_RESTS);
            false
        })
    }

    fn second_rests(&self) -> bool {
        let until = *self.second_rests_until.lock();
        until.is_some_and(|until| Instant::now() < until)
    }
}

/// A batch as it is sent.
struct Sent<'a> {
    node: u16,
    columns: Columns<'a>,
    from: Option<&'a Mark>,
    to: &'a Mark,
}

/// A ledger tells everything once, and so a batch is first sent as if nothing of it had
/// been told: an insert that asks for conflicts is a third of the server's work. Only
/// where that is refused is it sent again, and asks.
#[derive(Clone, Copy)]
enum Time {
    First,
    Again,
}

impl Time {
    fn told(self, sql: &Statements) -> &Told {
        match self {
            Self::First => &sql.told_first,
            Self::Again => &sql.told_again,
        }
    }
}

async fn put(
    link: &Link,
    batch: &Sent<'_>,
    time: Time,
    mark_is_held: impl Fn(),
) -> Result<Put, Trouble> {
    let client = &link.client;
    let (begun, moved) = tokio::join!(
        biased;
        client.batch_execute(BEGIN),
        move_mark(link, batch)
    );
    begun?;
    if moved? == 0 {
        let actual = read_mark(link, batch.node).await?;
        client.batch_execute(ROLLBACK).await?;
        return Ok(Put::MarkMoved(actual));
    }
    mark_is_held();
    // After a refusal the commit rolls back, and says nothing: the refusal does.
    let (written, done) = tokio::join!(
        biased;
        put_rows(link, &batch.columns, time),
        client.batch_execute(COMMIT),
    );
    written?;
    done?;
    Ok(Put::Advanced)
}

/// A batch behind one that holds the mark's row and puts the mark where this one starts;
/// says whether it is in. The commit is a flight of its own, because only a mark that
/// moved is worth one.
async fn put_behind(link: &Link, batch: &Sent<'_>) -> Result<bool, Trouble> {
    let (client, sql) = (&link.client, &link.sql);
    let node = i64::from(batch.node);
    let mark_of: Params<'_, 1> = [&node];
    let (begun, written, held, moved) = tokio::join!(
        biased;
        client.batch_execute(BEGIN),
        put_rows(link, &batch.columns, Time::First),
        // An update would look for the mark as it was before the wait.
        client.query_opt(&sql.hold_mark, &mark_of),
        move_mark(link, batch),
    );
    begun?;
    written?;
    held?;
    let is_next = moved? > 0;
    let end = if is_next { COMMIT } else { ROLLBACK };
    client.batch_execute(end).await?;
    Ok(is_next)
}

/// In one flight.
async fn put_rows(
    link: &Link,
    columns: &Columns<'_>,
    time: Time,
) -> Result<(), tokio_postgres::Error> {
    let (client, sql) = (&link.client, &link.sql);
    let told = time.told(sql);
    let (orders, items) = (columns.orders.params(), columns.items.params());
    let (events, messages) = (columns.events.params(), columns.events.messages());
    let (orders, items, events, outbox, after) = tokio::join!(
        biased;
        client.execute(&sql.orders, &orders),
        client.execute(&sql.items, &items),
        client.execute(&told.events, &events),
        client.execute(&told.outbox, &messages),
        put_after(link, columns, told),
    );
    for written in [orders, items, events, outbox, after] {
        written?;
    }
    Ok(())
}

/// What came after orders: most batches of a rush have none of it, and pay nothing.
async fn put_after(
    link: &Link,
    columns: &Columns<'_>,
    told: &Told,
) -> Result<u64, tokio_postgres::Error> {
    let (client, sql) = (&link.client, &link.sql);
    if columns.payments.payment_id.is_empty()
        && columns.entitlements.entitlement_id.is_empty()
        && columns.messages.id.is_empty()
    {
        return Ok(0);
    }
    let (payments, entitlements) = (columns.payments.params(), columns.entitlements.params());
    let messages = columns.messages.params();
    let (payments, entitlements, messages) = tokio::join!(
        biased;
        client.execute(&sql.payments, &payments),
        client.execute(&sql.entitlements, &entitlements),
        client.execute(&told.messages, &messages),
    );
    Ok(payments? + entitlements? + messages?)
}

/// Says how many rows it moved: one or none.
async fn move_mark(link: &Link, batch: &Sent<'_>) -> Result<u64, tokio_postgres::Error> {
    let (client, sql, to) = (&link.client, &link.sql, batch.to);
    let (node, seq) = (i64::from(batch.node), to.seq.0.cast_signed());
    let (ledger, hash) = (to.ledger.0.as_slice(), to.hash.0.as_slice());
    match batch.from {
        None => {
            client
                .execute(&sql.first_mark, &[&node, &ledger, &seq, &hash])
                .await
        }
        Some(was) => {
            let was_seq = was.seq.0.cast_signed();
            let (was_ledger, was_hash) = (was.ledger.0.as_slice(), was.hash.0.as_slice());
            let params: Params<'_, 7> = [
                &node,
                &ledger,
                &seq,
                &hash,
                &was_ledger,
                &was_seq,
                &was_hash,
            ];
            client.execute(&sql.move_mark, &params).await
        }
    }
}

async fn read_mark(link: &Link, node: u16) -> Result<Option<Mark>, Trouble> {
    let node = i64::from(node);
    let row = link.client.query_opt(&link.sql.mark, &[&node]).await?;
    row.as_ref().map(mark_of).transpose()
}

fn mark_of(row: &Row) -> Result<Mark, Trouble> {
    let damaged = |_| StoreError::Damaged("a mark of another length".to_owned());
    let (ledger, hash): (&[u8], &[u8]) = (row.try_get(0)?, row.try_get(2)?);
    Ok(Mark {
        ledger: LedgerId(ledger.try_into().map_err(damaged)?),
        seq: Seq(row.try_get::<_, i64>(1)?.cast_unsigned()),
        hash: ChainHash(hash.try_into().map_err(damaged)?),
    })
}

/// Rows and the mark they stand at, in one flight and from one moment.
async fn look(
    link: &Link,
    node: u16,
    rows: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>,
) -> Result<(Vec<Row>, Option<Mark>), Trouble> {
    let client = &link.client;
    let (begun, mark, rows, done) = tokio::join!(
        biased;
        client.batch_execute(BEGIN_LOOK),
        read_mark(link, node),
        rows,
        client.batch_execute(COMMIT),
    );
    begun?;
    let (mark, rows) = (mark?, rows?);
    done?;
    Ok((rows, mark))
}

fn facts<T>(
    rows: &[Row],
    mark: Option<Mark>,
    read: impl Fn(&Stored<'_>) -> Result<T, StoreError>,
) -> Result<FactPage<T>, Trouble> {
    let mut facts = Vec::with_capacity(rows.len());
    for row in rows {
        facts.push(read(&Stored {
            snapshot: row.try_get(0)?,
            version: row.try_get(1)?,
            status: row.try_get(2)?,
            at: row.try_get(3)?,
            sale: row.try_get(4)?,
            id: row.try_get(5)?,
        })?);
    }
    Ok(FactPage { facts, mark })
}

impl OrderStore for PostgresStore {
    /// On the writer: it is never asked for long.
    fn mark(&self, node: u16) -> Result<Option<Mark>, StoreError> {
        self.ask(&self.writer, self.answer_max, async |link| {
            read_mark(link, node).await
        })
    }

    fn put(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
    ) -> Result<Put, StoreError> {
        let batch = Sent {
            node,
            columns: Columns::of(batch),
            from,
            to,
        };
        self.put_first(&batch, || {})
    }

    fn put_with_next(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
        (next, next_to): (&Batch, &Mark),
    ) -> Result<(Put, bool), StoreError> {
        // The first mark of all has no row yet to wait for.
        if from.is_none() || self.second_rests() || !are_apart(batch, next) {
            return Ok((self.put(node, batch, from, to)?, false));
        }
        let (hold, held) = mpsc::sync_channel(1);
        thread::scope(|scope| {
            let second = thread::Builder::new()
                .name("stream-second".into())
                .spawn_scoped(scope, move || {
                    self.put_second(node, (next, to, next_to), &held)
                });
            let batch = Sent {
                node,
                columns: Columns::of(batch),
                from,
                to,
            };
            let put = self.put_first(&batch, || {
                // Nobody listens where there is no second thread, and once is enough.
                let _ = hold.try_send(());
            });
            drop(hold);
            let next_is_in = second.is_ok_and(|thread| thread.join().unwrap_or(false));
            Ok((put?, next_is_in))
        })
    }

    fn sales(&self) -> Result<Vec<SaleId>, StoreError> {
        self.ask(&self.reader, self.answer_max, async |link| {
            let rows = link
                .client
                .query(
                    "SELECT sale_id FROM orders UNION SELECT sale_id FROM entitlements
                     UNION SELECT sale_id FROM payments WHERE sale_id IS NOT NULL ORDER BY sale_id",
                    &[],
                )
                .await?;
            rows.iter()
                .map(|row| {
                    let id: String = row.try_get(0)?;
                    SaleId::parse(&id).map_err(|e| StoreError::Damaged(e.to_string()).into())
                })
                .collect()
        })
    }

    fn orders_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<StoredPage, StoreError> {
        let after = after.map_or(Uuid::nil(), |id| Uuid::from_bytes(*id.as_bytes()));
        let n = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(&self.reader, self.answer_max, async |link| {
            let sale = sale.as_str();
            let params: Params<'_, 3> = [&sale, &after, &n];
            let rows = link.client.query(&link.sql.page, &params);
            let (rows, mark) = look(link, node, rows).await?;
            let mut orders = Vec::with_capacity(rows.len());
            for row in &rows {
                orders.push(StoredOrder::read(
                    row.try_get(0)?,
                    row.try_get(1)?,
                    row.try_get(2)?,
                    row.try_get(3)?,
                )?);
            }
            Ok(StoredPage::of(orders, limit, mark))
        })
    }

    fn payments_page(
        &self,
        node: u16,
        sale: Option<&SaleId>,
        after: Option<&PaymentId>,
        limit: usize,
    ) -> Result<FactPage<PaymentFact>, StoreError> {
        let after = after.map_or("", PaymentId::as_str);
        let n = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(&self.reader, self.answer_max, async |link| {
            let (client, sql) = (&link.client, &link.sql);
            let (rows, mark) = match sale {
                Some(sale) => {
                    let sale = sale.as_str();
                    let params: Params<'_, 3> = [&sale, &after, &n];
                    look(link, node, client.query(&sql.payments_page, &params)).await?
                }
                None => {
                    let params: Params<'_, 2> = [&after, &n];
                    look(link, node, client.query(&sql.loose_payments_page, &params)).await?
                }
            };
            facts(&rows, mark, PaymentFact::stored)
        })
    }

    fn entitlements_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<&EntitlementId>,
        limit: usize,
    ) -> Result<FactPage<EntitlementFact>, StoreError> {
        let after = after.map_or("", EntitlementId::as_str);
        let n = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(&self.reader, self.answer_max, async |link| {
            let sale = sale.as_str();
            let params: Params<'_, 3> = [&sale, &after, &n];
            let rows = link.client.query(&link.sql.entitlements_page, &params);
            let (rows, mark) = look(link, node, rows).await?;
            facts(&rows, mark, EntitlementFact::stored)
        })
    }

    fn stock_counts(
        &self,
        node: u16,
        sale: &SaleId,
        without: &BTreeSet<OrderId>,
    ) -> Result<(Vec<StockCount>, Option<Mark>), StoreError> {
        let without: Vec<Uuid> = without
            .iter()
            .map(|id| Uuid::from_bytes(*id.as_bytes()))
            .collect();
        self.ask(&self.reader, COUNT_MAX, async |link| {
            let sale = sale.as_str();
            let params: Params<'_, 2> = [&sale, &without];
            let rows = link.client.query(&link.sql.counts, &params);
            let (rows, mark) = look(link, node, rows).await?;
            let mut counts = Vec::with_capacity(rows.len());
            for row in &rows {
                counts.push(StockCount {
                    sku: row.try_get(0)?,
                    held: row.try_get::<_, i64>(1)?.cast_unsigned(),
                    sold: row.try_get::<_, i64>(2)?.cast_unsigned(),
                });
            }
            Ok((counts, mark))
        })
    }
}
