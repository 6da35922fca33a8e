//! What a disk may do, and what the ledger says then.
//!
//! The judge is always the same: what was acknowledged is there after the next
//! open, groups are whole, and the chain holds. Cuts of the log at every byte are in
//! `cuts.rs`, flipped bits in `flips.rs`.

mod common;

use std::path::Path;

use common::*;
use floodgate_ledger::{
    AppendError, CommitError, Damage, Device, DeviceError, Ledger, OpenError, RocksDevice, Seq,
    Write,
};

/// Power goes at one write: what was not synced is forgotten.
struct PowerCut {
    real: RocksDevice,
    writes_left: usize,
    /// The disk had it already, only the answer was lost.
    reaches_disk: bool,
}

impl Device for PowerCut {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        let Some(left) = self.writes_left.checked_sub(1) else {
            if self.reaches_disk {
                self.real.write_synced(writes)?;
            }
            return Err(DeviceError("power cut".into()));
        };
        self.writes_left = left;
        self.real.write_synced(writes)
    }
}

fn open_until(path: &Path, commits: usize, reaches_disk: bool) -> Ledger {
    // One more for the write that belongs to opening.
    let cut = |real| PowerCut {
        real,
        writes_left: commits + 1,
        reaches_disk,
    };
    Ledger::open_on(config(path), |real| Box::new(cut(real))).expect("opens")
}

#[tokio::test]
async fn everything_acknowledged_survives_a_power_cut_at_each_commit() {
    for commits in 0..6 {
        for reaches_disk in [false, true] {
            let folder = tempfile::tempdir().expect("folder");
            let ledger = open_until(folder.path(), commits, reaches_disk);
            let mut acknowledged = 0;
            for i in 0..8 {
                let drafts = [
                    order(&format!("o{i}"), 1),
                    payment(&format!("p{i}"), &[&format!("t{i}")]),
                ];
                let Ok(receipt) = ledger.append(group(drafts)).await else {
                    break;
                };
                match receipt.await {
                    Ok(place) => {
                        assert_eq!(place.last, Seq(2 * (i + 1)));
                        acknowledged += 1;
                    }
                    Err(error) => assert_eq!(error, CommitError::Closed),
                }
            }
            assert_eq!(acknowledged, commits);
            assert_eq!(
                ledger.tip().seq.0,
                2 * commits as u64,
                "the tip names only what is durable"
            );
            drop(ledger);

            let ledger = open(folder.path());
            let records = all_records(&ledger);
            let groups = commits + usize::from(reaches_disk);
            assert_eq!(
                records.len(),
                2 * groups,
                "whole groups, all that reached the disk"
            );
            for (i, record) in records.iter().step_by(2).enumerate() {
                assert_eq!(record.body, body(&format!("o{i}"), 1));
                let unique = ledger.unique(format!("t{i}").as_bytes()).expect("reads");
                assert_eq!(unique.expect("held").id, bytes(format!("p{i}")));
            }
            ledger.reader().verify().expect("the chain holds");
        }
    }
}

#[tokio::test]
async fn a_failed_write_shuts_the_ledger_for_ever() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open_until(folder.path(), 0, false);
    let failed = ledger.failed();
    let mut receipts = Vec::new();
    for i in 0..20 {
        match ledger.append(group([order(&format!("o{i}"), 1)])).await {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => assert_eq!(error, AppendError::Closed),
        }
    }
    for receipt in receipts {
        assert_eq!(
            receipt.await,
            Err(CommitError::Closed),
            "nobody of it is told \"committed\""
        );
    }
    assert_eq!(failed.await.to_string(), "ledger is shut: power cut");
    let error = ledger
        .append(group([order("later", 1)]))
        .await
        .expect_err("shut");
    assert_eq!(error, AppendError::Closed);
    assert_eq!(ledger.tip().seq, Seq(0));
    assert!(ledger.failure().is_some());
    ledger.close();
    assert_eq!(all_records(&open(folder.path())), []);
}

#[test]
fn a_second_owner_is_told_plainly() {
    let folder = tempfile::tempdir().expect("folder");
    let first = open(folder.path());
    let error = Ledger::open(config(folder.path())).expect_err("in use");
    let path = folder.path().display();
    let pid = std::process::id();
    assert_eq!(
        error.to_string(),
        format!("ledger folder {path} is in use by process {pid}")
    );
    drop(first);
    open(folder.path());
}

/// Nine records in one folder, checked once up to record `verified`.
async fn nine(verified: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let mut ledger = open(folder.path());
    for i in 1..=9 {
        commit(&ledger, group([order(&format!("o{i}"), 1)])).await;
        if i == verified {
            drop(ledger);
            ledger = open(folder.path());
        }
    }
    drop(ledger);
    folder
}

fn damage(path: &Path) -> Damage {
    match Ledger::open(config(path)).expect_err("refused") {
        OpenError::Damaged { damage, .. } => damage,
        other => panic!("not named as damage: {other}"),
    }
}

fn tamper(path: &Path, seq: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let key = seq.to_be_bytes();
    let mut frame = raw_get(path, "records", &key).expect("record");
    change(&mut frame);
    raw_put(path, "records", &key, &frame);
}

#[tokio::test]
async fn a_changed_record_is_named() {
    let folder = nine(0).await;
    // A byte of the body: the frame still decodes, the chain does not hold.
    tamper(folder.path(), 4, |frame| {
        let at = frame.len() - 33;
        frame[at] ^= 1;
    });
    assert_eq!(damage(folder.path()), Damage::Hash { seq: Seq(4) });
    let error = Ledger::open(config(folder.path())).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("record 4 does not fit the hash chain"),
        "{error}"
    );
}

#[tokio::test]
async fn a_changed_record_before_the_verified_mark_is_found_by_verify() {
    let folder = nine(6).await;
    tamper(folder.path(), 4, |frame| {
        let at = frame.len() - 33;
        frame[at] ^= 1;
    });
    let ledger = open(folder.path());
    let error = ledger.reader().verify().expect_err("damaged");
    assert!(error.to_string().contains("record 4"), "{error}");
}

#[tokio::test]
async fn a_missing_a_broken_and_a_misplaced_record_are_named() {
    let folder = nine(0).await;
    raw_delete(folder.path(), "records", &5_u64.to_be_bytes());
    assert_eq!(damage(folder.path()), Damage::Missing { seq: Seq(5) });

    let folder = nine(0).await;
    tamper(folder.path(), 7, |frame| frame.truncate(20));
    assert!(matches!(
        damage(folder.path()),
        Damage::Frame { seq: Seq(7), .. }
    ));

    let folder = nine(0).await;
    let sixth = raw_get(folder.path(), "records", &6_u64.to_be_bytes()).expect("record");
    raw_put(folder.path(), "records", &5_u64.to_be_bytes(), &sixth);
    assert_eq!(
        damage(folder.path()),
        Damage::WrongSeq {
            seq: Seq(5),
            says: Seq(6)
        }
    );
}

#[tokio::test]
async fn tip_and_records_must_agree() {
    let folder = nine(9).await;
    raw_delete(folder.path(), "records", &9_u64.to_be_bytes());
    // Everything up to 9 was verified once, so only the tip can notice.
    assert_eq!(damage(folder.path()), Damage::Missing { seq: Seq(9) });

    let folder = nine(0).await;
    let ninth = raw_get(folder.path(), "records", &9_u64.to_be_bytes()).expect("record");
    raw_put(folder.path(), "records", &10_u64.to_be_bytes(), &ninth);
    assert_eq!(
        damage(folder.path()),
        Damage::BeyondTip {
            seq: Seq(10),
            tip: Seq(9)
        }
    );

    let folder = nine(9).await;
    let mut tip = raw_get(folder.path(), "meta", b"\0tip").expect("tip");
    tip[20] ^= 1;
    raw_put(folder.path(), "meta", b"\0tip", &tip);
    assert_eq!(damage(folder.path()), Damage::Tip { seq: Seq(9) });

    let folder = nine(0).await;
    raw_delete(folder.path(), "meta", b"\0format");
    assert_eq!(damage(folder.path()), Damage::NoMeta { key: "format" });
}

#[tokio::test]
async fn another_format_is_refused() {
    let folder = nine(0).await;
    raw_put(folder.path(), "meta", b"\0format", &2_u32.to_be_bytes());
    let error = Ledger::open(config(folder.path())).expect_err("refused");
    assert!(
        error
            .to_string()
            .ends_with("has format 2; this program reads 1"),
        "{error}"
    );
}
