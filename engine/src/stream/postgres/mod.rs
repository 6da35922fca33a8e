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
mod read;
mod sql;
mod tls;
mod verdict;
mod write;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use self::apart::are_apart;
use self::columns::{Columns, Params};
use self::line::{Line, Link, Trouble};
use self::read::{facts, look, order_facts, read_mark};
use self::write::{Sent, Time, put, put_behind};
use super::fact::{EntitlementFact, PaymentFact};
use super::store::{
    Batch, FactPage, Mark, OrderFact, OrderStore, Put, StoreError, StoredOrder, StoredPage,
};
use crate::config::PostgresConfig;
use crate::domain::ids::{EntitlementId, OrderId, PaymentId, SaleId};

/// Of the second line after a fault: a server that has no place for it, or no strength
/// for two, would hold up the first batch with every try.
const SECOND_RESTS: Duration = Duration::from_secs(60);

pub struct PostgresStore {
    writer: Mutex<Line>,
    /// Writes the batch that follows the writer's; drawn when there is one.
    second: Mutex<Line>,
    second_rests_until: Mutex<Option<Instant>>,
    reader: Mutex<Line>,
    answer_max: Duration,
}

impl PostgresStore {
    /// Reaches the database and brings its schema up to date.
    pub fn open(config: &PostgresConfig) -> Result<Self, StoreError> {
        let line = || {
            let line = Line::new(config).map_err(StoreError::Away)?;
            Ok::<_, StoreError>(Mutex::new(line))
        };
        let store = Self {
            writer: line()?,
            second: line()?,
            second_rests_until: Mutex::new(None),
            reader: line()?,
            answer_max: config.statement_max,
        };
        store.ask(&store.writer, async |_| Ok(()))?;
        Ok(store)
    }

    /// Whoever stands in line waits as long as for an answer, and no longer.
    fn ask<T>(
        &self,
        line: &Mutex<Line>,
        question: impl AsyncFn(&Link) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        match line.try_lock_for(self.answer_max) {
            Some(mut line) => line.ask(question),
            None => Err(StoreError::Away("others ask it all the time".to_owned())),
        }
    }

    /// Puts a batch on the writer's line. It says whenever it holds the mark's row.
    fn put_first(&self, batch: &Sent<'_>, mark_is_held: impl Fn()) -> Result<Put, StoreError> {
        let put = |time| {
            self.ask(&self.writer, async |link| {
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
        let put = self.ask(&self.second, async |link| put_behind(link, &batch).await);
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

impl OrderStore for PostgresStore {
    /// On the writer: it is never asked for long.
    fn mark(&self, node: u16) -> Result<Option<Mark>, StoreError> {
        self.ask(&self.writer, async |link| read_mark(link, node).await)
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
        self.ask(&self.reader, async |link| {
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
        self.ask(&self.reader, async |link| {
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
        self.ask(&self.reader, async |link| {
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
        self.ask(&self.reader, async |link| {
            let sale = sale.as_str();
            let params: Params<'_, 3> = [&sale, &after, &n];
            let rows = link.client.query(&link.sql.entitlements_page, &params);
            let (rows, mark) = look(link, node, rows).await?;
            facts(&rows, mark, EntitlementFact::stored)
        })
    }

    fn order_facts_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<FactPage<OrderFact>, StoreError> {
        let after = after.map_or(Uuid::nil(), |id| Uuid::from_bytes(*id.as_bytes()));
        let n = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(&self.reader, async |link| {
            let sale = sale.as_str();
            let params: Params<'_, 3> = [&sale, &after, &n];
            let rows = link.client.query(&link.sql.order_facts_page, &params);
            let (rows, mark) = look(link, node, rows).await?;
            let facts = order_facts(&rows)?;
            Ok(FactPage { facts, mark })
        })
    }
}
