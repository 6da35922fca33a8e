//! The documented answers, and nothing else, for good and bad input.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::redis::hosts;
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
    let closed = engine.get("ana", "/v1/me/orders?status=CLOSED").json;
    assert_eq!(
        closed,
        serde_json::json!({"orders": [], "nextCursor": null})
    );
    for old in [&ids[0], &ids[2]] {
        let canceled = engine.post("ana", &format!("/v1/orders/{old}/cancel"));
        assert_eq!(canceled.status, 200);
    }
    let page = engine
        .get("ana", "/v1/me/orders?status=CLOSED&limit=1")
        .json;
    assert_eq!(page["orders"][0]["orderId"], ids[2]);
    let cursor = page["nextCursor"].as_str().expect("an older one");
    let path = format!("/v1/me/orders?status=CLOSED&limit=1&cursor={cursor}");
    let page = engine.get("ana", &path).json;
    assert_eq!(page["orders"][0]["orderId"], ids[0]);
    assert_eq!(page["nextCursor"], serde_json::Value::Null);
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

/// A filter reads so far in one call and no further; the cursor goes on from there.
#[test]
fn a_filter_that_finds_nothing_for_long_gives_an_empty_page_and_a_cursor() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 600, 600, "ordersPerUserMax = 600\n");
    let engine = Engine::start(&folder, &config);
    let oldest = engine.buy("ana", "k", ONE).json["orderId"].clone();
    let oldest = oldest.as_str().expect("won");
    for n in 0..500 {
        assert_eq!(engine.buy("ana", &format!("k{n}"), ONE).status, 201);
    }
    let canceled = engine.post("ana", &format!("/v1/orders/{oldest}/cancel"));
    assert_eq!(canceled.status, 200);
    let page = engine.get("ana", "/v1/me/orders?status=CLOSED").json;
    assert_eq!(page["orders"], serde_json::json!([]));
    let cursor = page["nextCursor"].as_str().expect("there is more to read");
    let path = format!("/v1/me/orders?status=CLOSED&cursor={cursor}");
    let page = engine.get("ana", &path).json;
    assert_eq!(page["orders"][0]["orderId"].as_str(), Some(oldest));
    assert_eq!(page["nextCursor"], serde_json::Value::Null);
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
        (
            vec![user, ("idempotency-key", "k"), json, json],
            415,
            "MEDIA_TYPE",
        ),
        (
            vec![
                user,
                ("idempotency-key", "k"),
                json,
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
        // A word of ours is no order id.
        ("GET", "/v1/orders/preview", "POST, OPTIONS"),
        ("HEAD", "/v1/orders/preview", "POST, OPTIONS"),
        ("DELETE", "/v1/orders/preview", "POST, OPTIONS"),
    ] {
        let answer = call(&engine.public, method, path, &[user], "");
        assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("allow"), Some(allow));
        if method != "HEAD" {
            problem(&answer, 405, "METHOD_NOT_ALLOWED");
        }
    }
    for (path, allow) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/v1/sales/tea", "GET, HEAD, OPTIONS"),
        ("/v1/orders", "POST, OPTIONS"),
        ("/v1/orders/preview", "POST, OPTIONS"),
        ("/v1/orders/x", "GET, HEAD, OPTIONS"),
        ("/v1/orders/x/cancel", "POST, OPTIONS"),
    ] {
        let answer = call(&engine.public, "OPTIONS", path, &[], "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (204, Some(allow)),
            "{path}"
        );
    }
    problem(
        &call(&engine.public, "OPTIONS", "/v2", &[], ""),
        404,
        "NOT_FOUND",
    );
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

/// A definition with the fields every sale must have; `change` may spoil it.
fn definition(id: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut sale = serde_json::json!({
        "id": id, "name": "s", "unitsPerUser": 1,
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "skus": [{"id": "unit", "name": "u", "priceCent": 1, "currency": "EUR", "units": 1}],
    });
    change(&mut sale);
    sale.to_string()
}

fn bearer(engine: &Engine) -> String {
    let token = std::fs::read_to_string(engine.token_file()).expect("the engine wrote a token");
    format!("Bearer {}", token.trim())
}

/// The heads of a purchase and of a new sale, up to what says how long the body is.
fn heads(engine: &Engine) -> [(String, String); 2] {
    let json = "content-type: application/json\r\nhost: x\r\nconnection: close\r\n";
    let buy = format!("POST /v1/orders HTTP/1.1\r\n{json}x-user-id: ana\r\nidempotency-key: k\r\n");
    let sale = format!(
        "POST /admin/v1/sales HTTP/1.1\r\n{json}authorization: {}\r\n",
        bearer(engine)
    );
    [(engine.public.clone(), buy), (engine.admin.clone(), sale)]
}

#[test]
fn a_body_that_announces_too_much_is_not_waited_for() {
    let (_folder, engine) = tea(1, 1);
    for ((at, head), length) in heads(&engine).into_iter().zip([8_193, 5_000_000]) {
        let began = Instant::now();
        let answer = raw(
            &at,
            format!("{head}content-length: {length}\r\n\r\n").as_bytes(),
        );
        problem(&answer, 413, "BODY_TOO_LARGE");
        // The body would be waited for 5 s and 10 s.
        assert!(began.elapsed() < Duration::from_secs(4), "{answer:?}");
    }
}

#[test]
fn a_body_that_breaks_off_is_malformed_on_both_listeners() {
    let (_folder, engine) = tea(1, 1);
    for (at, head) in heads(&engine) {
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n");
        problem(&raw(&at, chunked.as_bytes()), 400, "MALFORMED_BODY");
    }
    for (at, head) in heads(&engine) {
        let mut line = TcpStream::connect(&at).expect("connect");
        let half = format!("{head}content-length: 100\r\n\r\n{{\"saleId\":");
        line.write_all(half.as_bytes()).expect("write");
        line.shutdown(Shutdown::Write).expect("hang up");
        let mut text = String::new();
        line.read_to_string(&mut text).expect("an answer");
        assert!(
            text.starts_with("HTTP/1.1 400 ") && text.contains("MALFORMED_BODY"),
            "{text:?}"
        );
    }
}

/// Says what is wrong, in at most a kilobyte, and nothing of how we are built.
fn plain_words(answer: &Answer) -> String {
    let detail = answer.json["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.len() <= 1_000, "{} bytes", detail.len());
    for word in ["struct", "i64", "u64", "u32", "u16", "OrderIn", "RawS"] {
        assert!(!detail.contains(word), "{detail}");
    }
    detail
}

#[test]
fn lists_do_not_pass_for_objects_and_errors_use_plain_words() {
    let (_folder, engine) = tea(10, 10);
    for body in [
        r#"["tea",[{"skuId":"unit","quantity":1}]]"#,
        r#"["tea",[{"skuId":"unit","quantity":1}],null]"#,
        r#"{"saleId":"tea","items":[["unit",1]]}"#,
        r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}],"client":["d"]}"#,
        r#""tea""#,
        "7",
        "null",
    ] {
        let answer = engine.buy("ana", "k1", body);
        problem(&answer, 400, "MALFORMED_BODY");
        let detail = plain_words(&answer);
        assert!(detail.contains("expected an object"), "{body}: {detail}");
    }
    for (body, said) in [
        (
            r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":"1"}]}"#,
            "invalid type: string \"1\", expected a whole number at line 1",
        ),
        (r#"{"saleId":"tea"}"#, "missing field `items`"),
        (
            r#"{"saleId":"tea","items":[],"x":1}"#,
            "unknown field `x`, expected one of `saleId`, `items`, `client`",
        ),
    ] {
        let answer = engine.buy("ana", "k1", body);
        problem(&answer, 400, "MALFORMED_BODY");
        assert!(plain_words(&answer).contains(said), "{answer:?}");
    }
    let long = format!(r#"{{"{}":1}}"#, "é".repeat(4_000));
    let answer = engine.buy("ana", "k1", &long);
    problem(&answer, 400, "MALFORMED_BODY");
    assert!(plain_words(&answer).contains("unknown field"));
    assert!(plain_words(&answer).contains("expected one of"));

    type Spoil = fn(&mut serde_json::Value);
    let spoils: [Spoil; 6] = [
        |s| *s = serde_json::json!(["x", "x", "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]),
        |s| s["admission"] = serde_json::json!([1, 1, 1, 1]),
        |s| s["admission"] = serde_json::json!(null),
        |s| s["skus"] = serde_json::json!([["unit", "u", 1, "EUR", 1]]),
        |s| s["skus"] = serde_json::json!([null]),
        |s| s["skus"][0]["units"] = serde_json::json!(-1),
    ];
    for spoil in spoils {
        let answer = engine.admin("POST", "/admin/v1/sales", &definition("x", spoil));
        problem(&answer, 400, "MALFORMED_BODY");
        let detail = plain_words(&answer);
        assert!(
            detail.contains("expected an object") || detail.contains("expected a whole number"),
            "{detail}"
        );
    }
    let many = |units: u32| {
        definition("many", |s| {
            s["unitsPerUser"] = units.into();
            s["skus"] = (0..10_000)
                .map(|i| serde_json::json!({"id": format!("s{i}"), "name": "u", "priceCent": units, "currency": "EUR", "units": 1}))
                .collect();
        })
    };
    assert_eq!(
        engine.admin("POST", "/admin/v1/sales", &many(1)).status,
        201
    );
    let answer = engine.admin("POST", "/admin/v1/sales", &many(2));
    problem(&answer, 409, "SALE_EXISTS");
    let detail = plain_words(&answer);
    assert!(
        detail.contains("skus: ") && detail.contains("unitsPerUser: is 1, asked for 2"),
        "{detail}"
    );
    assert_eq!(engine.remaining("tea"), 10, "nothing was sold");
}

#[test]
fn times_are_rfc_3339_and_nothing_near_it() {
    let (_folder, engine) = tea(1, 1);
    for bad in [
        "20260101T000000Z",
        "2026-01-01T00Z",
        "2026-01-01T00:00:00+25:00",
        "2026-01-01T00:00:00+00:00[Europe/Berlin]",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01 00:00:00Z",
        "2026-02-30T00:00:00Z",
    ] {
        let answer = engine.admin(
            "POST",
            "/admin/v1/sales",
            &definition("t", |s| s["startsAt"] = bad.into()),
        );
        problem(&answer, 400, "INVALID_FIELD");
        assert!(plain_words(&answer).contains("startsAt"), "{answer:?}");
    }
    let good = definition("t", |s| {
        s["startsAt"] = "2020-01-01t08:00:00.5+08:00".into()
    });
    let answer = engine.admin("POST", "/admin/v1/sales", &good);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json["startsAt"], "2020-01-01T00:00:00.5Z");
    // As good as for ever.
    let good = definition("e", |s| s["endsAt"] = "9999-12-31T23:59:59z".into());
    let answer = engine.admin("POST", "/admin/v1/sales", &good);
    assert_eq!(answer.json["endsAt"], "9999-12-31T23:59:59Z", "{answer:?}");
}

#[test]
fn a_request_names_its_host_once() {
    let (_folder, engine) = tea(1, 1);
    for at in [&engine.public, &engine.admin] {
        for (head, status) in [
            ("HTTP/1.1\r\nconnection: close\r\n", 400),
            (
                "HTTP/1.1\r\nhost: a\r\nhost: a\r\nconnection: close\r\n",
                400,
            ),
            ("HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400),
            ("HTTP/1.0\r\n", 404),
            ("HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", 404),
        ] {
            let answer = raw(at, format!("GET /none {head}\r\n").as_bytes());
            assert_eq!(answer.status, status, "{head:?}: {answer:?}");
            if status == 400 {
                problem(&answer, 400, "INVALID_FIELD");
                assert!(plain_words(&answer).contains("Host"), "{answer:?}");
            }
        }
    }
}

#[test]
fn an_answer_that_the_asker_has_is_not_sent_again() {
    let (_folder, engine) = tea(1, 1);
    for path in ["/v1/sales/tea", "/v1/sales", "/"] {
        let tag = engine
            .get("ana", path)
            .header("etag")
            .expect("a tag")
            .to_owned();
        let asked =
            |value: &str| call(&engine.public, "GET", path, &[("if-none-match", value)], "").status;
        for same in [
            tag.clone(),
            format!("W/{tag}"),
            "*".to_owned(),
            format!("\"x\", {tag}"),
            format!("\"x\" ,W/{tag},\"y\""),
        ] {
            assert_eq!(asked(&same), 304, "{path}: {same}");
        }
        for other in ["\"x\"", "W/\"x\", \"y\"", "", "x", tag.trim_matches('"')] {
            assert_eq!(asked(other), 200, "{path}: {other}");
        }
        let twice = [("if-none-match", "\"x\""), ("if-none-match", tag.as_str())];
        assert_eq!(
            call(&engine.public, "GET", path, &twice, "").status,
            304,
            "{path}"
        );
    }
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

#[test]
fn admin_answers_are_made_like_public_ones() {
    let (_folder, engine) = tea(1, 1);
    let bearer = bearer(&engine);
    let json = ("content-type", "application/json");
    let admin = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        call(&engine.admin, method, path, headers, body)
    };

    let without = admin("GET", "/admin/v1/sales/tea", &[], "");
    problem(&without, 401, "UNAUTHENTICATED");
    assert_eq!(without.header("www-authenticate"), Some("Bearer"));
    for scheme in ["bearer", "BEARER", "Bearer"] {
        let value = bearer.replace("Bearer", scheme);
        let answer = admin(
            "GET",
            "/admin/v1/sales/tea",
            &[("authorization", &value)],
            "",
        );
        assert_eq!(answer.status, 200, "{scheme}");
    }
    let answer = admin(
        "GET",
        "/admin/v1/sales/tea",
        &[("authorization", &bearer.replace("Bearer", "Basic"))],
        "",
    );
    problem(&answer, 401, "UNAUTHENTICATED");

    let token = ("authorization", bearer.as_str());
    for path in ["/livez", "/readyz", "/metrics", "/admin/v1/sales"] {
        let (a, b) = (
            admin("GET", path, &[token], ""),
            admin("GET", path, &[token], ""),
        );
        assert!(a.header("x-request-id").is_some(), "{path}: {a:?}");
        assert_ne!(a.header("x-request-id"), b.header("x-request-id"));
    }
    let mine = ("x-request-id", "audit-7");
    let answer = admin("GET", "/admin/v1/sales/none", &[token, mine], "");
    problem(&answer, 404, "NOT_FOUND");
    assert_eq!(answer.header("x-request-id"), Some("audit-7"));

    let sale = definition("later", |_| {});
    for headers in [
        vec![token],
        vec![token, ("content-type", "text/plain")],
        vec![token, json, json],
    ] {
        let answer = admin("POST", "/admin/v1/sales", &headers, &sale);
        problem(&answer, 415, "MEDIA_TYPE");
    }
    let form = ("content-type", "application/x-www-form-urlencoded");
    let answer = admin("POST", "/admin/v1/sales/tea/pause", &[token, form], "x=1");
    problem(&answer, 415, "MEDIA_TYPE");
    let answer = admin("POST", "/admin/v1/sales/tea/pause", &[token], "");
    assert_eq!(answer.status, 200, "no body, no type: {answer:?}");

    let past = definition("past", |s| s["endsAt"] = "2020-01-02T00:00:00Z".into());
    assert_eq!(engine.admin("POST", "/admin/v1/sales", &past).status, 201);
    assert_eq!(
        engine.admin("POST", "/admin/v1/sales/tea/end", "").status,
        200
    );
    for id in ["tea", "past"] {
        for verb in ["pause", "resume"] {
            let answer = engine.admin("POST", &format!("/admin/v1/sales/{id}/{verb}"), "");
            problem(&answer, 409, "SALE_ENDED");
        }
    }
    assert_eq!(
        engine.admin("POST", "/admin/v1/sales/tea/end", "").status,
        200,
        "ending it twice changes nothing"
    );
}
