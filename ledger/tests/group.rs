//! Group commit: dense order, whole groups, unique keys, bounded queue.

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use common::*;
use crossbeam::channel;
use floodgate_ledger::{
    AppendError, BatchLimits, CommitError, Device, DeviceError, Draft, EntityRef, Group, Kind,
    Ledger, LedgerConfig, RocksDevice, Seq, Write,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_appenders_share_one_dense_order() {
    let folder = tempfile::tempdir().expect("folder");
    // Small limits, so that appenders wait for room and batches split.
    let config = LedgerConfig {
        batch: BatchLimits {
            records_max: 32,
            ..BatchLimits::default()
        },
        queue_records_max: 48,
        ..config(folder.path())
    };
    let ledger = Ledger::open(config).expect("opens");
    let mut appenders = Vec::new();
    for task in 0..24_u64 {
        let ledger = ledger.clone();
        appenders.push(tokio::spawn(async move {
            let mut receipts = Vec::new();
            for turn in 0..40_u64 {
                let n = 1 + (task + turn) % 7;
                let drafts = (0..n).map(|i| order(&format!("{task}-{turn}-{i}"), 1));
                let receipt = ledger.append(group(drafts)).await.expect("room");
                receipts.push((turn, n, receipt));
            }
            let mut places = Vec::new();
            for (turn, n, receipt) in receipts {
                places.push((task, turn, n, receipt.await.expect("committed")));
            }
            places
        }));
    }
    let mut places = Vec::new();
    for appender in appenders {
        let mine = appender.await.expect("appender");
        assert!(
            mine.is_sorted_by_key(|(.., place)| place.first),
            "appends of one task keep their order"
        );
        places.extend(mine);
    }
    places.sort_by_key(|(.., place)| place.first);

    let check = |ledger: &Ledger| {
        let records = all_records(ledger);
        let mut next = Seq(1);
        for (task, turn, n, place) in &places {
            assert_eq!(place.first, next, "seqs are dense");
            assert_eq!(
                place.last.0,
                place.first.0 + n - 1,
                "a group stands together"
            );
            for i in 0..*n {
                let record = &records[(place.first.0 + i - 1) as usize];
                let id = format!("{task}-{turn}-{i}");
                assert_eq!(record.seq.0, place.first.0 + i);
                assert_eq!(record.body, body(&id, 1));
                let entity = ledger
                    .entity(b"tea", ORDER, id.as_bytes())
                    .expect("reads")
                    .expect("is there");
                assert_eq!((entity.seq, &entity.body), (record.seq, &record.body));
            }
            next = place.last.next();
        }
        assert_eq!(records.len() as u64 + 1, next.0);
        assert_eq!(ledger.tip().seq.next(), next);
        assert_eq!(ledger.tip().hash, records.last().expect("records").hash);
        let report = ledger.reader().verify().expect("the chain holds");
        assert_eq!(report.records, records.len() as u64);
    };
    check(&ledger);
    assert_eq!(ledger.queue_depth(), 0);
    let (id, incarnation) = (ledger.id(), ledger.incarnation());
    ledger.close();

    let again = open(folder.path());
    assert_eq!((again.id(), again.incarnation()), (id, incarnation + 1));
    check(&again);
}

#[tokio::test]
async fn a_reopened_ledger_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("folder");
    for run in 1..=4_u64 {
        let ledger = open(folder.path());
        assert_eq!(ledger.incarnation(), run);
        let last = commit(
            &ledger,
            group([order(&format!("o{run}"), 1), order("same", run)]),
        )
        .await;
        assert_eq!(last, Seq(2 * run));
        if run % 2 == 0 {
            ledger.close();
        }
    }
    let ledger = open(folder.path());
    assert_eq!(all_records(&ledger).len(), 8);
    let same = ledger
        .entity(b"tea", ORDER, b"same")
        .expect("reads")
        .expect("is there");
    assert_eq!(
        (same.version, same.seq, same.body),
        (4, Seq(8), body("same", 4))
    );
}

#[tokio::test]
async fn meta_travels_with_its_group() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let meta = |value: &str| vec![(bytes("mark"), bytes(value))];
    let refused = Group {
        drafts: vec![payment("p1", &["k", "k"])],
        meta: meta("never"),
    };
    let receipt = ledger.append(refused).await.expect("room");
    receipt.await.expect_err("one key twice in a group");
    assert_eq!(ledger.meta(b"mark").expect("reads"), None);

    let only_meta = Group {
        drafts: vec![],
        meta: meta("first"),
    };
    let place = ledger
        .append(only_meta)
        .await
        .expect("room")
        .await
        .expect("committed");
    assert_eq!(
        (place.first, place.last),
        (Seq(1), Seq(0)),
        "an empty range after the tip"
    );
    assert_eq!(ledger.meta(b"mark").expect("reads"), Some(bytes("first")));

    commit(
        &ledger,
        Group {
            drafts: vec![order("o1", 1)],
            meta: meta("second"),
        },
    )
    .await;
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(ledger.meta(b"mark").expect("reads"), Some(bytes("second")));
    assert_eq!(
        ledger.meta(b"tip").expect("reads"),
        None,
        "the ledger's own keys are out of reach"
    );
}

fn taken(index: usize, key: &str, holder: &str) -> CommitError {
    let held_by = EntityRef {
        group: bytes("tea"),
        kind: PAYMENT,
        id: bytes(holder),
    };
    CommitError::UniqueTaken {
        index,
        key: bytes(key),
        held_by,
    }
}

async fn answer(ledger: &Ledger, drafts: &[Draft]) -> Result<Seq, CommitError> {
    let group = Group {
        drafts: drafts.to_vec(),
        meta: vec![(bytes("m"), bytes("v"))],
    };
    ledger
        .append(group)
        .await
        .expect("room")
        .await
        .map(|place| place.last)
}

#[tokio::test]
async fn a_unique_key_is_claimed_once_for_ever() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    assert_eq!(
        answer(&ledger, &[payment("p1", &["txn-1"])]).await,
        Ok(Seq(1))
    );

    // Taken: nothing of the group is written, its other claims stay free.
    let drafts = [order("o9", 1), payment("p2", &["txn-2", "txn-1"])];
    assert_eq!(answer(&ledger, &drafts).await, Err(taken(1, "txn-1", "p1")));
    assert_eq!(ledger.tip().seq, Seq(1));
    assert_eq!(ledger.unique(b"txn-2").expect("reads"), None);
    assert_eq!(ledger.entity(b"tea", ORDER, b"o9").expect("reads"), None);
    assert_eq!(ledger.entity(b"tea", PAYMENT, b"p2").expect("reads"), None);
    assert_eq!(
        answer(&ledger, &[payment("p3", &["txn-2"])]).await,
        Ok(Seq(2))
    );

    // The same group again is a second claim, and the answer names the holder.
    assert_eq!(
        answer(&ledger, &[payment("p3", &["txn-2"])]).await,
        Err(taken(0, "txn-2", "p3"))
    );
    // Twice within one group.
    let twice = [payment("p4", &["txn-4"]), payment("p5", &["txn-4"])];
    assert_eq!(answer(&ledger, &twice).await, Err(taken(1, "txn-4", "p4")));
    // A later version claims nothing and passes.
    assert_eq!(answer(&ledger, &[payment("p3", &[])]).await, Ok(Seq(3)));

    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(
        answer(&ledger, &[payment("p6", &["txn-1"])]).await,
        Err(taken(0, "txn-1", "p1"))
    );
    assert_eq!(
        ledger.unique(b"txn-2").expect("reads").expect("held").id,
        bytes("p3")
    );
}

/// Waits at every write until the test lets it go.
struct Gated {
    real: RocksDevice,
    opened: bool,
    go: channel::Receiver<()>,
}

impl Device for Gated {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        // The first write belongs to opening.
        if std::mem::replace(&mut self.opened, true) {
            let _ = self.go.recv();
        }
        self.real.write_synced(writes)
    }
}

fn gated(config: LedgerConfig) -> (Ledger, channel::Sender<()>) {
    let (go, gate) = channel::unbounded();
    let device = |real| {
        Box::new(Gated {
            real,
            opened: false,
            go: gate,
        }) as Box<dyn Device>
    };
    (Ledger::open_on(config, device).expect("opens"), go)
}

#[tokio::test]
async fn two_groups_of_one_batch_cannot_claim_one_key() {
    let folder = tempfile::tempdir().expect("folder");
    let (ledger, go) = gated(config(folder.path()));
    // The first holds the device; the other two gather into one batch behind it.
    let first = ledger.append(group([order("o1", 1)])).await.expect("room");
    let one = ledger
        .append(group([payment("p1", &["txn"])]))
        .await
        .expect("room");
    let two = ledger
        .append(group([payment("p2", &["free", "txn"]), order("o2", 1)]))
        .await
        .expect("room");
    let three = ledger
        .append(group([payment("p3", &["free"])]))
        .await
        .expect("room");
    drop(go);
    first.await.expect("committed");
    assert_eq!(one.await.expect("committed").last, Seq(2));
    assert_eq!(two.await, Err(taken(0, "txn", "p1")));
    assert_eq!(
        three.await.expect("committed").last,
        Seq(3),
        "a refused group leaves no hole, and what else it claimed is free"
    );
    assert_eq!(all_records(&ledger).len(), 3);
}

async fn ready<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_full_queue_makes_append_wait_and_room_comes_back() {
    let folder = tempfile::tempdir().expect("folder");
    let batch = BatchLimits {
        records_max: 4,
        ..BatchLimits::default()
    };
    let config = LedgerConfig {
        batch,
        queue_records_max: 4,
        ..config(folder.path())
    };
    let metrics = config.metrics.clone();
    let (ledger, go) = gated(config);
    let first = ledger
        .append(group([order("a", 1), order("b", 1), order("c", 1)]))
        .await
        .expect("room");
    assert_eq!((ledger.queue_depth(), metrics.queue_depth.get()), (3, 3));
    let mut waiting = pin!(ledger.append(group([order("d", 1), order("e", 1)])));
    assert!(
        ready(waiting.as_mut()).await.is_none(),
        "two records do not fit beside three"
    );
    drop(go);
    first.await.expect("committed");
    let second = waiting.await.expect("room came back");
    assert_eq!(second.await.expect("committed").last, Seq(5));
    assert_eq!((ledger.queue_depth(), metrics.queue_depth.get()), (0, 0));
    assert_eq!(metrics.commit_seconds.get_sample_count(), 2);
}

#[tokio::test]
async fn what_can_never_be_one_commit_is_refused_at_the_door() {
    let folder = tempfile::tempdir().expect("folder");
    let batch = BatchLimits {
        records_max: 2,
        bytes_max: 1 << 16,
        wait: Duration::ZERO,
    };
    let ledger = Ledger::open(LedgerConfig {
        batch,
        ..config(folder.path())
    })
    .expect("opens");
    let too_many = group([order("a", 1), order("b", 1), order("c", 1)]);
    let error = ledger.append(too_many).await.expect_err("refused");
    assert!(
        matches!(
            error,
            AppendError::GroupTooLarge {
                records: 3,
                records_max: 2,
                ..
            }
        ),
        "{error}"
    );
    let huge = Draft {
        body: vec![0; 1 << 16].into(),
        ..order("a", 1)
    };
    let error = ledger.append(group([huge])).await.expect_err("refused");
    assert!(
        matches!(
            error,
            AppendError::GroupTooLarge {
                bytes_max: 65_536,
                ..
            }
        ),
        "{error}"
    );
    let kind = Draft {
        kind: Kind(0),
        ..order("b", 1)
    };
    let error = ledger
        .append(group([order("a", 1), kind]))
        .await
        .expect_err("refused");
    assert_eq!(
        error.to_string(),
        "draft 1: kind 0 is refused; kinds go from 1 to 255"
    );
    assert_eq!(ledger.tip().seq, Seq(0));
}

#[tokio::test]
async fn closing_commits_what_was_handed_over_and_refuses_the_rest() {
    let folder = tempfile::tempdir().expect("folder");
    let (ledger, go) = gated(config(folder.path()));
    let other = ledger.clone();
    let mut receipts = Vec::new();
    for i in 0..10 {
        receipts.push(
            ledger
                .append(group([order(&format!("o{i}"), 1)]))
                .await
                .expect("room"),
        );
    }
    drop(go);
    tokio::task::spawn_blocking(|| ledger.close())
        .await
        .expect("closes");
    for receipt in receipts {
        receipt.await.expect("handed over before the close");
    }
    assert_eq!(
        other
            .append(group([order("late", 1)]))
            .await
            .expect_err("closed"),
        AppendError::Closed
    );
    assert_eq!(all_records(&other).len(), 10, "other handles still read");
    assert!(other.failure().is_none());
}

#[tokio::test]
async fn a_watcher_wakes_after_the_commit_and_finds_it() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let mut watch = ledger.watch();
    let receipt = ledger
        .append(group([order("o1", 1), order("o2", 1)]))
        .await
        .expect("room");
    watch.changed().await.expect("the ledger lives");
    let tip = *watch.borrow_and_update();
    assert_eq!(tip.seq, Seq(2));
    assert_eq!(ledger.tail(Seq(2), 1, 1).expect("reads")[0].hash, tip.hash);
    receipt.await.expect("committed");
}
