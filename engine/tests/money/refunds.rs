//! Refunds: asked twice, of several payments, of an order that cannot be read.

use bytes::Bytes;
use floodgate_engine::domain::codec::encode_payment;
use floodgate_engine::domain::order::OrderEvent;
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::sale::{Captured, Changed};
use floodgate_ledger::{Draft, Group, Kind};

use super::shop::*;

#[tokio::test]
async fn a_refund_asked_twice_is_one_and_its_units_stay_away_if_told_to() {
    on_each_host(sale(10, 10, 2), async |shop| {
        let (away, back) = (shop.buy("ana", 2).await, shop.buy("bea", 3).await);
        let unpaid = shop.buy("cid", 1).await;
        let (for_away, _) = shop.capture(&bill(&away, "t1")).await;
        let (for_back, _) = shop.capture(&bill(&back, "t2")).await;
        let first = shop.refund(&away, false).await;
        assert_eq!(
            shop.refund(&away, true).await,
            first,
            "the first word counts"
        );
        shop.refund(&back, true).await;
        let no = shop
            .change(&unpaid, OrderEvent::RefundAsked { restock: true })
            .await;
        assert!(matches!(no, Changed::Illegal(_)), "{no:?}");
        assert_eq!(
            (shop.state(&away), shop.paid(&away)),
            ("REFUND_DUE", vec!["REFUND_DUE"])
        );
        assert_eq!(shop.counts(), [7, 1, 0, 2]);
        shop.restart().await;
        assert_eq!(shop.counts(), [7, 1, 0, 2]);
        shop.sent_back(&for_away).await;
        shop.sent_back(&for_away).await;
        shop.sent_back(&for_back).await;
        for order in [&away, &back] {
            assert_eq!(
                (shop.state(order), shop.paid(order)),
                ("REFUNDED", vec!["REFUNDED"])
            );
            assert_eq!(shop.refund(order, true).await.state.name(), "REFUNDED");
        }
        // What came back may be bought, what was withdrawn may not.
        shop.buy("dan", 7).await;
        assert_eq!(shop.counts(), [0, 8, 0, 2]);
        shop.restart().await;
        assert_eq!(shop.counts(), [0, 8, 0, 2]);
    })
    .await;
}

#[tokio::test]
async fn an_order_is_refunded_once_all_its_money_is_back() {
    on_each_host(sale(10, 10, 2), async |shop| {
        for surplus_first in [false, true] {
            let name = if surplus_first { "ana" } else { "bea" };
            let order = shop.buy(name, 1).await;
            let (first, _) = shop.capture(&bill(&order, &format!("{name}-1"))).await;
            let (surplus, _) = shop.capture(&bill(&order, &format!("{name}-2"))).await;
            assert_eq!(first.state, PaymentState::Applied);
            assert_eq!(surplus.state, PaymentState::RefundDue);
            shop.refund(&order, true).await;
            let (one, other) = if surplus_first {
                (&surplus, &first)
            } else {
                (&first, &surplus)
            };
            shop.sent_back(one).await;
            assert_eq!(shop.state(&order), "REFUND_DUE");
            shop.sent_back(other).await;
            assert_eq!(
                (shop.state(&order), shop.paid(&order)),
                ("REFUNDED", vec!["REFUNDED"; 2])
            );
            // And once more, too late for anything.
            let (stray, _) = shop.capture(&bill(&order, &format!("{name}-3"))).await;
            assert_eq!(stray.state, PaymentState::RefundDue);
            shop.sent_back(&stray).await;
            assert_eq!(shop.state(&order), "REFUNDED");
        }
        assert_eq!(shop.counts(), [10, 0, 0, 0]);
    })
    .await;
}

/// What a refund brings to its order comes with it or not at all.
#[tokio::test]
async fn a_refund_whose_order_cannot_be_looked_into_is_not_half_done() {
    on_each_host(sale(10, 10, 1), async |shop| {
        let order = shop.buy("ana", 1).await;
        let (paid, _) = shop.capture(&bill(&order, "t1")).await;
        shop.refund(&order, true).await;
        // Another payment of the order that cannot be read, and then one that can.
        let other = Payment {
            state: PaymentState::Refunded,
            ..bill(&order, "t2")
        };
        let readable = encode_payment(&other);
        let ledger = shop.open.as_ref().expect("it is open").ledger.clone();
        let write = async |version, body: Vec<u8>| {
            let draft = Draft {
                kind: Kind(5),
                group: Bytes::from_static(b"tea"),
                id: Bytes::copy_from_slice(other.id.as_bytes()),
                version,
                live: false,
                owner: Some(Bytes::copy_from_slice(order.id.as_bytes())),
                uniques: Vec::new(),
                at_ms: T0,
                body: body.into(),
            };
            let receipt = ledger.append(Group::one(draft)).await.expect("it is open");
            receipt.await.expect("durable");
        };
        write(1, b"nonsense".to_vec()).await;
        let said = shop.selling().refunded(&paid, "r1".into()).await;
        assert!(matches!(said, Captured::Unknown), "{said:?}");
        write(2, readable).await;
        assert_eq!(shop.paid(&order), ["REFUNDED", "REFUND_DUE"]);
        shop.sent_back(&paid).await;
        assert_eq!(shop.state(&order), "REFUNDED");
    })
    .await;
}
