use proptest::prelude::*;

use super::*;
use crate::domain::ids::{Fingerprint, IdemKey, NodeNo, OrderIdParts, SaleNo, SkuId, UserId};
use crate::domain::money::{Cents, Currency};
use crate::domain::order::Item;
use crate::domain::sale::RawSale;

pub(super) const T: u64 = 1_800_000_000_000;
const UNITS: u32 = 6;

/// One SKU of six units in three buckets, two units a buyer.
pub(super) fn sale() -> Sale {
    let raw = format!(
        r#"
        id = "tea"
        name = "tea"
        startsAt = "2026-01-01T00:00:00Z"
        endsAt = "2099-01-01T00:00:00Z"
        unitsPerUser = 2
        ordersPerUserMax = 9
        buckets = 3
        skus = [{{ id = "pot", name = "pot", priceCent = 100, currency = "EUR", units = {UNITS} }}]
        "#
    );
    let raw: RawSale = toml::from_str(&raw).expect("a sale");
    raw.check().expect("a sale")
}

/// The nth order, of one unit, of its own buyer, in the bucket n modulo 3.
pub(super) fn order(n: u16) -> Order {
    Order {
        id: OrderId::from_parts(OrderIdParts {
            ms: T + u64::from(n),
            bucket: BucketNo(n % 3),
            sale: SaleNo(1),
            node: NodeNo(0),
            counter: n,
            random: 0,
        }),
        sale: sale().id,
        user: UserId::parse(&format!("buyer-{n}")).expect("an id"),
        key: IdemKey::parse("key").expect("a key"),
        fingerprint: Fingerprint(1),
        items: std::iter::once(Item {
            sku: SkuId::parse("pot").expect("an id"),
            quantity: 1,
            price: Cents(100),
        })
        .collect(),
        currency: Currency::parse("EUR").expect("a currency"),
        state: OrderState::PendingPayment {
            until: UnixMs(T + 900_000),
            grace_used: false,
        },
        version: Version::first(1),
        created_at: UnixMs(T),
        updated_at: UnixMs(T),
        pay_deadline: UnixMs(T + 900_000),
        device: None,
    }
}

fn canceled(order: &Order) -> Order {
    let step = order.step(OrderEvent::Cancel, 1, UnixMs(T + 5));
    step.expect("legal").expect("a change").0
}

fn pile(copies: &[(Order, Copy)]) -> Pile {
    let mut pile = Pile::default();
    for (order, copy) in copies {
        pile.add(order.clone(), *copy);
    }
    pile
}

fn units(merged: &Merged, bucket: u16) -> i64 {
    let of = merged.allotments.iter().find(|a| a.bucket.0 == bucket);
    of.map_or(0, |a| a.lines.iter().map(|(_, n)| n).sum())
}

#[test]
fn the_highest_version_wins_wherever_it_stands() {
    let (won, closed) = (order(1), canceled(&order(1)));
    for copies in [
        [(won.clone(), Copy::Ledger), (closed.clone(), Copy::Store)],
        [(closed.clone(), Copy::Ledger), (won.clone(), Copy::Store)],
        [(closed.clone(), Copy::Store), (won, Copy::Stock)],
    ] {
        let merged = pile(&copies)
            .settle(&sale(), UnixMs(T + 10))
            .expect("merged");
        assert_eq!(merged.orders, std::slice::from_ref(&closed));
    }
}

#[test]
fn two_copies_that_differ_in_one_version_are_told_and_the_nearer_one_stands() {
    let (ours, mut theirs) = (order(1), order(1));
    theirs.fingerprint = Fingerprint(2);
    let both = pile(&[(ours.clone(), Copy::Ledger), (theirs, Copy::Stock)]);
    assert_eq!(both.differing, [ours.id]);
    assert_eq!(
        both.settle(&sale(), UnixMs(T + 10)).expect("merged").orders,
        [ours]
    );
}

fn used(order: &Order) -> UsedKey {
    UsedKey {
        user: order.user.clone(),
        key: order.key.clone(),
        fingerprint: order.fingerprint,
        order: order.id,
    }
}

#[test]
fn what_a_whole_bucket_knows_and_holds_no_longer_was_closed() {
    let orders = [order(0), order(1), order(2), order(3)];
    let copies = orders.clone().map(|o| (o, Copy::Store));
    let mut pile = pile(&copies);
    // Of the second no bucket says anything: absence alone proves nothing.
    let known = [0, 2, 3].map(|n| used(&orders[n]));
    let held = HashSet::from([orders[3].id, orders[2].id]);
    let n = pile.close_gone(&sale(), &known, &held, UnixMs(T + 10));
    assert_eq!(n, 1);
    let merged = pile.settle(&sale(), UnixMs(T + 10)).expect("merged");
    let states: Vec<bool> = merged.orders.iter().map(|o| o.state.is_live()).collect();
    assert_eq!(states, [false, true, true, true]);
    let reason = CloseReason::Canceled;
    assert_eq!(merged.orders[0].state, OrderState::Closed { reason });
    assert!(merged.orders[0].version > orders[0].version);
}

#[test]
fn a_key_whose_order_stands_nowhere_names_an_order_that_is_closed() {
    let order = order(4);
    let mut pile = Pile::default();
    let n = pile.close_gone(&sale(), &[used(&order)], &HashSet::new(), UnixMs(T + 10));
    assert_eq!(n, 1);
    let merged = pile.settle(&sale(), UnixMs(T + 10)).expect("merged");
    let [found] = &merged.orders[..] else {
        panic!("{merged:?}")
    };
    assert_eq!(
        (found.id, &found.user, &found.key),
        (order.id, &order.user, &order.key)
    );
    assert!(!found.state.is_live() && found.items.is_empty());
}

#[test]
fn a_window_that_is_over_was_closed_by_it() {
    let mut pile = pile(&[(order(0), Copy::Store)]);
    let after = UnixMs(T + 900_000);
    let known = [used(&order(0))];
    assert_eq!(pile.close_gone(&sale(), &known, &HashSet::new(), after), 1);
    let merged = pile.settle(&sale(), UnixMs(T + 10)).expect("merged");
    let state = merged.orders[0].state;
    let reason = CloseReason::Timeout;
    assert_eq!(state, OrderState::Closed { reason });
}

#[test]
fn holds_beyond_the_units_are_set_aside_the_newest_first() {
    let mut copies: Vec<_> = (0..4).map(|n| (order(n), Copy::Store)).collect();
    copies.extend((4..8).map(|n| (order(n), Copy::Stock)));
    let merged = pile(&copies)
        .settle(&sale(), UnixMs(T + 10))
        .expect("merged");
    assert_eq!(merged.orders, (0..6).map(order).collect::<Vec<_>>());
    let aside: Vec<_> = merged.set_aside.into_iter().collect();
    let expected = [order(6), order(7)].map(|o| (o, Setback::NoUnits));
    assert_eq!(aside, expected);
}

#[test]
fn a_hold_whose_key_or_limit_is_taken_is_set_aside() {
    let (first, mut again) = (order(0), order(3));
    again.user = first.user.clone();
    let key = pile(&[(first.clone(), Copy::Store), (again.clone(), Copy::Stock)]);
    let merged = key.settle(&sale(), UnixMs(T + 10)).expect("merged");
    assert_eq!(merged.set_aside, [(again.clone(), Setback::KeyTaken)]);

    again.key = IdemKey::parse("other").expect("a key");
    again.items[0].quantity = 2;
    let limit = pile(&[(first, Copy::Store), (again.clone(), Copy::Stock)]);
    let merged = limit.settle(&sale(), UnixMs(T + 10)).expect("merged");
    assert_eq!(merged.set_aside, [(again, Setback::OverLimit)]);
}

#[test]
fn more_live_orders_than_units_beyond_doubt_is_an_error_that_names_the_sku() {
    let copies: Vec<_> = (0..7).map(|n| (order(n), Copy::Store)).collect();
    let why = pile(&copies)
        .settle(&sale(), UnixMs(T + 10))
        .expect_err("oversold");
    assert!(why.contains("7 units of pot"), "{why}");
}

proptest! {
    /// However orders lie and whatever became of them: each bucket can have what it
    /// holds, and all buckets together have what was opened.
    #[test]
    fn units_are_handed_out_anew_none_more_and_none_less(
        made in prop::collection::btree_map(0_u16..12, any::<bool>(), 0..12)
    ) {
        let copies: Vec<_> = made
            .iter()
            .map(|(n, closed)| if *closed { canceled(&order(*n)) } else { order(*n) })
            .map(|order| (order, Copy::Stock))
            .collect();
        let merged = pile(&copies).settle(&sale(), UnixMs(T + 10)).expect("holds alone never oversell");
        prop_assert_eq!(merged.orders.len() + merged.set_aside.len(), copies.len());
        let mut all = 0;
        for bucket in 0..3 {
            let live = merged.orders.iter().filter(|o| o.state.is_live());
            let live = live.filter(|o| o.id.bucket().0 == bucket).count();
            prop_assert!(units(&merged, bucket) >= i64::try_from(live).expect("few"));
            all += units(&merged, bucket);
        }
        prop_assert_eq!(all, i64::from(UNITS));
    }
}

#[test]
fn units_that_were_withdrawn_are_not_handed_out_again() {
    // Four of the six units stood in one bucket, and went back without being for sale.
    let mut gone = order(0);
    gone.items[0].quantity = 4;
    for event in [
        OrderEvent::PaymentApplied,
        OrderEvent::RefundAsked { restock: false },
    ] {
        let step = gone.step(event, 1, UnixMs(T + 5));
        gone = step.expect("legal").expect("a change").0;
    }
    let copies = [(gone, Copy::Store)];
    let merged = pile(&copies)
        .settle(&sale(), UnixMs(T + 10))
        .expect("merged");
    assert_eq!([0, 1, 2].map(|no| units(&merged, no)), [5, 1, 0]);
}

#[test]
fn the_newest_version_tells_the_way_that_led_to_it() {
    use OrderEvent::{Granted, PaymentApplied, RefundAsked, RefundDone};
    let refund = RefundAsked { restock: false };
    for way in [
        &[PaymentApplied, Granted][..],
        &[PaymentApplied, refund, RefundDone],
        &[OrderEvent::Cancel],
    ] {
        let mut real = vec![order(1)];
        for event in way {
            let next = real[real.len() - 1].step(*event, 1, UnixMs(T + 5));
            real.push(next.expect("legal").expect("a change").0);
        }
        while let Some(newest) = real.pop() {
            let told: Vec<_> = newest.earlier().iter().map(named).collect();
            assert_eq!(
                told,
                real.iter().map(named).collect::<Vec<_>>(),
                "{newest:?}"
            );
        }
    }
}

/// Also of an order that changed its owner since, whose making stands in the store under
/// another version than the newest one lets us know.
#[test]
fn the_store_lacks_the_steps_that_came_after_what_it_has() {
    use OrderEvent::{Granted, PaymentApplied};
    for epochs in [[1, 1], [1, 7], [7, 7]] {
        let made = order(1);
        let step = |order: &Order, event, epoch| {
            let next = order.step(event, epoch, UnixMs(T + 5));
            next.expect("legal").expect("a change").0
        };
        let paid = step(&made, PaymentApplied, epochs[0]);
        let delivered = step(&paid, Granted, epochs[1]);
        let way = [made, paid, delivered.clone()];
        for n_stored in 0..=3 {
            let mut copies = vec![(delivered.clone(), Copy::Ledger)];
            copies.extend(way[..n_stored].last().map(|o| (o.clone(), Copy::Store)));
            let merged = pile(&copies).settle(&sale(), UnixMs(T + 10));
            let (has, lacks) = merged.expect("merged").way(&delivered);
            let names = |orders: &[Order]| -> Vec<_> {
                orders.iter().map(|order| order.state.name()).collect()
            };
            assert_eq!(names(&has), names(&way[..n_stored]), "{epochs:?}");
            assert_eq!(names(&lacks), names(&way[n_stored..]), "{epochs:?}");
        }
    }
}

/// Which step paid an order is not known of one that was granted before it was given back.
#[test]
fn the_store_does_not_hear_twice_that_an_order_was_paid() {
    use OrderEvent::{Granted, PaymentApplied, RefundAsked, RefundDone};
    let refund = RefundAsked { restock: true };
    let mut way = vec![order(1)];
    for event in [PaymentApplied, Granted, refund, RefundDone] {
        let next = way[way.len() - 1].step(event, 1, UnixMs(T + 5));
        way.push(next.expect("legal").expect("a change").0);
    }
    let [_, paid, delivered, due, refunded] = &way[..] else {
        panic!("five versions")
    };
    for (stored, newest, told) in [
        (paid, due, &["REFUND_DUE"][..]),
        (paid, refunded, &["REFUND_DUE", "REFUNDED"]),
        (delivered, refunded, &["REFUND_DUE", "REFUNDED"]),
        (due, refunded, &["REFUNDED"]),
    ] {
        let copies = [
            (newest.clone(), Copy::Ledger),
            (stored.clone(), Copy::Store),
        ];
        let merged = pile(&copies).settle(&sale(), UnixMs(T + 10));
        let (_, lacks) = merged.expect("merged").way(newest);
        let names: Vec<_> = lacks.iter().map(|order| order.state.name()).collect();
        assert_eq!(names, told, "{stored:?}");
    }
}

fn named(order: &Order) -> (Version, &'static str) {
    (order.version, order.state.name())
}
