//! A buyer's orders in pages: newest first, each once, and a bound to what one call reads.

use crate::common::{Engine, open_sale};
use crate::{ONE, problem, tea};

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
