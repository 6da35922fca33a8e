//! What the database has: the mark, and rows from the moment at which it stands.

use floodgate_ledger::{ChainHash, LedgerId, Seq};
use tokio_postgres::Row;
use uuid::Uuid;

use super::line::{Link, Trouble};
use super::sql::{BEGIN_LOOK, COMMIT};
use crate::domain::ids::OrderId;
use crate::stream::fact::Stored;
use crate::stream::store::{FactPage, Mark, OrderFact, StoreError};

pub async fn read_mark(link: &Link, node: u16) -> Result<Option<Mark>, Trouble> {
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
pub async fn look(
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

pub fn facts<T>(
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

pub fn order_facts(rows: &[Row]) -> Result<Vec<OrderFact>, Trouble> {
    let mut facts = Vec::new();
    for row in rows {
        let id: Uuid = row.try_get(0)?;
        let id = OrderId::from_bytes(id.as_bytes()).ok_or_else(|| OrderFact::no_id(id))?;
        let sku: Option<&str> = row.try_get(3)?;
        let item = match sku {
            Some(sku) => Some((sku, row.try_get(4)?)),
            None => None,
        };
        OrderFact::add(&mut facts, (id, row.try_get(1)?, row.try_get(2)?), item)?;
    }
    Ok(facts)
}
