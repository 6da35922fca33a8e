//! The engine falls between any two steps of a win (asked, reserved, judged, written,
//! durable, told) and of what happens after it (decided, durable, kept beside the holds,
//! settled in the stock, told). Whoever asked asks again, and comes to the same end, on
//! both stock hosts and both order stores.

mod common;
#[path = "common/postgres.rs"]
mod postgres;
mod provider;

use common::redis::hosts;
use common::{Engine, open_sale};
use postgres::Server;
use provider::Shop;
use serde_json::{Value, json};

/// Of a win, in their order.
const WIN: [&str; 6] = [
    "desk-before-script",
    "desk-after-script",
    "win-judged",
    "ledger-before-write",
    "ledger-after-sync",
    "win-durable",
];

/// Of what comes after it.
const STEPS: [&str; 4] = [
    "change-decided",
    "change-durable",
    "change-kept",
    "change-settled",
];

/// Two units: one of them grants something.
fn config(host: &str, store: &str) -> String {
    let sale = open_sale("tea", 3, 2, host)
        .replace("unitsPerUser", "buckets = 1\nunitsPerUser")
        .replace(
            "units = 3 }",
            "units = 3, grant = { workId = \"film\", validDays = 30 } }",
        );
    format!("{sale}\n{store}\n[payment]\nprovider = \"mock\"\n")
}

fn start(folder: tempfile::TempDir, config: &str, failpoints: &str) -> Shop {
    let any = "127.0.0.1:0";
    let engine = Engine::start_on(&folder, config, any, any, failpoints).expect("it starts");
    Shop::at(engine, folder)
}

/// What a buyer, an operator and the reconciler find in the end.
#[track_caller]
fn ends(shop: &Shop, order: &str, status: &str, stock: [u64; 4], said: &str) {
    let found = |what: &str| shop.order("ana", order)["status"] == what;
    shop.wait(&format!("{said}: {status}"), || found(status));
    let sale = shop.engine.admin("GET", "/admin/v1/sales/tea", "").json;
    let counts = ["available", "held", "sold", "withdrawn"]
        .map(|state| sale["skus"][0]["stock"][state].as_u64().expect("a count"));
    assert_eq!(counts, stock, "{said}");
    assert_eq!(shop.engine.differences(), 0, "{said}");
}

fn statuses(shop: &Shop) -> Vec<Value> {
    let mine = shop.engine.get("ana", "/v1/me/entitlements").json;
    let list = mine["entitlements"].as_array().expect("a list");
    list.iter().map(|e| e["status"].clone()).collect()
}

fn refund(shop: &Shop, order: &str, restock: bool) -> u16 {
    let body = json!({"restock": restock, "reason": "test"}).to_string();
    let path = format!("/admin/v1/orders/{order}/refund");
    shop.engine.admin("POST", &path, &body).status
}

/// Each of the steps on each host and store.
fn everywhere(steps: &[&str], test: impl Fn(&str, &dyn Fn(&str) -> Shop, &str)) {
    let postgres = Server::shared();
    for host in hosts() {
        for stored in ["sqlite", "postgres"] {
            for at in steps {
                host.fresh();
                let store = match stored {
                    "postgres" => postgres.store(&postgres.database()),
                    _ => String::new(),
                };
                let config = config(&host.toml, &store);
                let open = |failpoints: &str| {
                    start(tempfile::tempdir().expect("a folder"), &config, failpoints)
                };
                let told = if host.toml.is_empty() {
                    "embedded"
                } else {
                    "redis"
                };
                test(&format!("{told}, {stored}, {at}"), &open, &config);
            }
        }
    }
}

fn at(said: &str) -> String {
    let step = said.rsplit(", ").next().expect("a step");
    format!("{step}=return")
}

#[test]
fn a_purchase_that_is_broken_off_is_one_order_in_the_end() {
    everywhere(&WIN, |said, open, config| {
        // The sale is there before anything falls: it is a record of the ledger, too.
        // So is what each start writes for its one bucket.
        let at = at(said).replace("ledger-after-sync=", "ledger-after-sync=2*off->");
        let at = at.replace("ledger-before-write=", "ledger-before-write=2*off->");
        let shop = open("").killed_and_started_with(config, &at);
        let one = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
        let lost = shop.engine.try_buy("ana", "k", one);
        assert!(lost.is_none_or(|a| a.status == 0), "{said}: it fell");
        let shop = shop.killed_and_started(config);
        let again = shop.engine.buy("ana", "k", one);
        // What Redis holds or the ledger has was won, and nobody had heard of it.
        let step = WIN.iter().position(|step| said.ends_with(step));
        let written = WIN.iter().position(|step| *step == "ledger-after-sync");
        let won = step >= written || step > Some(0) && said.starts_with("redis");
        assert_eq!(again.status, if won { 200 } else { 201 }, "{said}");
        let order = again.json["orderId"].as_str().expect("an order");
        ends(&shop, order, "PENDING_PAYMENT", [2, 1, 0, 0], said);
        let mine = shop.engine.get("ana", "/v1/me/orders").json;
        assert_eq!(mine["orders"].as_array().map(Vec::len), Some(1), "{said}");
        // Its unit and those of the limit are counted once.
        assert_eq!(shop.engine.buy("ana", "k2", one).status, 201, "{said}");
        assert_eq!(shop.engine.buy("ana", "k3", one).status, 422, "{said}");
    });
}

#[test]
fn a_capture_that_is_broken_off_is_applied_once() {
    everywhere(&STEPS, |said, open, config| {
        let shop = open(&at(said));
        let order = shop.win("ana", "k");
        let body = shop.body(&order, "t1", &[]);
        assert_eq!(shop.tell(&body).status, 0, "{said}: it fell");
        let shop = shop.killed_and_started(config);
        shop.told(&body, "APPLIED", !said.ends_with("decided"));
        ends(&shop, &order, "DELIVERED", [2, 0, 1, 0], said);
        assert_eq!(statuses(&shop), ["ACTIVE"], "{said}");
        assert_eq!(shop.payments("").len(), 1, "{said}");
    });
}

#[test]
fn a_cancel_that_is_broken_off_gives_its_unit_back_once() {
    everywhere(&STEPS, |said, open, config| {
        let shop = open(&at(said));
        let order = shop.win("ana", "k");
        let path = format!("/v1/orders/{order}/cancel");
        assert_eq!(shop.engine.post("ana", &path).status, 0, "{said}: it fell");
        let shop = shop.killed_and_started(config);
        assert_eq!(shop.engine.post("ana", &path).status, 200, "{said}");
        ends(&shop, &order, "CLOSED", [3, 0, 0, 0], said);
    });
}

#[test]
fn a_refund_that_is_broken_off_pays_back_once_and_ends_what_it_granted() {
    everywhere(&STEPS, |said, open, config| {
        let shop = open("");
        let order = shop.win("ana", "k");
        shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
        let restock = said.contains("sqlite");
        let shop = shop.killed_and_started_with(config, &at(said));
        assert_eq!(refund(&shop, &order, restock), 0, "{said}: it fell");
        let shop = shop.killed_and_started(config);
        assert_eq!(refund(&shop, &order, restock), 200, "{said}");
        shop.until("t1", "REFUNDED");
        let stock = if restock { [3, 0, 0, 0] } else { [2, 0, 0, 1] };
        ends(&shop, &order, "REFUNDED", stock, said);
        assert_eq!(statuses(&shop), ["REVOKED"], "{said}");
        // What is withdrawn stays withdrawn.
        let shop = shop.killed_and_started(config);
        ends(&shop, &order, "REFUNDED", stock, said);
    });
}
