//! Slow disks, long lines and people who hang up change when an answer comes, and
//! not what it says.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use common::{Engine, call, open_sale};

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
fn a_buyer_who_waited_too_long_counts_as_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = "ledger-before-write=sleep(800)";
    let config = open_sale("tea", 9, 1, "[limits]\nanswer_ms = 100\n");
    let engine =
        Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", slow).expect("it opens");
    let n_unknown = || {
        let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
        let line = metrics
            .lines()
            .find_map(|l| l.strip_prefix("floodgate_orders_total{outcome=\"unknown\"} "));
        line.expect("the counter").to_owned()
    };
    assert_eq!(n_unknown(), "0");
    assert_eq!(engine.buy("ana", "k", ONE).code(), (503, "OUTCOME_UNKNOWN"));
    assert_eq!(n_unknown(), "1");
    // The key knows in the end, and it is one order.
    while engine.buy("ana", "k", ONE).status != 200 {}
    assert_eq!(engine.remaining("tea"), 8);
    assert_eq!(n_unknown(), "1");
}

#[test]
fn the_wait_in_line_is_not_taken_from_the_time_for_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale(
        "tea",
        9,
        1,
        "admission = { rate = 1, burst = 1, queueMax = 10, waitMs = 60000 }\n[limits]\nanswer_ms = 4000\n",
    );
    let engine = Engine::start(&folder, &config);
    thread::scope(|scope| {
        // The last of them stands there for five seconds.
        let buyers: Vec<_> = ["ana", "bob", "cid", "dan", "eve", "fay"]
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

#[test]
fn a_sale_opens_though_the_operator_hung_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = "ledger-before-write=sleep(200)";
    let config = open_sale("tea", 9, 1, "");
    let engine =
        Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", slow).expect("it opens");
    let token = std::fs::read_to_string(engine.token_file()).expect("a token");
    let sale = r#"{"id":"late","name":"l","startsAt":"2020-01-01T00:00:00Z","endsAt":"2099-01-01T00:00:00Z","unitsPerUser":1,"skus":[{"id":"unit","name":"u","priceCent":1,"currency":"EUR","units":9}]}"#;
    let mut line = TcpStream::connect(&engine.admin).expect("connect");
    write!(
        line,
        "POST /admin/v1/sales HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{sale}",
        token.trim(),
        sale.len()
    )
    .expect("sent");
    // The commit is on its way when this is answered; then the line is cut.
    engine.differences();
    drop(line);
    // One after the other: a second creation hears what became of the first.
    let again = engine.admin("POST", "/admin/v1/sales", sale);
    assert_eq!(again.status, 200, "{again:?}");
}

#[test]
fn who_stood_in_line_when_the_sale_ended_gets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale(
        "tea",
        9,
        1,
        "admission = { rate = 1, burst = 1, queueMax = 10, waitMs = 60000 }\n",
    );
    let engine = Engine::start(&folder, &config);
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    thread::scope(|scope| {
        let buyers: Vec<_> = ["bob", "cid", "dan"]
            .map(|user| {
                let engine = &engine;
                scope.spawn(move || engine.buy(user, "k", ONE))
            })
            .into();
        // All three stand there, or the first has left and two do.
        while !call(&engine.admin, "GET", "/metrics", &[], "")
            .body
            .contains("floodgate_waiting{sale=\"tea\"} 3")
            && !buyers.iter().any(thread::ScopedJoinHandle::is_finished)
        {
            assert_eq!(engine.differences(), 0);
        }
        let ended = engine.admin("POST", "/admin/v1/sales/tea/end", "");
        assert_eq!(ended.status, 200);
        let answers = buyers.into_iter().map(|b| b.join().expect("no panic"));
        let n_refused = answers.filter(|a| a.code() == (409, "SALE_ENDED")).count();
        assert!(n_refused >= 1, "{n_refused} of three were refused");
    });
}
