//! Payments and entitlements in the order store: by version, told once, and each unique
//! in its own way.

use floodgate_engine::domain::payment::PaymentState;
use floodgate_engine::stream::{OrderStore, Put, StoreError};
use floodgate_ledger::Draft;

use crate::carrying::{BATCH, assert_even};
use crate::orders::{
    all_of, batch, bought_and_given_back, mark, n_rows, newest, ordered, sale, shuffle,
};
use crate::places::after::{
    a_life_after, entitlement, entitlement_draft, order_draft, payment, payment_draft, row,
};
use crate::places::{Fresh, Place};
use crate::purchases::{
    entitlement_facts, entitlements_of, payment_facts, payments_of, purchases, rows,
};
use crate::till::Till;

fn an_older_version_that_comes_late_is_told_and_changes_nothing(fresh: Fresh) {
    let (place, order) = (fresh(), ordered("tea", 2));
    let store = place.open().unwrap();
    let life = a_life_after(&order, 2);
    let newest: Vec<Draft> = [5, 6].map(|at| life[at].clone()).to_vec();
    store.put(0, &rows(&newest), None, &mark(7)).unwrap();
    let before = place.tables();
    let late = store.put(0, &rows(&life[..5]), Some(&mark(7)), &mark(8));
    assert_eq!(late.unwrap(), Put::Advanced);
    let after = place.tables();
    for table in ["payments", "entitlements"] {
        assert_eq!(before[table].len(), 1, "{table}");
        assert_eq!(before[table], after[table], "{table}");
    }
    // Three steps of the payment, granted and revoked; devices are nobody's business.
    assert_eq!(n_rows(&*place, "outbox"), 5);
    assert_eq!(
        payments_of(&*store, Some("tea"), 9),
        payment_facts(&life, Some("tea"))
    );
    assert_eq!(entitlements_of(&*store, "tea", 9), entitlement_facts(&life));
    // What people and databases read beside the snapshot.
    let (payment, grant) = (&after["payments"][0], &after["entitlements"][0]);
    for part in ["*4711", "as\u{FFFD}asked", "refund-2", "REFUNDED", "txn-2"] {
        assert!(payment.contains(part), "{part} in {payment}");
    }
    for part in ["REVOKED", "phone-3", "symphony"] {
        assert!(grant.contains(part), "{part} in {grant}");
    }
}

fn a_replay_of_purchases_leaves_every_table_as_it_was(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let batch = rows(&purchases("tea", 9));
    store.put(0, &batch, None, &mark(9)).unwrap();
    let before = place.tables();
    let again = store.put(0, &batch, Some(&mark(9)), &mark(9)).unwrap();
    assert_eq!(again, Put::Advanced);
    assert_eq!(place.tables(), before);
    // With another mark.
    let again = store.put(0, &batch, Some(&mark(9)), &mark(10)).unwrap();
    assert_eq!(again, Put::Advanced);
    let after = place.tables();
    for table in before.keys().filter(|name| *name != "stream_marks") {
        assert_eq!(before[table], after[table], "{table}");
    }
}

fn purchases_in_any_order_come_to_the_same(fresh: Fresh) {
    let drafts = purchases("tea", 9);
    let tidy = fresh();
    let whole = tidy.open().unwrap();
    whole.put(0, &rows(&drafts), None, &mark(1_000)).unwrap();
    for seed in 1..=3 {
        let mut mixed = drafts.clone();
        shuffle(&mut mixed, seed);
        let place = fresh();
        let store = place.open().unwrap();
        let (mut from, n) = (None, mixed.chunks(11).len() as u64);
        for (i, part) in (1_u64..).zip(mixed.chunks(11)) {
            let to = mark(1_000 + i - n);
            let put = store.put(0, &rows(part), from.as_ref(), &to).unwrap();
            assert_eq!(put, Put::Advanced);
            from = Some(to);
        }
        assert_eq!(place.tables(), tidy.tables(), "seed {seed}");
    }
}

/// Refused with everything that came with it.
fn refused(place: &dyn Place, store: &dyn OrderStore, drafts: &[Draft], at: usize) {
    let before = place.tables();
    let said = store.put(0, &rows(drafts), Some(&mark(1)), &mark(2));
    let said = said.unwrap_err();
    let culprit = row(&drafts[at]).id();
    assert!(
        matches!(&said, StoreError::Poison { row, .. } if row.as_ref().is_none_or(|id| *id == culprit)),
        "{said}"
    );
    assert_eq!(place.tables(), before);
}

fn a_capture_is_stored_once_under_its_number(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let (one, other) = (ordered("tea", 1), ordered("tea", 2));
    let taken = payment(Some(&one), 1, PaymentState::Applied);
    let first = [order_draft(&one), payment_draft(Some(&one.sale), &taken)];
    store.put(0, &rows(&first), None, &mark(1)).unwrap();

    let mut twin = payment(Some(&other), 2, PaymentState::Applied);
    twin.channel_txn_no = taken.channel_txn_no.clone();
    let group = [
        order_draft(&other),
        payment_draft(Some(&other.sale), &twin),
        entitlement_draft(&other, 2, 1, false),
    ];
    refused(&*place, &*store, &group, 1);
    // The same number in another channel is another capture.
    twin.channel = floodgate_engine::domain::ids::Channel::parse("wallet").unwrap();
    let group = [order_draft(&other), payment_draft(Some(&other.sale), &twin)];
    let put = store.put(0, &rows(&group), Some(&mark(1)), &mark(2));
    assert_eq!(put.unwrap(), Put::Advanced);
    assert_eq!(n_rows(&*place, "payments"), 2);
}

fn a_work_is_granted_once_an_order_and_sku(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let order = ordered("tea", 3); // Of two SKUs.
    let first = [order_draft(&order), entitlement_draft(&order, 1, 1, false)];
    store.put(0, &rows(&first), None, &mark(1)).unwrap();
    let again = [
        payment_draft(
            Some(&order.sale),
            &payment(Some(&order), 3, PaymentState::Applied),
        ),
        entitlement_draft(&order, 2, 1, false),
    ];
    refused(&*place, &*store, &again, 1);

    let mut second = entitlement(&order, 2, 1, false);
    second.sku = order.items[1].sku.clone();
    let draft = Draft {
        body: floodgate_engine::domain::codec::encode_entitlement(&second).into(),
        ..again[1].clone()
    };
    let put = store.put(0, &rows(&[draft]), Some(&mark(1)), &mark(2));
    assert_eq!(put.unwrap(), Put::Advanced);
    assert_eq!(n_rows(&*place, "entitlements"), 2);
}

fn pages_tell_a_sales_own_and_each_once(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    assert_eq!(store.payments_page(0, None, None, 5).unwrap().mark, None);
    let mut tea = purchases("tea", 13);
    let coffee: Vec<Draft> = (100..105)
        .flat_map(|n| a_life_after(&ordered("coffee", n), n))
        .collect();
    shuffle(&mut tea, 3);
    let all = [tea.as_slice(), &coffee].concat();
    store.put(0, &rows(&all), None, &mark(50)).unwrap();
    for limit in [1, 4, 13, 1_000] {
        for name in [Some("tea"), Some("coffee"), None] {
            let mut found = payments_of(&*store, name, limit);
            found.sort_by_key(|fact| fact.payment.id.clone());
            assert_eq!(found, payment_facts(&all, name), "{name:?} by {limit}");
        }
        let mut found = entitlements_of(&*store, "tea", limit);
        found.sort_by_key(|fact| fact.entitlement.id.clone());
        assert_eq!(found, entitlement_facts(&tea), "by {limit}");
    }
    assert_eq!(payments_of(&*store, None, 9).len(), 4);
    let page = store
        .payments_page(0, Some(&sale("nobody")), None, 5)
        .unwrap();
    assert_eq!((page.facts.len(), page.mark), (0, Some(mark(50))));
    // Nothing of coffee but payments and entitlements is there.
    assert_eq!(store.sales().unwrap(), [sale("coffee"), sale("tea")]);
}

fn columns_that_contradict_a_payment_are_reported(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let order = ordered("tea", 1);
    let life = a_life_after(&order, 1);
    store.put(0, &rows(&life[..2]), None, &mark(1)).unwrap();
    place.meddle("UPDATE payments SET status = 'REFUNDED'");
    place.meddle("UPDATE entitlements SET status = 'REVOKED'");
    let payment = store.payments_page(0, Some(&order.sale), None, 9);
    let grant = store.entitlements_page(0, &order.sale, None, 9);
    for (said, id) in [
        (payment.unwrap_err(), row(&life[0]).id()),
        (grant.unwrap_err(), row(&life[1]).id()),
    ] {
        assert!(
            matches!(&said, StoreError::Damaged(why) if why.contains(&id.to_string())),
            "{said}"
        );
    }
}

fn a_store_of_the_first_engine_is_brought_up_to_date(fresh: Fresh) {
    let place = fresh();
    place.first_schema();
    place.meddle(
        "INSERT INTO order_items VALUES ('01a17720-ca00-8003-8001-c01000900005', 'cup', 1, 450)",
    );
    let order = ordered("tea", 1);
    let life = a_life_after(&order, 1);
    {
        let store = place.open().unwrap();
        assert_eq!(n_rows(&*place, "order_items"), 1, "what was there stays");
        store.put(0, &rows(&life), None, &mark(1)).unwrap();
    }
    let store = place.open().unwrap();
    assert_eq!(
        payments_of(&*store, Some("tea"), 9),
        payment_facts(&life, Some("tea"))
    );
}

fn the_stream_carries_purchases(fresh: Fresh) {
    let till = Till::new(fresh);
    let early = purchases("tea", 20);
    // Groups of a size that batches do not divide.
    for part in early.chunks(6) {
        till.write(part.to_vec());
    }
    let stream = till.start(till.store(), BATCH);
    let late: Vec<Draft> = (50..60)
        .flat_map(|n| {
            let order = ordered("tea", n);
            [vec![order_draft(&order)], a_life_after(&order, n)].concat()
        })
        .collect();
    for part in late.chunks(6) {
        till.write(part.to_vec());
    }
    stream.until_even(&till);
    stream.stop();
    let bought = (0..20).flat_map(|n| bought_and_given_back("tea", n));
    let orders: Vec<_> = bought.chain((50..60).map(|n| ordered("tea", n))).collect();
    assert_even(&till, &orders);
    let store = till.store();
    let all = [early, late].concat();
    assert_eq!(
        payments_of(&*store, Some("tea"), 7),
        payment_facts(&all, Some("tea"))
    );
    assert_eq!(payments_of(&*store, None, 7), payment_facts(&all, None));
    assert_eq!(entitlements_of(&*store, "tea", 7), entitlement_facts(&all));
    assert_eq!(
        all_of(&*store, "tea", 50),
        newest(&orders),
        "orders are as they were without"
    );
}

/// A batch of orders alone is what it was: tables beside it stay empty.
fn orders_alone_touch_nothing_else(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    let orders = bought_and_given_back("tea", 1);
    store.put(0, &batch(&orders), None, &mark(1)).unwrap();
    assert_eq!(n_rows(&*place, "payments"), 0);
    assert_eq!(n_rows(&*place, "entitlements"), 0);
    assert_eq!(n_rows(&*place, "outbox"), orders.len());
}

every_case!(
    an_older_version_that_comes_late_is_told_and_changes_nothing,
    a_replay_of_purchases_leaves_every_table_as_it_was,
    purchases_in_any_order_come_to_the_same,
    a_capture_is_stored_once_under_its_number,
    a_work_is_granted_once_an_order_and_sku,
    pages_tell_a_sales_own_and_each_once,
    columns_that_contradict_a_payment_are_reported,
    a_store_of_the_first_engine_is_brought_up_to_date,
    the_stream_carries_purchases,
    orders_alone_touch_nothing_else,
);
