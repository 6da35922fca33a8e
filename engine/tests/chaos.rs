//! A short bad day: every kind of fault once while a sale goes on, from one seed, the
//! next fault as soon as buyers win again; then the audit of every answer. `make chaos`
//! plays longer ones.

mod common;

use std::process::Command;

use serde_json::Value;

use common::{harness, redis};

/// Kinds of fault; a cluster has one more.
const KINDS: usize = 29;
/// Redis loses at least one bucket in five kinds of fault.
const REBUILT_MIN: u64 = 5;
/// First-hand wins: a day on which little was sold proves little.
const WINS_MIN: u64 = 500;

fn a_day(seed: &str, servers: &str, n_kinds: usize) {
    if redis::binaries().is_empty() {
        return;
    }
    let report = tempfile::tempdir().expect("a folder");
    let said = Command::new(harness())
        .args(["chaos", "--each-once", "--seed", seed])
        .args(["--still-ms", "800", "--rate", "400", "--sale-seconds", "6"])
        .args(["--servers", servers])
        .args(["--engine", env!("CARGO_BIN_EXE_floodgate"), "--report"])
        .arg(report.path())
        .output()
        .expect("the harness runs");
    let text = String::from_utf8_lossy(&said.stdout);
    let errors = String::from_utf8_lossy(&said.stderr);
    println!("{text}\n{errors}");
    assert_eq!(said.status.code(), Some(0), "seed {seed}");
    let json = std::fs::read(report.path().join("chaos.json")).expect("a report");
    let day: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(day["verdict"], "pass");
    assert_eq!(day["audit"], "audit: pass");
    let kinds = day["byKind"].as_object().expect("kinds");
    assert_eq!(kinds.len(), n_kinds, "{kinds:?}");
    assert!(kinds.values().all(|count| *count == 1), "{kinds:?}");
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    assert!(number(&day["bucketsRebuilt"]) >= REBUILT_MIN);
    assert!(number(&day["callsRepeated"]) > 0);
    assert!(number(&day["answers"]["won"]) >= WINS_MIN);
    assert!(number(&day["answers"]["canceled"]) > 0);
    let audits = day["audits"].as_array().expect("audits");
    for count in ["applied", "refunded", "review", "ordersDelivered"] {
        let of_day: u64 = audits.iter().map(|a| number(&a["money"][count])).sum();
        assert!(of_day > 0, "no {count}");
    }
}

#[test]
fn a_day_on_which_everything_goes_wrong_once() {
    a_day("7731", "1", KINDS);
}

#[test]
fn such_a_day_on_a_cluster() {
    a_day("11", "3", KINDS + 1);
}
