//! Clients who take their time: each hears what is documented, or nothing, and none of
//! them keeps a buyer from buying. Every wait is for an answer or an end, never for
//! a clock; the limits are short so that this does not take long.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use common::{Answer, Engine, call, open_sale, parsed};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

fn tea(http: &str) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 1_000, 1, &format!("[http]\n{http}"));
    let engine = Engine::start(&folder, &config);
    (folder, engine)
}

/// An open line to the engine, with more patience than the engine has.
fn line(engine: &Engine) -> TcpStream {
    let line = TcpStream::connect(&engine.public).expect("connect");
    let patience = Some(Duration::from_secs(60));
    line.set_read_timeout(patience).expect("a timeout");
    line
}

/// Everything until the engine closes the line.
fn rest(mut line: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = line.read_to_end(&mut bytes);
    parsed(&bytes)
}

/// One byte after another until the engine has had enough.
fn trickle(engine: &Engine, start: &str, piece: &str) -> Answer {
    let line = line(engine);
    let mut sender = line.try_clone().expect("a second handle");
    sender.write_all(start.as_bytes()).expect("sent");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Ends when the line is closed: a broken pipe, or an end to the reading side.
            while sender.write_all(piece.as_bytes()).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        rest(line)
    })
}

/// A client sees its line closed a moment before the engine has counted that.
fn becomes(engine: &Engine, name: &str, n: u64) -> bool {
    (0..1_000).any(|_| metric(engine, name) == n)
}

fn metric(engine: &Engine, name: &str) -> u64 {
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let found = metrics
        .lines()
        .find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("{name} in {metrics}"))
}

const HEAD: &str = "POST /v1/orders HTTP/1.1\r\nhost: x\r\nx-user-id: ana\r\n\
                    idempotency-key: k\r\ncontent-type: application/json\r\n";

#[test]
fn a_head_that_never_ends_is_ended_with_408() {
    let (_folder, engine) = tea("header_ms = 300");
    let answer = trickle(&engine, HEAD, "x");
    assert_eq!(answer.status, 408, "{answer:?}");
    let late = "floodgate_connections_late_total{listener=\"public\",waited_for=\"head\"}";
    assert!(becomes(&engine, late, 1));
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
}

#[test]
fn a_body_that_never_ends_is_ended_with_408_and_buys_nothing() {
    let (_folder, engine) = tea("body_ms = 300");
    let announced = format!("{HEAD}content-length: {}\r\n\r\n", ONE.len() + 4_000);
    let answer = trickle(&engine, &(announced + ONE), " ");
    assert_eq!(answer.code(), (408, "REQUEST_TIMEOUT"), "{answer:?}");
    let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
    let answer = trickle(&engine, &chunked, "1\r\n{\r\n");
    assert_eq!(answer.code(), (408, "REQUEST_TIMEOUT"), "{answer:?}");
    assert_eq!(engine.remaining("tea"), 1_000);
}

#[test]
fn what_comes_behind_the_announced_body_is_no_part_of_it() {
    let (_folder, engine) = tea("");
    let mut line = line(&engine);
    let more = format!(
        "{HEAD}content-length: {}\r\n\r\n{ONE}}}}}\r\n\r\n",
        ONE.len()
    );
    line.write_all(more.as_bytes()).expect("sent");
    let answer = rest(line);
    assert_eq!(answer.status, 201, "{answer:?}");
    // What follows is taken for a request, and is none: the line is closed.
    assert!(answer.body.contains("HTTP/1.1 400 "), "{answer:?}");
    assert_eq!(engine.remaining("tea"), 999);
}

#[test]
fn a_body_without_end_is_cut_at_its_largest_size() {
    let (_folder, engine) = tea("");
    let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
    let answer = trickle(
        &engine,
        &chunked,
        &format!("800\r\n{}\r\n", "x".repeat(2_048)),
    );
    assert_eq!(answer.code(), (413, "BODY_TOO_LARGE"), "{answer:?}");
}

#[test]
fn a_line_without_a_request_is_closed_without_a_word() {
    let (_folder, engine) = tea("idle_ms = 2000");
    assert_eq!(rest(line(&engine)).head, "");
    // Also after an answer.
    let mut used = line(&engine);
    used.write_all(b"GET /v1/sales HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("sent");
    let answer = rest(used);
    assert_eq!(answer.status, 200);
    assert!(answer.json["sales"].is_array(), "one answer: {answer:?}");
    let late = "floodgate_connections_late_total{listener=\"public\",waited_for=\"request\"}";
    assert!(becomes(&engine, late, 2));
}

#[test]
fn five_hundred_who_say_nothing_keep_no_buyer_from_buying() {
    let (_folder, engine) = tea("connections_max = 600");
    let idle: Vec<TcpStream> = (0..500).map(|_| line(&engine)).collect();
    std::thread::scope(|scope| {
        let buyers: Vec<_> = (0..200)
            .map(|n| {
                let engine = &engine;
                scope.spawn(move || engine.buy(&format!("b{n}"), "k", ONE).status)
            })
            .collect();
        for buyer in buyers {
            assert_eq!(buyer.join().expect("no panic"), 201);
        }
    });
    assert!(metric(&engine, "floodgate_connections{listener=\"public\"}") >= 500);
    drop(idle);
    assert_eq!(engine.remaining("tea"), 800);
    assert_eq!(engine.differences(), 0);
}

#[test]
fn one_address_has_its_share_of_connections_and_a_proxy_has_all() {
    let (_folder, engine) = tea("connections_per_ip_max = 3");
    let mut lines: Vec<TcpStream> = (0..3).map(|_| line(&engine)).collect();
    for held in &mut lines {
        // An answer proves that this one was let in.
        held.write_all(b"GET /v1/sales HTTP/1.1\r\nhost: x\r\n\r\n")
            .expect("sent");
        assert!(held.read(&mut [0; 4_096]).expect("an answer") > 0);
    }
    assert_eq!(rest(line(&engine)).head, "", "closed at once");
    let refused = "floodgate_connections_refused_total{listener=\"public\"}";
    assert_eq!(metric(&engine, refused), 1);
    drop(lines);

    let (_folder, engine) = tea("connections_per_ip_max = 1\ntrusted_proxies = [\"127.0.0.1\"]");
    let lines: Vec<TcpStream> = (0..9).map(|_| line(&engine)).collect();
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    drop(lines);
}

/// 400 descriptors, of which connections get 80; 300 lines stand in front.
#[test]
fn with_few_descriptors_it_sells_on_and_the_ledger_stays_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 1_000, 1, "[http]\nidle_ms = 200");
    let engine = Engine::start_under(&folder, &config, "ulimit -n 400").expect("it opens");
    let max = metric(&engine, "floodgate_connections_max{listener=\"public\"}");
    assert_eq!(max, 80, "clamped, whatever connections_max says");
    for round in 0..3 {
        let crowd: Vec<TcpStream> = (0..300).map(|_| line(&engine)).collect();
        std::thread::scope(|scope| {
            let buyers: Vec<_> = (0..50)
                .map(|n| {
                    let engine = &engine;
                    scope.spawn(move || engine.buy(&format!("b{round}-{n}"), "k", ONE).status)
                })
                .collect();
            for buyer in buyers {
                assert_eq!(buyer.join().expect("no panic"), 201);
            }
        });
        drop(crowd);
    }
    let errors = "floodgate_accept_errors_total{listener=\"public\"}";
    assert_eq!(metric(&engine, errors), 0, "it never ran out");
    assert_eq!(engine.differences(), 0);
    let log = std::fs::read_to_string(folder.path().join("engine.log")).expect("a log");
    assert!(log.contains("http.connections_max is lowered"), "{log}");
    assert!(engine.stop(), "SIGTERM ends it well");

    let again = Engine::start(&folder, &config);
    assert_eq!(again.remaining("tea"), 850);
    for round in 0..3 {
        let replay = again.buy(&format!("b{round}-49"), "k", ONE);
        assert_eq!(replay.status, 200, "{replay:?}");
    }
    assert!(again.stop());
    let verify = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["ledger", "verify", "--data-dir"])
        .arg(folder.path().join("data"))
        .output()
        .expect("it runs");
    assert!(verify.status.success(), "{verify:?}");
}

#[test]
fn with_too_few_descriptors_it_does_not_start_and_says_how_many_it_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 1, 1, "");
    let refused = Engine::start_under(&folder, &config, "ulimit -n 200")
        .err()
        .expect("refused");
    for said in ["may open 200 files", "allow 384 or more"] {
        assert!(refused.contains(said), "{refused}");
    }
    assert!(
        !folder.path().join("data/ledger").exists(),
        "nothing was opened"
    );
}
