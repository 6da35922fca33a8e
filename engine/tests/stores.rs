//! The order store keeps its word, and the stream carries the ledger into it.
//!
//! Every case is written against the seam and a [`Place`] where a store lives,
//! so that each kind of store answers to the same list; see the last lines and
//! `places/`.
//! Held here: snapshots by version, every event once, rows and mark together or
//! not at all, and a stream that would rather stop than skip or overwrite.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

#[macro_use]
mod places;
#[path = "stores/pairs.rs"]
mod pairs;
#[path = "stores/payments.rs"]
mod payments;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use floodgate_engine::domain::ids::{
    BucketNo, DeviceId, EntitlementId, Fingerprint, IdemKey, NodeNo, OrderId, OrderIdParts,
    PaymentId, SaleId, SaleNo, SkuId, UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Item, Order, OrderEvent, OrderState, Version};
use floodgate_engine::domain::time::{Clock, UnixMs};
use floodgate_engine::stream::{
    Batch, EntitlementFact, FactPage, Letters, Mark, OrderRow, OrderStore, PaymentFact, Put, Row,
    RowId, StockCount, StoreError, StoredOrder, StoredPage, StreamMetrics, StreamState,
    StreamWorker, WorkerConfig, rows_of,
};
use floodgate_ledger::{ChainHash, Draft, Group, Kind, Ledger, LedgerConfig, LedgerId, Seq};
use parking_lot::Mutex;
use places::after::{self, order_draft};
use places::{Fresh, Place};

// The sale, its buyers and their orders.

const T0: u64 = 1_794_355_200_000;

fn sale(name: &str) -> SaleId {
    SaleId::parse(name).unwrap()
}

fn order_id(n: u16) -> OrderId {
    OrderId::from_parts(OrderIdParts {
        ms: T0 + u64::from(n / 3), // Some share a millisecond.
        bucket: BucketNo(n % 64),
        sale: SaleNo(7),
        node: NodeNo(1),
        counter: n,
        random: u32::from(n) * 31,
    })
}

/// Buyer `n` asks `sale` for tea, every third one for a cup with it.
fn ordered(name: &str, n: u16) -> Order {
    let item = |sku: &str, quantity, cents| Item {
        sku: SkuId::parse(sku).unwrap(),
        quantity,
        price: Cents(cents),
    };
    let mut items = floodgate_engine::domain::order::Items::new();
    if n.is_multiple_of(3) {
        items.push(item("cup", 1, 450));
    }
    items.push(item("tea", 1 + u32::from(n % 4), 1_999));
    let sale = sale(name);
    let until = UnixMs(T0 + 900_000 + u64::from(n));
    Order {
        id: order_id(n),
        user: UserId::parse(&format!("buyer-{n}")).unwrap(),
        key: IdemKey::parse(&format!("key_{n}")).unwrap(),
        fingerprint: Fingerprint::of(&sale, items.iter().map(|i| (&i.sku, i.quantity))),
        sale,
        items,
        currency: Currency::parse("EUR").unwrap(),
        state: OrderState::PendingPayment {
            until,
            grace_used: false,
        },
        version: Version::first(1),
        created_at: UnixMs(T0 + u64::from(n)),
        updated_at: UnixMs(T0 + u64::from(n)),
        pay_deadline: until,
        device: n
            .is_multiple_of(2)
            .then(|| DeviceId::parse(&format!("phone-{n}")).unwrap()),
    }
}

/// What happens to an order, from its first version to its last.
fn life(first: Order, events: &[OrderEvent]) -> Vec<Order> {
    let mut versions = vec![first];
    for (i, event) in events.iter().enumerate() {
        let last = versions.last().unwrap();
        // The last steps fall to a desk that took the bucket over.
        let epoch = if i >= 2 { 2 } else { 1 };
        let now = UnixMs(last.updated_at.0 + 1_000);
        let (next, _) = last.step(*event, epoch, now).unwrap().unwrap();
        versions.push(next);
    }
    versions
}

fn bought_and_given_back(name: &str, n: u16) -> Vec<Order> {
    use OrderEvent::{Granted, PaymentApplied, PaymentStarted, RefundAsked, RefundDone};
    let until = UnixMs(T0 + 1_200_000);
    life(
        ordered(name, n),
        &[
            PaymentStarted { until },
            PaymentApplied,
            Granted,
            RefundAsked { restock: true },
            RefundDone,
        ],
    )
}

/// A life for everybody; the buyers do not all do the same.
fn some_life(name: &str, n: u16) -> Vec<Order> {
    use OrderEvent::{Cancel, HeldAgain, PaymentApplied, WindowEnded};
    let first = ordered(name, n);
    let now = UnixMs(T0 + 5_000_000);
    match n % 5 {
        0 => vec![first],
        1 => life(first, &[PaymentApplied]),
        2 => life(
            first,
            &[
                WindowEnded { now },
                HeldAgain { until: now },
                PaymentApplied,
            ],
        ),
        3 => life(first, &[Cancel]),
        _ => bought_and_given_back(name, n),
    }
}

/// The lives of `n` buyers as a ledger sees them: everybody's first step, then
/// everybody's second, and so on.
fn rush(name: &str, n: u16) -> Vec<Order> {
    let lives: Vec<_> = (0..n).map(|i| some_life(name, i)).collect();
    let longest = lives.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|step| lives.iter().filter_map(move |l| l.get(step).cloned()))
        .collect()
}

/// The newest version of each, and how many versions there were.
fn newest<'a>(versions: impl IntoIterator<Item = &'a Order>) -> Vec<StoredOrder> {
    let mut by_id: BTreeMap<OrderId, StoredOrder> = BTreeMap::new();
    for order in versions {
        let kept = by_id.entry(order.id).or_insert_with(|| StoredOrder {
            order: order.clone(),
            n_events: 0,
        });
        kept.n_events += 1;
        if kept.order.version < order.version {
            kept.order = order.clone();
        }
    }
    by_id.into_values().collect()
}

fn row(order: &Order) -> OrderRow {
    match after::row(&order_draft(order)) {
        Row::Order(row) => row,
        other @ (Row::Payment(_) | Row::Entitlement(_)) => panic!("no order: {other:?}"),
    }
}

fn batch<'a>(orders: impl IntoIterator<Item = &'a Order>) -> Batch {
    Batch {
        rows: orders.into_iter().map(row).map(Row::Order).collect(),
        ..Batch::default()
    }
}

fn mark(seq: u64) -> Mark {
    Mark {
        ledger: LedgerId([7; 16]),
        seq: Seq(seq),
        hash: ChainHash([seq as u8; 32]),
    }
}

/// Everything of a sale, in pages of `limit`.
fn all_of(store: &dyn OrderStore, name: &str, limit: usize) -> Vec<StoredOrder> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.orders_page(0, &sale(name), after, limit).unwrap();
        assert!(page.orders.len() <= limit);
        all.extend(page.orders);
        match page.next {
            Some(next) => {
                assert!(after < Some(next), "a page that does not move on");
                after = Some(next);
            }
            None => return all,
        }
    }
}

fn n_rows(place: &dyn Place, table: &str) -> usize {
    place.tables()[table].len()
}

/// A small generator of its own: the same disorder at every run.
fn shuffle<T>(list: &mut [T], mut seed: u64) {
    for i in (1..list.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        list.swap(i, (seed >> 33) as usize % (i + 1));
    }
}

// The store.

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

fn a_mark_that_somebody_else_moved_is_left_to_them(fresh: Fresh) {
    let place = fresh();
    // Two engines, two handles, one store.
    let (ours, theirs) = (place.open().unwrap(), place.open().unwrap());
    ours.put(0, &batch([&ordered("tea", 1)]), None, &mark(1))
        .unwrap();
    theirs
        .put(0, &batch([&ordered("tea", 2)]), Some(&mark(1)), &mark(2))
        .unwrap();

    let before = place.tables();
    let lost = ours
        .put(0, &batch([&ordered("tea", 3)]), Some(&mark(1)), &mark(5))
        .unwrap();
    assert_eq!(lost, Put::MarkMoved(Some(mark(2))));
    assert_eq!(place.tables(), before);

    // The seq alone is not the mark: another ledger, another history.
    for stranger in [
        Mark {
            ledger: LedgerId([8; 16]),
            ..mark(2)
        },
        Mark {
            hash: ChainHash([9; 32]),
            ..mark(2)
        },
    ] {
        let lost = ours
            .put(0, &batch([&ordered("tea", 3)]), Some(&stranger), &mark(5))
            .unwrap();
        assert_eq!(lost, Put::MarkMoved(Some(mark(2))));
    }
    assert_eq!(place.tables(), before);

    let won = ours
        .put(0, &batch([&ordered("tea", 3)]), Some(&mark(2)), &mark(5))
        .unwrap();
    assert_eq!(won, Put::Advanced);
    assert_eq!(theirs.mark(0).unwrap(), Some(mark(5)));
}

fn a_mark_that_is_gone_is_not_made_up(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    assert_eq!(store.mark(0).unwrap(), None);
    let put = store
        .put(0, &batch([&ordered("tea", 1)]), Some(&mark(4)), &mark(5))
        .unwrap();
    assert_eq!(put, Put::MarkMoved(None));
    assert_eq!(store.mark(0).unwrap(), None);
    assert!(place.tables().values().all(Vec::is_empty));
}

fn the_first_mark_is_set_once_whoever_comes(fresh: Fresh) {
    let place = fresh();
    let gate = std::sync::Barrier::new(8);
    let stores: Vec<_> = (0..8).map(|_| place.open().unwrap()).collect();
    let puts: Vec<Put> = std::thread::scope(|scope| {
        let engines: Vec<_> = (0_u16..)
            .zip(&stores)
            .map(|(n, store)| {
                let gate = &gate;
                scope.spawn(move || {
                    gate.wait();
                    let to = mark(1 + u64::from(n));
                    store
                        .put(0, &batch([&ordered("tea", n)]), None, &to)
                        .unwrap()
                })
            })
            .collect();
        engines.into_iter().map(|e| e.join().unwrap()).collect()
    });

    let winners: Vec<u16> = (0_u16..)
        .zip(&puts)
        .filter(|(_, put)| **put == Put::Advanced)
        .map(|(n, _)| n)
        .collect();
    let [winner] = winners[..] else {
        panic!("winners: {winners:?}");
    };
    let stands = mark(1 + u64::from(winner));
    let n_told = puts
        .iter()
        .filter(|put| **put == Put::MarkMoved(Some(stands.clone())))
        .count();
    assert_eq!(n_told, 7);
    let there = all_of(&*stores[0], "tea", 10);
    assert_eq!(there, newest([&ordered("tea", winner)]));
}

fn every_node_has_a_mark_of_its_own(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    store
        .put(0, &batch([&ordered("tea", 1)]), None, &mark(3))
        .unwrap();
    store
        .put(1023, &batch([&ordered("tea", 2)]), None, &mark(8))
        .unwrap();
    assert_eq!(store.mark(0).unwrap(), Some(mark(3)));
    assert_eq!(store.mark(1023).unwrap(), Some(mark(8)));
    assert_eq!(store.mark(1).unwrap(), None);
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

fn a_mark_moves_without_any_rows(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    store.put(0, &Batch::default(), None, &mark(1)).unwrap();
    let put = store
        .put(0, &Batch::default(), Some(&mark(1)), &mark(2))
        .unwrap();
    assert_eq!(put, Put::Advanced);
    assert_eq!(store.mark(0).unwrap(), Some(mark(2)));
}

fn pages_are_complete_and_repeat_nothing(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let mut tea: Vec<Order> = (0..23).flat_map(|n| some_life("tea", n)).collect();
    let coffee: Vec<Order> = (100..110).flat_map(|n| some_life("coffee", n)).collect();
    shuffle(&mut tea, 5);
    let everything: Vec<&Order> = tea.iter().chain(&coffee).collect();
    store.put(0, &batch(everything), None, &mark(50)).unwrap();

    let expected = newest(&tea);
    for limit in [1, 2, 5, 22, 23, 24, 1_000] {
        assert_eq!(all_of(&*store, "tea", limit), expected, "pages of {limit}");
    }
    assert_eq!(all_of(&*store, "coffee", 3), newest(&coffee));
    assert_eq!(all_of(&*store, "nobody-sells-this", 3), []);

    // Any id is a place to go on from, also one that is not there.
    let gone = order_id(999);
    assert!(gone > expected.last().unwrap().order.id);
    let page = store.orders_page(0, &sale("tea"), Some(gone), 5).unwrap();
    assert!(page.orders.is_empty() && page.next.is_none());
    assert_eq!(page.mark, Some(mark(50)));
}

fn a_page_says_at_which_mark_it_was_read(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let read = |after| store.orders_page(0, &sale("tea"), after, 2).unwrap();
    assert_eq!(read(None).mark, None);

    let early: Vec<Order> = (0..3).map(|n| ordered("tea", n)).collect();
    store.put(0, &batch(&early), None, &mark(3)).unwrap();
    let first = read(None);
    assert_eq!((first.orders.len(), first.mark), (2, Some(mark(3))));

    // The stream goes on while somebody turns pages.
    store
        .put(0, &batch([&ordered("tea", 60)]), Some(&mark(3)), &mark(4))
        .unwrap();
    let second = read(first.next);
    assert_eq!(second.mark, Some(mark(4)));
    let ids: Vec<_> = second.orders.iter().map(|o| o.order.id).collect();
    assert_eq!(ids, [early[2].id, order_id(60)]);
}

/// Audits compare with the ledger at the mark: a row more or less would be a lie.
fn rows_and_mark_are_read_at_one_moment(fresh: Fresh) {
    const N: u16 = 300;
    let place = fresh();
    let store = place.open().unwrap();
    let orders: Vec<Order> = (1..=N).map(|n| ordered("tea", n)).collect();
    let tea_until = |seq: u64| -> u64 {
        let counted = orders.iter().take(seq as usize);
        let tea = counted.map(|o| o.items.iter().find(|i| i.sku.as_str() == "tea").unwrap());
        tea.map(|item| u64::from(item.quantity)).sum()
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (seq, order) in (1_u64..).zip(&orders) {
                let from = (seq > 1).then(|| mark(seq - 1));
                let put = store.put(0, &batch([order]), from.as_ref(), &mark(seq));
                assert_eq!(put.unwrap(), Put::Advanced);
            }
            done.store(true, Ordering::SeqCst);
        });
        let none = BTreeSet::new();
        while !done.load(Ordering::SeqCst) {
            let page = store.orders_page(0, &sale("tea"), None, 1_000).unwrap();
            let seq = page.mark.map_or(0, |m| m.seq.0);
            assert_eq!(page.orders.len() as u64, seq);
            let (counts, at) = store.stock_counts(0, &sale("tea"), &none).unwrap();
            let tea = counts.iter().find(|c| c.sku == "tea").map_or(0, |c| c.held);
            assert_eq!(tea, tea_until(at.map_or(0, |m| m.seq.0)));
        }
    });
}

fn stock_is_counted_by_state(fresh: Fresh) {
    use OrderEvent::{
        Cancel, Granted, HeldAgain, PaymentApplied, RefundAsked, RefundDone, WindowEnded,
    };
    let place = fresh();
    let store = place.open().unwrap();
    let now = UnixMs(T0 + 5_000_000);
    let refund = RefundAsked { restock: true };
    let lives: [&[OrderEvent]; 8] = [
        &[],
        &[PaymentApplied],
        &[PaymentApplied, Granted],
        &[WindowEnded { now }],
        &[Cancel],
        &[PaymentApplied, refund],
        &[PaymentApplied, refund, RefundDone],
        &[
            WindowEnded { now },
            HeldAgain { until: now },
            PaymentApplied,
        ],
    ];
    // Each order has its own power of two, so that the sums tell who is in them.
    let sold_by = |name: &str, base: u16| -> Vec<Order> {
        (0_u16..)
            .zip(lives)
            .flat_map(|(i, events)| {
                let mut order = ordered(name, base + i);
                order.items.retain(|item| item.sku.as_str() == "tea");
                order.items[0].quantity = 1 << i;
                // One of them takes a cup as well.
                if i == 2 {
                    order.items.insert(0, ordered(name, 0).items[0].clone());
                }
                life(order, events)
            })
            .collect()
    };
    let orders = sold_by("tea", 0);
    let elsewhere = sold_by("coffee", 100);
    store
        .put(0, &batch(orders.iter().chain(&elsewhere)), None, &mark(40))
        .unwrap();

    let expected = [("cup", 0, 1), ("tea", 1, 2 + 4 + 128)].map(|(sku, held, sold)| StockCount {
        sku: sku.into(),
        held,
        sold,
    });
    let none = BTreeSet::new();
    let (counts, at) = store.stock_counts(0, &sale("tea"), &none).unwrap();
    assert_eq!(counts, expected);
    assert_eq!(at, Some(mark(40)));
    let (nothing, _) = store
        .stock_counts(0, &sale("nobody-sells-this"), &none)
        .unwrap();
    assert_eq!(nothing, []);

    // Some are left out, whoever they are and wherever they stand.
    let without = [orders[0].id, order_id(1), order_id(999)].into();
    let (counts, _) = store.stock_counts(0, &sale("tea"), &without).unwrap();
    let tea = counts.iter().find(|c| c.sku == "tea").unwrap();
    assert_eq!((tea.held, tea.sold), (0, 4 + 128));
}

fn columns_that_contradict_the_order_are_reported(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    store
        .put(0, &batch([&ordered("tea", 1)]), None, &mark(1))
        .unwrap();
    place.meddle("UPDATE orders SET status = 'PAID'");
    let found = store.orders_page(0, &sale("tea"), None, 10).unwrap_err();
    assert!(
        matches!(&found, StoreError::Damaged(why) if why.contains(&order_id(1).to_string())),
        "{found}"
    );
}

fn opening_again_changes_nothing(fresh: Fresh) {
    let place = fresh();
    let orders = rush("tea", 12);
    let store = place.open().unwrap();
    store.put(0, &batch(&orders), None, &mark(30)).unwrap();
    let before = place.tables();
    let beside = place.open().unwrap();
    assert_eq!(place.tables(), before);
    drop((store, beside));

    let store = place.open().unwrap();
    assert_eq!(place.tables(), before);
    assert_eq!(store.mark(0).unwrap(), Some(mark(30)));
    assert_eq!(all_of(&*store, "tea", 5), newest(&orders));
}

fn engines_that_start_together_all_come_up(fresh: Fresh) {
    for _ in 0..5 {
        let place = fresh();
        let gate = std::sync::Barrier::new(6);
        std::thread::scope(|scope| {
            let engines: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        gate.wait();
                        place.open().map(|store| store.mark(0).unwrap())
                    })
                })
                .collect();
            for engine in engines {
                assert_eq!(engine.join().unwrap().unwrap(), None);
            }
        });
    }
}

fn a_newer_schema_is_refused_plainly(fresh: Fresh) {
    let place = fresh();
    place
        .open()
        .unwrap()
        .put(0, &batch([&ordered("tea", 1)]), None, &mark(1))
        .unwrap();
    place.age();
    let before = place.tables();
    let refused = place.open().err().unwrap();
    assert!(
        matches!(refused, StoreError::Newer { found, known } if found > known),
        "{refused}"
    );
    assert!(refused.to_string().contains("newer engine"), "{refused}");
    assert_eq!(place.tables(), before);
}

#[test]
fn a_version_is_one_event_however_often_it_is_told() {
    let life = bought_and_given_back("tea", 3);
    let rows: Vec<OrderRow> = life.iter().map(row).collect();
    assert_eq!(rows, life.iter().map(row).collect::<Vec<_>>());

    let mut ids: Vec<_> = rows.iter().map(|r| r.outbox.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), life.len());
    let events: Vec<_> = rows.iter().map(|r| r.outbox.event).collect();
    assert_eq!(
        events,
        [
            "order.created",
            "order.created", // A longer window is the same state, in a new version.
            "order.paid",
            "order.delivered",
            "order.refund_due",
            "order.refunded"
        ]
    );

    for (row, order) in rows.iter().zip(&life) {
        let told: serde_json::Value = serde_json::from_str(&row.outbox.payload).unwrap();
        // By names, so that no version of the engine tells an event in other words.
        assert_eq!(told.to_string(), row.outbox.payload);
        assert_eq!(told["eventId"], row.outbox.id.to_string());
        assert_eq!(told["bizKey"], order.id.to_string());
        assert_eq!(told["payload"]["status"], order.state.name());
        assert_eq!(told["payload"]["version"], order.version.0.to_string());
        assert_eq!(told["payload"]["payAmountCent"], order.pay_amount().0);
        assert_eq!(told["payload"]["items"][0]["skuId"], "cup");
    }
}

// The stream.

/// A ledger in a folder of its own, and whoever writes to it.
struct Till {
    folder: tempfile::TempDir,
    ledger: Ledger,
    runtime: tokio::runtime::Runtime,
}

fn open_ledger(folder: &std::path::Path) -> Ledger {
    let mut config = LedgerConfig::new(folder);
    config.memtable_bytes = 4 << 20;
    Ledger::open(config).unwrap()
}

fn draft(kind: u8, order: &Order, body: Bytes) -> Draft {
    Draft {
        kind: Kind(kind),
        group: Bytes::copy_from_slice(order.sale.as_bytes()),
        id: Bytes::copy_from_slice(order.id.as_bytes()),
        version: order.version.0,
        live: order.state.is_live(),
        owner: Some(Bytes::copy_from_slice(order.user.as_bytes())),
        uniques: Vec::new(),
        at_ms: order.updated_at.0,
        body,
    }
}

impl Till {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open_ledger(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        Self {
            folder,
            ledger,
            runtime,
        }
    }

    /// Durable when it returns, a few records to a group.
    fn sell<'a>(&self, orders: impl IntoIterator<Item = &'a Order>) {
        let drafts: Vec<Draft> = orders.into_iter().map(order_draft).collect();
        for part in drafts.chunks(5) {
            self.write(part.to_vec());
        }
    }

    fn write(&self, drafts: Vec<Draft>) {
        let group = Group {
            drafts,
            meta: Vec::new(),
        };
        self.runtime.block_on(async {
            self.ledger.append(group).await.unwrap().await.unwrap();
        });
    }

    fn tip(&self) -> Mark {
        let tip = self.ledger.tip();
        Mark {
            ledger: self.ledger.id(),
            seq: tip.seq,
            hash: tip.hash,
        }
    }

    /// The mark of a store that has everything up to `seq`.
    fn mark_at(&self, seq: u64) -> Mark {
        let record = self.ledger.tail(Seq(seq), 1, usize::MAX).unwrap().remove(0);
        Mark {
            ledger: self.ledger.id(),
            seq: record.seq,
            hash: record.hash,
        }
    }

    /// What a second engine would do with records `from` to `to`.
    fn rows(&self, from: u64, to: u64) -> Batch {
        let n = (to + 1 - from) as usize;
        let records = self.ledger.tail(Seq(from), n, usize::MAX).unwrap();
        Batch {
            rows: records.iter().filter_map(|r| rows_of(r).unwrap()).collect(),
            ..Batch::default()
        }
    }

    /// As after a restart: the same folder, another run.
    fn reopen(self) -> Self {
        let Self {
            folder,
            ledger,
            runtime,
        } = self;
        ledger.close();
        let ledger = open_ledger(folder.path());
        Self {
            folder,
            ledger,
            runtime,
        }
    }
}

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> UnixMs {
        UnixMs(T0)
    }
}

struct Stream {
    worker: StreamWorker,
    metrics: StreamMetrics,
}

const BATCH: usize = 7;

impl Stream {
    fn start(till: &Till, store: Arc<dyn OrderStore>) -> Self {
        let retry = [Duration::from_millis(1), Duration::from_millis(4)];
        Self::start_retrying(till, store, retry)
    }

    fn start_retrying(
        till: &Till,
        store: Arc<dyn OrderStore>,
        [retry_min, retry_max]: [Duration; 2],
    ) -> Self {
        let config = WorkerConfig {
            batch_records_max: BATCH,
            idle_wait: Duration::from_millis(1),
            retry_min,
            retry_max,
            ..WorkerConfig::default()
        };
        let metrics = StreamMetrics::register(&prometheus::Registry::new()).unwrap();
        let letters = Letters::open(
            till.ledger.clone(),
            Arc::clone(&store),
            0,
            Arc::new(StoppedClock),
            metrics.dead_letters.clone(),
        )
        .unwrap();
        let worker = StreamWorker::start(
            till.ledger.clone(),
            store,
            Arc::new(letters),
            config,
            metrics.clone(),
        )
        .unwrap();
        Self { worker, metrics }
    }

    /// Looks again and again until it is so; gives up in the end.
    fn until(&self, what: &str, mut so: impl FnMut(&StreamWorker) -> bool) {
        for _ in 0..15_000 {
            if so(&self.worker) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!(
            "never {what}: {:?} at {:?}",
            self.worker.state(),
            self.worker.mark()
        );
    }

    fn until_even(&self, till: &Till) {
        let tip = till.tip();
        self.until("even with the ledger", |worker| {
            if let StreamState::Stopped(why) = worker.state() {
                panic!("stopped: {why}");
            }
            worker.mark().as_ref() == Some(&tip)
        });
        self.until("running", |worker| worker.state() == StreamState::Running);
        assert_eq!(self.metrics.lag_records.get(), 0);
    }

    fn until_stopped(&self) -> String {
        let mut why = String::new();
        self.until("stopped", |worker| match worker.state() {
            StreamState::Stopped(reason) => {
                why = reason;
                true
            }
            StreamState::Running | StreamState::Waiting(_) => false,
        });
        why
    }
}

/// The store holds exactly what the ledger says: field by field, and in every
/// table like a store that was filled in one go.
fn assert_even(fresh: Fresh, place: &dyn Place, till: &Till, orders: &[Order]) {
    let store = place.open().unwrap();
    assert_eq!(store.mark(0).unwrap(), Some(till.tip()));
    let mut by_sale: BTreeMap<&str, Vec<&Order>> = BTreeMap::new();
    for order in orders {
        by_sale.entry(order.sale.as_str()).or_default().push(order);
    }
    for (name, orders) in by_sale {
        assert_eq!(all_of(&*store, name, 10), newest(orders), "{name}");
    }
    let calm = fresh();
    let whole = till.rows(1, till.tip().seq.0);
    calm.open()
        .unwrap()
        .put(0, &whole, None, &till.tip())
        .unwrap();
    assert_eq!(place.tables(), calm.tables());
}

struct PutCall<'a> {
    node: u16,
    batch: &'a Batch,
    from: Option<&'a Mark>,
    to: &'a Mark,
}

impl PutCall<'_> {
    fn pass(&self, store: &dyn OrderStore) -> Result<Put, StoreError> {
        store.put(self.node, self.batch, self.from, self.to)
    }
}

/// From, to and the first row's seq of one `put`.
type Asked = (Option<Mark>, Mark, Option<u64>);

/// Decides what becomes of the nth `put`, counted from 1.
type OnPut = Box<dyn Fn(usize, &PutCall, &dyn OrderStore) -> Result<Put, StoreError> + Send + Sync>;

/// Stands between the worker and the store, and makes trouble.
struct Between {
    store: Arc<dyn OrderStore>,
    on_put: OnPut,
    n_puts: AtomicUsize,
    /// While set, nobody answers at all.
    dark: AtomicBool,
    n_dark: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
}

impl Between {
    fn new(
        store: Arc<dyn OrderStore>,
        on_put: impl Fn(usize, &PutCall, &dyn OrderStore) -> Result<Put, StoreError>
        + Send
        + Sync
        + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            on_put: Box::new(on_put),
            n_puts: AtomicUsize::new(0),
            dark: AtomicBool::new(false),
            n_dark: AtomicUsize::new(0),
            asked: Mutex::new(Vec::new()),
        })
    }

    fn light(&self) -> Result<(), StoreError> {
        if self.dark.load(Ordering::SeqCst) {
            self.n_dark.fetch_add(1, Ordering::SeqCst);
            return Err(away());
        }
        Ok(())
    }
}

fn away() -> StoreError {
    StoreError::Away("nobody at home".into())
}

impl OrderStore for Between {
    fn mark(&self, node: u16) -> Result<Option<Mark>, StoreError> {
        self.light()?;
        self.store.mark(node)
    }

    fn put(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
    ) -> Result<Put, StoreError> {
        self.light()?;
        let first = batch.rows.first().map(Row::seq);
        self.asked.lock().push((from.cloned(), to.clone(), first));
        let nth = self.n_puts.fetch_add(1, Ordering::SeqCst) + 1;
        let call = PutCall {
            node,
            batch,
            from,
            to,
        };
        (self.on_put)(nth, &call, &*self.store)
    }

    fn sales(&self) -> Result<Vec<SaleId>, StoreError> {
        self.store.sales()
    }

    fn orders_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<StoredPage, StoreError> {
        self.store.orders_page(node, sale, after, limit)
    }

    fn payments_page(
        &self,
        node: u16,
        sale: Option<&SaleId>,
        after: Option<&PaymentId>,
        limit: usize,
    ) -> Result<FactPage<PaymentFact>, StoreError> {
        self.store.payments_page(node, sale, after, limit)
    }

    fn entitlements_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<&EntitlementId>,
        limit: usize,
    ) -> Result<FactPage<EntitlementFact>, StoreError> {
        self.store.entitlements_page(node, sale, after, limit)
    }

    fn stock_counts(
        &self,
        node: u16,
        sale: &SaleId,
        without: &BTreeSet<OrderId>,
    ) -> Result<(Vec<StockCount>, Option<Mark>), StoreError> {
        self.store.stock_counts(node, sale, without)
    }
}

fn the_stream_carries_every_order(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    // Half of it was there before the stream began.
    let mut orders = rush("tea", 60);
    till.sell(&orders);
    let stream = Stream::start(&till, place.open().unwrap());
    let later: Vec<Order> = (200..240).flat_map(|n| some_life("coffee", n)).collect();
    till.sell(&later);
    orders.extend(later);
    stream.until_even(&till);
    assert_even(fresh, &*place, &till, &orders);

    // It keeps looking after it was even once.
    let late = ordered("tea", 900);
    till.sell([&late]);
    orders.push(late);
    stream.until_even(&till);
    stream.worker.stop();
    assert_even(fresh, &*place, &till, &orders);
}

fn records_of_other_kinds_only_move_the_mark(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let orders: Vec<Order> = (0..3).map(|n| ordered("tea", n)).collect();
    let other = |n| draft(2, &ordered("tea", n), Bytes::from_static(b"a sale, say"));
    // More than one batch of nothing for us, then orders, then nothing again.
    till.write((20..40).map(other).collect());
    till.sell(&orders);
    till.write(vec![other(40)]);
    let stream = Stream::start(&till, place.open().unwrap());
    stream.until_even(&till);
    assert_even(fresh, &*place, &till, &orders);
}

fn an_empty_ledger_leaves_the_store_alone(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let between = Between::new(place.open().unwrap(), |_, call, store| call.pass(store));
    let stream = Stream::start(&till, between.clone());
    let order = ordered("tea", 1);
    // The first thing it ever puts is the first record, from no mark at all.
    till.sell([&order]);
    stream.until_even(&till);
    stream.worker.stop();
    assert_eq!(*between.asked.lock(), [(None, till.tip(), Some(1))]);
}

fn a_store_that_comes_back_gets_everything(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let mut orders = rush("tea", 30);
    till.sell(&orders);
    // The third to the sixth batch find nobody; the worker must not skip one.
    let between = Between::new(place.open().unwrap(), |nth, call, store| match nth {
        3..=6 => Err(away()),
        _ => call.pass(store),
    });
    let stream = Stream::start(&till, between.clone());
    stream.until_even(&till);
    assert_even(fresh, &*place, &till, &orders);
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
    assert_even(fresh, &*place, &till, &orders);
}

fn a_store_that_is_away_at_the_start_is_waited_for(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let orders = rush("tea", 10);
    till.sell(&orders);
    let between = Between::new(place.open().unwrap(), |_, call, store| call.pass(store));
    between.dark.store(true, Ordering::SeqCst);
    let stream = Stream::start(&till, between.clone());
    stream.until("waiting", |worker| {
        matches!(worker.state(), StreamState::Waiting(_))
    });
    assert_eq!(stream.worker.mark(), None);
    between.dark.store(false, Ordering::SeqCst);
    stream.until_even(&till);
    assert_even(fresh, &*place, &till, &orders);
}

fn a_store_that_answers_but_takes_nothing_is_not_called_running(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let orders = rush("tea", 10);
    till.sell(&orders);
    // A full disk, say: reading goes on. The test looks while the worker tries.
    let (asks, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let answers = Mutex::new(answers);
    let between = Between::new(place.open().unwrap(), move |nth, call, store| {
        if nth > 5 {
            return call.pass(store);
        }
        asks.send(()).unwrap();
        answers.lock().recv().unwrap();
        Err(away())
    });
    let stream = Stream::start(&till, between.clone());
    let mut states = Vec::new();
    for _ in 0..5 {
        asked.recv().unwrap();
        states.push(stream.worker.state());
        answer.send(()).unwrap();
    }
    stream.until_even(&till);
    stream.worker.stop();
    assert_eq!(states[0], StreamState::Running);
    for state in &states[1..] {
        assert!(matches!(state, StreamState::Waiting(_)), "{states:?}");
    }
    assert_even(fresh, &*place, &till, &orders);
}

fn stopping_does_not_sit_out_a_wait(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    till.sell([&ordered("tea", 1)]);
    let between = Between::new(place.open().unwrap(), |_, call, store| call.pass(store));
    between.dark.store(true, Ordering::SeqCst);
    let an_hour = Duration::from_secs(3_600);
    for _ in 0..200 {
        let stream = Stream::start_retrying(&till, between.clone(), [an_hour; 2]);
        // Stopped in the very moment it lies down.
        while stream.worker.state() == StreamState::Running {
            std::hint::spin_loop();
        }
        let stopping = std::thread::spawn(move || stream.worker.stop());
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
    let (place, till) = (fresh(), Till::new());
    let orders = rush("tea", 40);
    till.sell(&orders);
    // Every other batch is written, and then the line goes dead.
    let between = Between::new(place.open().unwrap(), |nth, call, store| {
        let put = call.pass(store)?;
        if nth % 2 == 1 { Err(away()) } else { Ok(put) }
    });
    let stream = Stream::start(&till, between.clone());
    stream.until_even(&till);
    stream.worker.stop();
    assert_even(fresh, &*place, &till, &orders);
    // It asked the store where it stands instead of sending the batch again.
    let n_records = till.tip().seq.0;
    assert_eq!(
        between.asked.lock().len() as u64,
        n_records.div_ceil(BATCH as u64)
    );
}

fn a_store_of_another_ledger_is_not_touched(fresh: Fresh) {
    let (place, till, stranger) = (fresh(), Till::new(), Till::new());
    stranger.sell(&rush("tea", 10));
    let stream = Stream::start(&stranger, place.open().unwrap());
    stream.until_even(&stranger);
    stream.worker.stop();

    till.sell(&rush("tea", 30));
    let before = place.tables();
    let stream = Stream::start(&till, place.open().unwrap());
    let why = stream.until_stopped();
    assert!(
        why.contains(&stranger.ledger.id().to_string())
            && why.contains(&till.ledger.id().to_string()),
        "{why}"
    );
    stream.worker.stop();
    assert_eq!(place.tables(), before);
}

fn a_store_ahead_of_the_ledger_is_not_touched(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    till.sell(&rush("tea", 10));
    let tip = till.tip();
    let ahead = Mark {
        seq: Seq(tip.seq.0 + 5),
        ..tip
    };
    let store = place.open().unwrap();
    store
        .put(0, &batch(&rush("tea", 12)), None, &ahead)
        .unwrap();
    let before = place.tables();
    let stream = Stream::start(&till, store);
    let why = stream.until_stopped();
    assert!(why.contains("lost its tail"), "{why}");
    stream.worker.stop();
    assert_eq!(place.tables(), before);
}

fn a_store_with_another_history_is_not_touched(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    till.sell(&rush("tea", 10));
    let other = Mark {
        hash: ChainHash([1; 32]),
        ..till.mark_at(4)
    };
    let store = place.open().unwrap();
    store.put(0, &till.rows(1, 4), None, &other).unwrap();
    let before = place.tables();
    let stream = Stream::start(&till, store);
    let why = stream.until_stopped();
    assert!(why.contains("record 4 is not the one"), "{why}");
    stream.worker.stop();
    assert_eq!(place.tables(), before);
}

fn a_mark_moved_by_another_engine_is_taken_over(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let orders = rush("tea", 40);
    till.sell(&orders);
    // Just before the second batch somebody else carries it and some more.
    let upto = 2 * BATCH as u64 + 3;
    let (theirs, to) = (till.rows(BATCH as u64 + 1, upto), till.mark_at(upto));
    let moved = to.clone();
    let between = Between::new(place.open().unwrap(), move |nth, call, store| {
        if nth == 2 {
            let put = store.put(call.node, &theirs, call.from, &moved)?;
            assert_eq!(put, Put::Advanced);
        }
        call.pass(store)
    });
    let stream = Stream::start(&till, between.clone());
    stream.until_even(&till);
    stream.worker.stop();
    assert_even(fresh, &*place, &till, &orders);
    let (from, _, first) = between.asked.lock()[2].clone();
    assert_eq!((from, first), (Some(to), Some(upto + 1)));
}

fn a_mark_moved_by_another_ledgers_engine_stops_the_stream(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    till.sell(&rush("tea", 40));
    let between = Between::new(place.open().unwrap(), |nth, call, store| {
        if nth == 2 {
            store.put(call.node, &Batch::default(), call.from, &mark(3))?;
        }
        call.pass(store)
    });
    let stream = Stream::start(&till, between.clone());
    let why = stream.until_stopped();
    assert!(why.contains("was filled from ledger"), "{why}");
    stream.worker.stop();
    assert_eq!(between.asked.lock().len(), 2);
    let store = place.open().unwrap();
    assert_eq!(store.mark(0).unwrap(), Some(mark(3)));
    let there: u64 = all_of(&*store, "tea", 50).iter().map(|o| o.n_events).sum();
    assert_eq!(there, BATCH as u64);
}

fn a_record_that_is_no_order_stops_the_stream(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let good: Vec<Order> = (0..BATCH as u16).map(|n| ordered("tea", n)).collect();
    till.sell(&good);
    till.write(vec![draft(
        1,
        &ordered("tea", 50),
        Bytes::from_static(b"\xFFnot an order"),
    )]);
    let stream = Stream::start(&till, place.open().unwrap());
    let why = stream.until_stopped();
    assert!(why.contains("record 8"), "{why}");
    stream.worker.stop();
    let store = place.open().unwrap();
    assert_eq!(store.mark(0).unwrap(), Some(till.mark_at(7)));
    assert_eq!(all_of(&*store, "tea", 10), newest(&good));
}

fn a_restart_goes_on_from_the_mark(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let orders = rush("tea", 40);
    till.sell(&orders);
    let between = Between::new(place.open().unwrap(), |nth, call, store| {
        if nth > 3 {
            Err(away())
        } else {
            call.pass(store)
        }
    });
    let stream = Stream::start(&till, between.clone());
    let middle = till.mark_at(3 * BATCH as u64);
    stream.until("stuck in the middle", |worker| {
        matches!(worker.state(), StreamState::Waiting(_))
    });
    assert_eq!(stream.worker.mark(), Some(middle.clone()));
    stream.worker.stop();
    drop(between);

    // Another run of the engine: ledger and store are opened anew.
    let till = till.reopen();
    let between = Between::new(place.open().unwrap(), |_, call, store| call.pass(store));
    let stream = Stream::start(&till, between.clone());
    stream.until_even(&till);
    stream.worker.stop();
    assert_even(fresh, &*place, &till, &orders);
    let (from, _, first) = between.asked.lock()[0].clone();
    assert_eq!((from, first), (Some(middle), Some(3 * BATCH as u64 + 1)));
}

fn a_stream_cut_off_anywhere_comes_to_the_same_end(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let orders = rush("tea", 60);
    till.sell(&orders);
    // One batch, or two, or none: each run ends as soon as it moved.
    let mut n_runs = 0;
    loop {
        let stream = Stream::start(&till, place.open().unwrap());
        let before = place.open().unwrap().mark(0).unwrap();
        stream.until("moved", |worker| {
            let now = worker.mark();
            now == Some(till.tip()) || (now.is_some() && now != before)
        });
        stream.worker.stop();
        n_runs += 1;
        if place.open().unwrap().mark(0).unwrap() == Some(till.tip()) {
            break;
        }
        assert!(n_runs < 1_000);
    }
    assert_even(fresh, &*place, &till, &orders);
}

fn streams_that_fight_for_the_mark_come_to_the_same_end(fresh: Fresh) {
    let (place, till) = (fresh(), Till::new());
    let mut orders = rush("tea", 60);
    till.sell(&orders);
    // Two engines that both take themselves for the only one. Neither knows when the
    // other writes; each batch of one is a lost mark for the other.
    let streams = [(); 2].map(|()| Stream::start(&till, place.open().unwrap()));
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
        stream.worker.stop();
    }
    assert_even(fresh, &*place, &till, &orders);
}

every_case!(
    an_older_version_that_comes_late_changes_no_snapshot,
    a_new_owners_first_step_outranks_the_old_owners_last,
    a_replay_leaves_every_table_as_it_was,
    rows_in_any_order_come_to_the_same,
    a_mark_that_somebody_else_moved_is_left_to_them,
    a_mark_that_is_gone_is_not_made_up,
    the_first_mark_is_set_once_whoever_comes,
    every_node_has_a_mark_of_its_own,
    a_batch_with_a_refused_row_leaves_nothing,
    the_same_key_in_another_sale_or_of_another_buyer_is_another_order,
    a_mark_moves_without_any_rows,
    pages_are_complete_and_repeat_nothing,
    a_page_says_at_which_mark_it_was_read,
    rows_and_mark_are_read_at_one_moment,
    stock_is_counted_by_state,
    columns_that_contradict_the_order_are_reported,
    opening_again_changes_nothing,
    engines_that_start_together_all_come_up,
    a_newer_schema_is_refused_plainly,
    the_stream_carries_every_order,
    records_of_other_kinds_only_move_the_mark,
    an_empty_ledger_leaves_the_store_alone,
    a_store_that_comes_back_gets_everything,
    a_store_that_is_away_at_the_start_is_waited_for,
    a_store_that_answers_but_takes_nothing_is_not_called_running,
    stopping_does_not_sit_out_a_wait,
    a_commit_whose_reply_is_lost_is_not_done_twice,
    a_store_of_another_ledger_is_not_touched,
    a_store_ahead_of_the_ledger_is_not_touched,
    a_store_with_another_history_is_not_touched,
    a_mark_moved_by_another_engine_is_taken_over,
    a_mark_moved_by_another_ledgers_engine_stops_the_stream,
    a_record_that_is_no_order_stops_the_stream,
    a_restart_goes_on_from_the_mark,
    a_stream_cut_off_anywhere_comes_to_the_same_end,
    streams_that_fight_for_the_mark_come_to_the_same_end,
);
