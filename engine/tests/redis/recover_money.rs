//! The ledger's disk is lost before anything reached the order store, and money had come:
//! what buyers and providers were told comes back from Redis alone, holds and tails.

use serde_json::{Value, json};

use crate::common::recover;
use crate::common::{Engine, call, redis};
use crate::provider::Shop;

fn config(redis: &str) -> String {
    format!(
        r#"
[auth]
mode = "demo"
[payment]
provider = "mock"
[[sales]]
id = "tea"
name = "tea"
startsAt = "2020-01-01T00:00:00Z"
endsAt = "2099-01-01T00:00:00Z"
unitsPerUser = 2
paymentGraceSeconds = 60
buckets = 2
skus = [
  {{ id = "unit", name = "unit", priceCent = 100, currency = "EUR", units = 20 }},
  {{ id = "film", name = "film", priceCent = 100, currency = "EUR", units = 5, grant = {{ workId = "w1", validDays = 30, devicesMax = 1 }} }},
]
{redis}
"#
    )
}

fn license(shop: &Shop, user: &str, device: &str) -> u16 {
    let headers = [("x-user-id", user), ("content-type", "application/json")];
    let body = json!({"workId": "w1", "deviceId": device}).to_string();
    call(&shop.engine.public, "POST", "/v1/licenses", &headers, &body).status
}

/// Everything that its buyer and an operator can see of an order and of what belongs to it.
/// Sessions are in memory and may be forgotten.
fn seen(shop: &Shop, user: &str, order: &str) -> Value {
    let status = shop
        .engine
        .get(user, &format!("/v1/payments/{order}/status"));
    let whole = shop
        .engine
        .admin("GET", &format!("/admin/v1/orders/{order}"), "");
    json!({
        "order": shop.order(user, order),
        "payments": status.json["payments"],
        "whole": whole.json,
        "entitlements": shop.engine.get(user, "/v1/me/entitlements").json,
    })
}

fn units(shop: &Shop) -> Vec<Value> {
    let sale = shop.engine.admin("GET", "/admin/v1/sales/tea", "").json;
    let skus = sale["skus"].as_array().expect("a list");
    skus.iter().map(|sku| sku["stock"].clone()).collect()
}

/// Each buyer and what they bought; their transactions are named after them.
const BUYERS: [(&str, &str); 11] = [
    ("paid-1", "unit"),
    ("paid-2", "unit"),
    ("paid-3", "unit"),
    ("paid-4", "unit"),
    ("paid-5", "unit"),
    ("less", "unit"),
    ("twice", "unit"),
    ("refunded", "film"),
    ("canceled", "unit"),
    ("player", "film"),
    ("begun", "unit"),
];

#[test]
fn money_that_only_redis_knows_comes_back_as_it_was_told() {
    let Some(server) = redis::start() else { return };
    let config = config(&server.toml());
    let folder = tempfile::tempdir().expect("a folder");
    let shop = Shop::at(Engine::start(&folder, &config), folder);
    let store = shop.engine.held_store();
    let buy = |shop: &Shop, user: &str, sku: &str| {
        let items = json!([{"skuId": sku, "quantity": 1}]);
        let body = json!({"saleId": "tea", "items": items}).to_string();
        shop.engine.buy(user, "k", &body)
    };
    let orders = BUYERS.map(|(user, sku)| {
        let won = buy(&shop, user, sku);
        assert_eq!(won.status, 201, "{won:?}");
        won.json["orderId"].as_str().expect("an id").to_owned()
    });
    let order_of = |user: &str| {
        let at = BUYERS.iter().position(|(name, _)| *name == user);
        orders[at.expect("one of the buyers")].as_str()
    };
    let capture = |user: &str, txn: &str, cent: u32| {
        shop.body(order_of(user), txn, &[("amountCent", json!(cent))])
    };

    // What the provider told, and how it stands in the end.
    let mut told = Vec::new();
    for (user, _) in BUYERS {
        let (cent, first, last) = match user {
            "canceled" | "begun" => continue,
            "less" => (99, "REVIEW", "REVIEW"),
            "refunded" => (100, "APPLIED", "REFUNDED"),
            _ => (100, "APPLIED", "APPLIED"),
        };
        let body = capture(user, user, cent);
        shop.told(&body, first, false);
        told.push((body, last));
    }
    let second = capture("twice", "twice-2", 100);
    shop.told(&second, "REFUND_DUE", false);
    told.push((second, "REFUNDED"));
    let path = format!("/v1/orders/{}/cancel", order_of("canceled"));
    assert_eq!(shop.engine.post("canceled", &path).status, 200);
    let path = format!("/admin/v1/orders/{}/refund", order_of("refunded"));
    let asked = r#"{"restock":false,"reason":"recalled"}"#;
    assert_eq!(shop.engine.admin("POST", &path, asked).status, 200);
    let begun = shop.prepay("begun", order_of("begun"), r#"{"channel":"card"}"#);
    assert_eq!(begun.status, 200, "{begun:?}");
    assert_eq!(license(&shop, "player", "tv"), 200);
    for txn in ["refunded", "twice-2"] {
        shop.until(txn, "REFUNDED");
    }
    let look = |shop: &Shop| -> Vec<Value> {
        let both = BUYERS.iter().zip(&orders);
        both.map(|((user, _), order)| seen(shop, user, order))
            .collect()
    };
    let before = look(&shop);
    let stock = units(&shop);
    for (state, n) in [
        ("PAID", 6),
        ("PENDING_PAYMENT", 2),
        ("REFUNDED", 1),
        ("CLOSED", 1),
        ("DELIVERED", 1),
    ] {
        let found = before.iter().filter(|s| s["order"]["status"] == state);
        assert_eq!(found.count(), n, "{state}");
    }
    let n_rows: i64 = store
        .query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))
        .expect("readable");
    assert_eq!(n_rows, 0, "the store was told nothing");

    let Shop { engine, folder, .. } = shop;
    engine.kill();
    store.execute_batch("ROLLBACK").expect("let go");
    drop(store);
    std::fs::remove_dir_all(folder.path().join("data/ledger")).expect("removed");
    let report = recover(folder.path());
    assert_eq!(report["recovered"], true, "{report}");
    let sale = &report["sales"][0];
    assert_eq!(sale["foundInStore"], 0, "{report}");
    for odd in ["differing", "mended", "unproven", "setAside"] {
        assert_eq!(sale[odd], json!([]), "{odd}: {report}");
    }

    let shop = Shop::at(Engine::start(&folder, &config), folder);
    let resumed = shop.engine.admin("POST", "/admin/v1/sales/tea/resume", "");
    assert_eq!(resumed.status, 200, "{resumed:?}");
    for ((was, is), (user, _)) in before.iter().zip(look(&shop)).zip(BUYERS) {
        assert_eq!(&is, was, "{user}");
    }
    assert_eq!(units(&shop), stock);
    for (body, stands) in &told {
        shop.told(body, stands, true);
    }
    for ((user, sku), order) in BUYERS.iter().zip(&orders) {
        let again = buy(&shop, user, sku);
        assert_eq!(again.status, 200, "{user}: {again:?}");
        assert_eq!(again.json["orderId"], *order, "{user}");
    }
    assert_eq!(license(&shop, "player", "tv"), 200, "it has one");
    assert_eq!(license(&shop, "player", "pad"), 403, "and no second place");
    assert_eq!(look(&shop), before, "whatever was said again");
    assert_eq!(shop.compared(), 0);
}
