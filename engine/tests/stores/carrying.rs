//! The stream carries everything that the ledger has, and goes on where it stood, however
//! often it is cut off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use floodgate_engine::domain::order::Order;
use floodgate_engine::stream::{Busy, StreamState};
use floodgate_ledger::{Draft, Kind};

use crate::orders::{all_of, newest, ordered, rush, some_life};
use crate::places::Fresh;
use crate::places::after::order_draft;
use crate::till::Till;
use crate::till::between::{Between, away};

/// As many records as the worker carries at once.
pub const BATCH: usize = 7;

/// The store holds exactly what the ledger says: field by field, and in every
/// table like a store that was filled in one go.
pub fn assert_even(till: &Till, orders: &[Order]) {
    let store = till.store();
    assert_eq!(store.mark(0).unwrap(), Some(till.tip()));
    let mut by_sale: BTreeMap<&str, Vec<&Order>> = BTreeMap::new();
    for order in orders {
        by_sale.entry(order.sale.as_str()).or_default().push(order);
    }
    for (name, orders) in by_sale {
        assert_eq!(all_of(&*store, name, 10), newest(orders), "{name}");
    }
    assert_eq!(till.tables(), till.whole());
}

fn the_stream_carries_every_order(fresh: Fresh) {
    let till = Till::new(fresh);
    // Half of it was there before the stream began.
    let mut orders = rush("tea", 60);
    till.sell(&orders);
    let stream = till.start(till.store(), BATCH);
    let later: Vec<Order> = (200..240).flat_map(|n| some_life("coffee", n)).collect();
    till.sell(&later);
    orders.extend(later);
    stream.until_even(&till);
    assert_even(&till, &orders);

    // It keeps looking after it was even once.
    let late = ordered("tea", 900);
    till.sell([&late]);
    orders.push(late);
    stream.until_even(&till);
    stream.stop();
    assert_even(&till, &orders);
}

fn records_of_other_kinds_only_move_the_mark(fresh: Fresh) {
    let till = Till::new(fresh);
    let orders: Vec<Order> = (0..3).map(|n| ordered("tea", n)).collect();
    let other = |n| Draft {
        kind: Kind(2),
        body: Bytes::from_static(b"a sale, say"),
        ..order_draft(&ordered("tea", n))
    };
    // More than one batch of nothing for us, then orders, then nothing again.
    till.write((20..40).map(other).collect());
    till.sell(&orders);
    till.write(vec![other(40)]);
    let stream = till.start(till.store(), BATCH);
    stream.until_even(&till);
    assert_even(&till, &orders);
}

fn an_empty_ledger_leaves_the_store_alone(fresh: Fresh) {
    let till = Till::new(fresh);
    let between = Between::new(till.store(), |call| call.pass());
    let stream = till.start(between.clone(), BATCH);
    let order = ordered("tea", 1);
    // The first thing it ever puts is the first record, from no mark at all.
    till.sell([&order]);
    stream.until_even(&till);
    stream.stop();
    assert_eq!(*between.asked.lock(), [(None, till.tip(), Some(1))]);
}

fn a_restart_goes_on_from_the_mark(fresh: Fresh) {
    let till = Till::new(fresh);
    let orders = rush("tea", 40);
    till.sell(&orders);
    let between = Between::new(till.store(), |call| {
        if call.nth > 3 {
            Err(away())
        } else {
            call.pass()
        }
    });
    let stream = till.start(between.clone(), BATCH);
    let middle = till.mark_at(3 * BATCH as u64);
    stream.until("stuck in the middle", |worker| {
        matches!(worker.state(), StreamState::Waiting(_))
    });
    assert_eq!(stream.worker.mark(), Some(middle.clone()));
    stream.stop();
    drop(between);

    // Another run of the engine: ledger and store are opened anew.
    let till = till.reopen();
    let between = Between::new(till.store(), |call| call.pass());
    let stream = till.start(between.clone(), BATCH);
    stream.until_even(&till);
    stream.stop();
    assert_even(&till, &orders);
    let (from, _, first) = between.asked.lock()[0].clone();
    assert_eq!((from, first), (Some(middle), Some(3 * BATCH as u64 + 1)));
}

fn a_stream_cut_off_anywhere_comes_to_the_same_end(fresh: Fresh) {
    let till = Till::new(fresh);
    let orders = rush("tea", 60);
    till.sell(&orders);
    // One batch, or two, or none: each run ends as soon as it moved.
    let mut n_runs = 0;
    loop {
        let stream = till.start(till.store(), BATCH);
        let before = till.store().mark(0).unwrap();
        stream.until("moved", |worker| {
            let now = worker.mark();
            now == Some(till.tip()) || (now.is_some() && now != before)
        });
        stream.stop();
        n_runs += 1;
        if till.store().mark(0).unwrap() == Some(till.tip()) {
            break;
        }
        assert!(n_runs < 1_000);
    }
    assert_even(&till, &orders);
}

fn streams_that_fight_for_the_mark_come_to_the_same_end(fresh: Fresh) {
    let till = Till::new(fresh);
    let mut orders = rush("tea", 60);
    till.sell(&orders);
    // Two engines that both take themselves for the only one. Neither knows when the
    // other writes; each batch of one is a lost mark for the other.
    let streams = [(); 2].map(|()| till.start(till.store(), BATCH));
    for round in 0..10 {
        let later: Vec<Order> = (0..6)
            .flat_map(|n| some_life("coffee", 200 + round * 6 + n))
            .collect();
        till.sell(&later);
        orders.extend(later);
        for stream in &streams {
            stream.until_even(&till);
        }
    }
    for stream in streams {
        stream.stop();
    }
    assert_even(&till, &orders);
}

/// How many batches the store is given together with the next one.
fn n_pairs_beside(fresh: Fresh, busy: Busy) -> usize {
    let till = Till::new(fresh);
    let orders = rush("tea", 200);
    till.sell(&orders);
    let between = Between::new(till.store(), |call| call.pass());
    let stream = till.start_beside(between.clone(), BATCH, busy);
    stream.until_even(&till);
    stream.stop();
    assert_even(&till, &orders);
    between.n_pairs.load(Ordering::SeqCst)
}

fn two_batches_at_a_time_are_for_hours_when_nobody_needs_the_processors(fresh: Fresh) {
    assert_ne!(n_pairs_beside(fresh, Box::new(|| Duration::ZERO)), 0);
    let looks = AtomicU32::new(0);
    let busy = move || Duration::from_secs(3_600) * looks.fetch_add(1, Ordering::SeqCst);
    assert_eq!(n_pairs_beside(fresh, Box::new(busy)), 0);
}

every_case!(
    two_batches_at_a_time_are_for_hours_when_nobody_needs_the_processors,
    the_stream_carries_every_order,
    records_of_other_kinds_only_move_the_mark,
    an_empty_ledger_leaves_the_store_alone,
    a_restart_goes_on_from_the_mark,
    a_stream_cut_off_anywhere_comes_to_the_same_end,
    streams_that_fight_for_the_mark_come_to_the_same_end,
);
