//! Bodies, headers and times that are spelled wrongly get the documented answer in plain
//! words, and sell nothing.

use crate::common::call;
use crate::{ONE, definition, nothing_was_sold, plain_words, problem, tea};

#[test]
fn a_bad_body_gets_the_documented_answer() {
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
    nothing_was_sold(&engine);
}

#[test]
fn bad_headers_get_the_documented_answer() {
    let (_folder, engine) = tea(10, 10);
    let long = "x".repeat(10_000);
    let json = ("content-type", "application/json");
    let text = ("content-type", "text/plain");
    let user = |id| ("x-user-id", id);
    let key = |key| ("idempotency-key", key);
    let (ana, k) = (user("ana"), key("k"));
    let headers = [
        (vec![json, k], 401, "UNAUTHENTICATED"),
        (vec![json, k, user("")], 401, "UNAUTHENTICATED"),
        (vec![json, k, user("a b")], 401, "UNAUTHENTICATED"),
        (vec![json, k, ana, user("bob")], 401, "UNAUTHENTICATED"),
        (vec![json, ana], 400, "IDEMPOTENCY_KEY_MISSING"),
        (vec![json, ana, key("")], 400, "IDEMPOTENCY_KEY_INVALID"),
        (vec![json, ana, key("a{b}")], 400, "IDEMPOTENCY_KEY_INVALID"),
        (vec![json, ana, k, k], 400, "IDEMPOTENCY_KEY_INVALID"),
        (vec![json, ana, key(&long)], 400, "IDEMPOTENCY_KEY_INVALID"),
        (vec![ana, k], 415, "MEDIA_TYPE"),
        (vec![ana, k, text], 415, "MEDIA_TYPE"),
        (vec![ana, k, json, json], 415, "MEDIA_TYPE"),
        (vec![ana, k, json, text], 415, "MEDIA_TYPE"),
    ];
    for (headers, status, code) in &headers {
        let answer = call(&engine.public, "POST", "/v1/orders", headers, ONE);
        assert_eq!(
            answer.code(),
            (*status, *code),
            "{headers:.200?}\n{answer:?}"
        );
    }
    nothing_was_sold(&engine);
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
