//! Dead letters of a running engine: told, counted, told apart from drift, and
//! brought into the order store from the outside once it takes them.

mod common;

use std::process::{Command, Output};

use common::{Engine, call, open_sale};
use serde_json::{Value, json};

const LETTERS: &str = "/admin/v1/dead-letters";

fn buy(engine: &Engine, user: &str) -> String {
    let one = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
    let won = engine.buy(user, "k", one);
    assert_eq!(won.status, 201, "{}", won.body);
    won.json["orderId"].as_str().expect("an id").to_owned()
}

/// Looks again and again until the order store has everything but these letters.
fn until_even(engine: &Engine, n_letters: usize) {
    let seq = |from| {
        let path = format!("/admin/v1/sales/tea/orders?limit=1&from={from}");
        engine.admin("GET", &path, "").json["seq"].clone()
    };
    let even = (0..5_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        seq("ledger") == seq("store")
    });
    assert!(even, "the store never had everything");
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let line = format!("floodgate_dead_letters {n_letters}");
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}

/// A trigger that refuses these buyers, as a constraint added in a hurry would.
fn refuse(engine: &Engine, buyers: &str, why: &str) {
    meddle(
        engine,
        &format!(
            "DROP TRIGGER IF EXISTS poison;
             CREATE TRIGGER poison BEFORE INSERT ON orders WHEN NEW.user_id IN ({buyers})
             BEGIN SELECT RAISE(ABORT, '{why}'); END"
        ),
    );
}

fn meddle(engine: &Engine, sql: &str) {
    let db = rusqlite::Connection::open(engine.data.join("orders.sqlite")).expect("the store");
    db.busy_timeout(std::time::Duration::from_secs(5))
        .expect("a timeout");
    db.execute_batch(sql).expect("meddling works");
}

fn command(engine: &Engine, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
    command
        .arg("dead-letters")
        .args(args)
        .arg("--data-dir")
        .arg(&engine.data)
        .env("FLOODGATE_ADMIN_LISTEN", &engine.admin)
        .env_remove("FLOODGATE_ADMIN_TOKEN");
    command
}

fn floodgate(engine: &Engine, args: &[&str]) -> Output {
    command(engine, args).output().expect("floodgate runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn dead_letters_are_told_and_replayed_through_the_admin_api() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 10, 1, ""));
    buy(&engine, "ana");
    until_even(&engine, 0);
    assert_eq!(
        engine.admin("GET", LETTERS, "").json["deadLetters"],
        json!([])
    );

    refuse(&engine, "'bob', 'cid'", "no bobs");
    // One after the other: each is alone in its batch, or ana's friend is with it.
    let bob = buy(&engine, "bob");
    until_even(&engine, 1);
    let cid = buy(&engine, "cid");
    until_even(&engine, 2);
    buy(&engine, "dan");
    until_even(&engine, 2);

    let list = engine.admin("GET", LETTERS, "");
    assert_eq!(list.status, 200);
    let letters = list.json["deadLetters"].as_array().expect("a list").clone();
    let ids: Vec<&Value> = letters.iter().map(|l| &l["orderId"]).collect();
    assert_eq!(ids, [&json!(bob), &json!(cid)]);
    assert_eq!(letters[0]["saleId"], "tea");
    assert_eq!(letters[0]["why"], "no bobs");
    assert!(
        letters[0]["at"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z'))
    );
    let first = engine.admin("GET", &format!("{LETTERS}?limit=1"), "").json;
    assert_eq!(first["deadLetters"], json!([letters[0]]));
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    let rest = engine.admin("GET", &format!("{LETTERS}?limit=9&cursor={cursor}"), "");
    assert_eq!(rest.json["deadLetters"], json!([letters[1]]));
    assert_eq!(rest.json["nextCursor"], Value::Null);
    let ready = call(&engine.admin, "GET", "/readyz?verbose", &[], "");
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("dead letters: 2"), "{}", ready.body);

    // No drift, but no success either; and selling goes on.
    let pass = engine.admin("POST", "/admin/v1/reconcile", "").json;
    assert_eq!(pass["differences"], 1, "{pass}");
    assert!(
        pass["detail"][0]
            .as_str()
            .is_some_and(|d| d.starts_with("dead_letter: 2 "))
    );
    let sale = &pass["sales"][0];
    assert_eq!(
        (&sale["storeCompared"], &sale["deadLetters"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(sale["skus"][0]["driftLedgerStore"], 0, "{pass}");
    buy(&engine, "eve");
    until_even(&engine, 2);

    // Replayed too early: the letter stays, with the new reason.
    refuse(&engine, "'bob', 'cid'", "still no bobs");
    let seq = &letters[0]["seq"];
    let again = engine.admin("POST", &format!("{LETTERS}/{seq}/replay"), "");
    assert_eq!(again.code(), (409, "STILL_REFUSED"), "{}", again.body);
    let list = engine.admin("GET", LETTERS, "").json;
    assert_eq!(list["deadLetters"][0]["why"], "still no bobs");
    assert_eq!(list["deadLetters"][0]["at"], letters[0]["at"]);
    assert_eq!(list["deadLetters"][1]["why"], "no bobs");

    refuse(&engine, "'cid'", "no cids");
    let taken = engine.admin("POST", &format!("{LETTERS}/{seq}/replay"), "");
    assert_eq!(
        (taken.status, &taken.json),
        (200, &json!({"replayed": seq}))
    );
    let again = engine.admin("POST", &format!("{LETTERS}/{seq}/replay"), "");
    assert_eq!(again.code(), (404, "NOT_FOUND"));
    let all = engine.admin("POST", &format!("{LETTERS}/replay"), "").json;
    assert_eq!(all["replayed"], json!([]));
    assert_eq!(all["refused"][0]["why"], "no cids");
    until_even(&engine, 1);

    meddle(&engine, "DROP TRIGGER poison");
    let all = engine.admin("POST", &format!("{LETTERS}/replay"), "").json;
    assert_eq!(all["replayed"], json!([letters[1]["seq"]]));
    assert_eq!(
        (&all["refused"], &all["nextCursor"]),
        (&json!([]), &Value::Null)
    );
    until_even(&engine, 0);
    assert_eq!(engine.differences(), 0);
    let path = |from| format!("/admin/v1/sales/tea/orders?from={from}");
    let ids = |from| -> Vec<Value> {
        let page = engine.admin("GET", &path(from), "").json;
        let orders = page["orders"].as_array().expect("orders");
        orders.iter().map(|o| o["orderId"].clone()).collect()
    };
    assert_eq!(ids("store"), ids("ledger"));
    assert_eq!(ids("store").len(), 5);
}

#[test]
fn the_call_is_for_people_with_the_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 1, 1, ""));
    let replay = format!("{LETTERS}/replay");
    for (method, path) in [("GET", LETTERS), ("POST", &replay)] {
        assert_eq!(call(&engine.admin, method, path, &[], "").status, 401);
        let public = call(&engine.public, method, path, &[], "");
        assert_eq!(public.code(), (404, "NOT_FOUND"));
    }
    let asked = |method, path: &str| engine.admin(method, path, "");
    for seq in [
        "7",
        "0",
        "-1",
        "x",
        "18446744073709551615",
        "99999999999999999999",
    ] {
        let missing = asked("POST", &format!("{LETTERS}/{seq}/replay"));
        assert_eq!(missing.code(), (404, "NOT_FOUND"), "{seq}");
    }
    assert_eq!(asked("POST", LETTERS).header("allow"), Some("GET, HEAD"));
    assert_eq!(asked("GET", &replay).header("allow"), Some("POST"));
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=-1"] {
        let refused = asked("GET", &format!("{LETTERS}?{query}"));
        assert_eq!(refused.code(), (400, "INVALID_FIELD"), "{query}");
    }
    let end = asked("GET", &format!("{LETTERS}?cursor=18446744073709551615"));
    assert_eq!((end.status, &end.json["deadLetters"]), (200, &json!([])));
}

#[test]
fn the_command_line_lists_and_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 10, 1, ""));
    refuse(&engine, "'bob', 'cid'", "no\nbobs");
    let bob = buy(&engine, "bob");
    until_even(&engine, 1);
    let cid = buy(&engine, "cid");
    until_even(&engine, 2);

    let list = floodgate(&engine, &["list"]);
    assert!(list.status.success(), "{list:?}");
    let text = said(&list);
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert_eq!(rows[0][2..], ["tea", &bob, "no bobs"]);
    assert_eq!(rows[1][2..], ["tea", &cid, "no bobs"]);

    // Whoever reads the list may have seen enough, and stopped.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let unread = command(&engine, &["list"]).stdout(writer).status();
    assert!(unread.expect("floodgate runs").success());

    let refused = floodgate(&engine, &["replay", rows[0][0]]);
    assert!(!refused.status.success());
    assert_eq!(
        said(&refused),
        format!("{}\trefused\tno bobs\n", rows[0][0])
    );
    let refused = floodgate(&engine, &["replay", "--all"]);
    assert!(!refused.status.success());
    assert_eq!(said(&refused).lines().count(), 2);

    meddle(&engine, "DROP TRIGGER poison");
    let one = floodgate(&engine, &["replay", rows[1][0]]);
    assert!(one.status.success(), "{one:?}");
    let missing = floodgate(&engine, &["replay", rows[1][0]]);
    let why = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        !missing.status.success() && why.contains("NOT_FOUND"),
        "{why}"
    );
    // One that is not there keeps nobody from the next one.
    let both = floodgate(&engine, &["replay", rows[1][0], rows[0][0]]);
    assert!(!both.status.success(), "{both:?}");
    let [unknown, known] = [rows[1][0], rows[0][0]];
    assert_eq!(
        said(&both),
        format!("{unknown}\tunknown\n{known}\treplayed\n")
    );
    let all = floodgate(&engine, &["replay", "--all"]);
    assert!(all.status.success(), "{all:?}");
    assert_eq!(said(&all), "");
    assert_eq!(said(&floodgate(&engine, &["list"])), "");
    until_even(&engine, 0);
    assert_eq!(engine.differences(), 0);

    // Neither everything nor something; and a token that is not the engine's.
    assert!(!floodgate(&engine, &["replay"]).status.success());
    assert!(
        !floodgate(&engine, &["replay", "--all", "1"])
            .status
            .success()
    );
    let other = folder.path().join("token");
    std::fs::write(&other, "not-the-token-of-this-engine\n").expect("written");
    let other = other.display().to_string();
    let shut = floodgate(&engine, &["list", "--admin-token-file", &other]);
    let why = String::from_utf8_lossy(&shut.stderr).into_owned();
    assert!(
        !shut.status.success() && why.contains("UNAUTHENTICATED"),
        "{why}"
    );
    assert!(!why.contains("not-the-token"), "{why}");
}

#[test]
fn a_kill_between_letter_and_mark_loses_nothing_and_repeats_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 10, 1, "");
    let free = "127.0.0.1:0";
    let stuck = "stream-letters-buried=sleep(60000)";
    let engine = Engine::start_on(&folder, &config, free, free, stuck).expect("it starts");
    refuse(&engine, "'bob'", "no bobs");
    let bob = buy(&engine, "bob");
    let buried = (0..5_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        let list = engine.admin("GET", LETTERS, "").json;
        list["deadLetters"][0]["orderId"] == bob
    });
    assert!(buried, "the letter is on disk");
    buy(&engine, "cid");
    let before = engine.admin("GET", LETTERS, "").json;
    let db = rusqlite::Connection::open(engine.data.join("orders.sqlite")).expect("the store");
    let there: i64 = db
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(there, 0);
    engine.kill();

    let engine = Engine::start(&folder, &config);
    until_even(&engine, 1);
    assert_eq!(engine.admin("GET", LETTERS, "").json, before);
    meddle(&engine, "DROP TRIGGER poison");
    let all = engine.admin("POST", &format!("{LETTERS}/replay"), "").json;
    assert_eq!(all["replayed"].as_array().map(Vec::len), Some(1));
    until_even(&engine, 0);
    assert_eq!(engine.differences(), 0);
}
