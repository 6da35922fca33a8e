//! A disk that is nearly full: nobody new buys, everybody else is served. One that fails:
//! the engine ends, and everything that was told is there at the next start.

mod common;

use common::{Engine, open_sale};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

#[test]
fn below_the_low_water_mark_nothing_is_sold_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |mb: u32| {
        let mark = format!("[ledger]\nlow_water_mb = {mb}\n");
        Engine::start(&folder, &open_sale("tea", 10, 1, &mark))
    };
    let engine = start(0);
    let won = engine.buy("ana", "k", ONE);
    assert_eq!(won.status, 201);
    let id = won.json["orderId"].as_str().expect("an id").to_owned();
    assert!(engine.stop());

    // No disk has a petabyte free.
    let engine = start(1_000_000_000);
    let no = engine.buy("bob", "k", ONE);
    assert_eq!(no.code(), (503, "NOT_READY"), "{no:?}");
    assert!(
        no.json["detail"]
            .as_str()
            .is_some_and(|d| d.contains("disk")),
        "{no:?}"
    );
    assert!(no.header("retry-after").is_some(), "{no:?}");
    let ready = engine.admin("GET", "/readyz?verbose", "");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("\ndisk: low"), "{}", ready.body);
    let metrics = engine.admin("GET", "/metrics", "").body;
    let free = metrics
        .lines()
        .find_map(|line| line.strip_prefix("floodgate_disk_free_bytes "))
        .and_then(|n| n.parse::<f64>().ok());
    assert!(free.is_some_and(|n| n > 0.0), "{free:?}");

    // The one who won finds the order, by key and by id, and may give it back.
    let replay = engine.buy("ana", "k", ONE);
    assert_eq!(
        (replay.status, &replay.json["orderId"]),
        (200, &won.json["orderId"])
    );
    assert_eq!(engine.get("ana", &format!("/v1/orders/{id}")).status, 200);
    assert_eq!(engine.remaining("tea"), 9, "bob's \"no\" set nothing aside");
    assert_eq!(
        engine
            .post("ana", &format!("/v1/orders/{id}/cancel"))
            .status,
        200
    );
    assert!(engine.stop());

    let engine = start(0);
    assert_eq!(engine.admin("GET", "/readyz", "").status, 200);
    assert_eq!(
        engine.buy("bob", "k", ONE).status,
        201,
        "the same key, with room"
    );
    assert_eq!(engine.differences(), 0);
}

#[test]
fn a_disk_that_takes_no_more_ends_the_engine_and_nothing_told_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 100_000, 1, "");
    // No file grows beyond this; without the trap the kernel would kill the process.
    let engine = Engine::start_under(&folder, &config, "trap '' XFSZ && ulimit -f 512");
    let engine = engine.expect("it opens");
    let buy = |engine: &Engine, n: u32| engine.try_buy(&format!("buyer-{n}"), "k", ONE);
    let mut told = Vec::new();
    for n in 0..100_000 {
        match buy(&engine, n) {
            Some(won) if won.status == 201 => told.push(won.json["orderId"].clone()),
            Some(_) | None => break,
        }
    }
    assert!(told.len() > 100, "{} were told", told.len());
    assert_eq!(engine.ended(), Some(1));
    let log = std::fs::read_to_string(folder.path().join("engine.log")).expect("a log");
    assert!(log.contains("the ledger is shut"), "{log}");

    let engine = Engine::start(&folder, &config);
    for (n, id) in (0..).zip(&told) {
        let again = buy(&engine, n).expect("an answer");
        assert_eq!((again.status, &again.json["orderId"]), (200, id));
    }
    assert_eq!(engine.differences(), 0);
}
