//! How long does an engine with many live orders take from its start to `/readyz`?
//!
//! The folder is made once: the engine creates its sale, then the orders go
//! straight into its ledger, as the engine would have written them. Each start
//! is killed again, so every one of them reads a ledger nobody closed.

use std::path::Path;
use std::time::Instant;

use floodgate_ledger::{Ledger, LedgerConfig};
use tempfile::TempDir;

use super::orders;
use crate::engine::{Server, scratch, sku};
use crate::shoot::{self, Line};

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
        let made_at = orders::made_at()?;
        shoot::run(orders::fill(&ledger, n, |n| orders::order(n, made_at)))??;
        ledger.close();
        Ok(full)
    }

    fn start(&self) -> Result<Server, String> {
        Server::engine_in(self.folder.path(), &sku("unit", self.n + 1_000, ""))
    }

    pub fn seconds_to_ready(&self) -> Result<f64, String> {
        let started = Instant::now();
        let engine = self.start()?;
        shoot::until_ready(engine.admin()?)?;
        let seconds = started.elapsed().as_secs_f64();
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
