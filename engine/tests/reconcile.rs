//! A pass that could not compare everything is not a success.

mod common;

use common::{Engine, call, open_sale};
use serde_json::Value;

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

/// When everything last added up.
fn last_success(engine: &Engine) -> f64 {
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let name = "floodgate_reconcile_last_success_timestamp_seconds ";
    let line = metrics.lines().find_map(|l| l.strip_prefix(name));
    line.expect("the gauge").parse().expect("a number")
}

fn pass(engine: &Engine) -> Value {
    engine.admin("POST", "/admin/v1/reconcile", "").json
}

#[track_caller]
fn until_compared(engine: &Engine) -> Value {
    for _ in 0..10_000 {
        let pass = pass(engine);
        let sale = &pass["sales"][0];
        if sale["storeCompared"] == true && sale["storeLagRecords"] == 0 {
            return pass;
        }
    }
    panic!("the store was never compared");
}

#[test]
fn a_store_that_cannot_be_read_is_no_success_and_a_changed_one_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    // No pass but ours.
    let config = open_sale("tea", 9, 1, "[limits]\nreconcile_seconds = 3600\n");
    let engine = Engine::start(&folder, &config);
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    assert_eq!(until_compared(&engine)["differences"], 0);
    let before = last_success(&engine);
    assert!(before > 0.0);

    let sql = |sql: &str| {
        let store = engine.data.join("orders.sqlite");
        let db = rusqlite::Connection::open(store).expect("opens");
        db.execute_batch(sql).expect(sql);
    };
    sql("ALTER TABLE order_items RENAME TO away");
    for _ in 0..20 {
        let pass = pass(&engine);
        assert_eq!(pass["differences"], 0, "what can be read adds up");
        assert_eq!(pass["sales"][0]["storeCompared"], false);
    }
    assert_eq!(last_success(&engine).to_bits(), before.to_bits());

    sql("ALTER TABLE away RENAME TO order_items");
    assert_eq!(until_compared(&engine)["differences"], 0);
    assert!(last_success(&engine) > before);

    // Whoever asks by hand hears what is there now, though no mark has moved.
    sql("UPDATE order_items SET quantity = 2");
    let pass = until_compared(&engine);
    assert_eq!(pass["differences"], 1, "{pass}");
    assert_eq!(pass["sales"][0]["skus"][0]["driftLedgerStore"], 1, "{pass}");
}
