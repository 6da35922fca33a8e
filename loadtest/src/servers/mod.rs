//! Real servers for drills and demos, all on this machine and all ours: Redis alone or
//! as a cluster, PostgreSQL, the engine. Their files stand in temporary folders.

pub mod asked;
pub mod engine;
pub mod postgres;
pub mod process;
pub mod redis;

use std::net::TcpListener;
use std::path::Path;

use thiserror::Error;
use toml::{Table, Value};

pub use asked::Asked;
pub use engine::Engine;
pub use postgres::Postgres;
pub use process::{Process, ProcessError};
pub use redis::Redis;

#[derive(Debug, Error)]
pub enum ServerError {
    #[error("{0}")]
    Missing(String),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a server said: {0}")]
    Said(String),
    #[error("configuration of the engine: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("configuration of the engine: {0}")]
    Written(#[from] toml::ser::Error),
}

/// How an engine on a cluster is configured, but for where the servers are.
pub const CONFIG: &str = include_str!("../../../config/cluster.toml");

pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where orders go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// A file of the engine's own.
    Sqlite,
    /// A server of ours.
    Postgres,
}

impl StoreKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// The configuration with our own servers in the place of those it names: Redis on these
/// ports, PostgreSQL on this one, or SQLite where there is none.
pub fn configuration(
    base: &str,
    redis: &[u16],
    store: Option<u16>,
    folder: &Path,
) -> Result<String, ServerError> {
    let mut whole: Table = toml::from_str(base)?;
    let password = folder.join("redis-password");
    std::fs::write(&password, redis::PASSWORD)?;
    let urls = redis
        .iter()
        .map(|port| format!("redis://127.0.0.1:{port}").into());
    let stock = inner(&mut whole, "stock");
    stock.insert("host".into(), "redis".into());
    let place = inner(stock, "redis");
    place.insert("urls".into(), Value::Array(urls.collect()));
    place.insert("cluster".into(), (redis.len() > 1).into());
    place.insert("user".into(), redis::USER.into());
    place.insert(
        "password_file".into(),
        password.display().to_string().into(),
    );
    // The harness is the provider that tells of payments; the mock takes refunds.
    let payment = inner(&mut whole, "payment");
    payment.insert("provider".into(), "mock".into());
    whole.remove("store");
    if let Some(port) = store {
        let password = folder.join("store-password");
        std::fs::write(&password, postgres::PASSWORD)?;
        let store = inner(&mut whole, "store");
        for (key, value) in [
            ("kind", "postgres"),
            ("host", "127.0.0.1"),
            ("database", postgres::DATABASE),
            ("user", postgres::USER),
            ("sslmode", "disable"),
        ] {
            store.insert(key.into(), value.into());
        }
        store.insert("port".into(), i64::from(port).into());
        let password = password.display().to_string();
        store.insert("password_file".into(), password.into());
    }
    Ok(toml::to_string(&whole)?)
}

/// The table of this name, made where it is missing.
fn inner<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let value = table
        .entry(name)
        .or_insert_with(|| Value::Table(Table::new()));
    if !value.is_table() {
        *value = Value::Table(Table::new());
    }
    match value {
        Value::Table(table) => table,
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_) => unreachable!("it was made a table"),
    }
}
