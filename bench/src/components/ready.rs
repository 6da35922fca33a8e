//! How long does an engine with many live orders take from its start to `/readyz`?
//!
//! The folder is made once: the engine creates its sale, then the orders go
//! straight into its ledger, as the engine would have written them. Each start
//! is killed again, so every one of them reads a ledger nobody closed.

use std::path::Path;
use std::time::{Duration, Instant};

use floodgate_ledger::{Ledger, LedgerConfig};
use tempfile::TempDir;

use super::orders;
use crate::engine::{Server, scratch};
use crate::shoot::{self, Line};

const READY_MAX: Duration = Duration::from_secs(120);

/// An engine's folder with `n` live orders and units for a few more.
pub struct Full {
    folder: TempDir,
    n: u32,
}

impl Full {
    pub fn make(n: u32, out: &Path) -> Result<Self, String> {
        let full = Self {
            folder: scratch(out)?,
            n,
        };
        drop(full.start()?);
        let ledger = LedgerConfig::new(full.folder.path().join("data/ledger"));
        let ledger = Ledger::open(ledger).map_err(|e| e.to_string())?;
        shoot::run(orders::fill(&ledger, n))??;
        ledger.close();
        Ok(full)
    }

    fn start(&self) -> Result<Server, String> {
        Server::engine_in(self.folder.path(), self.n + 1_000)
    }

    pub fn seconds_to_ready(&self) -> Result<f64, String> {
        let started = Instant::now();
        let engine = self.start()?;
        let mut admin = Line::to(engine.admin()?)?;
        let request = admin.get("/readyz");
        let seconds = shoot::run(async {
            while admin.call(&request).await.map_err(|e| e.to_string())? != 200 {
                if started.elapsed() > READY_MAX {
                    return Err("the engine did not become ready".to_owned());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(started.elapsed().as_secs_f64())
        })??;
        self.check(engine.public())?;
        Ok(seconds)
    }

    /// Ready means that it knows them: each buyer has a unit and gets no second one.
    fn check(&self, public: &str) -> Result<(), String> {
        let mut line = Line::to(public)?;
        shoot::run(async {
            for n in [0, self.n / 2, self.n - 1] {
                let request = line.purchase(&orders::user(n), "another-key");
                let status = line.call(&request).await.map_err(|e| e.to_string())?;
                let body = String::from_utf8_lossy(line.body());
                if status != 422 || !body.contains("LIMIT_EXCEEDED") {
                    return Err(format!(
                        "the order of buyer {n} is not known: {status} {body}"
                    ));
                }
            }
            Ok(())
        })?
    }
}
