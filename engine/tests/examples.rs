//! What the requirements expect to work, as a buyer, a provider and an operator see it.
//! Examples 5 and 6 (devices, tokens that expired) stand in `grants.rs`.

mod common;
mod provider;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Engine, open_sale};
use floodgate_engine::domain::ids::OrderId;
use provider::shop;
use serde_json::{Value, json};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

/// Until it is so, or far longer than it takes: nothing is said here about speed.
#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(folder: &tempfile::TempDir, config: &str, failpoints: &str) -> Engine {
    let any = "127.0.0.1:0";
    Engine::start_on(folder, config, any, any, failpoints).expect("it starts")
}

fn order_id(answer: &Value) -> String {
    answer["orderId"].as_str().expect("an order id").to_owned()
}

#[test]
fn example_01_the_same_key_three_times_is_one_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 5, 5, ""));
    let first = engine.buy("ana", "k", ONE);
    assert_eq!(first.status, 201, "{}", first.body);
    for _ in 0..2 {
        let again = engine.buy("ana", "k", ONE);
        assert_eq!((again.status, &again.json), (200, &first.json));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    assert_eq!(engine.remaining("tea"), 4);
    let mine = engine.get("ana", "/v1/me/orders").json;
    assert_eq!(mine["orders"].as_array().map(Vec::len), Some(1));
}

#[test]
fn example_02_a_callback_five_times_is_one_change() {
    let shop = shop(2, "");
    let order = shop.win("ana", "k");
    let body = shop.body(&order, "t1", &[]);
    let first = shop.told(&body, "APPLIED", false);
    let paid = shop.order("ana", &order);
    assert_eq!(paid["status"], "PAID");
    for _ in 0..4 {
        let again = shop.told(&body, "APPLIED", true);
        assert_eq!(again["paymentId"], first["paymentId"]);
    }
    assert_eq!(
        shop.order("ana", &order),
        paid,
        "not even its version moved"
    );
    assert_eq!(shop.payments("?sale=tea").len(), 1);
    assert_eq!(shop.engine.differences(), 0);
}

#[test]
fn example_03_paid_and_not_granted_is_repaired() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 2, 1, "").replace(
        "units = 2 }",
        "units = 2, grant = { workId = \"film\", validDays = 30 } }",
    );
    let engine = start(&folder, &config, "grant-forgotten=1*return");
    let shop = provider::Shop::at(engine, folder);
    let order = shop.win("ana", "k");
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    until("the order is granted", || {
        shop.order("ana", &order)["status"] == "DELIVERED"
    });
    let mine = shop.engine.get("ana", "/v1/me/entitlements").json;
    assert_eq!(mine["entitlements"][0]["workId"], "film", "{mine}");
    assert_eq!(mine["entitlements"].as_array().map(Vec::len), Some(1));
    until("the repair is counted", || {
        shop.metric("floodgate_grants_total{result=\"repaired\"}") == 1
    });
    assert_eq!(shop.metric("floodgate_grants_total{result=\"granted\"}"), 0);
}

#[test]
fn example_04_an_unpaid_order_closes_and_its_unit_sells_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let config =
        open_sale("tea", 1, 1, "").replace("unitsPerUser", "payWindowSeconds = 1\nunitsPerUser");
    let engine = Engine::start(&folder, &config);
    let order = order_id(&engine.buy("ana", "k", ONE).json);
    until("its window ended", || {
        engine.get("ana", &format!("/v1/orders/{order}")).json["status"] == "CLOSED"
    });
    until("its unit is free", || engine.remaining("tea") == 1);
    assert_eq!(engine.buy("bob", "k", ONE).status, 201);
    assert_eq!(engine.differences(), 0);
}

/// The provider has the money, and the engine fell before it knew.
#[test]
fn example_07_what_was_paid_and_not_marked_is_marked_in_the_end() {
    for at in [
        "change-decided",
        "change-durable",
        "change-kept",
        "change-settled",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = open_sale("tea", 2, 1, "");
        let fail = format!("{at}=return");
        let shop = provider::Shop::at(start(&folder, &config, &fail), folder);
        let order = shop.win("ana", "k");
        let body = shop.body(&order, "t1", &[]);
        assert_eq!(shop.tell(&body).status, 0, "{at}: the engine fell");
        let shop = shop.killed_and_started(&config);
        // No 200 was heard, so the provider says it again, as it would for days.
        shop.told(&body, "APPLIED", at != "change-decided");
        assert_eq!(shop.order("ana", &order)["status"], "PAID", "{at}");
        assert_eq!(shop.payment("t1")["status"], "APPLIED");
        assert_eq!(shop.engine.differences(), 0);
    }
}

#[test]
fn example_08_a_hot_sku_is_spread_over_buckets() {
    let folder = tempfile::tempdir().expect("a folder");
    let units = 400;
    let engine = Engine::start(&folder, &open_sale("tea", units, 1, "buckets = 8"));
    let mut buckets = BTreeSet::new();
    for n in 0..units {
        let won = engine.buy(&format!("buyer-{n}"), "k", ONE);
        assert_eq!(won.status, 201, "unit {n} of {units}: {}", won.body);
        let id = OrderId::parse(&order_id(&won.json)).expect("an order id");
        buckets.insert(id.bucket().0);
    }
    assert_eq!(buckets, (0..8).collect(), "all of them sold");
    assert_eq!(
        engine.buy("one-more", "k", ONE).code(),
        (422, "STOCK_NOT_ENOUGH")
    );
}

#[test]
fn example_09_a_backlog_of_notifications_never_blocks_an_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 300, 1, ""));
    let store = engine.held_store();
    for n in 0..300 {
        let won = engine.buy(&format!("buyer-{n}"), "k", ONE);
        assert_eq!(won.status, 201, "{}", won.body);
    }
    store.execute_batch("ROLLBACK").expect("let go");
    let told = || -> i64 {
        let count = "SELECT count(*) FROM outbox WHERE type = 'order.created'";
        store.query_row(count, [], |row| row.get(0)).unwrap_or(-1)
    };
    until("every order was told of", || told() == 300);
    assert_eq!(engine.differences(), 0);
}

#[test]
fn example_10_while_a_payment_is_under_way_its_status_says_so() {
    let shop = shop(2, "");
    let order = shop.win("ana", "k");
    let status = || {
        let path = format!("/v1/payments/{order}/status");
        shop.engine.get("ana", &path).json
    };
    assert_eq!(status()["inProgress"], false);
    assert_eq!(
        shop.prepay("ana", &order, r#"{"channel":"card"}"#).status,
        200
    );
    assert_eq!(status()["inProgress"], true);
    assert_eq!(status()["orderStatus"], "PENDING_PAYMENT");
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    let paid = status();
    assert_eq!(
        (&paid["inProgress"], &paid["orderStatus"]),
        (&json!(false), &json!("PAID"))
    );
    let again = shop.prepay("ana", &order, r#"{"channel":"card"}"#);
    assert_eq!(
        again.code(),
        (423, "ORDER_STATE_INVALID"),
        "nobody pays twice"
    );
}

#[test]
fn example_11_a_buyer_who_never_heard_finds_the_truth() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 2, 1, ""));
    // Sent, and gone without a look at the answer.
    let request = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\nx-user-id: ana\r\nidempotency-key: k\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{ONE}",
        ONE.len()
    );
    let mut line = TcpStream::connect(&engine.public).expect("it listens");
    line.write_all(request.as_bytes()).expect("sent");
    let mine = || engine.get("ana", "/v1/me/orders").json["orders"].clone();
    until("the order is found", || {
        mine()[0]["status"] == "PENDING_PAYMENT"
    });
    drop(line);
    let same = engine.buy("ana", "k", ONE);
    assert_eq!(same.status, 200, "{}", same.body);
    assert_eq!(order_id(&same.json), order_id(&mine()[0]));
    assert_eq!(engine.remaining("tea"), 1);
}
