//! Which store it is: decided here, once, from the configuration. Everybody else
//! knows the seam alone.

use std::path::Path;
use std::sync::Arc;

use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::store::{OrderStore, StoreError};
use crate::config::StoreConfig;

/// Blocks.
pub fn open(config: &StoreConfig, data_dir: &Path) -> Result<Arc<dyn OrderStore>, StoreError> {
    Ok(match config {
        StoreConfig::Sqlite => Arc::new(SqliteStore::open(&data_dir.join("orders.sqlite"))?),
        StoreConfig::Postgres(config) => Arc::new(PostgresStore::open(config)?),
    })
}
