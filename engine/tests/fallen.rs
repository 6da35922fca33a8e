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
