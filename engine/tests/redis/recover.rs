//! The ledger's disk is lost, or an older copy is put back: what buyers were told stands
//! in Redis and in the order store, and comes back from there.

use std::path::Path;
use std::process::Command;

use crate::common::{Engine, open_sale, recover, recovery, redis};
use crate::long_sale;
use crate::stampede::{Site, Stampede};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(done.expect("cp runs").success());
}

/// A sale under load whose engine is killed; `harm` does to the ledger's folder what is
/// to be survived. The engine does not sell before it was recovered, and then all is as
/// the buyers were told.
fn survives(harm: impl FnOnce(&Site, &Path), refused: &str) {
    let Some(server) = redis::start() else { return };
    let mut site = Site::new(open_sale("other", 1, 1, &server.toml()));
    let pace = site.pace("lost");
    let engine = site.start().expect("a new engine");
    let sale = long_sale("lost", 1_500);
    let mut buyers = Stampede::start(&engine, site.folder.path(), &sale, &["--seed", "30"]);
    pace.wait(&engine, &mut buyers, 1_500);
    // What a backup of a running engine would have: a copy of a moment between two.
    let older = site.folder.path().join("older");
    engine.kill();
    copy(&site.ledger(), &older);
    let engine = site.start().expect("a restart");
    pace.wait(&engine, &mut buyers, 2_500);
    engine.kill();
    harm(&site, &older);

    let said = site.start().err().expect("it does not sell");
    assert!(said.contains(refused), "{said}");
    let report = recover(site.folder.path());
    assert_eq!(report["recovered"], true, "{report}");
    for sale in report["sales"].as_array().expect("sales") {
        assert_eq!(sale["setAside"], serde_json::json!([]), "{report}");
        assert_eq!(sale["differing"], serde_json::json!([]), "{report}");
    }
    assert_eq!(
        recover(site.folder.path())["recovered"],
        false,
        "once is enough"
    );

    let engine = site.start().expect("recovered");
    let went_on = engine.admin("POST", "/admin/v1/sales/lost/resume", "");
    assert_eq!(went_on.status, 200, "{}", went_on.body);
    pace.wait(&engine, &mut buyers, 1_500);
    buyers.close_the_doors();
    let verdict = buyers.verdict();
    println!("{}", verdict.text);
    assert_eq!(verdict.line, "audit: pass");
    assert_eq!(engine.differences(), 0);
    assert!(engine.stop(), "SIGTERM ends it well");
    // Nothing is allowed that nobody needs; the rest is for clusters.
    let (allowed, called) = (redis::allowed(), server.called());
    let unused: Vec<&String> = allowed.difference(&called).collect();
    assert_eq!(unused, ["asking", "cluster|slots"]);
}

#[test]
fn a_ledger_that_is_gone_under_load_comes_back_whole() {
    let gone = |site: &Site, _: &Path| std::fs::remove_dir_all(site.ledger()).expect("removed");
    survives(gone, "was filled from ledger");
}

#[test]
fn an_older_ledger_put_back_under_load_is_noticed_and_completed() {
    let older = |site: &Site, older: &Path| {
        std::fs::remove_dir_all(site.ledger()).expect("removed");
        copy(older, &site.ledger());
    };
    survives(older, "floodgate recover");
}

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

/// The engine falls between the script and the ledger: the hold that nobody heard of is
/// an order after the start, and its key finds it.
#[test]
fn a_hold_that_the_ledger_never_knew_becomes_an_order() {
    let Some(server) = redis::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 2, 1, &server.toml());
    let start = |fail: &str| {
        Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", fail).expect("starts")
    };
    let engine = start("desk-after-script=panic");
    assert!(
        engine
            .try_buy("ana", "k", ONE)
            .is_none_or(|a| a.status >= 500)
    );
    engine.kill();

    let engine = start("");
    let strays = engine.admin("GET", "/metrics", "").body;
    assert!(
        strays.contains("floodgate_strays_total{outcome=\"adopted\"} 1"),
        "{strays}"
    );
    assert_eq!(engine.remaining("tea"), 1, "its unit is not sold again");
    let again = engine.buy("ana", "k", ONE);
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(engine.differences(), 0);
}

/// A data folder that is not the one Redis was filled from: nothing is created over the
/// buckets of the other, however often it is tried.
#[test]
fn a_sale_that_another_ledger_sold_does_not_begin_anew() {
    let Some(server) = redis::start() else { return };
    let config = open_sale("tea", 2, 1, &server.toml());
    let (first, second) = (tempfile::tempdir(), tempfile::tempdir());
    let (first, second) = (first.expect("a folder"), second.expect("a folder"));
    let engine = Engine::start(&first, &config);
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    assert!(engine.stop());
    for _ in 0..2 {
        let other = Engine::start_on(&second, &config, "127.0.0.1:0", "127.0.0.1:0", "");
        let said = other.err().expect("refused");
        assert!(said.contains("was last served by ledger"), "{said}");
    }
    let engine = Engine::start(&first, &config);
    assert_eq!(
        engine.buy("ana", "k", ONE).status,
        200,
        "nothing was touched"
    );
    assert_eq!(engine.remaining("tea"), 1);
}

/// Wherever a recovery is broken off, the engine does not sell, and the next one finishes:
/// also what only the old ledger knew, and what was closed.
#[test]
fn a_recovery_that_is_broken_off_is_done_again() {
    for step in ["written", "between-moves", "moved", "marked"] {
        let Some(server) = redis::start() else { return };
        let mut site = Site::new(open_sale("tea", 9, 2, &server.toml()));
        let engine = site.start().expect("a new engine");
        let ana = engine.buy("ana", "k", ONE).json["orderId"].clone();
        let older = site.folder.path().join("older");
        engine.kill();
        copy(&site.ledger(), &older);
        let engine = site.start().expect("a restart");
        let bob = engine.buy("bob", "k", ONE).json["orderId"].clone();
        let path = format!("/v1/orders/{}/cancel", ana.as_str().expect("won"));
        assert_eq!(engine.post("ana", &path).status, 200);
        engine.kill();
        std::fs::remove_dir_all(site.ledger()).expect("removed");
        copy(&older, &site.ledger());

        let broken = recovery(site.folder.path(), &format!("recover-{step}=return"));
        assert!(!broken.status.success(), "{step}");
        assert!(site.start().is_err(), "{step}: it does not sell");
        assert_eq!(recover(site.folder.path())["recovered"], true, "{step}");
        let engine = site.start().expect("recovered");
        let resumed = engine.admin("POST", "/admin/v1/sales/tea/resume", "");
        assert_eq!(resumed.status, 200, "{step}");
        for (user, order, state) in [("ana", &ana, "CLOSED"), ("bob", &bob, "PENDING_PAYMENT")] {
            let again = engine.buy(user, "k", ONE);
            assert_eq!(again.status, 200, "{step}: {}", again.body);
            assert_eq!(&again.json["orderId"], order, "{step}");
            assert_eq!(again.json["status"], state, "{step}");
        }
        assert_eq!(engine.remaining("tea"), 8, "{step}");
        assert_eq!(engine.differences(), 0, "{step}");
    }
}

/// The folder of one moment lived on twice, and both lives sold the same unit: one of them
/// stands, and the other is kept by name for who has to write to its buyer.
#[test]
fn a_unit_that_two_lives_sold_is_sold_once_and_the_other_order_is_set_aside() {
    let Some(mut server) = redis::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 1, 1, &server.toml());
    let data = folder.path().join("data");
    assert!(Engine::start(&folder, &config).stop());
    let fork = folder.path().join("fork");
    copy(&data, &fork);
    let nobody = server.backup();

    let engine = Engine::start(&folder, &config);
    let first = engine.buy("ana", "k", ONE);
    assert_eq!(first.status, 201, "{}", first.body);
    engine.kill();
    let with_ana = server.backup();

    std::fs::remove_dir_all(&data).expect("removed");
    copy(&fork, &data);
    server.restart_with(&nobody);
    let engine = Engine::start(&folder, &config);
    let second = engine.buy("bob", "k", ONE);
    assert_eq!(second.status, 201, "{}", second.body);
    // The order store has it as well.
    let lag = || engine.admin("POST", "/admin/v1/reconcile", "").json["sales"][0].clone();
    while lag()["storeLagRecords"] != 0 {}
    assert!(engine.stop());

    std::fs::remove_dir_all(data.join("ledger")).expect("removed");
    server.restart_with(&with_ana);
    let report = recover(folder.path());
    let aside = &report["sales"][0]["setAside"];
    assert_eq!(aside.as_array().map(Vec::len), Some(1), "{report}");
    let ana = first.json["orderId"].as_str().expect("an id");
    let said = aside[0].as_str().expect("a text");
    assert!(said.starts_with(ana), "{said}: the order store knows bob's");
    let files = std::fs::read_dir(&data).expect("the data folder");
    let kept: Vec<_> = files
        .map(|file| file.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    let [kept] = &kept[..] else {
        panic!("{kept:?}")
    };
    let line = std::fs::read_to_string(kept).expect("readable");
    let line: serde_json::Value = serde_json::from_str(line.trim_end()).expect("one line");
    assert_eq!(
        (&line["orderId"], &line["userId"]),
        (&ana.into(), &"ana".into())
    );

    let engine = Engine::start(&folder, &config);
    let resume = engine.admin("POST", "/admin/v1/sales/tea/resume", "");
    assert_eq!(resume.status, 200, "{}", resume.body);
    assert_eq!(engine.buy("bob", "k", ONE).status, 200, "his stands");
    assert_eq!(engine.remaining("tea"), 0);
    assert_eq!(
        engine.buy("cid", "k", ONE).code(),
        (422, "STOCK_NOT_ENOUGH")
    );
    assert_eq!(engine.differences(), 0);
}
