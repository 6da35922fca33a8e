//! What is read from a store: pages of a sale and counts of its stock, each with the mark
//! of the same moment.

use std::collections::BTreeSet;

use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stream::{Put, StockCount, StoreError};

use crate::orders::{
    all_of, batch, life, mark, newest, order_id, ordered, sale, shuffle, some_life,
};
use crate::places::Fresh;
use crate::till::T0;

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
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| {
            for (seq, order) in (1_u64..).zip(&orders) {
                let from = (seq > 1).then(|| mark(seq - 1));
                let put = store.put(0, &batch([order]), from.as_ref(), &mark(seq));
                assert_eq!(put.unwrap(), Put::Advanced);
            }
        });
        let none = BTreeSet::new();
        while !putting.is_finished() {
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

every_case!(
    pages_are_complete_and_repeat_nothing,
    a_page_says_at_which_mark_it_was_read,
    rows_and_mark_are_read_at_one_moment,
    stock_is_counted_by_state,
    columns_that_contradict_the_order_are_reported,
);
