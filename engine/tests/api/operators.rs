//! The admin listener: its token, and answers that are made like public ones.

use crate::common::call;
use crate::{ONE, bearer, definition, problem, tea};

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
