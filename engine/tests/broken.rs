//! Engines that are broken on purpose, by fail points: the audit must say which
//! promise they broke. An audit that passes everything proves nothing.

#![cfg(feature = "failpoints")]

mod common;
mod stampede;

use std::time::Duration;

use common::{Engine, open_sale};
use stampede::{Site, Stampede, Verdict};

const UNITS: u32 = 500;
const ATTEMPTS: u32 = 2_000;
const RATE: f64 = 1_000.0;

/// More buyers than `UNITS`, many of them clicking twice.
fn scenario(units: u32, per_user: u32, connections: u32) -> String {
    format!(
        r#"
seed = 5
attempts = {ATTEMPTS}
users = {ATTEMPTS}
connections = {connections}
quantity = 1
dropAfterMs = 600000
timeoutMs = 10000
outageSeconds = 120
retryShed = true

[mix]
doubleClickShare = 0.3
retryOnCutShare = 0.02

[sale]
id = "broken"
name = "broken"
startsIn = 0.0
endsIn = 3600.0
payWindowSeconds = 1800
unitsPerUser = {per_user}

[sale.admission]
rate = 100000
burst = 100000

[[sale.skus]]
id = "unit"
name = "unit"
priceCent = 100
currency = "EUR"
units = {units}

[[phases]]
kind = "constant"
rate = {RATE:.1}
seconds = {seconds:.1}
"#,
        seconds = f64::from(ATTEMPTS) / RATE
    )
}

/// One sale at an engine with these fail points, from the first buyer to the verdict.
fn sold_by(broken: &str, scenario: &str, flags: &[&str]) -> Verdict {
    let mut site = Site::new(open_sale("other", 1, 1, ""));
    let engine = site.start_with(broken).expect("it opens");
    let verdict = Stampede::start(&engine, site.folder.path(), scenario, flags).verdict();
    println!("{broken:?}\n{}", verdict.text);
    verdict
}

#[track_caller]
fn assert_names(verdict: &Verdict, promise: &str) {
    let expected = format!("audit: fail: {promise}");
    assert!(
        !verdict.passed && verdict.line.starts_with(&expected),
        "{}",
        verdict.text
    );
}

#[test]
fn an_honest_engine_passes() {
    for per_user in [1, 9] {
        let verdict = sold_by("", &scenario(UNITS, per_user, 64), &[]);
        assert!(verdict.passed, "{}", verdict.text);
        assert_eq!(
            verdict.report["audit"]["orders"], UNITS,
            "the sale sells out"
        );
    }
}

#[test]
fn without_stock_checks_the_audit_names_oversell() {
    let broken = "stock-no-stock-check=return(1);guard-allows-all=return(1)";
    let verdict = sold_by(broken, &scenario(UNITS, 1, 64), &["--quiet-timeout", "5"]);
    assert_names(&verdict, "P1 never oversell: SKU unit: ");
}

/// More is sold than there is, once; when buyers gave it back, the sale goes on by itself.
#[test]
fn a_sale_that_sold_too_much_stops_until_it_adds_up() {
    const ONE: &str = r#"{"saleId":"broken","items":[{"skuId":"unit","quantity":1}]}"#;
    let mut site = Site::new(open_sale("broken", 2, 1, ""));
    // The desk stands still once, so that many come before the count says "sold out".
    let broken = "stock-no-stock-check=return(1);guard-allows-all=return(1);\
                  desk-after-script=1*sleep(1000)";
    let engine = site.start_with(broken).expect("it opens");
    let metric = |name: &str| {
        let metrics = engine.admin("GET", "/metrics", "").body;
        let of = format!("{name}{{sale=\"broken\",sku=\"unit\"}} ");
        let found = metrics.lines().find_map(|l| l.strip_prefix(&of));
        found.expect("the metric").parse::<u64>().expect("a number")
    };
    let won: Vec<_> = std::thread::scope(|scope| {
        let buy = |n| engine.buy(&format!("buyer-{n}"), "k", ONE);
        let buyers: Vec<_> = (0..64).map(|n| scope.spawn(move || buy(n))).collect();
        let told = buyers.into_iter().map(|b| b.join().expect("no panic"));
        told.enumerate().filter(|(_, a)| a.status == 201).collect()
    });
    assert!(won.len() > 2, "{} won", won.len());
    assert_ne!(engine.differences(), 0);
    assert_eq!(metric("floodgate_oversold_units"), won.len() as u64 - 2);
    let ready = engine.admin("GET", "/readyz?verbose", "");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("does not add up"), "{}", ready.body);
    assert_eq!(engine.buy("late", "k", ONE).code(), (409, "SALE_PAUSED"));

    for (n, answer) in &won[1..] {
        let id = answer.json["orderId"].as_str().expect("an id");
        let path = format!("/v1/orders/{id}/cancel");
        assert_eq!(engine.post(&format!("buyer-{n}"), &path).status, 200);
    }
    // A bucket that counted below nothing is told of once more, and made anew.
    engine.differences();
    assert_eq!(engine.differences(), 0);
    assert_eq!(metric("floodgate_oversold_units"), 0);
    assert_eq!(engine.admin("GET", "/readyz", "").status, 200);
    assert_eq!(engine.buy("late", "k", ONE).status, 201);
}

#[test]
fn without_idempotency_the_audit_names_the_second_order() {
    // Units and limits leave room: nothing but the key stands against the second.
    let broken = "index-ignore-keys=return(1);stock-no-key-check=return(1)";
    // The order store refuses the second order of a key and stays behind: the audit
    // need not wait for it.
    let verdict = sold_by(
        broken,
        &scenario(3 * ATTEMPTS, 9, 64),
        &["--quiet-timeout", "5"],
    );
    assert_names(&verdict, "P3 one key, one order: user ");
}

/// Batches are told three seconds before they are written. The kill comes right
/// after a buyer of our own heard "won", so its batch is told and not on disk.
/// Whoever comes while the desk's flights all wait for the ledger waits for two
/// batches, six seconds and two fsyncs: more than the ordinary patience.
#[test]
fn answers_before_the_fsync_are_named_when_the_engine_dies() {
    let patience = "[limits]\nanswer_ms = 25000\n";
    let mut site = Site::new(open_sale("broken", 3 * ATTEMPTS, 1, patience));
    // An honest engine opens the sale: only wins are to be told too early.
    let engine = site.start().expect("it opens");
    assert!(engine.stop(), "SIGTERM ends it well");

    let engine = site.start_with("ledger-ack-early=return(3000)");
    let engine = engine.expect("it opens again");
    let scenario = scenario(3 * ATTEMPTS, 1, 256);
    let mut buyers = Stampede::start(&engine, site.folder.path(), &scenario, &["--no-create"]);
    while won(&engine) < 200 {
        assert!(!buyers.is_over(), "the harness ended before 200 wins");
        // Looking again until enough were told; no time is asserted.
        std::thread::sleep(Duration::from_millis(5));
    }
    let witness = engine.buy(
        "witness",
        "only-once",
        r#"{"saleId":"broken","items":[{"skuId":"unit","quantity":1}]}"#,
    );
    assert_eq!(witness.status, 201, "{witness:?}");
    engine.kill();
    let _engine = site.start().expect("it opens after the kill");
    let verdict = buyers.verdict();
    println!("{}", verdict.text);
    assert_names(&verdict, "P2 won means durable: user ");
}

/// Wins the engine told since it started.
fn won(engine: &Engine) -> u64 {
    let metrics = engine.admin("GET", "/metrics", "").body;
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix("floodgate_orders_total{outcome=\"won\"} "));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}
