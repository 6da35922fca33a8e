//! Grants: from the definition of a sale to the device that plays.

mod common;

use common::{Engine, open_sale};

const DEFINITION: &str = r#"{"id":"films","name":"Films","startsAt":"2020-01-01T00:00:00Z",
    "endsAt":"2099-01-01T00:00:00Z","unitsPerUser":9,"skus":[
    {"id":"book","name":"Book","priceCent":100,"currency":"EUR","units":9},
    {"id":"film","name":"Film","priceCent":100,"currency":"EUR","units":9,"grant":GRANT}]}"#;

fn engine() -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 1, 1, ""));
    (folder, engine)
}

#[test]
fn a_sale_says_what_its_skus_grant() {
    let (_folder, engine) = engine();
    let create = |grant: &str| {
        let body = DEFINITION.replace("GRANT", grant);
        engine.admin("POST", "/admin/v1/sales", &body)
    };
    for (grant, code, said) in [
        (
            r#"["film",30,5,"refuse"]"#,
            "MALFORMED_BODY",
            "expected an object",
        ),
        (
            r#"{"validDays":30}"#,
            "MALFORMED_BODY",
            "missing field `workId`",
        ),
        (
            r#"{"workId":"a/b","validDays":30}"#,
            "INVALID_FIELD",
            "skus[1].grant.workId: has a character that is not allowed",
        ),
        (
            r#"{"workId":"w","validDays":0}"#,
            "INVALID_FIELD",
            "skus[1].grant.validDays: 0 is out of range; allowed are 1 to 3650",
        ),
        (
            r#"{"workId":"w","validDays":1,"whenFull":"drop"}"#,
            "INVALID_FIELD",
            "allowed are \"refuse\" and \"kick_oldest\"",
        ),
    ] {
        let answer = create(grant);
        assert_eq!(answer.code(), (400, code), "{answer:?}");
        let detail = answer.json["detail"].as_str().expect("a detail");
        assert!(detail.contains(said), "{detail}");
    }
    let made = create(r#"{"workId":"w","validDays":30}"#);
    assert_eq!(made.status, 201, "{made:?}");
    let whole = r#"{"workId":"w","validDays":30,"devicesMax":5,"whenFull":"refuse"}"#;
    assert_eq!(create(whole).status, 200, "the same, with its defaults");
    let other = create(r#"{"workId":"w","validDays":31}"#);
    assert_eq!(other.code(), (409, "SALE_EXISTS"), "{other:?}");
    let shown = engine.get("ana", "/v1/sales/films").json;
    assert!(shown["skus"][0].get("grant").is_none(), "{shown}");
    let whole: serde_json::Value = serde_json::from_str(whole).expect("JSON");
    assert_eq!(shown["skus"][1]["grant"], whole);
}
