//! Many at once: windows that end while others ask, money that fills a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use floodgate_engine::domain::order::OrderEvent;
use floodgate_engine::domain::payment::PaymentState;
use floodgate_engine::domain::sale::Sale;
use floodgate_engine::sale::{Captured, Changed};
use floodgate_ledger::{Draft, Group, Kind};
use tokio::task::JoinSet;

use super::shop::*;

/// A turn of the desk takes in so many wishes at most, and here there are always more:
/// the crowd asks until the window has ended, however long the disk takes.
#[tokio::test]
async fn windows_end_however_many_ask_meanwhile() {
    let mut shop = Shop::new(sale(10, 10, 1), None);
    shop.start().await;
    let (paid, unpaid) = (shop.buy("ana", 1).await, shop.buy("bea", 2).await);
    shop.capture(&bill(&paid, "t1")).await;
    let n_heard = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let selling = Arc::clone(&shop.open.as_ref().expect("it is open").selling);
        let (n_heard, is_over) = (Arc::clone(&n_heard), Arc::clone(&is_over));
        let id = paid.id;
        crowd.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let said = selling.change(id, OrderEvent::Cancel).await;
                assert!(matches!(said, Changed::Illegal(_)), "{said:?}");
                n_heard.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while n_heard.load(Ordering::Relaxed) < CROWD {
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.state(&unpaid), "PENDING_PAYMENT");
    shop.later(WINDOW);
    while shop.state(&unpaid) != "CLOSED" {
        // A desk that closes nothing while it is asked must fail and not hang.
        assert!(n_heard.load(Ordering::Relaxed) < 10_000 * CROWD, "never");
        tokio::task::yield_now().await;
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(asked) = crowd.join_next().await {
        asked.expect("no panic");
    }
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
    let mut shop = Shop {
        records_max: 512,
        ..Shop::new(sale(1_000, 1, 1), None)
    };
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
