//! A desk that falls takes its bucket's secrets with it: the process ends and says
//! why, and the next one sells on from the ledger.

mod common;

use common::{Engine, open_sale};

const BODY: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

#[test]
fn a_desk_that_falls_ends_the_engine_and_the_next_start_sells_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 5, 1, "");
    let any = "127.0.0.1:0";
    let engine = Engine::start_on(&folder, &config, any, any, "desk-after-script=1*off->panic")
        .expect("it opens");
    let won = engine.buy("ana", "k", BODY);
    assert_eq!(won.status, 201);
    // Nothing was promised to this one, and nobody is left who could.
    let lost = engine.try_buy("bob", "k", BODY);
    assert!(lost.is_none_or(|answer| answer.status == 503));
    assert_eq!(engine.ended(), Some(1));

    let engine = Engine::start(&folder, &config);
    assert_eq!(engine.buy("ana", "k", BODY).json, won.json);
    assert_eq!(engine.buy("bob", "k", BODY).status, 201);
    assert_eq!(engine.remaining("tea"), 3);
    assert_eq!(engine.differences(), 0);
}

/// A stream that fell must not look like one that runs.
#[test]
fn a_stream_that_falls_is_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let any = "127.0.0.1:0";
    let config = open_sale("tea", 5, 1, "");
    let engine = Engine::start_on(&folder, &config, any, any, "stream-turn=2*off->panic");
    let engine = engine.expect("it opens");
    for _ in 0..10_000 {
        let ready = engine.admin("GET", "/readyz?verbose", "").body;
        if ready.contains("its thread fell") {
            assert_eq!(engine.buy("ana", "k", BODY).status, 201, "sales go on");
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("nobody told");
}
