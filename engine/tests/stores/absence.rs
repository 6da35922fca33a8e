//! A store that does not answer is waited for, and then gets everything once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use floodgate_engine::domain::order::Order;
use floodgate_engine::stream::StreamState;
use floodgate_ledger::Seq;
use parking_lot::Mutex;

use crate::carrying::{BATCH, assert_even};
use crate::orders::{ordered, rush, some_life};
use crate::places::Fresh;
use crate::places::after::order_draft;
use crate::till::Till;
use crate::till::between::{Between, away};

fn a_store_that_comes_back_gets_everything(fresh: Fresh) {
    let till = Till::new(fresh);
    let mut orders = rush("tea", 30);
    till.sell(&orders);
    // The third to the sixth batch find nobody; the worker must not skip one.
    let between = Between::new(till.store(), |call| match call.nth {
        3..=6 => Err(away()),
        _ => call.pass(),
    });
    let stream = till.start(between.clone(), BATCH);
    stream.until_even(&till);
    assert_even(&till, &orders);
    assert_eq!(stream.metrics.errors.get(), 4);

    // Now it is gone altogether; it says so, and buyers go on buying.
    between.dark.store(true, Ordering::SeqCst);
    let later: Vec<Order> = (100..120).flat_map(|n| some_life("tea", n)).collect();
    till.sell(&later);
    orders.extend(later);
    stream.until("tried five times", |_| {
        between.n_dark.load(Ordering::SeqCst) >= 5
    });
    stream.until("waiting", |worker| {
        matches!(worker.state(), StreamState::Waiting(why) if why.contains("nobody at home"))
    });
    assert_ne!(stream.worker.mark(), Some(till.tip()));
    assert!(stream.metrics.lag_records.get() > 0);

    between.dark.store(false, Ordering::SeqCst);
    stream.until_even(&till);
    assert_even(&till, &orders);
}

fn a_store_that_is_away_at_the_start_is_waited_for(fresh: Fresh) {
    let till = Till::new(fresh);
    let orders = rush("tea", 10);
    till.sell(&orders);
    let between = Between::new(till.store(), |call| call.pass());
    between.dark.store(true, Ordering::SeqCst);
    let stream = till.start(between.clone(), BATCH);
    stream.until("waiting", |worker| {
        matches!(worker.state(), StreamState::Waiting(_))
    });
    assert_eq!(stream.worker.mark(), None);
    between.dark.store(false, Ordering::SeqCst);
    stream.until_even(&till);
    assert_even(&till, &orders);
}

fn a_store_that_answers_but_takes_nothing_is_not_called_running(fresh: Fresh) {
    let till = Till::new(fresh);
    let orders = rush("tea", 10);
    till.sell(&orders);
    // A full disk, say: reading goes on. The test looks while the worker tries.
    let (asks, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let answers = Mutex::new(answers);
    let between = Between::new(till.store(), move |call| {
        if call.nth > 5 {
            return call.pass();
        }
        asks.send(()).unwrap();
        answers.lock().recv().unwrap();
        Err(away())
    });
    let stream = till.start(between.clone(), BATCH);
    let mut states = Vec::new();
    for _ in 0..5 {
        asked.recv().unwrap();
        states.push(stream.worker.state());
        answer.send(()).unwrap();
    }
    stream.until_even(&till);
    stream.stop();
    assert_eq!(states[0], StreamState::Running);
    for state in &states[1..] {
        assert!(matches!(state, StreamState::Waiting(_)), "{states:?}");
    }
    assert_even(&till, &orders);
}

fn stopping_does_not_sit_out_a_wait(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell([&ordered("tea", 1)]);
    let between = Between::new(till.store(), |call| call.pass());
    between.dark.store(true, Ordering::SeqCst);
    let an_hour = Duration::from_secs(3_600);
    for _ in 0..200 {
        let stream = till.start_retrying(between.clone(), BATCH, [an_hour; 2]);
        // Stopped in the very moment it lies down.
        while stream.worker.state() == StreamState::Running {
            std::hint::spin_loop();
        }
        let stopping = std::thread::spawn(move || stream.stop());
        let up = (0..15_000).any(|_| {
            stopping.is_finished() || {
                std::thread::sleep(Duration::from_millis(1));
                false
            }
        });
        assert!(up, "still asleep");
    }
}

fn a_commit_whose_reply_is_lost_is_not_done_twice(fresh: Fresh) {
    let till = Till::new(fresh);
    let orders = rush("tea", 40);
    till.sell(&orders);
    // Every other batch is written, and then the line goes dead.
    let between = Between::new(till.store(), |call| {
        let put = call.pass()?;
        if call.nth % 2 == 1 {
            Err(away())
        } else {
            Ok(put)
        }
    });
    let stream = till.start(between.clone(), BATCH);
    stream.until_even(&till);
    stream.stop();
    assert_even(&till, &orders);
    // It asked the store where it stands instead of sending the batch again.
    let asked = between.asked.lock();
    let began_at: BTreeSet<_> = asked
        .iter()
        .map(|(from, ..)| from.as_ref().map(|m| m.seq))
        .collect();
    assert_eq!(began_at.len(), asked.len(), "{asked:?}");
}

/// It needs too long for more than a few dozen rows, say, and gives up what it began.
fn a_store_that_is_too_slow_for_a_whole_batch_comes_even(fresh: Fresh) {
    const USUAL: usize = 400;
    const SLOW: usize = 40;
    let till = Till::new(fresh);
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = Arc::clone(&slow);
    let largest = Arc::new(AtomicUsize::new(0));
    let n_rows = Arc::clone(&largest);
    let between = Between::new(till.store(), move |call| {
        if is_slow.load(Ordering::SeqCst) && call.batch.rows.len() > SLOW {
            return Err(away());
        }
        n_rows.fetch_max(call.batch.rows.len(), Ordering::SeqCst);
        call.pass()
    });
    let sell = |buyers: std::ops::Range<u16>| {
        till.write(buyers.map(|n| order_draft(&ordered("tea", n))).collect());
    };
    sell(0..2_000);
    let stream = till.start(between.clone(), USUAL);
    stream.until_even(&till);
    assert_eq!(till.tables(), till.whole());
    // It is seldom asked for more than it can.
    assert!(stream.metrics.errors.get() < 20);

    // What was too much once is tried again, and once it is well it gets whole batches.
    slow.store(false, Ordering::SeqCst);
    for n in 1..5 {
        sell(n * 2_000..(n + 1) * 2_000);
        stream.until_even(&till);
    }
    assert_eq!(largest.load(Ordering::SeqCst), USUAL);
    assert_eq!(till.tables(), till.whole());
}

/// What an engine asks that has to end: has the store what I promised?
fn who_waits_for_the_store_hears_whether_it_has_everything(fresh: Fresh) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let till = Till::new(fresh);
    let between = Between::new(till.store(), |call| call.pass());
    between.dark.store(true, Ordering::SeqCst);
    let stream = till.start(between.clone(), BATCH);
    let nothing = stream.worker.carried(Seq::ZERO, Duration::ZERO);
    assert!(
        runtime.block_on(nothing),
        "who promised nothing waits for nobody"
    );
    till.sell(&rush("tea", 10));
    let carried = |patience| {
        let carried = stream.worker.carried(till.tip().seq, patience);
        runtime.block_on(carried)
    };
    assert!(!carried(Duration::from_millis(20)), "nobody is at home");
    between.dark.store(false, Ordering::SeqCst);
    assert!(carried(Duration::from_secs(180)));
    assert_eq!(till.store().mark(0).unwrap(), Some(till.tip()));
    assert!(carried(Duration::ZERO), "it has it already");

    // From a store that takes nothing any more nobody waits for anything.
    let stranger = Till::new(fresh);
    stranger.sell(&rush("tea", 30));
    let stream = stranger.start(till.store(), BATCH);
    let carried = stream
        .worker
        .carried(stranger.tip().seq, Duration::from_secs(u32::MAX.into()));
    assert!(!runtime.block_on(carried));
}

every_case!(
    who_waits_for_the_store_hears_whether_it_has_everything,
    a_store_that_comes_back_gets_everything,
    a_store_that_is_away_at_the_start_is_waited_for,
    a_store_that_answers_but_takes_nothing_is_not_called_running,
    stopping_does_not_sit_out_a_wait,
    a_commit_whose_reply_is_lost_is_not_done_twice,
    a_store_that_is_too_slow_for_a_whole_batch_comes_even,
);
