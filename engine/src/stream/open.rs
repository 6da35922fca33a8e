//! Which store it is: decided here, once, from the configuration. Everybody else
//! knows the seam alone.

use std::path::Path;
use std::sync::Arc;

use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::store::{OrderStore, StoreError};
use crate::config::StoreConfig;

pub struct Opened {
    pub store: Arc<dyn OrderStore>,
    /// What a person does to go on without what this store has, keeping it.
    pub set_aside: String,
}

/// Blocks.
pub fn open(config: &StoreConfig, data_dir: &Path) -> Result<Opened, StoreError> {
    Ok(match config {
        StoreConfig::Sqlite => {
            let file = data_dir.join("orders.sqlite");
            Opened {
                store: Arc::new(SqliteStore::open(&file)?),
                set_aside: format!("move {} away", file.display()),
            }
        }
        StoreConfig::Postgres(config) => Opened {
            store: Arc::new(PostgresStore::open(config)?),
            set_aside: format!(
                "name another, empty database in store.database instead of {} on {}:{}",
                config.database, config.host, config.port
            ),
        },
    })
}
