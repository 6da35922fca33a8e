//! Winners who pay, against a tiny shop with a till: every kind of payer, callbacks that
//! repeat themselves and lie, refunds. An honest till passes, each lie is named.
#![allow(clippy::unwrap_used)]

mod shop;

use std::path::Path;
use std::process::{Command, Output};

use shop::till::SECRET;
use shop::{Lie, TOKEN};

const SCENARIO: &str = r#"
seed = 5
connections = 16
dropAfterMs = 60000
outageSeconds = 30

[mix]
doubleClickShare = 0.1
cancelShare = 0.1

[pay]
onTimeShare = 0.4
lateShare = 0.1
twiceShare = 0.2
lieShare = 0.1
failedFirstShare = 0.3
reorderShare = 0.5
repeatsMax = 2
refundShare = 0.4
restockShare = 0.5
delayMs = 100

[sale]
id = "tea"
unitsPerUser = 1
payWindowSeconds = 2

[[sale.skus]]
id = "green"
priceCent = 450
currency = "EUR"
units = 200
grant = { workId = "film", validDays = 30 }

[[phases]]
kind = "constant"
rate = 500.0
seconds = 0.6
"#;

fn harness(folder: &Path, address: &str, arguments: &[&str]) -> Output {
    std::fs::write(folder.join("scenario.toml"), SCENARIO).unwrap();
    Command::new(env!("CARGO_BIN_EXE_floodgate-loadtest"))
        .args(["run", "--scenario", "scenario.toml", "--report", "report"])
        .args(["--target", address, "--admin", address])
        .args(["--quiet-timeout", "5"])
        .args(arguments)
        .env("FLOODGATE_ADMIN_TOKEN", TOKEN)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn evening(lie: Lie) -> (String, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let flags = ["--payment-secret", "secret"];
    let output = harness(folder.path(), &shop::open(lie), &flags);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.is_empty(), "{errors}");
    let json = std::fs::read(folder.path().join("report/report.json")).unwrap();
    (
        String::from_utf8(output.stdout).unwrap(),
        serde_json::from_slice(&json).unwrap(),
    )
}

#[track_caller]
fn fails(lie: Lie, words: &str) {
    let (out, report) = evening(lie);
    let last = out.lines().last().unwrap();
    let name = "audit: fail: P5 nothing stays stuck: ";
    assert!(last.starts_with(name), "{out}");
    assert!(out.contains(words), "{words:?} is missing in {out}");
    assert_eq!(report["audit"]["findings"].as_array().unwrap().len(), 1);
}

#[test]
fn an_honest_till_passes_and_every_kind_of_payment_was_made() {
    let (out, report) = evening(Lie::None);
    assert_eq!(out.lines().last(), Some("audit: pass"), "{out}");
    let money = &report["audit"]["money"];
    for count in [
        "applied",
        "refunded",
        "review",
        "lateRefunded",
        "twiceRefunded",
        "refundsAsked",
        "ordersDelivered",
        "ordersRefunded",
        "ordersClosed",
        "entitlementsActive",
        "entitlementsRevoked",
    ] {
        assert!(money[count].as_u64() > Some(0), "no {count}: {money}");
    }
    assert_eq!(money["ordersUnpaid"], 0);
    assert_eq!(money["callbacksSent"], money["callbacksTaken"]);
    assert!(money["callbacksSent"].as_u64() > money["payments"].as_u64());
    assert_eq!(
        report["outcomes"]["callback taken"],
        money["callbacksTaken"]
    );
    assert!(out.contains("money: "), "{out}");
}

#[test]
fn lies_about_money_are_found() {
    fails(Lie::ForgetsPayments, "without a payment");
    fails(Lie::KeepsGrants, "1 active entitlements, expected 0");
    fails(Lie::SitsOnMoney, "is stuck as REFUND_DUE");
}

#[test]
fn who_has_no_secret_or_the_wrong_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = harness(folder.path(), &shop::open(Lie::None), &[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("--payment-secret"), "{errors}");
    std::fs::write(folder.path().join("secret"), "whsec_d3Jvbmc=").unwrap();
    let flags = ["--payment-secret", "secret"];
    let output = harness(folder.path(), &shop::open(Lie::None), &flags);
    let out = String::from_utf8(output.stdout).unwrap();
    let last = out.lines().last().unwrap();
    assert!(last.contains("refused with 401"), "{out}");
}
