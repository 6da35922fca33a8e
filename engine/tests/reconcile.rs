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

/// A comparison with the order store may take minutes. Buckets are looked at meanwhile,
/// and a sale that is made now waits for none of it.
#[cfg(feature = "failpoints")]
#[test]
fn a_comparison_that_does_not_end_keeps_neither_gauges_nor_new_sales_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 9, 1, "[limits]\nreconcile_seconds = 1\n");
    let any = "127.0.0.1:0";
    let engine = Engine::start_on(&folder, &config, any, any, "books-compared=pause");
    let engine = engine.expect("it opens");
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    let other = r#"{"id": "mug", "name": "mug", "unitsPerUser": 1, "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z",
        "skus": [{"id": "unit", "name": "unit", "priceCent": 1, "currency": "EUR", "units": 7}]}"#;
    let made = engine.admin("POST", "/admin/v1/sales", other);
    assert_eq!(made.status, 201, "{}", made.body);
    let shown = |sale: &str, state: &str| {
        let name =
            format!("floodgate_stock_units{{sale=\"{sale}\",sku=\"unit\",state=\"{state}\"}} ");
        let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
        let line = metrics.lines().find_map(|l| l.strip_prefix(name.as_str()));
        line.map(|units| units.parse::<u64>().expect("a number"))
    };
    assert_eq!(shown("mug", "available"), Some(7), "with its creation");
    for _ in 0..10_000 {
        if shown("tea", "held") == Some(1) {
            // It would not end by itself.
            engine.kill();
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("nobody looked at the buckets");
}
