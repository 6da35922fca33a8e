//! The documented answers, and nothing else, for good and bad input.

#[path = "../common/mod.rs"]
mod common;

mod buying;
mod gateway;
mod lists;
mod spelling;
mod wire;

mod operators;
mod starts;

use common::{Answer, Engine, open_sale};

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

/// Of ten units of tea.
fn nothing_was_sold(engine: &Engine) {
    assert_eq!(engine.remaining("tea"), 10, "nothing was sold");
    assert_eq!(engine.differences(), 0);
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
