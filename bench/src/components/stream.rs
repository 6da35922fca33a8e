//! How many orders a second does the stream bring into SQLite when nobody buys?
//!
//! The engine's own worker on a ledger that is full already, so it never yields.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use floodgate_engine::domain::ids::SaleId;
use floodgate_engine::domain::time::{Clock, UnixMs};
use floodgate_engine::stream::{
    Letters, OrderStore, SqliteStore, StreamMetrics, StreamState, StreamWorker, WorkerConfig,
};
use floodgate_ledger::{Ledger, LedgerConfig};

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
    let ledger = LedgerConfig::new(folder.path().join("ledger"));
    let ledger = Ledger::open(ledger).map_err(|e| e.to_string())?;
    shoot::run(orders::fill(&ledger, n))??;
    let store = SqliteStore::open(&folder.path().join("orders.sqlite"));
    let store: Arc<dyn OrderStore> = Arc::new(store.map_err(|e| e.to_string())?);
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
    Ok(vec![("stream_sqlite_rps".into(), rate)])
}

fn check(store: &dyn OrderStore, sale: &SaleId, n: u32) -> Result<(), String> {
    let (counts, _) = store
        .stock_counts(0, sale, &BTreeSet::new())
        .map_err(|e| format!("count what arrived: {e}"))?;
    let arrived: u64 = counts.iter().map(|c| c.held).sum();
    if arrived == u64::from(n) {
        Ok(())
    } else {
        Err(format!("{arrived} of {n} orders arrived in SQLite"))
    }
}
