//! A batch and the next one, put in one call: what a store makes of two at a time must
//! be what it makes of one after the other, and never the second without the first.

use std::sync::Arc;

use floodgate_engine::domain::order::Order;
use floodgate_engine::stream::{Batch, Mark, OrderStore, Put, StoreError};

use crate::orders::{all_of, batch, bought_and_given_back, mark, newest, ordered, rush};
use crate::places::postgres::Server;
use crate::places::{Fresh, Place, store_config};

type PutTwo = Result<(Put, bool), StoreError>;

/// A store that stands at 1 and has nothing else.
fn begun(place: &dyn Place) -> Arc<dyn OrderStore> {
    let store = place.open().unwrap();
    store.put(0, &Batch::default(), None, &mark(1)).unwrap();
    store
}

/// From 1 to 2 with `batch`, and to 3 with `next`.
fn put_two(store: &dyn OrderStore, batch: &Batch, next: &Batch) -> PutTwo {
    store.put_with_next(0, batch, Some(&mark(1)), &mark(2), (next, &mark(3)))
}

/// As the worker goes on: what was not put with the batch before it is put again.
fn put_all(store: &dyn OrderStore, batches: &[(Batch, Mark)], mut from: Option<Mark>) {
    let mut at = 0;
    while let Some((batch, to)) = batches.get(at) {
        let (put, next_is_in) = match batches.get(at + 1) {
            Some((next, next_to)) => store
                .put_with_next(0, batch, from.as_ref(), to, (next, next_to))
                .unwrap(),
            None => (store.put(0, batch, from.as_ref(), to).unwrap(), false),
        };
        assert_eq!(put, Put::Advanced);
        at += if next_is_in { 2 } else { 1 };
        from = Some(batches[at - 1].1.clone());
        assert_eq!(store.mark(0).unwrap(), from);
    }
}

fn two_at_a_time_come_to_the_same(fresh: Fresh) {
    // First steps are each of another order; later ones meet in batches side by side.
    let orders = rush("tea", 60);
    let batches: Vec<(Batch, Mark)> = (1..)
        .zip(orders.chunks(7))
        .map(|(n, part)| (batch(part), mark(n)))
        .collect();
    let (tidy, place) = (fresh(), fresh());
    let last = mark(batches.len() as u64);
    tidy.open()
        .unwrap()
        .put(0, &batch(&orders), None, &last)
        .unwrap();
    put_all(&*place.open().unwrap(), &batches, None);
    assert_eq!(place.tables(), tidy.tables());
}

fn a_refused_batch_keeps_the_next_one_out(fresh: Fresh) {
    let place = fresh();
    let store = begun(&*place);
    let (bad, good) = (ordered("tea", 1), ordered("tea", 2));
    let before = place.tables();
    place.refuse("NEW.user_id = 'buyer-1'", "no buyer-1");
    for _ in 0..10 {
        let refused = put_two(&*store, &batch([&bad]), &batch([&good])).unwrap_err();
        assert!(matches!(refused, StoreError::Poison { .. }), "{refused}");
        assert_eq!(place.tables(), before);
    }
    place.accept_all();
    let batches = [(batch([&bad]), mark(2)), (batch([&good]), mark(3))];
    put_all(&*store, &batches, Some(mark(1)));
    assert_eq!(all_of(&*store, "tea", 9), newest([&bad, &good]));
}

fn a_refused_next_one_keeps_nobody_out(fresh: Fresh) {
    let place = fresh();
    let store = begun(&*place);
    let (good, bad) = (ordered("tea", 1), ordered("tea", 2));
    place.refuse("NEW.user_id = 'buyer-2'", "no buyer-2");
    let put = put_two(&*store, &batch([&good]), &batch([&bad])).unwrap();
    assert_eq!(put, (Put::Advanced, false));
    assert_eq!(store.mark(0).unwrap(), Some(mark(2)));
    assert_eq!(all_of(&*store, "tea", 9), newest([&good]));
    // Put again it is refused like any other, and its line is as good as before.
    let refused = store.put(0, &batch([&bad]), Some(&mark(2)), &mark(3));
    assert!(matches!(refused, Err(StoreError::Poison { .. })));
    place.accept_all();
    let others = [3, 4].map(|n| ordered("tea", n));
    let batches = [
        (batch([&bad]), mark(3)),
        (batch([&others[0]]), mark(4)),
        (batch([&others[1]]), mark(5)),
    ];
    put_all(&*store, &batches, Some(mark(2)));
    let all = [&good, &bad, &others[0], &others[1]];
    assert_eq!(all_of(&*store, "tea", 9), newest(all));
}

fn a_mark_that_somebody_else_moved_lets_neither_in(fresh: Fresh) {
    let place = fresh();
    let store = begun(&*place);
    let theirs = place.open().unwrap();
    let nothing = Batch::default();
    // Where the first would have put it, and elsewhere.
    for (from, stands) in [(1, 2), (2, 9)] {
        let moved = theirs.put(0, &nothing, Some(&mark(from)), &mark(stands));
        assert_eq!(moved.unwrap(), Put::Advanced);
        let before = place.tables();
        let (one, two) = (ordered("tea", 1), ordered("tea", 2));
        let put = put_two(&*store, &batch([&one]), &batch([&two])).unwrap();
        assert_eq!(put, (Put::MarkMoved(Some(mark(stands))), false));
        assert_eq!(place.tables(), before);
    }
}

fn batches_that_share_an_order_come_to_its_newest_version(fresh: Fresh) {
    let life = bought_and_given_back("tea", 3);
    for _ in 0..10 {
        let place = fresh();
        let store = begun(&*place);
        // The same order in both, in the middle of others of its own each.
        let with = |n: u16, shared: &[Order]| {
            let mut orders: Vec<Order> = (n..n + 20).map(|n| ordered("tea", n)).collect();
            orders.splice(10..10, shared.iter().cloned());
            orders
        };
        let (first, next) = (with(100, &life[..3]), with(200, &life[3..]));
        let put = put_two(&*store, &batch(&first), &batch(&next)).unwrap();
        // Neither store writes them at the same time: they would wait for each other.
        assert_eq!(put, (Put::Advanced, false));
        assert_eq!(all_of(&*store, "tea", 99), newest(&first));
        let put = store.put(0, &batch(&next), Some(&mark(2)), &mark(3));
        assert_eq!(put.unwrap(), Put::Advanced);
        assert_eq!(
            all_of(&*store, "tea", 99),
            newest(first.iter().chain(&next))
        );
    }
}

fn an_order_under_anothers_key_is_refused_in_the_next_batch_too(fresh: Fresh) {
    let place = fresh();
    let store = begun(&*place);
    let first = ordered("tea", 1);
    let mut twin = ordered("tea", 9);
    twin.user = first.user.clone();
    twin.key = first.key.clone();
    // Whoever of them comes to the key first: the batch is in and the next one is not.
    let others: Vec<Order> = (20..60).map(|n| ordered("tea", n)).collect();
    let late = others.iter().chain([&first]);
    let put = put_two(&*store, &batch(late), &batch([&twin])).unwrap();
    assert_eq!(put, (Put::Advanced, false));
    assert_eq!(store.mark(0).unwrap(), Some(mark(2)));
    let refused = store.put(0, &batch([&twin]), Some(&mark(2)), &mark(3));
    assert!(matches!(refused, Err(StoreError::Poison { .. })));
}

fn a_replay_as_the_next_batch_changes_nothing(fresh: Fresh) {
    let place = fresh();
    let orders = rush("tea", 20);
    let store = place.open().unwrap();
    store.put(0, &batch(&orders), None, &mark(1)).unwrap();
    let late = ordered("tea", 30);
    let batches = [(batch([&late]), mark(2)), (batch(&orders), mark(3))];
    put_all(&*store, &batches, Some(mark(1)));
    let all = orders.iter().chain([&late]);
    assert_eq!(all_of(&*store, "tea", 9), newest(all));
}

every_case!(
    a_replay_as_the_next_batch_changes_nothing,
    two_at_a_time_come_to_the_same,
    a_refused_batch_keeps_the_next_one_out,
    a_refused_next_one_keeps_nobody_out,
    a_mark_that_somebody_else_moved_lets_neither_in,
    batches_that_share_an_order_come_to_its_newest_version,
    an_order_under_anothers_key_is_refused_in_the_next_batch_too,
);

/// A PostgreSQL that is held up by somebody else in the middle of the first batch, while
/// the second is written to its end. What becomes of the first is `theirs` to say.
fn held_up(theirs: &str) -> (PutTwo, Vec<String>, Option<Mark>) {
    let server = Server::shared();
    let database = server.database();
    let store =
        floodgate_engine::stream::open(&store_config(&server.store(&database)), "nowhere".as_ref())
            .unwrap();
    store.put(0, &Batch::default(), None, &mark(1)).unwrap();
    let users = "SELECT user_id FROM orders ORDER BY order_id";
    let mut somebody = server.session(&database);
    // Under the first order's key: who is first there is known when this ends.
    somebody.say("BEGIN");
    somebody.say(
        "INSERT INTO orders VALUES (gen_random_uuid(), 'tea', 'buyer-1', 'key_1', 'PAID', 1, 0,
                                    'EUR', 0, 0, 0, '')",
    );
    let until = |what: &str, sql: &str, so: &str| {
        for _ in 0..1_000 {
            if server.sql(&database, sql).trim() == so {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        panic!("never {what}");
    };
    let inside = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND state = 'idle in transaction'";
    until("inserted", inside, "1");
    let put = std::thread::scope(|scope| {
        let putting = scope.spawn(|| {
            let two = [1, 2].map(|n| batch([&ordered("tea", n)]));
            put_two(&*store, &two[0], &two[1])
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("both waiting", waiting, "2");
        // The second batch is written, and nobody sees it before the first.
        assert_eq!(server.sql(&database, users), "");
        somebody.say(theirs);
        putting.join().unwrap()
    });
    drop(somebody);
    let seen = server.sql(&database, users);
    let seen = seen.lines().map(str::to_owned).collect();
    (put, seen, store.mark(0).unwrap())
}

#[test]
fn two_batches_are_written_at_the_same_time_and_seen_in_turn() {
    let (put, seen, stands) = held_up("ROLLBACK");
    assert_eq!(put.unwrap(), (Put::Advanced, true));
    assert_eq!(seen, ["buyer-1", "buyer-2"]);
    assert_eq!(stands, Some(mark(3)));
}

#[test]
fn a_batch_that_is_refused_late_takes_the_next_one_with_it() {
    let (put, seen, stands) = held_up("COMMIT");
    let refused = put.unwrap_err();
    assert!(matches!(refused, StoreError::Poison { .. }), "{refused}");
    assert_eq!(seen, ["buyer-1"], "theirs alone");
    assert_eq!(stands, Some(mark(1)));
}
