//! What the ledger's tests share: drafts, folders, a look at the raw tables.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod history;

use std::path::Path;

use bytes::Bytes;
use floodgate_ledger::{Draft, Group, Kind, Ledger, LedgerConfig, Record, Seq};

pub const ORDER: Kind = Kind(1);
pub const PAYMENT: Kind = Kind(5);

pub fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

/// An order of sale "tea" whose body names it, so that a mix-up shows.
pub fn order(id: &str, version: u64) -> Draft {
    Draft {
        kind: ORDER,
        group: bytes("tea"),
        id: bytes(id),
        version,
        live: true,
        owner: Some(bytes("ana")),
        uniques: Vec::new(),
        at_ms: 1_700_000_000_000,
        body: body(id, version),
    }
}

pub fn body(id: &str, version: u64) -> Bytes {
    bytes(format!("order {id} version {version}"))
}

pub fn payment(id: &str, uniques: &[&str]) -> Draft {
    let uniques = uniques.iter().map(bytes).collect();
    Draft {
        kind: PAYMENT,
        owner: None,
        uniques,
        ..order(id, 1)
    }
}

pub fn group(drafts: impl IntoIterator<Item = Draft>) -> Group {
    Group {
        drafts: drafts.into_iter().collect(),
        meta: Vec::new(),
    }
}

pub fn config(path: &Path) -> LedgerConfig {
    // Small write buffers: dozens of ledgers are opened by these tests.
    LedgerConfig {
        memtable_bytes: 1 << 20,
        ..LedgerConfig::new(path)
    }
}

pub fn open(path: &Path) -> Ledger {
    Ledger::open(config(path)).expect("the ledger opens")
}

pub async fn commit(ledger: &Ledger, group: Group) -> Seq {
    let receipt = ledger.append(group).await.expect("room");
    receipt.await.expect("committed").last
}

/// Every record from the first on, in small pages.
pub fn all_records(ledger: &Ledger) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let from = records.last().map_or(Seq(1), |record| record.seq.next());
        let page = ledger.tail(from, 100, 1 << 20).expect("the tail reads");
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

/// Opens the tables below the ledger's back.
pub fn raw(path: &Path) -> rocksdb::DB {
    let tables = [
        "default",
        "records",
        "entities",
        "uniques",
        "by_owner",
        "dead_letters",
        "meta",
    ];
    rocksdb::DB::open_cf(&rocksdb::Options::default(), path.join("db"), tables)
        .expect("raw tables open")
}

pub fn raw_put(path: &Path, table: &str, key: &[u8], value: &[u8]) {
    let db = raw(path);
    db.put_cf(db.cf_handle(table).expect("table"), key, value)
        .expect("raw put");
}

pub fn raw_get(path: &Path, table: &str, key: &[u8]) -> Option<Vec<u8>> {
    let db = raw(path);
    db.get_cf(db.cf_handle(table).expect("table"), key)
        .expect("raw get")
}

pub fn raw_delete(path: &Path, table: &str, key: &[u8]) {
    let db = raw(path);
    db.delete_cf(db.cf_handle(table).expect("table"), key)
        .expect("raw delete");
}
