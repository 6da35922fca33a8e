//! Slow disks and long lines change when an answer comes, and not what it says.

mod common;

use std::thread;

use common::{Engine, open_sale};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

#[test]
fn an_order_on_its_way_to_the_disk_is_no_drift() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = "ledger-before-write=sleep(200)";
    let config = open_sale("tea", 9, 1, "");
    let engine =
        Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", slow).expect("it opens");
    thread::scope(|scope| {
        let buyer = scope.spawn(|| engine.buy("ana", "k", ONE).status);
        while !buyer.is_finished() {
            assert_eq!(engine.differences(), 0);
        }
        assert_eq!(buyer.join().expect("no panic"), 201);
    });
    assert_eq!(engine.differences(), 0);
}

#[test]
fn the_wait_in_line_is_not_taken_from_the_time_for_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale(
        "tea",
        9,
        1,
        "admission = { rate = 1, burst = 1, queueMax = 10, waitMs = 60000 }\n[limits]\nanswer_ms = 1000\n",
    );
    let engine = Engine::start(&folder, &config);
    thread::scope(|scope| {
        let buyers: Vec<_> = ["ana", "bob", "cid"]
            .map(|user| {
                let engine = &engine;
                scope.spawn(move || engine.buy(user, "k", ONE).status)
            })
            .into();
        for buyer in buyers {
            assert_eq!(buyer.join().expect("no panic"), 201);
        }
    });
}
