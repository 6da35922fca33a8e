//! An order is its newest version and every event once, in whatever order and however
//! often a store is told; what it refuses leaves nothing.

use floodgate_engine::domain::order::{Order, OrderState, Version};
use floodgate_engine::stream::{Put, RowId, StoreError, StoredOrder};

use crate::orders::{
    all_of, batch, bought_and_given_back, mark, n_rows, newest, ordered, rush, shuffle,
};
use crate::places::Fresh;

fn an_older_version_that_comes_late_changes_no_snapshot(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let life = bought_and_given_back("tea", 3);
    let newest = life.last().unwrap();

    store.put(0, &batch([newest]), None, &mark(6)).unwrap();
    let before = place.tables();
    let late = store
        .put(0, &batch(&life[..5]), Some(&mark(6)), &mark(7))
        .unwrap();
    assert_eq!(late, Put::Advanced);

    let after = place.tables();
    for table in ["orders", "order_items"] {
        assert_eq!(before[table], after[table], "{table}");
    }
    assert_eq!(
        all_of(&*store, "tea", 10),
        [StoredOrder {
            order: newest.clone(),
            n_events: 6
        }]
    );
    assert_eq!(n_rows(&*place, "order_events"), 6);
    assert_eq!(n_rows(&*place, "outbox"), 6);
}

fn a_new_owners_first_step_outranks_the_old_owners_last(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let mut old = ordered("tea", 1);
    old.version = Version(1 << 32 | 0xFFFF_FFFF);
    // As far as epochs go: they stay below 2^31.
    let mut new = old.clone();
    new.state = OrderState::Paid;
    new.version = Version::first((1 << 31) - 1);
    store.put(0, &batch([&new, &old]), None, &mark(1)).unwrap();
    assert_eq!(all_of(&*store, "tea", 10)[0].order, new);
}

fn a_replay_leaves_every_table_as_it_was(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let orders = rush("tea", 20);
    store.put(0, &batch(&orders), None, &mark(9)).unwrap();
    let before = place.tables();
    for _ in 0..2 {
        let again = store
            .put(0, &batch(&orders), Some(&mark(9)), &mark(9))
            .unwrap();
        assert_eq!(again, Put::Advanced);
        assert_eq!(place.tables(), before);
    }
    // With another mark, and beside what was never told.
    let late = ordered("tea", 30);
    let more = orders.iter().chain([&late]);
    let again = store.put(0, &batch(more), Some(&mark(9)), &mark(10));
    assert_eq!(again.unwrap(), Put::Advanced);
    let (tidy, all) = (fresh(), orders.iter().chain([&late]));
    let whole = tidy.open().unwrap();
    whole.put(0, &batch(all), None, &mark(10)).unwrap();
    assert_eq!(place.tables(), tidy.tables());
}

fn rows_in_any_order_come_to_the_same(fresh: Fresh) {
    let orders = rush("tea", 15);
    let tidy = fresh();
    tidy.open()
        .unwrap()
        .put(0, &batch(&orders), None, &mark(100))
        .unwrap();

    for seed in 1..=4 {
        let mut mixed = orders.clone();
        shuffle(&mut mixed, seed);
        let place = fresh();
        let store = place.open().unwrap();
        let mut from = None;
        let n = mixed.chunks(7).len() as u64;
        for (i, part) in mixed.chunks(7).enumerate() {
            let to = mark(100 + 1 + i as u64 - n);
            let put = store.put(0, &batch(part), from.as_ref(), &to).unwrap();
            assert_eq!(put, Put::Advanced);
            from = Some(to);
        }
        assert_eq!(place.tables(), tidy.tables(), "seed {seed}");
    }
}

fn a_batch_with_a_refused_row_leaves_nothing(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let first = ordered("tea", 1);
    store.put(0, &batch([&first]), None, &mark(1)).unwrap();
    let before = place.tables();

    // Another order under the same sale, user and key.
    let mut twin = ordered("tea", 9);
    twin.user = first.user.clone();
    twin.key = first.key.clone();
    let good: Vec<Order> = (2..6).map(|n| ordered("tea", n)).collect();
    for at in [0, 2, 4] {
        let mut orders = good.clone();
        orders.insert(at, twin.clone());
        let refused = store
            .put(0, &batch(&orders), Some(&mark(1)), &mark(6))
            .unwrap_err();
        assert!(
            matches!(&refused, StoreError::Poison { row, .. }
                if row.as_ref().is_none_or(|id| *id == RowId::Order(twin.id))),
            "a store need not know which row it was, but it names nobody else: {refused}"
        );
        assert_eq!(place.tables(), before);
        assert_eq!(store.mark(0).unwrap(), Some(mark(1)));
    }

    // Without it the same batch is welcome.
    let put = store
        .put(0, &batch(&good), Some(&mark(1)), &mark(5))
        .unwrap();
    assert_eq!(put, Put::Advanced);
}

fn the_same_key_in_another_sale_or_of_another_buyer_is_another_order(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let tea = ordered("tea", 1);
    let mut coffee = ordered("coffee", 2);
    coffee.user = tea.user.clone();
    coffee.key = tea.key.clone();
    let mut neighbour = ordered("tea", 3);
    neighbour.key = tea.key.clone();
    store
        .put(0, &batch([&tea, &coffee, &neighbour]), None, &mark(3))
        .unwrap();
    assert_eq!(all_of(&*store, "tea", 10), newest([&tea, &neighbour]));
    assert_eq!(all_of(&*store, "coffee", 10), newest([&coffee]));
}

every_case!(
    an_older_version_that_comes_late_changes_no_snapshot,
    a_new_owners_first_step_outranks_the_old_owners_last,
    a_replay_leaves_every_table_as_it_was,
    rows_in_any_order_come_to_the_same,
    a_batch_with_a_refused_row_leaves_nothing,
    the_same_key_in_another_sale_or_of_another_buyer_is_another_order,
);
