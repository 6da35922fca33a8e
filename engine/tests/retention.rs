//! Records go, orders stay: what the store has is trimmed, and a store that is
//! older than what is kept gets everything all the same.

#[macro_use]
mod places;
mod till;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stream::retention::{self, LOOK_EVERY};
use floodgate_engine::stream::witness::{self, Disagreement};
use floodgate_engine::stream::{OrderStore, StreamState};
use floodgate_ledger::{ChainHash, Seq};
use tokio::sync::Notify;
use tokio::time::Instant;

use places::Fresh;
use places::after::{a_life_after, stray};
use till::between::{Between, away};
use till::orders::life;
use till::{Stream, T0, Till, ordered};

const HOUR: Duration = Duration::from_secs(3_600);

fn orders(buyers: std::ops::Range<u16>) -> Vec<Order> {
    buyers.map(ordered).collect()
}

/// Trims as the engine does, at this time of the wall clock and with this mark.
fn look(till: &Till, mark: Option<u64>, now: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let (looks, again) = (AtomicU32::new(0), Notify::new());
    let mark = || match looks.fetch_add(1, Ordering::SeqCst) {
        0 => mark.map(Seq),
        // The second look comes when the first is over.
        _ => {
            again.notify_one();
            None
        }
    };
    runtime.block_on(async {
        let began = Instant::now();
        tokio::select! {
            () = retention::run(till.ledger.clone(), mark, || UnixMs(now), HOUR) => {}
            () = again.notified() => {}
        }
        assert_eq!(began.elapsed().as_secs(), 2 * LOOK_EVERY.as_secs());
    });
}

fn floor(till: &Till) -> u64 {
    let identity = till.ledger.reader().identity().expect("reads");
    identity.floor.seq.0
}

fn carry(till: &Till, store: &Arc<dyn OrderStore>) {
    let stream = till.start(Arc::clone(store), 7);
    stream.until_even(till);
    stream.stop();
}

const LATER: u64 = T0 + 2 * 3_600_000;

fn what_the_store_has_goes_once_it_is_old_and_the_stream_goes_on(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&orders(0..20));
    let store = till.store();
    carry(&till, &store);
    look(&till, Some(20), T0 + 1_000);
    assert_eq!(floor(&till), 0, "all are young");
    look(&till, None, LATER);
    assert_eq!(floor(&till), 0, "where the store stands is in doubt");
    look(&till, Some(8), LATER);
    assert_eq!(floor(&till), 8, "the store has no more");
    // Buyer 14's order is the fifteenth record, made at T0 + 14 ms.
    look(&till, Some(20), T0 + 3_600_000 + 14);
    assert_eq!(floor(&till), 15);
    look(&till, Some(20), LATER);
    assert_eq!(floor(&till), 20, "right up to the mark");

    // The mark is the floor: the next start compares with the floor's own hash.
    let till = till.reopen();
    let mark = store.mark(0).expect("reads").expect("a mark");
    witness::check(&till.ledger, &mark).expect("the ledger it was made from");
    till.sell(&orders(20..30));
    carry(&till, &store);
    assert_eq!(till.tables()["orders"].len(), 30);
    assert_eq!(till.tables()["order_events"].len(), 30);
}

fn a_mark_at_the_floor_with_another_history_is_noticed(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&orders(0..5));
    let mut mark = till.tip();
    look(&till, Some(5), LATER);
    witness::check(&till.ledger, &mark).expect("its own");
    mark.hash = ChainHash([7; 32]);
    let said = witness::check(&till.ledger, &mark);
    assert_eq!(said, Err(Disagreement::OtherHistory(5)));
    mark.seq = Seq(6);
    let said = witness::check(&till.ledger, &mark);
    assert_eq!(said, Err(Disagreement::LostTail { mark: 6, tip: 5 }));
}

fn canceled(n: u16) -> Vec<Order> {
    let cancel = OrderEvent::Cancel;
    life(ordered(n), &[cancel])
}

/// A history of 40 orders; the store saw the first records only, and the rest of
/// them went.
fn store_left_behind(till: &Till) -> Arc<dyn OrderStore> {
    till.sell(&orders(0..10));
    let store = till.store();
    carry(till, &store);
    till.sell(&orders(10..40));
    // Three of those that the store has were given back since.
    for n in 0..3 {
        till.sell(&canceled(n)[1..]);
    }
    look(till, Some(till.tip().seq.0), LATER);
    assert_eq!(floor(till), 43);
    till.sell(&orders(40..42));
    store
}

/// As a store that took everything from the start, but for events of the past.
#[track_caller]
fn assert_refilled(till: &Till, n_events: usize) {
    let tables = till.tables();
    assert_eq!(tables["orders"].len(), 42);
    // Every third buyer wants a cup with it.
    assert_eq!(tables["order_items"].len(), 42 + 14);
    assert_eq!(tables["order_events"].len(), n_events);
    assert_eq!(tables["outbox"].len(), n_events);
    let closed = |row: &&String| row.contains("CLOSED");
    assert_eq!(tables["orders"].iter().filter(closed).count(), 3);
}

fn a_store_older_than_what_is_kept_is_refilled(fresh: Fresh) {
    let till = Till::new(fresh);
    let store = store_left_behind(&till);
    carry(&till, &store);
    // It had seen three of the orders twice by the end.
    assert_refilled(&till, 45);
    // And no other way back: what it is given next are records again.
    till.sell(&orders(42..44));
    carry(&till, &store);
    assert_eq!(till.tables()["orders"].len(), 44);
}

fn an_empty_store_is_refilled(fresh: Fresh) {
    let till = Till::new(fresh);
    store_left_behind(&till);
    till.place.meddle(
        "DELETE FROM orders; DELETE FROM order_items; DELETE FROM order_events;
         DELETE FROM outbox; DELETE FROM stream_marks;",
    );
    carry(&till, &till.store());
    assert_refilled(&till, 42);
}

fn payments_and_entitlements_are_refilled_too(fresh: Fresh) {
    let till = Till::new(fresh);
    for n in 0..20 {
        till.sell(&[ordered(n)]);
        till.write(a_life_after(&ordered(n), n));
        till.write(vec![stray(100 + n)]);
    }
    look(&till, Some(till.tip().seq.0), LATER);
    // Twice over: what it has already stays.
    for _ in 0..2 {
        carry(&till, &till.store());
        let (there, whole) = (till.tables(), till.whole_of_snapshots());
        for table in ["orders", "payments", "entitlements", "stream_marks"] {
            assert_eq!(there[table], whole[table], "{table}");
        }
        assert_eq!(there["payments"].len(), 40);
        assert_eq!(there["entitlements"].len(), 20);
        // The newest of each: created, refunded, revoked, and the stray's review.
        assert_eq!(there["outbox"].len(), 80);
        till.place
            .meddle("DELETE FROM payments; DELETE FROM stream_marks");
    }
}

/// The same under a stream that runs, believes that it is even, and is given nothing.
fn a_store_that_is_erased_under_a_running_stream_is_refilled(fresh: Fresh) {
    let till = Till::new(fresh);
    let store = store_left_behind(&till);
    let stream = till.start(store, 7);
    stream.until_even(&till);
    assert_refilled(&till, 45);
    till.place.meddle(
        "DELETE FROM orders; DELETE FROM order_items; DELETE FROM order_events;
         DELETE FROM outbox; DELETE FROM stream_marks;",
    );
    stream.until("filled again", |_| till.tables()["stream_marks"].len() == 1);
    stream.until_even(&till);
    stream.stop();
    assert_refilled(&till, 42);
}

fn a_refill_cut_off_anywhere_is_done_again(fresh: Fresh) {
    for nth in 1..=7 {
        let till = Till::new(fresh);
        let store = store_left_behind(&till);
        let between = Between::new(Arc::clone(&store), move |call| {
            if call.nth < nth {
                call.pass()
            } else {
                Err(away())
            }
        });
        let stream = till.start(between, 7);
        stream.until("cut off", |w| matches!(w.state(), StreamState::Waiting(_)));
        stream.stop();
        if nth < 7 {
            assert_eq!(store.mark(0).expect("reads").map(|m| m.seq), Some(Seq(10)));
        }
        carry(&till, &store);
        assert_refilled(&till, 45);
    }
}

fn an_order_that_the_store_refuses_in_a_refill_becomes_a_dead_letter(fresh: Fresh) {
    let till = Till::new(fresh);
    let store = store_left_behind(&till);
    let place = &till.place;
    place.refuse("NEW.user_id = 'buyer-20'", "not this one");
    let stream = till.start(Arc::clone(&store), 7);
    stream.until_even(&till);
    assert_eq!(stream.letters.count(), 1);
    assert_eq!(till.tables()["orders"].len(), 41);
    place.accept_all();
    let letter = stream.letters.page(0, 9).expect("reads")[0].seq;
    stream.letters.replay(letter).expect("replays");
    stream.stop();
    assert_refilled(&till, 45);
}

/// The gauge is the age of the first record that the store lacks.
fn the_lag_in_seconds_is_the_age_of_what_waits(fresh: Fresh) {
    let mut till = Till::new(fresh);
    till.now = T0 + 10_000;
    till.sell(&orders(0..14));
    // Takes its first batch of seven and no more.
    let between = Between::new(till.store(), |call| {
        if call.nth == 1 {
            call.pass()
        } else {
            Err(away())
        }
    });
    let stream = till.start(between, 7);
    stream.until("seven behind", |_| stream.metrics.lag_records.get() == 7);
    lag(&stream, 9.993);
    stream.stop();
    carry(&till, &till.store());
}

#[track_caller]
fn lag(stream: &Stream, seconds: f64) {
    let mut last = f64::NAN;
    for _ in 0..5_000 {
        last = stream.metrics.lag_seconds.get();
        if (last - seconds).abs() < 1e-9 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{last} seconds instead of {seconds}");
}

every_case!(
    what_the_store_has_goes_once_it_is_old_and_the_stream_goes_on,
    a_mark_at_the_floor_with_another_history_is_noticed,
    a_store_older_than_what_is_kept_is_refilled,
    an_empty_store_is_refilled,
    payments_and_entitlements_are_refilled_too,
    a_store_that_is_erased_under_a_running_stream_is_refilled,
    a_refill_cut_off_anywhere_is_done_again,
    an_order_that_the_store_refuses_in_a_refill_becomes_a_dead_letter,
    the_lag_in_seconds_is_the_age_of_what_waits,
);
