//! Grants that were lost between the payment and the order: when they are made up for.

use fail::FailScenario;
use floodgate_engine::domain::entitlement::WhenFull;
use floodgate_engine::domain::ids::WorkId;
use floodgate_engine::domain::order::Order;
use floodgate_engine::domain::payment::PaymentState;
use floodgate_engine::domain::sale::{Grant, Sale};
use floodgate_engine::domain::time::{Clock, UnixMs};

use super::shop::*;

/// Asked for is: not granted after 2 s, repaired within 10 s. A desk looks after these.
const LOOKS_AFTER: u64 = 2_000;

fn film() -> Sale {
    // No window ends here: a desk that looks at an order for that would grant it as well.
    let mut films = Sale {
        pay_window_ms: 3_600_000,
        ends_at: UnixMs(T0 + 36_000_000),
        ..sale(10, 10, 2)
    };
    films.skus[0].grant = Some(Grant {
        work: WorkId::parse("film").expect("an id"),
        valid_days: 30,
        devices_max: 1,
        when_full: WhenFull::Refuse,
    });
    films
}

/// Its state, and how many entitlements it has.
async fn look(shop: &Shop, order: &Order) -> (&'static str, usize) {
    // Whatever is due is done by then.
    shop.adds_up().await;
    let granted = shop.selling().entitlements_of(order);
    (shop.state(order), granted.expect("readable").len())
}

/// Example 3 of the requirements, to the millisecond. After a start nobody waits: what is
/// missing then is made up for at once.
#[tokio::test]
async fn a_lost_grant_is_made_up_for_after_two_seconds_or_at_the_next_start() {
    // Other tests of this process grant nothing, so they do not notice.
    let _scenario = FailScenario::setup();
    for restarts in [false, true] {
        on_each_host(film(), async |shop| {
            let (lost, whole) = (shop.buy("ana", 2).await, shop.buy("bea", 1).await);
            fail::cfg("grant-forgotten", "return").expect("an action");
            let paid = shop.captured(&bill(&lost, "t1")).await;
            assert_eq!(paid, PaymentState::Applied);
            fail::remove("grant-forgotten");
            shop.captured(&bill(&whole, "t2")).await;
            assert_eq!(look(shop, &lost).await, ("PAID", 0));
            assert_eq!(look(shop, &whole).await, ("DELIVERED", 1), "at once");

            shop.later(LOOKS_AFTER - 1);
            assert_eq!(look(shop, &lost).await, ("PAID", 0), "1 ms before");
            if restarts {
                shop.restart().await;
            } else {
                shop.later(1);
            }
            assert_eq!(look(shop, &lost).await, ("DELIVERED", 1));
            assert_eq!(shop.paid(&lost), ["APPLIED"]);
            let granted = shop.selling().entitlements_of(&lost).expect("readable");
            assert_eq!(granted[0].granted_at, shop.clock.now());

            let repaired = shop.look(&lost);
            shop.later(LOOKS_AFTER);
            assert_eq!(look(shop, &lost).await, ("DELIVERED", 1));
            assert_eq!(shop.look(&lost), repaired, "once");
            assert_eq!(shop.counts(), [7, 0, 3, 0]);
        })
        .await;
    }
}
