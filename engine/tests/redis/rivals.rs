//! Two engines on one Redis: whoever comes later has the buckets, and the other one ends
//! instead of selling the same units.

use std::path::Path;
use std::process::Command;

use crate::common::{Engine, open_sale, redis};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
const UNITS: usize = 10;

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(done.expect("cp runs").success());
}

fn n_won(engine: &Engine, buyers: &str) -> usize {
    let won = |n: &usize| {
        let answer = engine.try_buy(&format!("{buyers}-{n}"), "k", ONE);
        answer.is_some_and(|answer| answer.status == 201)
    };
    (0..2 * UNITS).filter(won).count()
}

#[test]
fn an_engine_on_a_copy_of_the_ledger_ends_the_one_before() {
    let Some(server) = redis::start() else { return };
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let config = open_sale("tea", UNITS as u32, 1, &server.toml());
    let first = Engine::start(&here, &config);
    assert!(first.stop(), "SIGTERM ends it well");
    copy(&here.path().join("data"), &there.path().join("data"));

    let first = Engine::start(&here, &config);
    assert_eq!(first.buy("ana", "k", ONE).status, 201);
    // The copy knows nothing of ana's order, but the bucket does.
    let second = Engine::start(&there, &config);
    assert_eq!(n_won(&first, "late"), 0, "its bucket was taken");
    assert_eq!(first.ended(), Some(1));
    let log = std::fs::read_to_string(here.path().join("engine.log")).expect("a log");
    assert!(log.contains("is another engine's by now"), "{log}");
    assert_eq!(n_won(&second, "new"), UNITS - 1);
    assert_eq!(second.differences(), 0);
    assert!(second.stop(), "SIGTERM ends it well");
}
