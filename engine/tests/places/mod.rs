//! Where order stores live: one kind of place a kind of store, so that the same
//! cases are tried on each of them.

#![allow(dead_code)] // Each test file uses its own part of this.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

pub mod after;
#[path = "../common/postgres.rs"]
pub mod postgres;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use floodgate_engine::config::{Config, Overrides, StoreConfig};
use floodgate_engine::stream::{OrderStore, StoreError, open};

use postgres::Server;

/// Every row of every table, as text: equal tables, equal stores.
pub type Tables = BTreeMap<String, Vec<String>>;

/// Where one store lives, and what only its kind can do.
pub trait Place: Send + Sync {
    /// As the engine does at its start; may be called again and again.
    fn open(&self) -> Result<Arc<dyn OrderStore>, StoreError>;
    fn tables(&self) -> Tables;
    /// A hand in the tables that is not ours. Portable SQL only.
    fn meddle(&self, sql: &str);
    /// From now on rows of this table are refused for which this holds of `NEW`.
    fn refuse_in(&self, table: &str, condition: &str, why: &str);
    fn refuse(&self, condition: &str, why: &str) {
        self.refuse_in("orders", condition, why);
    }
    fn accept_all(&self);
    /// Leaves the schema as an engine of next year would.
    fn age(&self);
    /// Lays out an empty place as the first engine did.
    fn first_schema(&self);
    /// Makes a backup; for a store that nobody has open.
    fn keep(&self);
    /// Puts the backup back, under whoever has the store open.
    fn put_back(&self);
    /// Leaves nothing of the store, under whoever has it open.
    fn lose(&self);
}

/// Tables in which rows may be refused.
const REFUSING: [&str; 3] = ["orders", "payments", "entitlements"];

pub type Fresh = fn() -> Box<dyn Place>;

/// One test per case and kind of store.
macro_rules! every_case {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[test]
                fn $case() {
                    super::$case(crate::places::SqlitePlace::fresh);
                }
            )*
        }

        mod postgres {
            $(
                #[test]
                fn $case() {
                    // Else it ends with the case's last place, under its open stores.
                    let _server = crate::places::postgres::Server::shared();
                    super::$case(crate::places::PostgresPlace::fresh);
                }
            )*
        }
    };
}

pub struct SqlitePlace {
    folder: tempfile::TempDir,
}

impl SqlitePlace {
    pub fn fresh() -> Box<dyn Place> {
        Box::new(Self {
            folder: tempfile::tempdir().unwrap(),
        })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("orders.sqlite")
    }

    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept.sqlite")
    }

    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }
}

impl Place for SqlitePlace {
    fn open(&self) -> Result<Arc<dyn OrderStore>, StoreError> {
        open(&StoreConfig::Sqlite, self.folder.path())
    }

    fn tables(&self) -> Tables {
        let db = self.raw();
        let texts = |sql: &str| -> Vec<String> {
            let mut select = db.prepare(sql).unwrap();
            let n = select.column_count();
            select
                .query_map([], |row| {
                    (0..n)
                        .map(|i| row.get(i))
                        .collect::<Result<Vec<rusqlite::types::Value>, _>>()
                })
                .unwrap()
                .map(|row| format!("{:?}", row.unwrap()))
                .collect()
        };
        let mut names = db
            .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
            .unwrap();
        let names: Vec<String> = names
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        names
            .into_iter()
            .map(|name| {
                let mut rows = texts(&format!("SELECT * FROM {name}"));
                rows.sort();
                (name, rows)
            })
            .collect()
    }

    fn meddle(&self, sql: &str) {
        self.raw().execute_batch(sql).unwrap();
    }

    fn refuse_in(&self, table: &str, condition: &str, why: &str) {
        self.meddle(&format!(
            "DROP TRIGGER IF EXISTS poison_{table};
             CREATE TRIGGER poison_{table} BEFORE INSERT ON {table} WHEN {condition}
             BEGIN SELECT RAISE(ABORT, '{why}'); END"
        ));
    }

    fn accept_all(&self) {
        for table in REFUSING {
            self.meddle(&format!("DROP TRIGGER IF EXISTS poison_{table}"));
        }
    }

    fn age(&self) {
        self.meddle("PRAGMA user_version = 1000");
    }

    fn first_schema(&self) {
        self.meddle(include_str!(
            "../../src/stream/migrations/sqlite/0001_orders.sql"
        ));
        self.meddle("PRAGMA user_version = 1");
    }

    fn keep(&self) {
        let kept = self.kept();
        if kept.exists() {
            std::fs::remove_file(&kept).unwrap();
        }
        self.meddle(&format!("VACUUM INTO '{}'", kept.display()));
    }

    /// By a rename, as whoever knows SQLite's rules would, but in a hurry: the log of the
    /// file that was there stays behind.
    fn put_back(&self) {
        let copy = self.folder.path().join("copy.sqlite");
        std::fs::copy(self.kept(), &copy).unwrap();
        std::fs::rename(copy, self.file()).unwrap();
    }

    fn lose(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }
}

pub struct PostgresPlace {
    server: Arc<Server>,
    database: String,
}

impl PostgresPlace {
    pub fn fresh() -> Box<dyn Place> {
        let server = Server::shared();
        Box::new(Self {
            database: server.database(),
            server,
        })
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.database, sql)
    }

    fn on_server(&self, sql: &str) {
        self.server.sql("postgres", sql);
    }
}

/// What the engine makes of this table `[store]`.
pub fn store_config(toml: &str) -> StoreConfig {
    let config = Config::parse("store.toml", toml, &Overrides::default());
    config.unwrap().store
}

impl Place for PostgresPlace {
    fn open(&self) -> Result<Arc<dyn OrderStore>, StoreError> {
        let config = store_config(&self.server.store(&self.database));
        open(&config, "nowhere".as_ref())
    }

    fn tables(&self) -> Tables {
        // What the engine keeps for itself is a setting, and no table, elsewhere.
        let names = self.sql(
            "SELECT table_name FROM information_schema.tables
             WHERE table_schema = 'public' AND table_name <> 'floodgate_schema'",
        );
        let mut tables: Tables = names.lines().map(|n| (n.to_owned(), Vec::new())).collect();
        let all: Vec<String> = names
            .lines()
            .map(|name| format!("SELECT '{name}', t::text FROM {name} t"))
            .collect();
        if all.is_empty() {
            return tables;
        }
        for line in self
            .sql(&(all.join(" UNION ALL ") + " ORDER BY 1, 2"))
            .lines()
        {
            let (name, row) = line.split_once('|').unwrap();
            tables.get_mut(name).unwrap().push(row.to_owned());
        }
        tables
    }

    fn meddle(&self, sql: &str) {
        self.sql(sql);
    }

    fn refuse_in(&self, table: &str, condition: &str, why: &str) {
        self.sql(&format!(
            "CREATE OR REPLACE FUNCTION poison_{table}() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION '{why}' USING ERRCODE = '23514'; END $$;
             CREATE OR REPLACE TRIGGER poison BEFORE INSERT ON {table} FOR EACH ROW
             WHEN ({condition}) EXECUTE FUNCTION poison_{table}()"
        ));
    }

    fn accept_all(&self) {
        for table in REFUSING {
            self.sql(&format!("DROP TRIGGER IF EXISTS poison ON {table}"));
        }
    }

    fn age(&self) {
        self.sql("INSERT INTO floodgate_schema VALUES (1000)");
    }

    fn first_schema(&self) {
        self.sql(include_str!(
            "../../src/stream/migrations/postgres/0001_orders.sql"
        ));
        self.sql(
            "CREATE TABLE floodgate_schema (version BIGINT PRIMARY KEY);
             INSERT INTO floodgate_schema VALUES (1)",
        );
    }

    fn keep(&self) {
        let name = &self.database;
        self.on_server(&format!("DROP DATABASE IF EXISTS {name}_kept"));
        self.on_server(&format!("CREATE DATABASE {name}_kept TEMPLATE {name}"));
    }

    fn put_back(&self) {
        let name = &self.database;
        self.on_server(&format!("DROP DATABASE {name} WITH (FORCE)"));
        self.on_server(&format!("CREATE DATABASE {name} TEMPLATE {name}_kept"));
    }

    fn lose(&self) {
        let name = &self.database;
        self.on_server(&format!("DROP DATABASE {name} WITH (FORCE)"));
        self.on_server(&format!("CREATE DATABASE {name}"));
    }
}
