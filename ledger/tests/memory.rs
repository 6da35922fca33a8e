//! A ledger in memory answers what one in files answers, to the last hash: what is
//! proved on the one may be believed of the other.

mod common;

use bytes::Bytes;
use common::{ORDER, PAYMENT, bytes, open, order, payment};
use fastrand::Rng;
use floodgate_ledger::{
    AppendError, CommitError, Committed, DeadLetter, Driver, Group, Ledger, LedgerConfig,
    MemoryDisk, Receipt, Seq,
};

fn open_memory(disk: &MemoryDisk) -> (Ledger, Driver) {
    let device = Box::new(disk.clone());
    Ledger::open_driven(LedgerConfig::new("memory"), disk, device).expect("it opens")
}

/// Everything that reading can say, with these ids and places.
fn told(ledger: &Ledger, rng: &mut Rng) -> Vec<String> {
    let id = rng.u32(..12).to_string();
    let seq = Seq(rng.u64(..200));
    let group = ["tea", "pot"][rng.usize(..2)].as_bytes();
    let kind = [ORDER, PAYMENT][rng.usize(..2)];
    let before = rng.bool().then_some(id.as_bytes());
    let limit = rng.usize(..6);
    let entities = ledger.entities(rng.bool().then_some(group), Some(kind), rng.bool());
    let view = ledger.view().expect("it reads");
    vec![
        format!("{:?}", ledger.tip()),
        format!("{:?}", ledger.reader().identity()),
        format!("{:?}", ledger.reader().verify()),
        format!("{:?}", ledger.entity(group, kind, id.as_bytes())),
        format!("{:?}", entities.collect::<Vec<_>>()),
        format!("{:?}", ledger.entities_page(group, kind, before, limit)),
        format!("{:?}", ledger.last_id(group, kind)),
        format!("{:?}", ledger.by_owner(b"ana", kind, before, limit)),
        format!("{:?}", ledger.unique(id.as_bytes())),
        format!("{:?}", ledger.tail(seq, limit, 1 << 10)),
        format!("{:?}", ledger.meta(id.as_bytes())),
        format!("{:?}", ledger.dead_letters(seq, limit)),
        format!("{:?}", view.tip()),
        format!(
            "{:?}",
            view.entities(Some(group), None, false).collect::<Vec<_>>()
        ),
    ]
}

fn group(rng: &mut Rng, version: u64) -> Group {
    let drafts = (0..rng.usize(..4)).map(|_| {
        let id = rng.u32(..12).to_string();
        let mut draft = match rng.u8(..3) {
            0 => payment(&id, &[&rng.u32(..12).to_string()]),
            _ => order(&id, version),
        };
        draft.live = rng.bool();
        if rng.bool() {
            draft.group = Bytes::from_static(b"pot");
        }
        draft
    });
    let drafts = drafts.collect();
    let key = bytes(rng.u32(..12).to_string());
    let meta = Vec::from_iter(rng.bool().then(|| (key, bytes(version.to_string()))));
    Group { drafts, meta }
}

/// The same piece of work for both.
async fn hand_over(ledger: &Ledger, rng: &mut Rng, version: u64) -> Result<Receipt, AppendError> {
    let seq = Seq(rng.u64(..200));
    match rng.u8(..10) {
        0 => ledger.trim(Seq(rng.u64(..1 + ledger.tip().seq.0))).await,
        1 => {
            let note = bytes(version.to_string());
            ledger.bury(vec![DeadLetter { seq, note }]).await
        }
        2 => ledger.unbury(&[seq]).await,
        _ => ledger.append(group(rng, version)).await,
    }
}

#[tokio::test]
async fn memory_and_files_tell_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = open(folder.path());
    let disk = MemoryDisk::new(files.id());
    let (mut memory, mut driver) = open_memory(&disk);
    let mut rng = Rng::with_seed(3);
    for step in 0..600 {
        let seed = rng.u64(..);
        type Answer = Result<Committed, CommitError>;
        let there: Answer = {
            let receipt = hand_over(&files, &mut Rng::with_seed(seed), step).await;
            receipt.expect("room").await
        };
        let here: Answer = {
            let receipt = hand_over(&memory, &mut Rng::with_seed(seed), step).await;
            driver.step();
            receipt.expect("room").await
        };
        assert_eq!(here, there, "step {step}");
        let looks = |ledger| told(ledger, &mut Rng::with_seed(seed));
        assert_eq!(looks(&memory), looks(&files), "step {step}");
        if step % 150 == 149 {
            // A new start finds what was committed.
            drop(driver);
            (memory, driver) = open_memory(&disk);
            drop(files);
            files = open(folder.path());
        }
    }
    assert!(files.tip().seq > Seq(100), "much was written");
}

#[tokio::test]
async fn what_a_driver_did_not_commit_is_not_there_and_hears_so() {
    let disk = MemoryDisk::new(floodgate_ledger::LedgerId([7; 16]));
    let (memory, mut driver) = open_memory(&disk);
    let kept = memory.append(common::group([order("kept", 1)])).await;
    driver.handed().await;
    driver.step();
    kept.expect("room").await.expect("committed");
    let lost = memory.append(common::group([order("lost", 1)])).await;
    drop(driver);
    assert_eq!(lost.expect("room").await, Err(CommitError::Closed));
    let (memory, _driver) = open_memory(&disk);
    let there = |id: &str| memory.entity(b"tea", ORDER, id.as_bytes()).expect("reads");
    assert!(there("kept").is_some() && there("lost").is_none());
}
