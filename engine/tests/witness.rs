//! A ledger that lost something looks whole from inside. The order store has
//! seen it further, so the engine does not sell.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Engine, open_sale};
use floodgate_ledger::{Ledger, LedgerConfig};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

fn run(program: &str, args: &[&Path]) {
    let done = Command::new(program).arg("-r").args(args).status();
    assert!(done.expect("it runs").success(), "{program} {args:?}");
}

/// Buys, and returns once the order store has the order too.
fn buy_and_stream(engine: &Engine, user: &str) -> String {
    let won = engine.buy(user, "k", ONE);
    let id = won.json["orderId"].as_str().expect("won").to_owned();
    // The stream takes its time; each look is an answer, not a guess at how long.
    let deadline = Instant::now() + Duration::from_secs(180);
    while Instant::now() < deadline {
        let page = engine.admin("GET", "/admin/v1/sales/tea/orders?from=store&limit=100", "");
        if page.body.contains(&id) {
            return id;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{id} never reached the order store");
}

#[test]
fn an_engine_does_not_sell_from_a_ledger_that_the_order_store_has_seen_further() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 10, 1, "");
    let start = || Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", "");
    let engine = start().expect("a new engine");
    let ledger = engine.data.join("ledger");
    let aside = folder.path().join("aside");
    let older = folder.path().join("older");
    buy_and_stream(&engine, "ana");
    assert!(engine.stop());
    run("cp", &[&ledger, &older]);

    let engine = start().expect("nothing happened");
    let won = buy_and_stream(&engine, "bob");
    assert!(engine.stop());

    // An older copy of the same ledger.
    std::fs::rename(&ledger, &aside).expect("moved");
    run("cp", &[&older, &ledger]);
    let said = start().err().expect("refused");
    assert!(said.contains("the ledger lost its tail"), "{said}");

    // Another ledger.
    run("rm", &[&ledger]);
    let said = start().err().expect("refused");
    assert!(said.contains("was filled from ledger"), "{said}");

    // The right one again: nothing was lost, and the key knows its order.
    run("rm", &[&ledger]);
    std::fs::rename(&aside, &ledger).expect("moved");
    let engine = start().expect("the right ledger");
    assert_eq!(engine.buy("bob", "k", ONE).json["orderId"], won);
    assert_eq!(engine.differences(), 0);
}

/// Everything the order store has may be trimmed, up to its very mark.
#[tokio::test]
async fn a_trimmed_ledger_sells_on_and_an_order_store_that_is_gone_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 10, 1, "");
    let start = || Engine::start(&folder, &config);
    let engine = start();
    let data = engine.data.clone();
    let ana = buy_and_stream(&engine, "ana");
    let bob = buy_and_stream(&engine, "bob");
    assert!(engine.stop());
    let ledger = Ledger::open(LedgerConfig::new(data.join("ledger"))).expect("opens");
    let receipt = ledger.trim(ledger.tip().seq).await.expect("room");
    receipt.await.expect("trimmed");
    ledger.close();

    let engine = start();
    assert_eq!(engine.buy("ana", "k", ONE).json["orderId"], ana);
    let cid = buy_and_stream(&engine, "cid");
    assert!(engine.stop());

    for name in ["orders.sqlite", "orders.sqlite-wal", "orders.sqlite-shm"] {
        let gone = std::fs::remove_file(data.join(name));
        assert!(gone.is_ok() || name != "orders.sqlite", "{gone:?}");
    }
    let engine = start();
    let dan = buy_and_stream(&engine, "dan");
    let page = engine.admin("GET", "/admin/v1/sales/tea/orders?from=store&limit=100", "");
    for id in [ana, bob, cid, dan] {
        assert!(page.body.contains(&id), "{id} is missing in {}", page.body);
    }
    let pass = (0..10_000)
        .map(|_| engine.admin("POST", "/admin/v1/reconcile", "").json)
        .find(|pass| pass["sales"][0]["storeCompared"] == true)
        .expect("compared in the end");
    assert_eq!(pass["differences"], 0, "{pass}");
}
