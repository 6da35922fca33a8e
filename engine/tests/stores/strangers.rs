//! What is not of this ledger's making: the stream stops before it skips or overwrites
//! anything.

use bytes::Bytes;
use floodgate_engine::domain::order::Order;
use floodgate_engine::stream::{Batch, Mark, Put};
use floodgate_ledger::{ChainHash, Draft, Seq};

use crate::carrying::{BATCH, assert_even};
use crate::orders::{all_of, batch, mark, newest, ordered, rush};
use crate::places::Fresh;
use crate::places::after::order_draft;
use crate::till::Till;
use crate::till::between::Between;

fn a_store_of_another_ledger_is_not_touched(fresh: Fresh) {
    let (till, stranger) = (Till::new(fresh), Till::new(fresh));
    stranger.sell(&rush("tea", 10));
    let stream = stranger.start(till.store(), BATCH);
    stream.until_even(&stranger);
    stream.stop();

    till.sell(&rush("tea", 30));
    let before = till.tables();
    let stream = till.start(till.store(), BATCH);
    let why = stream.until_stopped();
    assert!(
        why.contains(&stranger.ledger.id().to_string())
            && why.contains(&till.ledger.id().to_string()),
        "{why}"
    );
    stream.stop();
    assert_eq!(till.tables(), before);
}

fn a_store_ahead_of_the_ledger_is_not_touched(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&rush("tea", 10));
    let tip = till.tip();
    let ahead = Mark {
        seq: Seq(tip.seq.0 + 5),
        ..tip
    };
    let store = till.store();
    store
        .put(0, &batch(&rush("tea", 12)), None, &ahead)
        .unwrap();
    let before = till.tables();
    let stream = till.start(store, BATCH);
    let why = stream.until_stopped();
    assert!(why.contains("lost its tail"), "{why}");
    stream.stop();
    assert_eq!(till.tables(), before);
}

fn a_store_with_another_history_is_not_touched(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&rush("tea", 10));
    let other = Mark {
        hash: ChainHash([1; 32]),
        ..till.mark_at(4)
    };
    let store = till.store();
    store.put(0, &till.rows(1, 4), None, &other).unwrap();
    let before = till.tables();
    let stream = till.start(store, BATCH);
    let why = stream.until_stopped();
    assert!(why.contains("record 4 is not the one"), "{why}");
    stream.stop();
    assert_eq!(till.tables(), before);
}

fn a_mark_moved_by_another_engine_is_taken_over(fresh: Fresh) {
    let till = Till::new(fresh);
    let orders = rush("tea", 40);
    till.sell(&orders);
    // Just before the second batch somebody else carries it and some more.
    let upto = 2 * BATCH as u64 + 3;
    let (theirs, to) = (till.rows(BATCH as u64 + 1, upto), till.mark_at(upto));
    let (moved, store) = (to.clone(), till.store());
    let between = Between::new(till.store(), move |call| {
        if call.nth == 2 {
            let put = store.put(call.node, &theirs, call.from, &moved)?;
            assert_eq!(put, Put::Advanced);
        }
        call.pass()
    });
    let stream = till.start(between.clone(), BATCH);
    stream.until_even(&till);
    stream.stop();
    assert_even(&till, &orders);
    let (from, _, first) = between.asked.lock()[2].clone();
    assert_eq!((from, first), (Some(to), Some(upto + 1)));
}

fn a_mark_moved_by_another_ledgers_engine_stops_the_stream(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&rush("tea", 40));
    let store = till.store();
    let between = Between::new(till.store(), move |call| {
        if call.nth == 2 {
            store.put(call.node, &Batch::default(), call.from, &mark(3))?;
        }
        call.pass()
    });
    let stream = till.start(between.clone(), BATCH);
    let why = stream.until_stopped();
    assert!(why.contains("was filled from ledger"), "{why}");
    stream.stop();
    assert_eq!(between.n_puts(), 2);
    let store = till.store();
    assert_eq!(store.mark(0).unwrap(), Some(mark(3)));
    let there: u64 = all_of(&*store, "tea", 50).iter().map(|o| o.n_events).sum();
    assert_eq!(there, BATCH as u64);
}

fn a_record_that_is_no_order_stops_the_stream(fresh: Fresh) {
    let till = Till::new(fresh);
    let good: Vec<Order> = (0..BATCH as u16).map(|n| ordered("tea", n)).collect();
    till.sell(&good);
    till.write(vec![Draft {
        body: Bytes::from_static(b"\xFFnot an order"),
        ..order_draft(&ordered("tea", 50))
    }]);
    let stream = till.start(till.store(), BATCH);
    let why = stream.until_stopped();
    assert!(why.contains("record 8"), "{why}");
    stream.stop();
    let store = till.store();
    assert_eq!(store.mark(0).unwrap(), Some(till.mark_at(7)));
    assert_eq!(all_of(&*store, "tea", 10), newest(&good));
}

every_case!(
    a_store_of_another_ledger_is_not_touched,
    a_store_ahead_of_the_ledger_is_not_touched,
    a_store_with_another_history_is_not_touched,
    a_mark_moved_by_another_engine_is_taken_over,
    a_mark_moved_by_another_ledgers_engine_stops_the_stream,
    a_record_that_is_no_order_stops_the_stream,
);
