//! The whole harness against a tiny shop: an honest one passes, however bad its
//! connections; each lie is found and named, on the last line and by exit code.
#![allow(clippy::unwrap_used)]

mod shop;

use std::path::Path;
use std::process::{Command, Output};

use shop::{Lie, TOKEN};

const SCENARIO: &str = r#"
seed = 3
connections = 16
dropAfterMs = 60000
outageSeconds = 30

[mix]
doubleClickShare = 0.2
retryOnCutShare = 0.1
keyReuseShare = 0.15
cancelShare = 0.1
againShare = 0.2

[sale]
id = "tea"
unitsPerUser = 1

[[sale.skus]]
id = "green"
priceCent = 450
currency = "EUR"
units = 40

[[phases]]
kind = "ramp"
from = 500.0
to = 2500.0
seconds = 0.2
"#;

fn harness(folder: &Path, address: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_floodgate-loadtest"))
        .args(arguments)
        .args(["--target", address, "--admin", address])
        .env("FLOODGATE_ADMIN_TOKEN", TOKEN)
        .current_dir(folder)
        .output()
        .unwrap()
}

struct Outcome {
    last: String,
    out: String,
    code: Option<i32>,
    folder: tempfile::TempDir,
    address: String,
}

fn attack(lie: Lie) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("scenario.toml"), SCENARIO).unwrap();
    let address = shop::open(lie);
    let output = harness(
        folder.path(),
        &address,
        &["run", "--scenario", "scenario.toml", "--report", "report"],
    );
    let out = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.is_empty(), "{errors}");
    let last = out.lines().last().unwrap_or_default().to_owned();
    Outcome {
        last,
        out,
        code: output.status.code(),
        folder,
        address,
    }
}

#[track_caller]
fn fails(lie: Lie, promise: &str, words: &str) {
    let outcome = attack(lie);
    let last = &outcome.last;
    assert!(
        last.starts_with(&format!("audit: fail: {promise}")),
        "{last}\n{}",
        outcome.out
    );
    assert!(last.contains(words), "{words:?} is missing in {last:?}");
    assert_eq!(outcome.code, Some(1));
}

#[test]
fn an_honest_shop_passes_and_leaves_a_report() {
    let outcome = attack(Lie::None);
    assert_eq!(
        (outcome.last.as_str(), outcome.code),
        ("audit: pass", Some(0)),
        "{}",
        outcome.out
    );
    let page = outcome
        .out
        .lines()
        .find_map(|line| line.strip_prefix("report: "))
        .unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("audit: pass") && html.contains("<svg") && !html.contains("<script"));
    let json = std::fs::read(outcome.folder.path().join("report/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["attempts"], 300);
    assert_eq!(report["audit"]["findings"].as_array().unwrap().len(), 0);
    assert_eq!(report["dropped"], 0);
    for outcome in [
        "won",
        "replayed",
        "sold out",
        "over the limit",
        "key reused, refused",
        "canceled",
        "cut by the buyer",
    ] {
        assert!(
            report["outcomes"][outcome].as_u64() > Some(0),
            "no {outcome:?}: {}",
            report["outcomes"]
        );
    }
    let answers = report["perSecond"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["answers"].as_array().unwrap());
    assert_eq!(
        answers.map(|n| n.as_u64().unwrap()).sum::<u64>(),
        report["sends"].as_u64().unwrap()
    );
}

#[test]
fn an_audit_can_be_repeated_and_the_sale_attacked_again() {
    let first = attack(Lie::None);
    let folder = first.folder.path();
    let again = harness(
        folder,
        &first.address,
        &[
            "run",
            "--scenario",
            "scenario.toml",
            "--report",
            "second",
            "--no-create",
        ],
    );
    assert_eq!(
        again.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&again.stdout)
    );
    let journals = [
        "audit",
        "--journal",
        "report/journal.fgj",
        "--journal",
        "second/journal.fgj",
    ];
    let both = harness(folder, &first.address, &journals);
    let out = String::from_utf8(both.stdout).unwrap();
    assert_eq!(
        (out.lines().last(), both.status.code()),
        (Some("audit: pass"), Some(0)),
        "{out}"
    );
}

#[test]
fn creating_the_sale_twice_says_what_to_do() {
    let first = attack(Lie::None);
    let again = harness(
        first.folder.path(),
        &first.address,
        &["run", "--scenario", "scenario.toml"],
    );
    let errors = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(
        errors.contains("--no-create") && errors.contains("--sale-id"),
        "{errors}"
    );
}

#[test]
fn an_honest_shop_with_bad_connections_passes() {
    for lie in [Lie::Cuts, Lie::Unknowns] {
        let outcome = attack(lie);
        assert_eq!(
            (outcome.last.as_str(), outcome.code),
            ("audit: pass", Some(0)),
            "{lie:?}: {}",
            outcome.out
        );
    }
}

#[test]
fn selling_too_many_is_found() {
    fails(
        Lie::SellsTooMany,
        "P1",
        "live units in the ledger, 40 opened",
    );
}

#[test]
fn forgetting_a_win_is_found() {
    fails(Lie::ForgetsWins, "P2", "the ledger does not have it");
}

#[test]
fn forgetting_keys_is_found() {
    fails(Lie::ForgetsKeys, "P3", "has two orders in the ledger");
}

#[test]
fn accepting_another_body_is_found() {
    fails(
        Lie::AcceptsOtherBodies,
        "P3",
        "another body was accepted too",
    );
}

#[test]
fn changing_a_price_afterwards_is_found() {
    fails(Lie::ChangesAmounts, "P4", "was told as");
}

#[test]
fn closing_a_won_order_is_found() {
    fails(Lie::CancelsByItself, "P4", "never asked for that");
}

#[test]
fn forgetting_limits_is_found() {
    fails(Lie::ForgetsLimits, "P6", "the limit is 1");
}

#[test]
fn a_hole_in_the_store_is_found() {
    fails(Lie::StoreMissesOne, "P7", "not in the store");
}

#[test]
fn drifting_stock_is_found() {
    fails(Lie::StockDrifts, "P8", "SKU green: opened 40 ≠ 39");
}

#[test]
fn selling_nothing_is_no_pass() {
    fails(Lie::SellsNothing, "no sale happened", "throttled");
}
