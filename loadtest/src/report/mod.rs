//! What a run leaves behind: `report.json` for machines, `report.html` for people.

mod chart;
mod html;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::answer::{CLASSES, Outcome};
use crate::audit::Verdict;
use crate::progress::latencies;
use crate::run::Ran;
use crate::stats::{Percentiles, Second};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub sale: String,
    pub target: String,
    pub started_at: String,
    pub seconds: f64,
    pub interrupted: bool,
    pub attempts: u64,
    pub connections: usize,
    pub seed: u64,
    pub sends: u64,
    pub dropped: u64,
    pub connect_failures: u64,
    pub gave_up: u64,
    pub outcomes: BTreeMap<&'static str, u64>,
    pub latency: BTreeMap<&'static str, Percentiles>,
    pub classes: [&'static str; CLASSES.len()],
    pub per_second: Vec<Second>,
    pub journal: PathBuf,
    pub audit: Option<Verdict>,
    /// The last line of the harness.
    pub verdict: String,
}

/// What the report says about the run besides its numbers.
pub struct About {
    pub sale: String,
    pub target: String,
    pub started_at: String,
    pub attempts: u64,
    pub connections: usize,
    pub seed: u64,
}

impl Report {
    pub fn new(about: About, ran: &Ran, audit: Result<Verdict, String>) -> Self {
        let verdict = match &audit {
            Ok(verdict) => verdict.line(),
            Err(error) => format!("audit: fail: could not be done: {error}"),
        };
        let counted = Outcome::all().map(|outcome| (outcome.name(), ran.stats.count(outcome)));
        Self {
            sale: about.sale,
            target: about.target,
            started_at: about.started_at,
            seconds: ran.seconds,
            interrupted: ran.interrupted,
            attempts: about.attempts,
            connections: about.connections,
            seed: about.seed,
            sends: ran.stats.sends,
            dropped: ran.stats.dropped,
            connect_failures: ran.stats.connect_failures,
            gave_up: ran.stats.gave_up,
            outcomes: counted.filter(|&(_, count)| count > 0).collect(),
            latency: latencies(&ran.stats).into_iter().collect(),
            classes: CLASSES,
            per_second: ran.rows.clone(),
            journal: ran.journal.clone(),
            audit: audit.ok(),
            verdict,
        }
    }

    /// Writes both files; the path of the HTML one.
    pub fn write(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let json = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(folder.join("report.json"), json)?;
        let page = folder.join("report.html");
        std::fs::write(&page, html::page(self))?;
        std::fs::canonicalize(page)
    }
}
