//! HTTP itself: methods, heads that two readers could understand differently, bodies that
//! do not come, and answers that the asker has.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{Engine, call, raw};
use crate::{ONE, bearer, nothing_was_sold, plain_words, problem, tea};

#[test]
fn a_path_tells_the_methods_it_knows() {
    let (_folder, engine) = tea(10, 10);
    for (method, path, allow) in [
        ("GET", "/v1/orders", "POST, OPTIONS"),
        ("DELETE", "/v1/orders", "POST, OPTIONS"),
        ("POST", "/v1/sales", "GET, HEAD, OPTIONS"),
        ("PUT", "/v1/orders/x", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        // A word of ours is no order id.
        ("GET", "/v1/orders/preview", "POST, OPTIONS"),
        ("HEAD", "/v1/orders/preview", "POST, OPTIONS"),
        ("DELETE", "/v1/orders/preview", "POST, OPTIONS"),
    ] {
        let answer = call(&engine.public, method, path, &[("x-user-id", "ana")], "");
        assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("allow"), Some(allow));
        if method != "HEAD" {
            problem(&answer, 405, "METHOD_NOT_ALLOWED");
        }
    }
    for (path, allow) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/v1/sales/tea", "GET, HEAD, OPTIONS"),
        ("/v1/orders", "POST, OPTIONS"),
        ("/v1/orders/preview", "POST, OPTIONS"),
        ("/v1/orders/x", "GET, HEAD, OPTIONS"),
        ("/v1/orders/x/cancel", "POST, OPTIONS"),
    ] {
        let answer = call(&engine.public, "OPTIONS", path, &[], "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (204, Some(allow)),
            "{path}"
        );
    }
    problem(
        &call(&engine.public, "OPTIONS", "/v2", &[], ""),
        404,
        "NOT_FOUND",
    );
    problem(&engine.get("ana", "/v2"), 404, "NOT_FOUND");
    problem(&engine.get("ana", "/v1/orders/not-an-id"), 404, "NOT_FOUND");
    nothing_was_sold(&engine);
}

#[test]
fn a_head_that_is_read_in_two_ways_or_too_long_is_no_request() {
    let (_folder, engine) = tea(10, 10);
    // Requests that two readers could understand differently are not requests.
    let (n, chunked) = (ONE.len(), format!("{:x}\r\n{ONE}\r\n0\r\n\r\n", ONE.len()));
    let smuggled = [
        format!("transfer-encoding: gzip, chunked\r\n\r\n{chunked}"),
        format!("transfer-encoding: foo\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        format!("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        format!("transfer-encoding: chunked, identity\r\n\r\n{chunked}"),
        format!(
            "content-length: {n}\r\ncontent-length: {}\r\n\r\n{ONE}",
            n + 1
        ),
        format!("content-length: {n}, {}\r\n\r\n{ONE}", n + 1),
        format!("content-length: +{n}\r\n\r\n{ONE}"),
    ];
    let [(_, buy), _] = heads(&engine);
    let ask = |rest: &str| raw(&engine.public, format!("{buy}{rest}").as_bytes());
    for rest in &smuggled {
        let answer = ask(rest);
        assert!(matches!(answer.status, 0 | 400), "{rest:?}: {answer:?}");
    }
    let bomb = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-bomb: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let answer = raw(&engine.public, bomb.as_bytes());
    assert!(matches!(answer.status, 0 | 431), "{answer:?}");
    nothing_was_sold(&engine);
    let well = ask(&format!("transfer-encoding: chunked\r\n\r\n{chunked}"));
    assert_eq!(well.status, 201, "{well:?}");
}

/// One of the two counts, and nobody is served behind it: what one reader takes for the
/// rest of the body is another one's next request.
#[test]
fn two_lengths_of_one_body_end_the_line() {
    let (_folder, engine) = tea(10, 10);
    let [(at, buy), _] = heads(&engine);
    let open = |key: &str| {
        let head = buy.replace("connection: close\r\n", "");
        head.replace("idempotency-key: k", &format!("idempotency-key: {key}"))
    };
    let n = ONE.len();
    let chunked = format!("{n:x}\r\n{ONE}\r\n0\r\n\r\n");
    let (length, coding) = (format!("content-length: {n}"), "transfer-encoding: chunked");
    for [first, second] in [[&*length, coding], [coding, &*length]] {
        let body = format!("{first}\r\n{second}\r\n\r\n{chunked}");
        let next = format!("{}content-length: {n}\r\n\r\n{ONE}", open("smuggled"));
        let mut line = TcpStream::connect(&at).expect("connect");
        let sent = format!("{}{body}{next}", open("k"));
        line.write_all(sent.as_bytes()).expect("write");
        let mut heard = String::new();
        line.read_to_string(&mut heard).expect("until it ends");
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
    }
    assert_eq!(engine.remaining("tea"), 9, "the first, and no other");
}

/// The heads of a purchase and of a new sale, up to what says how long the body is.
fn heads(engine: &Engine) -> [(String, String); 2] {
    let json = "content-type: application/json\r\nhost: x\r\nconnection: close\r\n";
    let buy = format!("POST /v1/orders HTTP/1.1\r\n{json}x-user-id: ana\r\nidempotency-key: k\r\n");
    let sale = format!(
        "POST /admin/v1/sales HTTP/1.1\r\n{json}authorization: {}\r\n",
        bearer(engine)
    );
    [(engine.public.clone(), buy), (engine.admin.clone(), sale)]
}

#[test]
fn a_body_that_announces_too_much_is_not_waited_for() {
    let (_folder, engine) = tea(1, 1);
    for ((at, head), length) in heads(&engine).into_iter().zip([8_193, 5_000_000]) {
        let began = Instant::now();
        let answer = raw(
            &at,
            format!("{head}content-length: {length}\r\n\r\n").as_bytes(),
        );
        problem(&answer, 413, "BODY_TOO_LARGE");
        // The body would be waited for 5 s and 10 s.
        assert!(began.elapsed() < Duration::from_secs(4), "{answer:?}");
    }
}

#[test]
fn a_body_that_breaks_off_is_malformed_on_both_listeners() {
    let (_folder, engine) = tea(1, 1);
    for (at, head) in heads(&engine) {
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n");
        problem(&raw(&at, chunked.as_bytes()), 400, "MALFORMED_BODY");
    }
    for (at, head) in heads(&engine) {
        let mut line = TcpStream::connect(&at).expect("connect");
        let half = format!("{head}content-length: 100\r\n\r\n{{\"saleId\":");
        line.write_all(half.as_bytes()).expect("write");
        line.shutdown(Shutdown::Write).expect("hang up");
        let mut text = String::new();
        line.read_to_string(&mut text).expect("an answer");
        assert!(
            text.starts_with("HTTP/1.1 400 ") && text.contains("MALFORMED_BODY"),
            "{text:?}"
        );
    }
}

#[test]
fn a_request_names_its_host_once() {
    let (_folder, engine) = tea(1, 1);
    for at in [&engine.public, &engine.admin] {
        for (head, status) in [
            ("HTTP/1.1\r\nconnection: close\r\n", 400),
            (
                "HTTP/1.1\r\nhost: a\r\nhost: a\r\nconnection: close\r\n",
                400,
            ),
            ("HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400),
            ("HTTP/1.0\r\n", 404),
            ("HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", 404),
        ] {
            let answer = raw(at, format!("GET /none {head}\r\n").as_bytes());
            assert_eq!(answer.status, status, "{head:?}: {answer:?}");
            if status == 400 {
                problem(&answer, 400, "INVALID_FIELD");
                assert!(plain_words(&answer).contains("Host"), "{answer:?}");
            }
        }
    }
}

#[test]
fn an_answer_that_the_asker_has_is_not_sent_again() {
    let (_folder, engine) = tea(1, 1);
    for path in ["/v1/sales/tea", "/v1/sales", "/"] {
        let tag = engine
            .get("ana", path)
            .header("etag")
            .expect("a tag")
            .to_owned();
        let asked =
            |value: &str| call(&engine.public, "GET", path, &[("if-none-match", value)], "").status;
        for same in [
            tag.clone(),
            format!("W/{tag}"),
            "*".to_owned(),
            format!("\"x\", {tag}"),
            format!("\"x\" ,W/{tag},\"y\""),
        ] {
            assert_eq!(asked(&same), 304, "{path}: {same}");
        }
        for other in ["\"x\"", "W/\"x\", \"y\"", "", "x", tag.trim_matches('"')] {
            assert_eq!(asked(other), 200, "{path}: {other}");
        }
        let twice = [("if-none-match", "\"x\""), ("if-none-match", tag.as_str())];
        assert_eq!(
            call(&engine.public, "GET", path, &twice, "").status,
            304,
            "{path}"
        );
    }
}
