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
