//! Captures: in time, late, again, for somebody else's order, of another amount.

use std::pin::pin;
use std::time::Duration;

use floodgate_engine::domain::ids::OrderId;
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::domain::sale::Switches;
use floodgate_engine::sale::{Captured, Due};

use super::shop::*;
use crate::common;

#[tokio::test]
async fn said_five_times_a_capture_changes_one_order_once() {
    on_each_host(sale(10, 10, 2), async |shop| {
        let order = shop.buy("ana", 2).await;
        let payment = bill(&order, "t1");
        let said = all_at_once(shop, vec![payment.clone(); 5]).await;
        let first = &said[0].0;
        assert!(said.iter().all(|(payment, _)| payment == first));
        assert_eq!(said.iter().filter(|(_, replayed)| !replayed).count(), 1);
        assert_eq!(first.state, PaymentState::Applied);
        let paid = shop.look(&order);
        assert_eq!(paid.state.name(), "PAID");
        assert_eq!(paid.version, order.version.next(0));
        shop.restart().await;
        assert!(shop.capture(&payment).await.1, "known for ever");
        assert_eq!(shop.look(&order), paid);
        assert_eq!(shop.paid(&order), ["APPLIED"]);
        assert_eq!(shop.counts(), [8, 0, 2, 0]);
    })
    .await;
}

#[tokio::test]
async fn money_that_comes_as_the_window_ends_is_in_time_and_later_takes_fresh_units() {
    on_each_host(sale(10, 10, 2), async |shop| {
        let (order, late) = (shop.buy("ana", 2).await, shop.buy("bea", 3).await);
        shop.later(WINDOW);
        // The desk hears of the money in the same turn in which the window is over.
        assert_eq!(
            shop.captured(&bill(&order, "t1")).await,
            PaymentState::Applied
        );
        shop.adds_up().await;
        assert_eq!((shop.state(&order), shop.state(&late)), ("PAID", "CLOSED"));
        assert_eq!(shop.counts(), [8, 0, 2, 0]);
        assert_eq!(
            shop.captured(&bill(&late, "t2")).await,
            PaymentState::Applied
        );
        assert_eq!(shop.state(&late), "PAID");
        assert_eq!(shop.counts(), [5, 0, 5, 0]);
        shop.restart().await;
        assert_eq!((shop.state(&order), shop.state(&late)), ("PAID", "PAID"));
        assert_eq!(shop.counts(), [5, 0, 5, 0]);
    })
    .await;
}

#[tokio::test]
async fn late_money_fetches_units_from_other_buckets() {
    on_each_host(sale(10, 4, 2), async |shop| {
        let late = shop.buy("ana", 4).await;
        shop.later(WINDOW);
        shop.adds_up().await;
        // Somebody of the same bucket leaves two units there; five are in the other one.
        for n in 0.. {
            let order = shop.buy(&format!("buyer-{n}"), 3).await;
            if order.id.bucket() == late.id.bucket() {
                break;
            }
            shop.change(&order, OrderEvent::Cancel).await;
        }
        assert_eq!(shop.counts(), [7, 3, 0, 0]);
        assert_eq!(
            shop.captured(&bill(&late, "t")).await,
            PaymentState::Applied
        );
        assert_eq!(shop.state(&late), "PAID");
        assert_eq!(shop.counts(), [3, 3, 4, 0]);
        shop.restart().await;
        assert_eq!(shop.state(&late), "PAID");
        assert_eq!(shop.counts(), [3, 3, 4, 0]);
    })
    .await;
}

/// The order is closed, and its unit has not come back yet.
#[tokio::test]
async fn late_money_waits_for_what_its_own_order_gives_back() {
    let Some(redis) = common::redis::start() else {
        return;
    };
    let mut shop = Shop::new(sale(1, 1, 1), Some(redis));
    shop.start().await;
    let order = shop.buy("ana", 1).await;
    let redis = shop.redis.as_ref().expect("it is there");
    let live = &shop.open.as_ref().expect("it is open").live;
    redis.freeze();
    shop.later(WINDOW);
    // Somebody knocks, so that the desk looks at its clock.
    let mut audit = pin!(shop.selling().audit(live));
    while shop.state(&order) != "CLOSED" {
        let soon = tokio::time::sleep(Duration::from_millis(1));
        tokio::select! {
            _ = &mut audit => panic!("the host is frozen"),
            () = soon => {}
        }
    }
    let late = bill(&order, "t");
    let mut captured = pin!(shop.captured(&late));
    tokio::select! {
        biased;
        state = &mut captured => panic!("{state:?} while the host is frozen"),
        () = std::future::ready(()) => {}
    }
    redis.thaw();
    assert_eq!(captured.await, PaymentState::Applied);
    audit.await;
    assert_eq!(shop.state(&order), "PAID");
    shop.adds_up().await;
    assert_eq!(shop.counts(), [0, 0, 1, 0]);
}

#[tokio::test]
async fn late_money_goes_back_where_nobody_may_sell_for_it() {
    on_each_host(sale(4, 3, 1), async |shop| {
        let (ana, bea) = (shop.buy("ana", 3).await, shop.buy("bea", 1).await);
        shop.later(WINDOW);
        shop.adds_up().await;
        // The limit: ana has two units by now, and a buyer may have three.
        let again = shop.buy("ana", 2).await;
        assert_eq!(
            shop.captured(&bill(&ana, "limit")).await,
            PaymentState::RefundDue
        );
        shop.capture(&bill(&again, "again")).await;
        // Paused: nobody is sold anything.
        let pause = |paused| move |was: Switches| Switches { paused, ..was };
        shop.selling().switch("tea", pause(true)).await;
        assert_eq!(
            shop.captured(&bill(&bea, "paused")).await,
            PaymentState::RefundDue
        );
        shop.selling().switch("tea", pause(false)).await;
        // Sold out.
        let rest = shop.buy("cid", 2).await;
        assert_eq!(
            shop.captured(&bill(&bea, "none")).await,
            PaymentState::RefundDue
        );
        // There are units again, and the sale is over.
        shop.change(&rest, OrderEvent::Cancel).await;
        shop.later(20 * WINDOW);
        assert_eq!(
            shop.captured(&bill(&bea, "over")).await,
            PaymentState::RefundDue
        );
        assert_eq!((shop.state(&ana), shop.state(&bea)), ("CLOSED", "CLOSED"));
        assert_eq!(shop.counts(), [2, 0, 2, 0]);
        let mut due = Vec::new();
        for _ in 0..4 {
            match shop.owed().next().await {
                Some(Due::Payment(payment)) => due.push(payment),
                other => panic!("{other:?}"),
            }
        }
        let txns: Vec<_> = due.iter().map(|p| p.channel_txn_no.to_string()).collect();
        assert_eq!(txns, ["limit", "paused", "none", "over"]);
        shop.restart().await;
        assert_eq!(
            shop.selling()
                .payments_owed(usize::MAX)
                .expect("readable")
                .len(),
            4
        );
        for payment in &due {
            shop.sent_back(payment).await;
        }
        assert!(
            shop.selling()
                .payments_owed(usize::MAX)
                .expect("readable")
                .is_empty()
        );
        assert_eq!(shop.state(&bea), "CLOSED", "its money came and went");
    })
    .await;
}

#[tokio::test]
async fn one_transaction_that_names_two_orders_pays_one_of_them() {
    on_each_host(sale(100, 2, 2), async |shop| {
        let mut orders: [Vec<Order>; 2] = [Vec::new(), Vec::new()];
        for n in 0..40 {
            let order = shop.buy(&format!("user-{n}"), 1).await;
            orders[usize::from(order.id.bucket().0)].push(order);
        }
        let [here, there] = orders;
        let pairs: Vec<_> = here.into_iter().zip(there).collect();
        assert!(pairs.len() > 10, "both buckets have buyers");
        let bills = pairs.iter().enumerate().flat_map(|(n, (one, other))| {
            let txn = format!("t{n}");
            [bill(one, &txn), bill(other, &txn)]
        });
        all_at_once(shop, bills.collect()).await;
        for (one, other) in &pairs {
            let mut states = [shop.state(one), shop.state(other)];
            states.sort_unstable();
            assert_eq!(states, ["PAID", "PENDING_PAYMENT"]);
            let paid = [shop.paid(one), shop.paid(other)].concat();
            assert_eq!(paid, ["APPLIED"]);
        }
    })
    .await;
}

#[tokio::test]
async fn what_does_not_match_waits_for_a_person() {
    on_each_host(sale(10, 10, 1), async |shop| {
        let orders = [shop.buy("ana", 1).await, shop.buy("bea", 1).await];
        let short = |order: &Order, txn: &str| Payment {
            amount: Cents(99),
            ..bill(order, txn)
        };
        let dollars = Payment {
            currency: Currency::parse("USD").expect("a currency"),
            ..bill(&orders[1], "t2")
        };
        let nobodys = Payment {
            order: OrderId::parse("00000000-0000-8000-8000-000000000000"),
            ..bill(&orders[1], "t3")
        };
        let (short, _) = shop.capture(&short(&orders[0], "t1")).await;
        let (dollars, _) = shop.capture(&dollars).await;
        let (nobodys, _) = shop.capture(&nobodys).await;
        for payment in [&short, &dollars, &nobodys] {
            assert_eq!(payment.state, PaymentState::Review);
            assert!(!payment.note.is_empty());
            let found = shop.selling().payment(&payment.id).expect("readable");
            assert_eq!(found.as_ref(), Some(payment));
        }
        assert_eq!(nobodys.order, None);
        assert_eq!(shop.counts(), [8, 2, 0, 0]);
        let accepted = shop.selling().review(&short, true, "a cent".into()).await;
        assert!(matches!(
            accepted,
            Captured::Stands {
                replayed: false,
                ..
            }
        ));
        assert_eq!(
            (shop.state(&orders[0]), shop.paid(&orders[0])),
            ("PAID", vec!["APPLIED"])
        );
        // Its order is paid: it can only go back.
        let (second, _) = shop.capture(&bill(&orders[0], "t4")).await;
        let again = shop.selling().review(&second, true, "again".into()).await;
        assert!(matches!(again, Captured::Illegal(_)), "{again:?}");
        for payment in [&dollars, &nobodys] {
            let no = shop.selling().review(payment, false, "no".into()).await;
            assert!(
                matches!(
                    no,
                    Captured::Stands {
                        replayed: false,
                        ..
                    }
                ),
                "{no:?}"
            );
            shop.sent_back(payment).await;
        }
        let stray = shop.selling().review(&nobodys, true, "yes".into()).await;
        assert!(
            matches!(stray, Captured::Illegal(_)),
            "no order could take it"
        );
        assert_eq!(
            (shop.state(&orders[1]), shop.paid(&orders[1])),
            ("PENDING_PAYMENT", vec!["REFUNDED"])
        );
    })
    .await;
}

#[tokio::test]
async fn what_a_person_accepts_after_the_window_takes_fresh_units() {
    // Two units a bucket: who had three needs one of the other's again.
    on_each_host(sale(4, 3, 2), async |shop| {
        let ana = shop.buy("ana", 3).await;
        let cents = |order: &Order, txn: &str| Payment {
            amount: Cents(1),
            ..bill(order, txn)
        };
        let (of_ana, _) = shop.capture(&cents(&ana, "a")).await;
        shop.later(WINDOW);
        shop.adds_up().await;
        assert_eq!((shop.state(&ana), shop.counts()), ("CLOSED", [4, 0, 0, 0]));
        let accepted = async |payment: &Payment| {
            let note = "it was our mistake".to_owned();
            shop.selling().review(payment, true, note).await
        };
        // Where nobody is sold anything it stays as it is, for another day.
        let pause = |paused| move |was: Switches| Switches { paused, ..was };
        shop.selling().switch("tea", pause(true)).await;
        let said = accepted(&of_ana).await;
        assert!(
            matches!(&said, Captured::Illegal(p) if **p == of_ana),
            "{said:?}"
        );
        shop.selling().switch("tea", pause(false)).await;
        let said = accepted(&of_ana).await;
        assert!(
            matches!(&said, Captured::Stands { payment, replayed: false }
                if payment.state == PaymentState::Applied && payment.note == "it was our mistake"),
            "{said:?}"
        );
        assert_eq!(
            (shop.state(&ana), shop.paid(&ana)),
            ("PAID", vec!["APPLIED"])
        );
        assert_eq!(shop.counts(), [1, 0, 3, 0]);
        let again = accepted(&of_ana).await;
        assert!(
            matches!(again, Captured::Stands { replayed: true, .. }),
            "{again:?}"
        );
        // No units are left: a person may still send it back.
        let bea = shop.buy("bea", 1).await;
        let (of_bea, _) = shop.capture(&cents(&bea, "b")).await;
        shop.later(WINDOW);
        shop.adds_up().await;
        shop.buy("cid", 1).await;
        let said = accepted(&of_bea).await;
        assert!(
            matches!(&said, Captured::Illegal(p) if **p == of_bea),
            "{said:?}"
        );
        assert_eq!(
            (shop.state(&bea), shop.paid(&bea)),
            ("CLOSED", vec!["REVIEW"])
        );
        assert_eq!(shop.counts(), [0, 1, 3, 0]);
        shop.restart().await;
        assert_eq!((shop.state(&ana), shop.counts()), ("PAID", [0, 1, 3, 0]));
        let no = shop
            .selling()
            .review(&of_bea, false, "sold out".into())
            .await;
        assert!(
            matches!(
                no,
                Captured::Stands {
                    replayed: false,
                    ..
                }
            ),
            "{no:?}"
        );
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn two_who_accept_one_payment_after_the_window_take_units_once() {
    on_each_host(sale(4, 2, 1), async |shop| {
        let ana = shop.buy("ana", 1).await;
        let cents = |n, txn| Payment {
            amount: Cents(n),
            ..bill(&ana, txn)
        };
        let (one, _) = shop.capture(&cents(1, "t1")).await;
        let (other, _) = shop.capture(&cents(2, "t2")).await;
        shop.later(WINDOW);
        shop.adds_up().await;
        let accept = |payment| shop.selling().review(payment, true, "yes".into());
        let said = tokio::join!(accept(&one), accept(&one), accept(&other));
        let (stand, no): (Vec<_>, Vec<_>) = [said.0, said.1, said.2]
            .into_iter()
            .partition(|said| matches!(said, Captured::Stands { .. }));
        assert!(!stand.is_empty(), "{no:?}");
        assert!(
            no.iter().all(|said| matches!(said, Captured::Illegal(_))),
            "{no:?}"
        );
        let mut paid = shop.paid(&ana);
        paid.sort_unstable();
        assert_eq!(
            (shop.state(&ana), paid),
            ("PAID", vec!["APPLIED", "REVIEW"])
        );
        assert_eq!(shop.counts(), [3, 0, 1, 0]);
        shop.adds_up().await;
    })
    .await;
}
