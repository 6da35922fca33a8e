//! The documented answers, and nothing else, for good and bad input.

mod common;

use common::{Answer, Engine, call, open_sale, raw};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

fn tea(units: u32, per_user: u32) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", units, per_user, ""));
    (folder, engine)
}

fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.code(), (status, code), "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("x-request-id"),
        answer.json["requestId"].as_str(),
        "{answer:?}"
    );
    if status == 503 {
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
}

#[test]
fn a_purchase_its_replay_and_its_end() {
    let (folder, engine) = tea(3, 2);
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
    let engine = Engine::start(&folder, &open_sale("tea", 3, 2, ""));
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
fn lists_page_newest_first() {
    let (_folder, engine) = tea(10, 10);
    let ids: Vec<String> = (0..5)
        .map(|i| {
            engine.buy("ana", &format!("k{i}"), ONE).json["orderId"]
                .as_str()
                .expect("won")
                .to_owned()
        })
        .collect();
    let mut seen = Vec::new();
    let mut path = "/v1/me/orders?limit=2".to_owned();
    loop {
        let page = engine.get("ana", &path);
        for order in page.json["orders"].as_array().expect("a list") {
            seen.push(order["orderId"].as_str().expect("an id").to_owned());
        }
        match page.json["nextCursor"].as_str() {
            Some(cursor) => path = format!("/v1/me/orders?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(seen, newest_first);
    assert_eq!(
        engine.get("ana", "/v1/me/orders?status=CLOSED").json["orders"],
        serde_json::json!([])
    );
    problem(
        &engine.get("ana", "/v1/me/orders?status=NEW"),
        400,
        "INVALID_FIELD",
    );
    problem(
        &engine.get("ana", "/v1/me/orders?limit=0"),
        400,
        "INVALID_FIELD",
    );
    problem(
        &engine.get("ana", "/v1/me/orders?cursor=x"),
        400,
        "INVALID_FIELD",
    );
}

#[test]
fn bad_input_gets_the_documented_answer_and_sells_nothing() {
    let (_folder, engine) = tea(10, 10);
    let long = "x".repeat(10_000);
    let items = |n: usize| {
        let one = r#"{"skuId":"unit","quantity":1}"#;
        format!(r#"{{"saleId":"tea","items":[{}]}}"#, vec![one; n].join(","))
    };
    let quantity =
        |q: &str| format!(r#"{{"saleId":"tea","items":[{{"skuId":"unit","quantity":{q}}}]}}"#);
    let sku = |s: &str| format!(r#"{{"saleId":"tea","items":[{{"skuId":"{s}","quantity":1}}]}}"#);
    let bodies: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, "MALFORMED_BODY"),
        ("{".into(), 400, "MALFORMED_BODY"),
        ("[]".into(), 400, "MALFORMED_BODY"),
        (r#"{"saleId":"tea"}"#.into(), 400, "MALFORMED_BODY"),
        (r#"{"saleId":1,"items":[]}"#.into(), 400, "MALFORMED_BODY"),
        (
            ONE.replace('}', r#","priceCent":1}"#),
            400,
            "MALFORMED_BODY",
        ),
        (items(0), 400, "INVALID_FIELD"),
        (items(21), 400, "INVALID_FIELD"),
        (quantity("0"), 400, "INVALID_FIELD"),
        (quantity("-1"), 400, "INVALID_FIELD"),
        (quantity("10001"), 400, "INVALID_FIELD"),
        (quantity("99999999999999999999999"), 400, "MALFORMED_BODY"),
        (quantity("1.5"), 400, "MALFORMED_BODY"),
        (quantity("\"1\""), 400, "MALFORMED_BODY"),
        (quantity("null"), 400, "MALFORMED_BODY"),
        (sku("none"), 404, "SKU_UNKNOWN"),
        (sku("{unit}"), 400, "INVALID_FIELD"),
        (sku("un\\nit"), 400, "INVALID_FIELD"),
        (sku("un\\u0000it"), 400, "INVALID_FIELD"),
        (sku(&long[..65]), 400, "INVALID_FIELD"),
        (sku(""), 400, "INVALID_FIELD"),
        (ONE.replace("tea", "other"), 404, "NOT_FOUND"),
        (ONE.replace("tea", "{tea}"), 400, "INVALID_FIELD"),
        (sku(&long), 413, "BODY_TOO_LARGE"),
    ];
    for (body, status, code) in &bodies {
        let answer = engine.buy("ana", "k1", body);
        assert_eq!(answer.code(), (*status, *code), "{body:.80}\n{answer:?}");
        problem(&answer, *status, code);
    }
    let json = ("content-type", "application/json");
    let user = ("x-user-id", "ana");
    type Headers<'a> = Vec<(&'a str, &'a str)>;
    let headers: Vec<(Headers<'_>, u16, &str)> = vec![
        (vec![json, ("idempotency-key", "k")], 401, "UNAUTHENTICATED"),
        (
            vec![json, ("idempotency-key", "k"), ("x-user-id", "")],
            401,
            "UNAUTHENTICATED",
        ),
        (
            vec![json, ("idempotency-key", "k"), ("x-user-id", "a b")],
            401,
            "UNAUTHENTICATED",
        ),
        (
            vec![json, ("idempotency-key", "k"), user, ("x-user-id", "bob")],
            401,
            "UNAUTHENTICATED",
        ),
        (vec![json, user], 400, "IDEMPOTENCY_KEY_MISSING"),
        (
            vec![json, user, ("idempotency-key", "")],
            400,
            "IDEMPOTENCY_KEY_INVALID",
        ),
        (
            vec![json, user, ("idempotency-key", "a{b}")],
            400,
            "IDEMPOTENCY_KEY_INVALID",
        ),
        (
            vec![
                json,
                user,
                ("idempotency-key", "a"),
                ("idempotency-key", "a"),
            ],
            400,
            "IDEMPOTENCY_KEY_INVALID",
        ),
        (
            vec![json, user, ("idempotency-key", &long)],
            400,
            "IDEMPOTENCY_KEY_INVALID",
        ),
        (vec![user, ("idempotency-key", "k")], 415, "MEDIA_TYPE"),
        (
            vec![
                user,
                ("idempotency-key", "k"),
                ("content-type", "text/plain"),
            ],
            415,
            "MEDIA_TYPE",
        ),
    ];
    for (headers, status, code) in &headers {
        let answer = call(&engine.public, "POST", "/v1/orders", headers, ONE);
        assert_eq!(
            answer.code(),
            (*status, *code),
            "{headers:.200?}\n{answer:?}"
        );
    }
    for (method, path, allow) in [
        ("GET", "/v1/orders", "POST, OPTIONS"),
        ("DELETE", "/v1/orders", "POST, OPTIONS"),
        ("POST", "/v1/sales", "GET, HEAD, OPTIONS"),
        ("PUT", "/v1/orders/x", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ] {
        let answer = call(&engine.public, method, path, &[user], "");
        problem(&answer, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), Some(allow));
    }
    problem(&engine.get("ana", "/v2"), 404, "NOT_FOUND");
    problem(&engine.get("ana", "/v1/orders/not-an-id"), 404, "NOT_FOUND");

    // Requests that two readers could understand differently are not requests.
    let smuggled = [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n\r\nabcde",
        "content-length: abc\r\n\r\n",
    ];
    for rest in smuggled {
        let text = format!("POST /v1/orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{rest}");
        let answer = raw(&engine.public, text.as_bytes());
        assert!(
            matches!(answer.status, 0 | 400 | 401),
            "{rest:?}: {answer:?}"
        );
    }
    let bomb = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-bomb: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let answer = raw(&engine.public, bomb.as_bytes());
    assert!(matches!(answer.status, 0 | 431), "{answer:?}");

    assert_eq!(engine.remaining("tea"), 10, "nothing was sold");
    assert_eq!(engine.differences(), 0);
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
    assert_eq!(
        engine.buy("bob", "k1", &body).status,
        201,
        "its unit is on sale again"
    );
    assert_eq!(engine.differences(), 0);
}

#[test]
fn the_admin_listener_wants_its_token_and_the_public_one_has_no_admin() {
    let (_folder, engine) = tea(1, 1);
    let without = call(&engine.admin, "GET", "/admin/v1/sales/tea", &[], "");
    assert_eq!(without.code(), (401, "UNAUTHENTICATED"));
    let wrong = call(
        &engine.admin,
        "GET",
        "/admin/v1/sales/tea",
        &[("authorization", "Bearer x")],
        "",
    );
    assert_eq!(wrong.code(), (401, "UNAUTHENTICATED"));
    problem(&engine.get("ana", "/admin/v1/sales/tea"), 404, "NOT_FOUND");
    problem(&engine.get("ana", "/metrics"), 404, "NOT_FOUND");
    assert_eq!(call(&engine.admin, "GET", "/readyz", &[], "").status, 200);
    assert_eq!(
        engine.admin("POST", "/admin/v1/sales/tea/pause", "").status,
        200
    );
    problem(&engine.buy("ana", "k1", ONE), 409, "SALE_PAUSED");
    assert_eq!(
        engine
            .admin("POST", "/admin/v1/sales/tea/resume", "")
            .status,
        200
    );
    assert_eq!(engine.buy("ana", "k1", ONE).status, 201);
}

#[test]
fn a_second_engine_is_told_plainly_what_is_in_use() {
    let (folder, engine) = tea(1, 1);
    let config = open_sale("tea", 1, 1, "");
    let folder_taken = Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", "")
        .err()
        .expect("refused");
    assert!(folder_taken.contains("in use"), "{folder_taken}");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let port_taken = Engine::start_on(&elsewhere, &config, &engine.public, "127.0.0.1:0", "")
        .err()
        .expect("refused");
    assert!(
        port_taken.contains(&format!("listen on {}", engine.public)),
        "{port_taken}"
    );
}

#[test]
fn a_configuration_cannot_change_a_sale_that_exists() {
    let (folder, engine) = tea(1, 1);
    assert!(engine.stop());
    let error = Engine::start_on(
        &folder,
        &open_sale("tea", 2, 1, ""),
        "127.0.0.1:0",
        "127.0.0.1:0",
        "",
    )
    .err()
    .expect("refused");
    assert!(
        error.contains("the configuration changes a sale that exists") && error.contains("skus"),
        "{error}"
    );
}
