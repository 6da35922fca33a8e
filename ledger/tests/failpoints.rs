//! The fail points do what the drills rely on.

mod common;

use common::*;
use fail::FailScenario;
use floodgate_ledger::{Device, DeviceError, Ledger, Seq, Write};

struct Broken {
    opened: bool,
    real: floodgate_ledger::RocksDevice,
}

impl Device for Broken {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        if std::mem::replace(&mut self.opened, true) {
            return Err(DeviceError("no disk".into()));
        }
        self.real.write_synced(writes)
    }
}

/// One test, because fail points are global to the process.
#[tokio::test]
async fn answering_early_is_a_lie_that_the_next_open_shows() {
    let scenario = FailScenario::setup();
    let folder = tempfile::tempdir().expect("folder");
    let broken = || {
        let device = |real| {
            Box::new(Broken {
                opened: false,
                real,
            }) as Box<dyn Device>
        };
        Ledger::open_on(config(folder.path()), device).expect("opens")
    };
    fail::cfg("ledger-ack-early", "return(1)").expect("fail point");
    let ledger = broken();
    let receipt = ledger.append(group([order("o1", 1)])).await.expect("room");
    assert_eq!(
        receipt.await.expect("answered before the disk").last,
        Seq(1)
    );
    ledger.failed().await;
    drop(ledger);
    assert_eq!(
        all_records(&open(folder.path())).len(),
        0,
        "acknowledged, and gone"
    );

    // The committer dies before the disk: nobody is told anything good.
    fail::cfg("ledger-ack-early", "off").expect("fail point");
    fail::cfg("ledger-before-write", "panic(killed)").expect("fail point");
    let ledger = open(folder.path());
    let receipt = ledger.append(group([order("o2", 1)])).await.expect("room");
    receipt.await.expect_err("not committed");
    assert_eq!(
        ledger.failed().await.to_string(),
        "ledger is shut: the committer panicked"
    );
    drop(ledger);
    fail::cfg("ledger-before-write", "off").expect("fail point");

    // And after it: durable, and nobody told.
    fail::cfg("ledger-after-sync", "panic(killed)").expect("fail point");
    let ledger = open(folder.path());
    let receipt = ledger.append(group([order("o3", 1)])).await.expect("room");
    receipt.await.expect_err("not confirmed");
    drop(ledger);
    fail::cfg("ledger-after-sync", "off").expect("fail point");
    let ledger = open(folder.path());
    assert_eq!(all_records(&ledger)[0].body, body("o3", 1));
    scenario.teardown();
}

/// A group that is sent while the committer ends is answered, though nobody reads
/// the queue any more and a handle keeps the queue alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_slips_in_behind_the_end_is_answered() {
    let scenario = FailScenario::setup();
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let (taken, room_taken) = std::sync::mpsc::channel();
    let (go, told_to_go) = std::sync::mpsc::channel();
    let (sent, was_sent) = std::sync::mpsc::channel();
    let told_to_go = std::sync::Mutex::new(told_to_go);
    let was_sent = std::sync::Mutex::new(was_sent);
    fail::cfg_callback("ledger-room-taken", move || {
        taken.send(()).expect("the test waits");
        told_to_go.lock().expect("alone").recv().expect("the end");
    })
    .expect("fail point");
    // The committer has looked at the queue for the last time, and still owns it.
    fail::cfg_callback("ledger-ended", move || {
        go.send(()).expect("the sender waits");
        was_sent.lock().expect("alone").recv().expect("sent");
    })
    .expect("fail point");
    let handle = ledger.clone();
    let sender = tokio::spawn(async move {
        let handed_over = handle.append(group([order("o1", 1)])).await;
        sent.send(()).expect("the committer waits");
        match handed_over {
            Ok(receipt) => receipt.await.expect_err("nobody committed it").to_string(),
            Err(error) => error.to_string(),
        }
    });
    room_taken.recv().expect("the sender came that far");
    let closing = ledger.clone();
    tokio::task::spawn_blocking(move || closing.close())
        .await
        .expect("closed");
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), sender).await;
    told.expect("answered").expect("no panic");
    assert_eq!(ledger.tip().seq, Seq(0));
    scenario.teardown();
}

/// A group that was committed is never called refused, though the ledger ended
/// before its sender looked up.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_committed_before_the_end_says_so() {
    let scenario = FailScenario::setup();
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let (handed, handed_over) = std::sync::mpsc::channel();
    let (go, told_to_go) = std::sync::mpsc::channel();
    let told_to_go = std::sync::Mutex::new(told_to_go);
    fail::cfg_callback("ledger-handed-over", move || {
        handed.send(()).expect("the test waits");
        told_to_go.lock().expect("alone").recv().expect("the end");
    })
    .expect("fail point");
    let handle = ledger.clone();
    let sender = tokio::spawn(async move {
        let receipt = handle.append(group([order("o1", 1)])).await;
        receipt.expect("it was handed over").await
    });
    handed_over.recv().expect("the sender came that far");
    let closing = ledger.clone();
    tokio::task::spawn_blocking(move || closing.close())
        .await
        .expect("closed");
    go.send(()).expect("the sender waits");
    let place = sender.await.expect("no panic").expect("it was committed");
    assert_eq!((place.last, ledger.tip().seq), (Seq(1), Seq(1)));
    scenario.teardown();
}
