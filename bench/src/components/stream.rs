//! How many orders a second does the stream bring into a store when nobody buys?
//!
//! The engine's own worker on a ledger that is full already, so it never yields.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use floodgate_engine::config::{Config, Overrides, StoreConfig};
use floodgate_engine::domain::ids::SaleId;
use floodgate_engine::domain::time::{Clock, UnixMs};
use floodgate_engine::stream::{
    Letters, OrderStore, StreamMetrics, StreamState, StreamWorker, WorkerConfig, open,
};
use floodgate_ledger::{Ledger, LedgerConfig};

use super::postgres::{self, Server};
use super::{Figures, orders};
use crate::engine::scratch;
use crate::shoot;

/// Longer than any disk takes for so few orders.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The time of a dead letter, and there is none here.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> UnixMs {
        UnixMs(0)
    }
}

pub fn to_sqlite(n: u32, out: &Path) -> Result<Figures, String> {
    let folder = scratch(out)?;
    let rate = rate(&StoreConfig::Sqlite, n, folder.path())?;
    Ok(vec![("stream_sqlite_rps".into(), rate)])
}

/// On a server of its own, as PostgreSQL comes: it waits for its disk. Without one
/// there is no figure.
pub fn to_postgres(n: u32, out: &Path) -> Result<Figures, String> {
    if postgres::programs().is_none() {
        eprintln!("parts: PostgreSQL is not installed (apt-get install postgresql), left out");
        return Ok(Vec::new());
    }
    let server = Server::with(&[], &[])?;
    let table = server.store(&server.database());
    let config = Config::parse("the benchmark", &table, &Overrides::default());
    let config = config.map_err(|e| e.to_string())?.store;
    let rate = rate(&config, n, scratch(out)?.path())?;
    Ok(vec![("stream_postgres_rps".into(), rate)])
}

fn rate(config: &StoreConfig, n: u32, folder: &Path) -> Result<f64, String> {
    let ledger = LedgerConfig::new(folder.join("ledger"));
    let ledger = Ledger::open(ledger).map_err(|e| e.to_string())?;
    let made_at = orders::made_at()?;
    shoot::run(orders::fill(&ledger, n, |n| orders::order(n, made_at)))??;
    let store = open(config, folder).map_err(|e| e.to_string())?;
    let metrics =
        StreamMetrics::register(&prometheus::Registry::new()).map_err(|e| e.to_string())?;

    let letters = Letters::open(
        ledger.clone(),
        Arc::clone(&store),
        0,
        Arc::new(Stopped),
        metrics.dead_letters.clone(),
    )
    .map_err(|e| e.to_string())?;

    let started = Instant::now();
    let worker = StreamWorker::start(
        ledger.clone(),
        Arc::clone(&store),
        Arc::new(letters),
        WorkerConfig::default(),
        metrics,
        Box::new(|| Duration::ZERO),
    )
    .map_err(|e| format!("start the stream: {e}"))?;
    let tip = ledger.tip().seq;
    while worker.mark().is_none_or(|mark| mark.seq < tip) {
        if worker.state() != StreamState::Running || started.elapsed() > WAIT_MAX {
            return Err(format!("the stream stands still: {:?}", worker.state()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let rate = f64::from(n) / started.elapsed().as_secs_f64();
    worker.stop();
    check(&*store, &orders::sale(), n)?;
    Ok(rate)
}

fn check(store: &dyn OrderStore, sale: &SaleId, n: u32) -> Result<(), String> {
    let (mut arrived, mut last) = (0, None);
    loop {
        let page = store
            .order_facts_page(0, sale, last, 10_000)
            .map_err(|e| format!("count what arrived: {e}"))?;
        let Some(end) = page.facts.last() else { break };
        last = Some(end.id);
        arrived += page.facts.len();
    }
    if arrived == n as usize {
        Ok(())
    } else {
        Err(format!("{arrived} of {n} orders arrived in the store"))
    }
}
