//! Lines at the desks: units that many wait for, in one bucket or crosswise in two, and money
//! that comes late by the hundred.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use floodgate_engine::admission::Standing;
use floodgate_engine::domain::ids::{BucketNo, IdemKey, SkuId, UserId, home_bucket};
use floodgate_engine::domain::order::OrderEvent;
use floodgate_engine::domain::payment::PaymentState;
use floodgate_engine::domain::sale::{Sale, Sku};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::sale::{Bought, Purchase, Refusal};

use super::shop::*;
use crate::common::redis;

/// All of them at once, in this task.
fn join_all<'a, F: Future + 'a>(
    all: impl Iterator<Item = F>,
) -> impl Future<Output = Vec<F::Output>> {
    let mut waiting: Vec<Result<F::Output, Pin<Box<F>>>> = all.map(|f| Err(Box::pin(f))).collect();
    poll_fn(move |context| {
        for one in &mut waiting {
            if let Err(future) = one
                && let Poll::Ready(said) = future.as_mut().poll(context)
            {
                *one = Ok(said);
            }
        }
        if waiting.iter().any(Result::is_err) {
            return Poll::Pending;
        }
        Poll::Ready(waiting.drain(..).filter_map(Result::ok).collect())
    })
}

/// Buyers who come to this bucket first.
fn buyers_of(sale: &Sale, bucket: u16) -> impl Iterator<Item = String> {
    let (id, buckets) = (sale.id.clone(), sale.buckets);
    (0..).map(|n| format!("buyer-{n}")).filter(move |user| {
        let user = UserId::parse(user).expect("an id");
        home_bucket(&id, &user, buckets) == BucketNo(bucket)
    })
}

/// The smallest commit that may be configured holds fewer orders than one journey may bring
/// units for.
#[tokio::test]
async fn a_journey_may_bring_units_for_more_than_a_commit_carries() {
    const CROWD: usize = 900;
    let Some(redis) = redis::start() else {
        return;
    };
    let mut shop = Shop::new(sale(4_000, 2_000, 2), Some(redis));
    shop.records_max = 512;
    shop.start().await;
    let mut buyers = buyers_of(&shop.sale, 0);
    shop.buy(&buyers.next().expect("a buyer"), 2_000).await;
    assert_eq!(shop.counts(), [2_000, 2_000, 0, 0]);

    // While the desk waits for a stock that stands still, all of them gather.
    let stock = shop.redis.as_ref().expect("it runs");
    stock.freeze();
    let crowd: Vec<String> = buyers.take(CROWD).collect();
    let mut crowd = Box::pin(join_all(crowd.iter().map(|user| shop.buy(user, 1))));
    for _ in 0..CROWD {
        tokio::select! {
            biased;
            _ = &mut crowd => panic!("nobody sells now"),
            () = tokio::task::yield_now() => {}
        }
    }
    stock.thaw();
    assert_eq!(crowd.await.len(), CROWD);
    shop.adds_up().await;
    let sold = 2_000 + CROWD as i64;
    assert_eq!(shop.counts(), [4_000 - sold, sold, 0, 0]);
}

/// All units of one SKU stand in one bucket and those of the other in another, and everybody
/// wants one of each: nobody is refused before the last pair.
#[tokio::test]
async fn lines_that_want_each_others_units_sell_every_pair() {
    const PAIRS: u32 = 60;
    let mut crossing = sale(PAIRS, 1_000, 2);
    let more = Sku {
        id: SkuId::parse("zest").expect("an id"),
        ..crossing.skus[0].clone()
    };
    crossing.skus.push(more);
    on_each_host(crossing, async |shop| {
        let users: Vec<String> = (0..100).map(|n| format!("buyer-{n}")).collect();
        let said = join_all(users.iter().map(|user| pair(shop, user))).await;
        let n_won = said.iter().filter(|b| matches!(b, Bought::New(_))).count();
        let no = |b: &&Bought| matches!(b, Bought::Refused(Refusal::NotEnough));
        let n_refused = said.iter().filter(no).count();
        assert_eq!((n_won, n_refused), (PAIRS as usize, 100 - PAIRS as usize));
        assert_eq!(shop.counts(), [0, i64::from(PAIRS), 0, 0]);
    })
    .await;
}

async fn pair(shop: &Shop, user: &str) -> Bought {
    let purchase = Purchase {
        user: UserId::parse(user).expect("an id"),
        key: IdemKey::parse("pair").expect("a key"),
        units: [(0, 1), (1, 1)].into_iter().collect(),
        device: None,
        ip: [127, 0, 0, 1].into(),
    };
    let live = &shop.open.as_ref().expect("it is open").live;
    shop.selling()
        .buy(live, purchase, &mut Standing::default())
        .await
}

/// A provider comes back, and hundreds of payments come late at once: they share calls to the
/// stock, and commits.
#[tokio::test]
async fn late_money_comes_in_groups() {
    const N: u32 = 300;
    let Some(redis) = redis::start() else {
        return;
    };
    let mut shop = Shop::new(sale(N, 1, 1), Some(redis));
    shop.start().await;
    let users: Vec<String> = (0..N).map(|n| format!("buyer-{n}")).collect();
    let orders = join_all(users.iter().map(|user| shop.buy(user, 1))).await;
    shop.later(WINDOW);
    // So many close in a turn, and not more.
    while shop.counts()[1] > 0 {
        shop.adds_up().await;
    }
    assert_eq!(shop.counts(), [i64::from(N), 0, 0, 0]);

    let stock = shop.redis.as_ref().expect("it runs");
    let calls = || stock.spent("evalsha").1;
    let before = calls();
    let bills: Vec<_> = (0..)
        .zip(&orders)
        .map(|(n, o)| bill(o, &format!("t{n}")))
        .collect();
    let states = join_all(bills.iter().map(|bill| shop.captured(bill))).await;
    assert_eq!(states, vec![PaymentState::Applied; N as usize]);
    let n_calls = calls() - before;
    assert!(
        n_calls < u64::from(N) / 3,
        "{n_calls} calls for {N} payments"
    );
    shop.adds_up().await;
    assert_eq!(shop.counts(), [0, 0, i64::from(N), 0]);
    shop.restart().await;
    assert_eq!(shop.counts(), [0, 0, i64::from(N), 0]);
}

/// Two transactions for one closed order, and one transaction for two.
#[tokio::test]
async fn money_twice_in_one_turn_takes_units_once() {
    on_each_host(sale(10, 5, 1), async |shop| {
        let (ana, bea) = (shop.buy("ana", 2).await, shop.buy("bea", 3).await);
        shop.later(WINDOW);
        shop.adds_up().await;
        let bills = vec![
            bill(&ana, "t1"),
            bill(&ana, "t2"),
            bill(&bea, "t1"),
            bill(&ana, "t1"),
        ];
        let said = all_at_once(shop, bills).await;
        let known: Vec<_> = said
            .iter()
            .map(|(p, _)| (p.id.clone(), p.order, p.state))
            .collect();
        assert_eq!(shop.state(&ana), "PAID", "{known:?}");
        assert_eq!(shop.paid(&ana), ["APPLIED", "REFUND_DUE"], "{known:?}");
        // The transaction was Ana's: Bea's order has nothing.
        assert_eq!(shop.state(&bea), "CLOSED", "{known:?}");
        assert_eq!(shop.counts(), [8, 0, 2, 0], "{known:?}");
    })
    .await;
}

/// A payment began, so the window grew once: the order closes at its later end, also after a
/// restart, and not before.
#[tokio::test]
async fn an_order_with_grace_closes_at_its_later_end() {
    let graced = Sale {
        pay_window_ms: 3_600_000,
        payment_grace_ms: 60_000,
        ends_at: UnixMs(T0 + 36_000_000),
        ..sale(10, 10, 2)
    };
    for restarts in [false, true] {
        on_each_host(graced.clone(), async |shop| {
            let order = shop.buy("ana", 2).await;
            let until = UnixMs(order.pay_deadline.0 + 60_000);
            let started = OrderEvent::PaymentStarted { until };
            shop.change(&order, started).await;
            shop.later(3_600_000);
            shop.adds_up().await;
            assert_eq!(shop.state(&order), "PENDING_PAYMENT");
            if restarts {
                shop.restart().await;
            }
            shop.later(59_999);
            shop.adds_up().await;
            assert_eq!(shop.state(&order), "PENDING_PAYMENT");
            shop.later(1);
            shop.adds_up().await;
            assert_eq!(shop.state(&order), "CLOSED");
            assert_eq!(shop.counts(), [10, 0, 0, 0]);
        })
        .await;
    }
}
