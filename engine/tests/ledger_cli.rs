//! `floodgate ledger …` tells what stands in a ledger: of a running engine, of a
//! stopped one, and of one that was damaged.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Engine, open_sale};
use floodgate_ledger::{
    Device, DeviceError, Draft, Group, Kind, Ledger, LedgerConfig, RocksDevice, Seq, Table, Write,
};
use serde_json::Value;

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

fn ledger(data: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .arg("ledger")
        .args(args)
        .arg("--data-dir")
        .arg(data)
        .output()
        .expect("it runs")
}

/// What a look that must go well says.
#[track_caller]
fn told(data: &Path, args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = ledger(data, args);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

/// What a look that must fail says, before and about its end.
#[track_caller]
fn refused(data: &Path, args: &[&str]) -> (String, String) {
    let output = ledger(data, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

fn lines(text: &str) -> Vec<Value> {
    let one = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(one).collect()
}

#[test]
fn a_running_and_a_stopped_ledger_are_told_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 10, 1, ""));
    let data = engine.data.clone();
    let won = engine.buy("ana", "k", ONE);
    let id = won.json["orderId"].as_str().expect("won").to_owned();
    let path = format!("/v1/orders/{id}/cancel");
    assert_eq!(engine.post("ana", &path).status, 200);
    assert_eq!(engine.buy("bob", "k", ONE).status, 201);

    let check = || {
        let all = lines(&told(&data, &["dump"]));
        let n = all.len();
        let said = told(&data, &["verify"]);
        assert!(
            said.contains(&format!(": {n} records after 0, tip {n} ")),
            "{said}"
        );
        assert!(
            said.trim_end()
                .ends_with(all[n - 1]["hash"].as_str().expect("a hash"))
        );
        let stat = told(&data, &["stat"]);
        for line in [
            "format: 1".to_owned(),
            "order: 2, live 1".to_owned(),
            "sale: 1, live 1".to_owned(),
            "payment: 0, live 0".to_owned(),
        ] {
            assert!(stat.lines().any(|l| l == line), "{line} is missing: {stat}");
        }
        assert!(stat.contains(&format!("\ntip: {n} ")), "{stat}");

        let orders: Vec<&Value> = all.iter().filter(|r| r["kind"] == "order").collect();
        assert_eq!(orders.len(), 3, "{all:?}");
        assert_eq!(orders[0]["id"], id.as_str());
        assert_eq!(orders[0]["owner"], "ana");
        assert_eq!(orders[0]["body"]["state"], "PENDING_PAYMENT");
        assert_eq!(orders[1]["body"]["closedReason"], "canceled");
        assert!(all.iter().all(|r| r["body"].is_object()), "{all:?}");

        let part = lines(&told(&data, &["dump", "--from", "2", "--limit", "2"]));
        assert_eq!(part, all[1..3]);
        all
    };
    let running = check();
    assert!(engine.stop());
    assert_eq!(check(), running);
}

/// Writes what it is told, but the third record with another byte in its hash's reach.
struct Liar(RocksDevice);

impl Device for Liar {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        let third = 3_u64.to_be_bytes();
        for write in writes {
            if let Write::Put { table, key, value } = *write
                && table == Table::Records
                && key == third
            {
                let mut lie = value.to_vec();
                // The last byte of the body stands before the 32 of the hash.
                let at = lie.len() - 33;
                lie[at] ^= 1;
                let mut writes = writes.to_vec();
                for w in &mut writes {
                    if w == write {
                        *w = Write::Put {
                            table,
                            key,
                            value: &lie,
                        };
                    }
                }
                return self.0.write_synced(&writes);
            }
        }
        self.0.write_synced(writes)
    }
}

#[tokio::test]
async fn the_damaged_record_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = LedgerConfig::new(folder.path().join("ledger"));
    let ledger = Ledger::open_on(config, |real| Box::new(Liar(real))).expect("a new ledger");
    for n in 1..=5_u8 {
        let draft = Draft {
            kind: Kind(200),
            group: "tea".into(),
            id: vec![n].into(),
            version: 1,
            live: true,
            owner: None,
            uniques: Vec::new(),
            at_ms: 1,
            body: vec![n].into(),
        };
        let receipt = ledger.append(Group::one(draft)).await.expect("room");
        receipt.await.expect("written");
    }
    ledger.close();
    let (_, said) = refused(folder.path(), &["verify"]);
    assert!(
        said.contains("record 3 does not fit the hash chain"),
        "{said}"
    );
    assert!(
        said.contains(&*folder.path().join("ledger").to_string_lossy()),
        "{said}"
    );
    let all = lines(&told(folder.path(), &["dump"]));
    assert_eq!((all.len(), &all[0]["bodyHex"]), (5, &"01".into()));
    let stat = told(folder.path(), &["stat"]);
    assert!(stat.contains("\nkind 200: 5, live 5\n"), "{stat}");
}

#[tokio::test]
async fn a_trimmed_ledger_is_told_from_its_floor_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 10, 1, ""));
    let data = engine.data.clone();
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    assert_eq!(engine.buy("bob", "k", ONE).status, 201);
    assert!(engine.stop());
    let all = lines(&told(&data, &["dump"]));
    let n = all.len() as u64;
    let trim = async |through| {
        let ledger = Ledger::open(LedgerConfig::new(data.join("ledger"))).expect("opens");
        let receipt = ledger.trim(through).await.expect("room");
        receipt.await.expect("trimmed");
        ledger.close();
    };
    trim(Seq(n - 1)).await;

    let verified = told(&data, &["verify"]);
    let said = format!(": 1 records after {}, tip {n} ", n - 1);
    assert!(verified.contains(&said), "{verified}");
    let stat = told(&data, &["stat"]);
    let hash = all[all.len() - 2]["hash"].as_str().expect("a hash");
    let said = format!("\nfloor: {} {hash}\n", n - 1);
    assert!(stat.contains(&said), "{stat}");
    // Snapshots stay.
    assert!(stat.contains("\norder: 2, live 2\n"), "{stat}");
    assert_eq!(lines(&told(&data, &["dump"])), all[all.len() - 1..]);
    let (_, said) = refused(&data, &["dump", "--from", "1"]);
    let trimmed = format!("record 1 was trimmed; the oldest kept is {n}");
    assert!(said.contains(&trimmed), "{said}");

    trim(Seq(n)).await;
    let verified = told(&data, &["verify"]);
    let said = format!(": 0 records after {n}, tip {n} ");
    assert!(verified.contains(&said), "{verified}");
    assert_eq!(told(&data, &["dump"]), "");
}

#[test]
fn a_folder_without_a_ledger_is_named_and_stays_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    for args in [&["verify"], &["stat"], &["dump"]] {
        let (_, said) = refused(folder.path(), args);
        let path = folder.path().join("ledger").display().to_string();
        assert!(
            said.contains(&path) && said.contains("there is no ledger"),
            "{said}"
        );
    }
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "a look writes nothing");
}
