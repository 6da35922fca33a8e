//! Limits of single buyers over HTTP: who is counted, what they are told, and what
//! no limit may take from them. Quotas come back in an hour, so no clock decides.

mod common;

use common::{Answer, Engine, call, open_sale};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
const FROM_PHONE: &str =
    r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}],"client":{"deviceId":"phone"}}"#;

fn tea(units: u32, more: &str) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", units, 9, more));
    (folder, engine)
}

/// A purchase that came through a proxy, in the words of that proxy.
fn buy_via(engine: &Engine, user: &str, key: &str, forwarded_for: &str) -> Answer {
    let headers = [
        ("x-user-id", user),
        ("idempotency-key", key),
        ("content-type", "application/json"),
        ("x-forwarded-for", forwarded_for),
        ("forwarded", "for=203.0.113.77"),
    ];
    call(&engine.public, "POST", "/v1/orders", &headers, ONE)
}

fn shed(engine: &Engine, reason: &str) -> Option<String> {
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let name = format!("floodgate_shed_total{{reason=\"{reason}\"}} ");
    let found = metrics.lines().find_map(|l| l.strip_prefix(&name));
    found.map(ToOwned::to_owned)
}

#[test]
fn a_user_over_the_limit_hears_when_to_come_back_and_keeps_what_was_won() {
    let (_folder, engine) = tea(
        9,
        "[limits]\nper_user = { rate = 2, seconds = 3600, burst = 2 }",
    );
    let won = engine.buy("ana", "k1", ONE);
    assert_eq!(won.status, 201, "{won:?}");
    let policy = Some(r#""user";q=2;w=3600"#);
    assert_eq!(won.header("ratelimit-policy"), policy);
    assert_eq!(won.header("ratelimit"), Some(r#""user";r=1;t=1800"#));
    assert_eq!(engine.buy("ana", "k2", ONE).status, 201);

    let limited = engine.buy("ana", "k3", ONE);
    assert_eq!(limited.code(), (429, "RATE_LIMITED"), "{limited:?}");
    assert_eq!(limited.header("ratelimit-policy"), policy);
    let left = limited.header("ratelimit").expect("what is left");
    let wait = left.strip_prefix("\"user\";r=0;t=").expect("nothing");
    assert_eq!(limited.header("retry-after"), Some(wait));
    assert!((1..=1_800).contains(&wait.parse::<u32>().expect("seconds")));
    assert_eq!(shed(&engine, "user_limit").as_deref(), Some("1"));

    // A key that won is no new request: it passes every limit, and spends nothing.
    for _ in 0..3 {
        let replay = engine.buy("ana", "k1", ONE);
        assert_eq!((replay.status, &replay.json), (200, &won.json));
        assert_eq!(replay.header("ratelimit"), None);
    }
    assert_eq!(engine.buy("bob", "k1", ONE).status, 201);
    // Nothing was set aside for the one who was sent home.
    assert_eq!(engine.remaining("tea"), 6);
    assert_eq!(engine.differences(), 0);
}

#[test]
fn what_needs_no_stock_is_answered_before_any_limit() {
    let (_folder, engine) = tea(
        1,
        "[limits]\nper_user = { rate = 1, seconds = 3600, burst = 1 }",
    );
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    for key in ["k1", "k2", "k3"] {
        let no = engine.buy("bob", key, ONE);
        assert_eq!(no.code(), (422, "STOCK_NOT_ENOUGH"));
        assert_eq!(no.header("ratelimit"), None, "it cost nothing");
    }
}

#[test]
fn devices_and_addresses_have_limits_of_their_own() {
    let (_folder, engine) = tea(
        9,
        "[limits]\nper_device = { rate = 1, seconds = 3600, burst = 1 }\n\
         per_ip = { rate = 1, seconds = 3600, burst = 3 }",
    );
    let won = engine.buy("ana", "k", FROM_PHONE);
    assert_eq!(won.status, 201);
    assert_eq!(
        won.header("ratelimit-policy"),
        Some(r#""device";q=1;w=3600, "ip";q=3;w=10800"#)
    );
    let limited = engine.buy("bob", "k", FROM_PHONE);
    assert_eq!(limited.code(), (429, "RATE_LIMITED"));
    assert_eq!(
        limited.header("ratelimit-policy"),
        Some(r#""device";q=1;w=3600"#)
    );
    assert_eq!(engine.buy("bob", "k", ONE).status, 201);
    assert_eq!(engine.buy("cid", "k", ONE).status, 201);
    assert_eq!(engine.buy("dan", "k", ONE).code(), (429, "RATE_LIMITED"));
    assert_eq!(shed(&engine, "device_limit").as_deref(), Some("1"));
    assert_eq!(shed(&engine, "ip_limit").as_deref(), Some("1"));
}

#[test]
fn a_trusted_proxy_is_asked_for_its_client_and_nobody_else_is() {
    const PER_IP: &str = "[limits]\nper_ip = { rate = 1, seconds = 3600, burst = 1 }";
    let (_folder, engine) = tea(9, PER_IP);
    assert_eq!(buy_via(&engine, "a", "k", "192.0.2.1").status, 201);
    let other = buy_via(&engine, "b", "k", "192.0.2.2");
    assert_eq!(other.status, 429, "without trust all of them are one peer");

    let trust = format!("{PER_IP}\n[http]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]");
    let (_folder, engine) = tea(9, &trust);
    assert_eq!(buy_via(&engine, "a", "k", "192.0.2.1").status, 201);
    assert_eq!(
        buy_via(&engine, "b", "k", "192.0.2.2, 10.0.0.1").status,
        201
    );
    // What a client says of itself stands before what the proxy says of it.
    let lie = buy_via(&engine, "c", "k", "203.0.113.1, 192.0.2.1");
    assert_eq!(lie.status, 429);
    assert_eq!(buy_via(&engine, "d", "k", "2001:db8::1").status, 201);
    let same_64 = buy_via(&engine, "e", "k", "2001:db8::ffff:2");
    assert_eq!(same_64.status, 429);
    // Garbage counts for the proxy that passed it on.
    assert_eq!(buy_via(&engine, "f", "k", "nobody").status, 201);
    assert_eq!(buy_via(&engine, "g", "k", "garbage").status, 429);
}

#[test]
fn the_denied_are_told_and_the_allowed_pass() {
    let (_folder, engine) = tea(
        9,
        "[limits]\nper_user = { rate = 1, seconds = 3600, burst = 1 }\n\
         deny_users = [\"mallory\"]\ndeny_ips = [\"198.51.100.0/24\"]\n\
         allow_users = [\"office\"]\nallow_ips = [\"192.0.2.7\"]\n\
         [http]\ntrusted_proxies = [\"127.0.0.1\"]",
    );
    assert_eq!(engine.buy("mallory", "k", ONE).code(), (403, "FORBIDDEN"));
    let from_there = buy_via(&engine, "ana", "k", "198.51.100.9");
    assert_eq!(from_there.code(), (403, "FORBIDDEN"));
    assert_eq!(shed(&engine, "denied").as_deref(), Some("2"));
    for key in ["k1", "k2", "k3"] {
        let won = engine.buy("office", key, ONE);
        assert_eq!((won.status, won.header("ratelimit")), (201, None));
        assert_eq!(buy_via(&engine, "eve", key, "192.0.2.7").status, 201);
    }
    // No list takes away the limits of the sale: nine units are six now.
    assert_eq!(engine.remaining("tea"), 3);
    let all = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":4}]}"#;
    assert_eq!(
        engine.buy("office", "k4", all).code(),
        (422, "STOCK_NOT_ENOUGH")
    );
    // Who may not buy may look.
    assert_eq!(engine.get("mallory", "/v1/me/orders").status, 200);
}

#[test]
fn a_page_elsewhere_may_read_the_headers() {
    let (_folder, engine) = tea(9, "[http]\norigins = [\"https://shop.example\"]");
    let headers = [("origin", "https://shop.example"), ("x-user-id", "ana")];
    let answer = call(&engine.public, "GET", "/v1/sales", &headers, "");
    let exposed = answer
        .header("access-control-expose-headers")
        .expect("some");
    let exposed: Vec<&str> = exposed.split(", ").collect();
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(exposed.contains(&name), "{name} in {exposed:?}");
    }
}
