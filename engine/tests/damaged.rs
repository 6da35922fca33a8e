//! A table file that rots, whichever it is: the engine finds it and ends, no later start
//! sells on it, and a recovery brings back every order that buyers were told of.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Engine, open_sale, recover};
use serde_json::Value;

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
const BUYERS: usize = 20;

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(done.expect("cp runs").success());
}

fn table_files(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("ledger/db")).expect("tables");
    let paths = files.map(|file| file.expect("an entry").path());
    let mut tables: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    tables.sort();
    tables
}

fn order_of(engine: &Engine, buyer: usize, status: u16) -> Value {
    let answer = engine.buy(&format!("buyer-{buyer}"), "k", ONE);
    assert_eq!(answer.status, status, "{}", answer.body);
    answer.json["orderId"].clone()
}

#[track_caller]
fn until_stored(engine: &Engine) {
    for _ in 0..10_000 {
        let pass = engine.admin("POST", "/admin/v1/reconcile", "").json;
        let sale = &pass["sales"][0];
        if sale["storeCompared"] == true && sale["storeLagRecords"] == 0 {
            assert_eq!(pass["differences"], 0, "{pass}");
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("the order store never had everything");
}

/// Refused with the way out named; nothing is sold.
#[track_caller]
fn is_refused(folder: &tempfile::TempDir, config: &str) {
    let any = "127.0.0.1:0";
    let said = Engine::start_on(folder, config, any, any, "").err();
    let said = said.expect("nobody buys on a damaged ledger");
    assert!(said.contains("damaged"), "{said}");
    assert!(said.contains("floodgate recover"), "{said}");
}

/// At the start, or by who reads the ledger back after it; then the engine ends.
#[track_caller]
fn is_found(folder: &tempfile::TempDir, config: &str) {
    let any = "127.0.0.1:0";
    if let Ok(engine) = Engine::start_on(folder, config, any, any, "") {
        assert_eq!(engine.ended(), Some(1), "it found nothing");
    }
}

#[test]
fn a_table_that_rots_is_sold_on_by_nobody_and_recovered_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 50, 1, "");
    let engine = Engine::start(&folder, &config);
    let orders: Vec<Value> = (0..BUYERS).map(|n| order_of(&engine, n, 201)).collect();
    until_stored(&engine);
    let data = engine.data.clone();
    assert!(engine.stop());
    let whole = folder.path().join("whole");
    copy(&data, &whole);

    let n_tables = table_files(&data).len();
    assert!(n_tables >= 4, "{n_tables} tables");
    let mut by_ledger = 0;
    for no in 0..n_tables {
        // The second time the ledger is alone: its records and its entities say the same.
        for alone in [false, true] {
            std::fs::remove_dir_all(&data).expect("removed");
            copy(&whole, &data);
            let table = table_files(&data).swap_remove(no);
            let said = format!("{}, alone: {alone}", table.display());
            println!("{said}");
            let mut bytes = std::fs::read(&table).expect("a table");
            bytes[10] ^= 1;
            std::fs::write(&table, bytes).expect("spoiled");
            if alone {
                std::fs::remove_file(data.join("orders.sqlite")).expect("removed");
            }
            is_found(&folder, &config);
            is_refused(&folder, &config);
            let report = recover(folder.path());
            assert_eq!(report["recovered"], true, "{said}: {report}");
            if alone && report["ledgerBefore"].is_null() {
                // Who it is and how far it came stood in this one: it cannot be read at all.
                continue;
            }
            by_ledger += usize::from(alone);
            let engine = Engine::start(&folder, &config);
            let resumed = engine.admin("POST", "/admin/v1/sales/tea/resume", "");
            assert_eq!(resumed.status, 200, "{}", resumed.body);
            for (n, order) in orders.iter().enumerate() {
                assert_eq!(order_of(&engine, n, 200), *order, "{said}");
            }
            assert_eq!(engine.remaining("tea"), 50 - BUYERS as u64, "{said}");
            until_stored(&engine);
            assert!(engine.stop());
        }
    }
    assert!(by_ledger >= 3, "{by_ledger} of them by the ledger alone");
}

/// RocksDB's own list of files.
#[test]
fn a_list_of_tables_that_is_gone_is_a_damage_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 50, 1, "");
    let engine = Engine::start(&folder, &config);
    let order = order_of(&engine, 0, 201);
    until_stored(&engine);
    let data = engine.data.clone();
    assert!(engine.stop());
    for file in std::fs::read_dir(data.join("ledger/db")).expect("tables") {
        let path = file.expect("an entry").path();
        if path.to_string_lossy().contains("MANIFEST") {
            std::fs::remove_file(path).expect("removed");
        }
    }
    is_refused(&folder, &config);
    assert_eq!(recover(folder.path())["recovered"], true);
    let engine = Engine::start(&folder, &config);
    assert_eq!(order_of(&engine, 0, 200), order);
}

/// The disk was full, say, when the reason was to be written down.
#[test]
fn a_finding_without_a_reason_is_told_as_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 50, 1, "");
    let engine = Engine::start(&folder, &config);
    let data = engine.data.clone();
    assert!(engine.stop());
    std::fs::write(data.join("ledger/damage"), "").expect("written");
    is_refused(&folder, &config);
}
