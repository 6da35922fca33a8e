//! The harness as a process: it creates a sale, sends buyers, and audits what
//! they were told. It never outlives the test that started it.

#![allow(dead_code)] // Each test file uses its own part of this.

mod site;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Engine, harness};

pub use site::Site;

/// Of this run: `default`, or what the environment names. Printed, to run it again.
pub fn seed(default: u64) -> u64 {
    let named = std::env::var("SEED").ok().filter(|text| !text.is_empty());
    let seed = named.map_or(default, |text| text.parse().expect("SEED is a number"));
    println!("SEED={seed}");
    seed
}

pub struct Stampede {
    child: Child,
    report: PathBuf,
}

/// What the harness said in the end.
pub struct Verdict {
    pub passed: bool,
    /// `audit: pass`, or `audit: fail: <promise>: <evidence>`.
    pub line: String,
    pub text: String,
    pub report: Value,
}

impl Stampede {
    pub fn start(engine: &Engine, folder: &Path, scenario: &str, flags: &[&str]) -> Self {
        let file = folder.join("scenario.toml");
        std::fs::write(&file, scenario).expect("the scenario is written");
        let report = folder.join("report");
        let child = Command::new(harness())
            .arg("run")
            .args(["--target", &format!("http://{}", engine.public)])
            .args(["--admin", &format!("http://{}", engine.admin)])
            .arg("--admin-token-file")
            .arg(engine.token_file())
            .arg("--scenario")
            .arg(&file)
            .arg("--report")
            .arg(&report)
            .arg("--journal")
            .arg(folder.join("journal.fgj"))
            .arg("--quiet")
            .args(flags)
            .env_remove("FLOODGATE_ADMIN_TOKEN")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the harness starts");
        Self { child, report }
    }

    pub fn is_over(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the harness can be asked")
            .is_some()
    }

    /// No new buyers; those with a request under way are awaited, then the audit.
    pub fn close_the_doors(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-INT", &id])
            .status()
            .expect("kill runs");
        assert!(
            sent.success(),
            "the harness ended before its doors were closed"
        );
    }

    pub fn verdict(mut self) -> Verdict {
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().expect("piped");
        stdout
            .read_to_string(&mut text)
            .expect("the harness speaks UTF-8");
        let status = self.child.wait().expect("the harness ends");
        let line = text.lines().last().unwrap_or_default().to_owned();
        let passed = line == "audit: pass";
        assert_eq!(status.code(), Some(i32::from(!passed)), "{text}");
        let report = std::fs::read(self.report.join("report.json")).expect("a report");
        let report = serde_json::from_slice(&report).expect("the report is JSON");
        Verdict {
            passed,
            line,
            text,
            report,
        }
    }
}

/// Time as the ledger tells it: what happens to an engine happens so many records on.
pub struct Pace {
    sale: &'static str,
    /// Of the engine, for when the harness gives up.
    log: PathBuf,
}

impl Pace {
    pub fn records(&self, engine: &Engine) -> u64 {
        let path = format!("/admin/v1/sales/{}", self.sale);
        let sale = engine.admin("GET", &path, "");
        sale.json["durableSeq"].as_u64().unwrap_or(0)
    }

    pub fn wait(&self, engine: &Engine, buyers: &mut Stampede, more: u64) {
        let before = self.records(engine);
        while self.records(engine) < before + more {
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(
                !buyers.is_over(),
                "the harness ended early; the engine says: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Stampede {
    fn drop(&mut self) {
        // Ended already when the verdict was heard.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
