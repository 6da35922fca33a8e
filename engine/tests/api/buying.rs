//! Buying: one order a key, limits that are the same wherever they are told, and units
//! that come back.

use crate::common::redis::hosts;
use crate::common::{Engine, call, open_sale};
use crate::{ONE, plain_words, problem, tea};

#[test]
fn a_purchase_its_replay_and_its_end() {
    for host in hosts() {
        purchase_replay_and_end(&open_sale("tea", 3, 2, &host.toml));
    }
}

fn purchase_replay_and_end(config: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, config);
    let won = engine.buy("ana", "k1", ONE);
    assert_eq!(won.status, 201, "{won:?}");
    let id = won.json["orderId"].as_str().expect("an id").to_owned();
    assert_eq!(
        won.header("location"),
        Some(format!("/v1/orders/{id}").as_str())
    );
    assert_eq!(won.json["status"], "PENDING_PAYMENT");
    assert_eq!(won.json["payAmountCent"], 100);

    let again = engine.buy("ana", "k1", ONE);
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, Some("true"))
    );
    assert_eq!(again.json, won.json);
    let other = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":2}]}"#;
    problem(
        &engine.buy("ana", "k1", other),
        422,
        "IDEMPOTENCY_KEY_REUSED",
    );
    problem(&engine.buy("ana", "k2", other), 422, "LIMIT_EXCEEDED");
    assert_eq!(
        engine.get("ana", &format!("/v1/orders/{id}")).json,
        won.json
    );
    problem(
        &engine.get("bob", &format!("/v1/orders/{id}")),
        404,
        "NOT_FOUND",
    );
    problem(
        &engine.post("bob", &format!("/v1/orders/{id}/cancel")),
        404,
        "NOT_FOUND",
    );

    // The same SKU on two lines is one quantity.
    let twice =
        r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1},{"skuId":"unit","quantity":1}]}"#;
    assert_eq!(engine.buy("bob", "k1", twice).json["payAmountCent"], 200);
    problem(&engine.buy("cid", "k1", ONE), 422, "STOCK_NOT_ENOUGH");
    assert_eq!(
        engine.buy("ana", "k1", ONE).status,
        200,
        "a replay passes every sold out"
    );

    let closed = engine.post("ana", &format!("/v1/orders/{id}/cancel"));
    assert_eq!(
        (closed.status, closed.json["closedReason"].as_str()),
        (200, Some("canceled"))
    );
    assert_eq!(
        engine
            .post("ana", &format!("/v1/orders/{id}/cancel"))
            .status,
        200
    );
    assert_eq!(engine.remaining("tea"), 1);
    assert_eq!(
        engine.buy("cid", "k1", ONE).status,
        201,
        "a freed unit sells"
    );
    assert_eq!(
        engine.buy("ana", "k1", ONE).json["status"],
        "CLOSED",
        "the key names its order for ever"
    );
    assert_eq!(engine.differences(), 0);

    assert!(engine.stop());
    let engine = Engine::start(&folder, config);
    let after = engine.buy("ana", "k1", ONE);
    assert_eq!(
        (after.status, after.json["orderId"].as_str()),
        (200, Some(id.as_str()))
    );
    assert_eq!(engine.remaining("tea"), 0);
    assert_eq!(
        engine.admin("POST", "/admin/v1/sales/tea/end", "").status,
        200
    );
    problem(&engine.buy("dan", "k1", ONE), 409, "SALE_ENDED");
    assert_eq!(
        engine.buy("ana", "k1", ONE).status,
        200,
        "also after the end"
    );
}

#[test]
fn a_pay_window_that_ends_gives_the_unit_back() {
    let (_folder, engine) = tea(1, 1);
    let sale = r#"{"id":"short","name":"s","startsAt":"2020-01-01T00:00:00Z","endsAt":"2099-01-01T00:00:00Z",
        "payWindowSeconds":1,"unitsPerUser":1,
        "skus":[{"id":"unit","name":"u","priceCent":1,"currency":"EUR","units":1}]}"#;
    assert_eq!(engine.admin("POST", "/admin/v1/sales", sale).status, 201);
    assert_eq!(
        engine.admin("POST", "/admin/v1/sales", sale).status,
        200,
        "the same again is no news"
    );
    let other = engine.admin(
        "POST",
        "/admin/v1/sales",
        &sale.replace("\"unitsPerUser\":1", "\"unitsPerUser\":2"),
    );
    assert_eq!(other.code(), (409, "SALE_EXISTS"));
    assert!(
        other.json["detail"]
            .as_str()
            .is_some_and(|d| d.contains("unitsPerUser")),
        "{other:?}"
    );
    let body = ONE.replace("tea", "short");
    let won = engine.buy("ana", "k1", &body);
    let path = format!("/v1/orders/{}", won.json["orderId"].as_str().expect("won"));
    // Looking again until the engine's own timer closed it; no time is asserted.
    let closed = (0..2_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        engine.get("ana", &path).json["closedReason"] == "timeout"
    });
    assert!(closed, "an unpaid order closes");
    // Closed is what the ledger says; the desk gives the unit back right after it.
    while engine.remaining("short") < 1 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let late = "\nfloodgate_release_lag_seconds 0\n";
    assert!(metrics.contains(late), "nothing is due any more: {metrics}");
    assert_eq!(
        engine.buy("bob", "k1", &body).status,
        201,
        "its unit is on sale again"
    );
    assert_eq!(engine.differences(), 0);
}

#[test]
fn a_preview_knows_the_limits_that_buying_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    // The fields that follow the list of SKUs are still the sale's.
    let engine = Engine::start(&folder, &open_sale("tea", 10, 2, "ordersPerUserMax = 2"));
    let allowed = |quantity: &str| {
        let body = ONE.replace(":1}", &format!(":{quantity}}}"));
        let headers = [("x-user-id", "ana"), ("content-type", "application/json")];
        let answer = call(
            &engine.public,
            "POST",
            "/v1/orders/preview",
            &headers,
            &body,
        );
        answer.json["limit"]["allowed"]
            .as_bool()
            .unwrap_or_else(|| panic!("{answer:?}"))
    };
    assert!(allowed("2") && !allowed("3"));
    for key in ["k1", "k2"] {
        assert!(allowed("1"), "before {key}");
        let won = engine.buy("ana", key, ONE);
        let id = won.json["orderId"].as_str().expect("won");
        let closed = engine.post("ana", &format!("/v1/orders/{id}/cancel"));
        assert_eq!(closed.status, 200);
    }
    assert!(!allowed("1"), "two orders were made, closed or not");
    problem(&engine.buy("ana", "k3", ONE), 422, "LIMIT_EXCEEDED");
}

#[test]
fn a_key_names_its_device_too() {
    let (_folder, engine) = tea(10, 10);
    let on =
        |device: &str| ONE.replace("]}", &format!(r#"],"client":{{"deviceId":"{device}"}}}}"#));
    assert_eq!(engine.buy("ana", "k1", &on("d1")).status, 201);
    assert_eq!(engine.buy("ana", "k1", &on("d1")).status, 200);
    for other in [on("d2"), ONE.to_owned()] {
        let answer = engine.buy("ana", "k1", &other);
        problem(&answer, 422, "IDEMPOTENCY_KEY_REUSED");
        let detail = plain_words(&answer);
        assert!(
            detail.contains("device") && !detail.contains("sale"),
            "{detail}"
        );
    }
    // No device is no device, however it is said.
    assert_eq!(engine.buy("ana", "k2", ONE).status, 201);
    let none = ONE.replace("]}", r#"],"client":{"deviceId":null}}"#);
    assert_eq!(engine.buy("ana", "k2", &none).status, 200);
}
