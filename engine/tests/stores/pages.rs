//! What is read from a store: pages of a sale, whole or what the columns say, each with the
//! mark of the same moment.

use floodgate_engine::domain::order::Order;
use floodgate_engine::stream::{OrderFact, OrderStore, Put, StoreError};

use crate::orders::{all_of, batch, mark, newest, order_id, ordered, sale, shuffle, some_life};
use crate::places::Fresh;

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
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| {
            for (seq, order) in (1_u64..).zip(&orders) {
                let from = (seq > 1).then(|| mark(seq - 1));
                let put = store.put(0, &batch([order]), from.as_ref(), &mark(seq));
                assert_eq!(put.unwrap(), Put::Advanced);
            }
        });
        while !putting.is_finished() {
            let page = store.orders_page(0, &sale("tea"), None, 1_000).unwrap();
            let seq = page.mark.map_or(0, |m| m.seq.0);
            assert_eq!(page.orders.len() as u64, seq);
            let page = store.order_facts_page(0, &sale("tea"), None, 1_000);
            let page = page.unwrap();
            let seq = page.mark.map_or(0, |m| m.seq.0);
            let told = orders[..seq as usize].iter().map(OrderFact::of);
            let mut told: Vec<_> = told.collect();
            told.sort_by_key(|fact| fact.id);
            assert_eq!(page.facts, told);
        }
    });
}

/// What the columns say of all orders of a sale, read in pages of `limit`.
fn facts_of(store: &dyn OrderStore, name: &str, limit: usize) -> Vec<OrderFact> {
    let (mut facts, mut last) = (Vec::new(), None);
    loop {
        let page = store.order_facts_page(0, &sale(name), last, limit).unwrap();
        assert!(page.facts.len() <= limit);
        let Some(end) = page.facts.last() else { break };
        last = Some(end.id);
        facts.extend(page.facts);
    }
    facts
}

fn the_columns_say_what_the_orders_say(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    // Some with one SKU and some with two.
    let tea: Vec<Order> = (0..23)
        .flat_map(|n| {
            let mut life = some_life("tea", n);
            for order in &mut life {
                order.items.truncate(1 + usize::from(n % 2));
            }
            life
        })
        .collect();
    let coffee = some_life("coffee", 100);
    store
        .put(0, &batch(tea.iter().chain(&coffee)), None, &mark(40))
        .unwrap();

    let expected: Vec<OrderFact> = newest(&tea)
        .iter()
        .map(|stored| OrderFact::of(&stored.order))
        .collect();
    for limit in [1, 2, 22, 23, 24, 1_000] {
        assert_eq!(facts_of(&*store, "tea", limit), expected, "{limit}");
    }
    assert_eq!(facts_of(&*store, "coffee", 9).len(), 1);
    assert_eq!(facts_of(&*store, "nobody-sells-this", 9), []);

    // Only the columns are looked at, and all of them.
    let held = expected.iter().find(|fact| fact.status.is_held()).unwrap();
    let found = || {
        let mut facts = facts_of(&*store, "tea", 9).into_iter();
        facts.find(|fact| fact.id == held.id).unwrap()
    };
    let id = held.id;
    place.meddle(&format!(
        "UPDATE orders SET status = 'PAID', version = version + 1 WHERE order_id = '{id}'"
    ));
    let meddled = found();
    assert!(meddled.status.is_sold() && meddled.version.0 == held.version.0 + 1);
    place.meddle(&format!(
        "UPDATE order_items SET quantity = quantity + 5 WHERE order_id = '{id}'"
    ));
    assert_eq!(found().items[0].1, held.items[0].1 + 5);
    place.meddle(&format!("DELETE FROM order_items WHERE order_id = '{id}'"));
    assert_eq!(found().items, []);

    for nonsense in [
        "UPDATE orders SET status = 'SOLD'",
        "UPDATE order_items SET quantity = -1",
    ] {
        place.meddle(nonsense);
        let page = store.order_facts_page(0, &sale("coffee"), None, 9);
        assert!(
            matches!(page, Err(StoreError::Damaged(_))),
            "{nonsense}: {page:?}"
        );
        place.meddle("UPDATE orders SET status = 'PAID'");
    }
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
    the_columns_say_what_the_orders_say,
    columns_that_contradict_the_order_are_reported,
);
