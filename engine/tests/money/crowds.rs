//! Many at once: windows that end while others ask, money that fills a commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use floodgate_engine::domain::order::OrderEvent;
use floodgate_engine::domain::payment::PaymentState;
use floodgate_engine::domain::sale::Sale;
use floodgate_engine::sale::{Captured, Changed};
use floodgate_ledger::{Draft, Group, Kind};
use tokio::task::JoinSet;

use super::shop::*;
use crate::common::redis;

/// More than a turn of the desk takes in.
const CROWD: u64 = 3_000;

/// While the desk waits for a Redis that stands still, a crowd gathers and a window ends.
/// The first of the crowd is answered in the next turn, which takes in as many as a turn
/// can, and so is the window: it has ended when that answer is heard.
#[tokio::test]
async fn windows_end_however_many_ask_meanwhile() {
    let Some(redis) = redis::start() else {
        return;
    };
    let mut shop = Shop::new(sale(10, 10, 1), Some(redis));
    shop.start().await;
    let (paid, unpaid) = (shop.buy("ana", 1).await, shop.buy("bea", 2).await);
    shop.capture(&bill(&paid, "t1")).await;
    let stock = shop.redis.as_ref().expect("it runs");
    let open = shop.open.as_ref().expect("it is open");
    stock.freeze();
    let zoe = shop.buy("zoe", 1);
    tokio::pin!(zoe);
    while open.at_desk.get_sample_count() < 3 {
        tokio::select! {
            biased;
            _ = &mut zoe => panic!("nobody sells now"),
            () = tokio::task::yield_now() => {}
        }
    }
    let n_asking = Arc::new(AtomicU64::new(0));
    let crowd = (0..CROWD).map(|_| {
        let (selling, n_asking) = (Arc::clone(&open.selling), Arc::clone(&n_asking));
        let id = paid.id;
        tokio::spawn(async move {
            n_asking.fetch_add(1, Ordering::Relaxed);
            selling.change(id, OrderEvent::Cancel).await
        })
    });
    let mut crowd: VecDeque<_> = crowd.collect();
    while n_asking.load(Ordering::Relaxed) < CROWD {
        tokio::task::yield_now().await;
    }
    shop.later(WINDOW);
    stock.thaw();
    let first = crowd.pop_front().expect("a crowd").await;
    assert!(matches!(first, Ok(Changed::Illegal(_))), "{first:?}");
    assert_eq!(shop.state(&unpaid), "CLOSED");
    for asked in crowd {
        let said = asked.await;
        assert!(matches!(said, Ok(Changed::Illegal(_))), "{said:?}");
    }
    zoe.await;
}

/// A group that the ledger refuses takes nobody's window with it.
#[tokio::test]
async fn a_window_whose_end_was_refused_with_the_money_of_others_ends_all_the_same() {
    // So long that only the hands of the clock end it.
    let long = Sale {
        pay_window_ms: 3_600_000,
        ..sale(10, 10, 1)
    };
    let mut shop = Shop::new(long, None);
    shop.start().await;
    let (ana, bea) = (shop.buy("ana", 1).await, shop.buy("bea", 2).await);
    // The transaction is taken, and not by a payment.
    let taken = Draft {
        kind: Kind(99),
        group: Bytes::from_static(b"others"),
        id: Bytes::from_static(b"other"),
        version: 1,
        live: false,
        owner: None,
        uniques: vec![Bytes::from_static(b"pay:card:t1")],
        at_ms: T0,
        body: Bytes::new(),
    };
    let group = Group {
        drafts: vec![taken],
        meta: Vec::new(),
    };
    let ledger = &shop.open.as_ref().expect("it is open").ledger;
    let receipt = ledger.append(group).await.expect("it is open");
    receipt.await.expect("durable");
    shop.later(3_600_000);
    // The money and both windows are one turn of the desk.
    let said = shop.selling().capture(bill(&ana, "t1")).await;
    assert!(matches!(said, Captured::Unknown), "{said:?}");
    assert_eq!([shop.state(&ana), shop.state(&bea)], ["PENDING_PAYMENT"; 2]);
    shop.later(1_000);
    shop.adds_up().await;
    assert_eq!([shop.state(&ana), shop.state(&bea)], ["CLOSED"; 2]);
}

/// The smallest group that a configuration may allow is half of what a desk takes in.
#[tokio::test]
async fn more_money_at_once_than_a_commit_holds_is_taken_in_turns() {
    let mut shop = Shop::new(sale(1_000, 1, 1), None);
    shop.records_max = 512;
    shop.start().await;
    let mut orders = Vec::new();
    for n in 0..600 {
        orders.push(shop.buy(&format!("user-{n}"), 1).await);
    }
    let mut under_way = JoinSet::new();
    for (n, order) in orders.iter().enumerate() {
        let selling = Arc::clone(&shop.open.as_ref().expect("it is open").selling);
        let payment = bill(order, &format!("t{n}"));
        under_way.spawn(async move { selling.capture(payment).await });
    }
    while let Some(said) = under_way.join_next().await {
        // Nobody is told to come again.
        assert!(
            matches!(&said, Ok(Captured::Stands { payment, .. }) if payment.state == PaymentState::Applied),
            "{said:?}"
        );
    }
    assert_eq!(shop.counts(), [400, 0, 600, 0]);
    shop.adds_up().await;
}
