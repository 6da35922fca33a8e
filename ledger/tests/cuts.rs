//! Power cuts at every place: after every write of generated histories, and at
//! every byte of the log around the last acknowledged fsync.
//!
//! What was acknowledged is there, nothing is half there, the chain holds, and the
//! next append goes on. `FLOODGATE_CRASH_TIMES=50 cargo test --release --test cuts`
//! does fifty times as much.

mod common;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::history::{Image, Lived, State, Step, image, live, logs, newest_log, rounds};
use common::*;
use floodgate_ledger::{Ledger, OpenError, Reader, Seq};
use proptest::prelude::*;

fn times() -> u32 {
    let times = std::env::var("FLOODGATE_CRASH_TIMES").ok();
    times.map_or(1, |n| n.parse().expect("a number"))
}

fn lived(rounds: &[(bool, Vec<Step>)]) -> Lived {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(live(rounds))
}

/// Does the work on two threads; each place is looked at once.
fn side_by_side(n: usize, look: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    if at >= n {
                        break;
                    }
                    look(at);
                }
            });
        }
    });
}

/// Opens an image for good, appends, and looks again as a later start would.
fn goes_on(image: &std::path::Path, found: &State) {
    let ledger = open(image);
    assert_eq!(&State::read(ledger.reader()).expect("reads"), found);
    let mut next = found.clone();
    let job = group([order("next", 1), order("next", 2)]);
    next.apply(&common::history::Job::Append(job.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let last = runtime.block_on(commit(&ledger, job));
    assert_eq!(last, Seq(found.tip + 2), "seqs go on without a gap");
    let incarnation = ledger.incarnation();
    drop(ledger);
    let reader = Reader::open_read_only(image).expect("opens");
    assert_eq!(State::read(&reader).expect("reads"), next);
    assert_eq!(reader.identity().expect("reads").incarnation, incarnation);
}

/// The state is that after some whole number of jobs, of which all acknowledged ones.
fn stands(image: &Image, states: &[State]) {
    let reader = Reader::open_read_only(image.path()).expect("opens");
    let found = State::read(&reader).expect("reads");
    drop(reader);
    let may_be = &states[image.acknowledged..=image.handed_over];
    assert!(
        may_be.contains(&found),
        "acknowledged {}, handed over {}; found {found:#?}, newest {:#?}",
        image.acknowledged,
        image.handed_over,
        may_be.last()
    );
    goes_on(image.path(), &found);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6 * times(),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everything_acknowledged_survives_a_cut_after_any_write(rounds in rounds()) {
        let Lived { states, images, .. } = lived(&rounds);
        side_by_side(images.len(), |at| stands(&images[at], &states));
        // What was handed over after the last write changed nothing.
        let last = &images[images.len() - 1];
        prop_assert_eq!(last.acknowledged, last.handed_over);
        prop_assert_eq!(&states[last.handed_over], &states[states.len() - 1]);
    }
}

/// One job a write. Bodies in excess bring the last ones over the border between
/// two blocks of the log, where its records are cut into parts.
fn one_by_one() -> Lived {
    let append = |orders: &[usize], key, meta, more| Step::Append(orders.into(), key, meta, more);
    let steps = [
        append(&[0, 1], None, None, 0),
        append(&[2], Some(0), Some(0), 15_600),
        Step::Trim(50),
        append(&[0], Some(1), None, 0),
        append(&[3], None, Some(1), 0),
        append(&[4, 0], None, None, 9),
        append(&[5], None, None, 0),
    ];
    let rounds: Vec<_> = steps.into_iter().map(|step| (false, vec![step])).collect();
    lived(&rounds)
}

#[test]
fn a_log_cut_at_any_byte_loses_whole_groups_from_its_end_and_a_witness_knows() {
    let Lived {
        states,
        images,
        witness,
    } = one_by_one();
    let last = &images[images.len() - 1];
    let name = newest_log(last.path());
    let log = fs::read(&name).expect("log");
    assert_eq!(log.len(), last.wal_bytes);
    assert!(log.len() > 1 << 15, "more than one block");
    let border = images[images.len() - 5].wal_bytes;
    assert!(border < 1 << 15, "the border of blocks is among the cuts");
    let cuts: Vec<usize> = (border..=log.len()).collect();
    // Each thread has a folder of its own, where only the log changes.
    let folders: Vec<_> = (0..2).map(|_| image(last.path())).collect();
    let half = |folder: &tempfile::TempDir, odd: usize| {
        let log_of = folder
            .path()
            .join("db")
            .join(name.file_name().expect("a name"));
        for cut in cuts.iter().copied().filter(|cut| cut % 2 == odd) {
            fs::write(&log_of, &log[..cut]).expect("written");
            let reader = Reader::open_read_only(folder.path()).expect("opens");
            let found = State::read(&reader).expect("reads");
            // The newest image whose log is not longer than this one.
            let whole = images.iter().rev().find(|i| i.wal_bytes <= cut);
            let whole = whole.expect("the first is shorter");
            assert_eq!(
                found,
                states[whole.acknowledged],
                "log cut at {cut} of {}",
                log.len()
            );
            // Every job of the last ones made a record, so the store's mark is ahead.
            assert_eq!(found.tip < witness.seq.0, cut < log.len(), "cut at {cut}");
        }
    };
    std::thread::scope(|scope| {
        for (odd, folder) in folders.iter().enumerate() {
            scope.spawn(move || half(folder, odd));
        }
    });

    // And for good, around every border and at some places between.
    let borders = images.iter().rev().take(4).map(|i| i.wal_bytes);
    let near = borders.flat_map(|at| [at - 1, at, at + 1]);
    let some = (border..log.len()).step_by(601 / times().min(600) as usize);
    let cuts: Vec<usize> = near.chain(some).filter(|at| *at <= log.len()).collect();
    side_by_side(cuts.len(), |at| {
        let folder = image(last.path());
        fs::write(newest_log(folder.path()), &log[..cuts[at]]).expect("written");
        let whole = images.iter().rev().find(|i| i.wal_bytes <= cuts[at]);
        let whole = whole.expect("the first is shorter");
        goes_on(folder.path(), &states[whole.acknowledged]);
    });
}

/// A log that is not the newest was synced whole before the next one began.
#[test]
fn an_older_log_that_lost_its_end_or_all_is_refused_by_its_name() {
    // More than one write buffer: RocksDB begins another log.
    let large = Step::Append(vec![0, 1, 2, 3, 4, 5, 6], None, Some(0), 39_000);
    let rounds: Vec<_> = (0..5).map(|_| (false, vec![large.clone()])).collect();
    let Lived { images, .. } = lived(&rounds);
    let last = &images[images.len() - 1];
    let older = logs(last.path());
    assert!(older.len() > 1, "more than one log");
    let name = older[0].file_name().expect("a name").to_owned();
    let log = fs::read(&older[0]).expect("log");
    let cuts = [0, 1, log.len() / 2, log.len() - 1];
    let refused = |change: &dyn Fn(&std::path::Path)| {
        let folder = image(last.path());
        change(&folder.path().join("db").join(&name));
        let error = Ledger::open(config(folder.path())).expect_err("refused");
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        let number = name.to_string_lossy();
        let number = number.trim_start_matches('0').trim_end_matches(".log");
        assert!(error.to_string().contains(number), "{error}");
    };
    for cut in cuts {
        refused(&|path| fs::write(path, &log[..cut]).expect("written"));
    }
    refused(&|path| fs::remove_file(path).expect("gone"));
}
