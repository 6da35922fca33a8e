//! Trimming gives space back, and takes nothing that was not trimmed.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use floodgate_ledger::{Draft, Ledger, ReadError, Seq};
use rocksdb::{ColumnFamilyDescriptor, DB, Options};

/// Noise, so that no compression makes the files small by itself.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[3]
    };
    (0..bytes).map(|_| next()).collect()
}

fn large(n: u64) -> Draft {
    Draft {
        body: bytes(noise(n, 16 << 10)),
        ..order(&format!("o{n}"), 1)
    }
}

/// Puts all records into files of about `file_bytes`, below the level that takes
/// what is new: a day's records lie there.
fn settle(path: &Path, file_bytes: u64) {
    let names = [
        "default",
        "records",
        "entities",
        "uniques",
        "by_owner",
        "dead_letters",
        "meta",
    ];
    let tables = names.map(|name| {
        let mut options = Options::default();
        options.set_target_file_size_base(file_bytes);
        ColumnFamilyDescriptor::new(name, options)
    });
    let db = DB::open_cf_descriptors(&Options::default(), path.join("db"), tables)
        .expect("raw tables open");
    let records = db.cf_handle("records").expect("table");
    db.compact_range_cf(records, None::<&[u8]>, None::<&[u8]>);
    let files = db.live_files().expect("files");
    let of_records = || files.iter().filter(|f| f.column_family_name == "records");
    assert!(of_records().count() > 0 && of_records().all(|f| f.level > 0));
}

fn bytes_of_tables(path: &Path) -> u64 {
    let files = fs::read_dir(path.join("db")).expect("list");
    files
        .map(|file| file.expect("entry"))
        .filter(|file| file.path().extension().is_some_and(|end| end == "sst"))
        .map(|file| file.metadata().expect("size").len())
        .sum()
}

async fn trim(ledger: &Ledger, through: u64) {
    let receipt = ledger.trim(Seq(through)).await.expect("room");
    receipt.await.expect("trimmed");
}

#[tokio::test]
async fn the_record_after_the_last_trimmed_one_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    for i in 1..=9 {
        commit(&ledger, group([order(&format!("o{i}"), 1)])).await;
    }
    ledger.close();
    // One file holds them all, and ends with the record that stays.
    settle(folder.path(), 64 << 20);
    let ledger = open(folder.path());
    trim(&ledger, 8).await;
    commit(&ledger, group([order("o10", 1)])).await;
    let kept = ledger.tail(Seq(9), 10, 1 << 20).expect("reads");
    let seqs: Vec<u64> = kept.iter().map(|r| r.seq.0).collect();
    assert_eq!(seqs, [9, 10]);
    let report = ledger.reader().verify().expect("the chain holds");
    assert_eq!((report.after, report.records), (Seq(8), 2));
    ledger.close();
    open(folder.path());
}

#[tokio::test]
async fn many_small_trims_give_the_space_back() {
    const N: u64 = 600;
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    for i in (1..=N).step_by(20) {
        commit(&ledger, group((i..i + 20).map(large))).await;
    }
    ledger.close();
    settle(folder.path(), 1 << 20);
    let before = bytes_of_tables(folder.path());
    let ledger = open(folder.path());
    // Each takes a sixth of a file, as a look every minute does.
    for through in (10..N).step_by(10) {
        trim(&ledger, through).await;
    }
    // The committer gives files back after it has answered: this comes later.
    commit(&ledger, group([order("later", 1)])).await;
    // Snapshots stay; of ten megabytes of records one file at each end may stay too.
    let after = bytes_of_tables(folder.path());
    assert!(
        after + (7 << 20) < before,
        "{before} bytes of tables before, {after} after"
    );
    assert_eq!(
        ledger.tail(Seq(591), 100, 1 << 24).expect("reads").len(),
        11
    );
    assert!(matches!(
        ledger.tail(Seq(590), 1, 1),
        Err(ReadError::Trimmed {
            from: Seq(590),
            oldest: Seq(591)
        })
    ));
    let one = ledger.entity(b"tea", ORDER, b"o1").expect("reads");
    assert_eq!(one.expect("its snapshot stays").body, large(1).body);
    ledger.close();
    open(folder.path()).reader().verify().expect("holds");
}

#[tokio::test]
async fn a_ledger_without_any_record_left_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    commit(&ledger, group((1..=5).map(large))).await;
    let tip = ledger.tip();
    trim(&ledger, 5).await;
    ledger.close();
    let ledger = open(folder.path());
    assert_eq!(ledger.tip(), tip);
    assert_eq!(ledger.reader().identity().expect("reads").floor, tip);
    assert_eq!(commit(&ledger, group([large(6)])).await, Seq(6));
    assert_eq!(ledger.reader().verify().expect("holds").records, 1);
}
