//! A batch on its way into the database: rows and the mark, all or nothing.

use super::columns::{Columns, Params};
use super::line::{Link, Trouble};
use super::read::read_mark;
use super::sql::{BEGIN, COMMIT, ROLLBACK, Statements, Told};
use crate::stream::store::{Mark, Put};

/// A batch as it is sent.
pub struct Sent<'a> {
    pub node: u16,
    pub columns: Columns<'a>,
    pub from: Option<&'a Mark>,
    pub to: &'a Mark,
}

/// A ledger tells everything once, and so a batch is first sent as if nothing of it had
/// been told: an insert that asks for conflicts is a third of the server's work. Only
/// where that is refused is it sent again, and asks.
#[derive(Clone, Copy)]
pub enum Time {
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

pub async fn put(
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
pub async fn put_behind(link: &Link, batch: &Sent<'_>) -> Result<bool, Trouble> {
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
