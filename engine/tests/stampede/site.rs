//! An engine that is stopped and started again under load: one folder, one configuration,
//! and the ports that its first start found, so that buyers find it again.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::Pace;
use crate::common::Engine;

pub struct Site {
    pub folder: TempDir,
    pub config: String,
    /// Public and admin, once there was a start.
    at: Option<(String, String)>,
}

impl Site {
    pub fn new(config: String) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            config,
            at: None,
        }
    }

    pub fn start(&mut self) -> Result<Engine, String> {
        self.start_with("")
    }

    /// `failpoints` as the variable FAILPOINTS takes them.
    pub fn start_with(&mut self, failpoints: &str) -> Result<Engine, String> {
        let any = || ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned());
        let (http, admin) = self.at.clone().unwrap_or_else(any);
        let engine = Engine::start_on(&self.folder, &self.config, &http, &admin, failpoints)?;
        self.at = Some((engine.public.clone(), engine.admin.clone()));
        Ok(engine)
    }

    /// An engine that is ready to sell: after a kill it first reads its ledger.
    pub fn ready(&mut self) -> Engine {
        let engine = self.start().unwrap_or_else(|why| panic!("{why}"));
        for _ in 0..600 {
            if engine.admin("GET", "/readyz", "").status == 200 {
                return engine;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let told = engine.admin("GET", "/readyz?verbose", "").body;
        panic!("never ready: {told}");
    }

    pub fn pace(&self, sale: &'static str) -> Pace {
        Pace {
            sale,
            log: self.folder.path().join("engine.log"),
        }
    }

    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("data/ledger")
    }
}
