//! What rots long after a start has checked it is found beside what goes on, and shuts the
//! ledger.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{commit, config, group, open, order, payment, raw, raw_get, raw_put};
use floodgate_ledger::{Ledger, Scrubbed, Seq};

const N: u64 = 300;

/// Orders and payments, all in table files and all checked by a start.
async fn checked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path());
    for n in 0..N / 2 {
        let (id, key) = (format!("o{n}"), format!("txn-{n}"));
        commit(&ledger, group([order(&id, 1)])).await;
        commit(&ledger, group([payment(&key, &[&key])])).await;
    }
    ledger.close();
    let db = raw(folder.path());
    for table in ["records", "entities", "uniques", "by_owner", "meta"] {
        db.flush_cf(db.cf_handle(table).expect("a table"))
            .expect("flushed");
    }
    drop(db);
    drop(open(folder.path()));
    folder
}

fn all(ledger: &Ledger) -> Scrubbed {
    let done = ledger.scrub(|| true).expect("whole");
    done.expect("to the end")
}

#[tokio::test]
async fn a_whole_ledger_is_read_to_its_end_also_while_it_grows_and_is_trimmed() {
    let folder = checked().await;
    let ledger = open(folder.path());
    let found = all(&ledger);
    assert_eq!(found.records, N);
    // An entity each, an owner for half of them, a unique key for the others.
    assert_eq!(found.entries, 2 * N);
    assert_eq!(ledger.scrub(|| false).expect("whole"), None);

    let trimmed = ledger.trim(Seq(N - 10)).await.expect("handed over");
    trimmed.await.expect("trimmed");
    assert_eq!(all(&ledger).records, 10);
    assert!(ledger.failure().is_none());
}

#[tokio::test]
async fn a_changed_record_is_named_and_shuts_the_ledger() {
    let folder = checked().await;
    let key = 40_u64.to_be_bytes();
    let mut frame = raw_get(folder.path(), "records", &key).expect("a record");
    let at = frame.len() - 33;
    frame[at] ^= 1;
    raw_put(folder.path(), "records", &key, &frame);

    let ledger = open(folder.path());
    let error = ledger.scrub(|| true).expect_err("damaged");
    assert!(error.to_string().contains("record 40"), "{error}");
    let failure = ledger.failure().expect("shut");
    assert!(failure.why.contains("record 40"), "{}", failure.why);
    assert!(ledger.append(group([order("late", 1)])).await.is_err());
}

fn table_files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.join("db")).expect("list");
    let files = files.map(|file| file.expect("an entry").path());
    files
        .filter(|file| file.extension().is_some_and(|e| e == "sst"))
        .collect()
}

/// One bit of each table file in turn: no start checks these blocks, and some are read only
/// when somebody asks for a buyer's orders.
#[tokio::test]
async fn a_flipped_bit_in_any_table_is_found() {
    let folder = checked().await;
    let mut n_found_late = 0;
    for file in table_files(folder.path()) {
        let whole = fs::read(&file).expect("read");
        let mut flipped = whole.clone();
        flipped[30] ^= 4;
        fs::write(&file, &flipped).expect("written");
        if let Ok(ledger) = Ledger::open(config(folder.path())) {
            n_found_late += 1;
            let name = file.file_name().expect("a name").to_string_lossy();
            let error = ledger.scrub(|| true).expect_err("damaged");
            assert!(error.to_string().contains(&*name), "{name}: {error}");
            assert!(ledger.failure().is_some());
            let error = ledger.reader().verify().expect_err("damaged");
            assert!(error.to_string().contains(&*name), "{name}: {error}");
        }
        fs::write(&file, &whole).expect("written");
    }
    assert!(n_found_late >= 3, "{n_found_late}");
    assert_eq!(all(&open(folder.path())).records, N);
}
