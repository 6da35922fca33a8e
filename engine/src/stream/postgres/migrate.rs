//! The schema, brought up to date by SQL files in their order, under a lock.
//!
//! Looked at whenever a line is drawn, because a database can be put back to what it
//! was, or emptied, while an engine runs. A user who may not create tables is fine
//! once they are there.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::line::Trouble;
use super::sql::{BEGIN, COMMIT};
use crate::stream::store::StoreError;

/// In order; the position is the schema version it leads to.
const MIGRATIONS: [&str; 2] = [
    include_str!("../migrations/postgres/0001_orders.sql"),
    include_str!("../migrations/postgres/0002_after_the_win.sql"),
];

/// Two engines that start together migrate one after the other. Any number will do
/// that nobody else locks: the beginning of "floodgate".
const LOCK: i64 = i64::from_be_bytes(*b"floodgat");

const FOUND: &str = "SELECT coalesce(max(version), 0)::bigint FROM floodgate_schema";

pub(super) async fn migrate(client: &Client) -> Result<(), Trouble> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = match client.query_one(FOUND, &[]).await {
        Ok(row) => row.try_get(0)?,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => 0,
        Err(error) => return Err(error.into()),
    };
    if found == known {
        return Ok(());
    }
    client.batch_execute(BEGIN).await?;
    client
        .query_one("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let table = "CREATE TABLE IF NOT EXISTS floodgate_schema (version BIGINT PRIMARY KEY)";
    client.batch_execute(table).await?;
    // Somebody may have been faster.
    let found: i64 = client.query_one(FOUND, &[]).await?.try_get(0)?;
    if found > known {
        return Err(StoreError::Newer { found, known }.into());
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (version, sql) in (1_i64..).zip(MIGRATIONS).skip(done) {
        client.batch_execute(sql).await?;
        let told = "INSERT INTO floodgate_schema (version) VALUES ($1)";
        client.execute(told, &[&version]).await?;
        tracing::info!(version, "the order store's schema was brought up to date");
    }
    Ok(client.batch_execute(COMMIT).await?)
}
