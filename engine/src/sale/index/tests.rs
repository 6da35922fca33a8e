//! Keys and limits as buyers meet them.

use super::*;
use crate::domain::ids::{BucketNo, NodeNo, OrderIdParts, SaleNo};

fn index() -> Arc<Index> {
    Index::new(
        UserLimits {
            units_max: 2,
            orders_max: 3,
        },
        10,
    )
}
fn user(name: &str) -> UserId {
    UserId::parse(name).expect("valid")
}
fn key(name: &str) -> IdemKey {
    IdemKey::parse(name).expect("valid")
}
fn order(counter: u16) -> OrderId {
    OrderId::from_parts(OrderIdParts {
        ms: 1,
        bucket: BucketNo(0),
        sale: SaleNo(1),
        node: NodeNo(0),
        counter,
        random: 0,
    })
}
const FP: Fingerprint = Fingerprint(7);

fn mine(index: &Arc<Index>, u: &str, k: &str, units: u32) -> Claim {
    match index.claim(&user(u), &key(k), FP, units) {
        Claimed::Mine(claim) => claim,
        other => panic!("{u} {k}: {other:?}"),
    }
}

#[test]
fn a_known_key_is_joined_then_replayed_and_never_claimed_twice() {
    let index = index();
    let claim = mine(&index, "ana", "k1", 1);
    let Claimed::Known(Known::Join(mut hear)) = index.claim(&user("ana"), &key("k1"), FP, 1) else {
        panic!("the second click must join the first")
    };
    assert!(claim.place(order(1), 1));
    assert!(hear.try_recv().is_err(), "placed is not durable");
    claim.won(&Answer::Unknown);
    assert!(hear.try_recv().is_ok());
    assert!(
        matches!(index.look(&user("ana"), &key("k1"), FP), Some(Known::Won(o)) if o == order(1))
    );
    assert!(matches!(
        index.look(&user("ana"), &key("k1"), Fingerprint(8)),
        Some(Known::Reused)
    ));
    assert!(
        index.look(&user("bob"), &key("k1"), FP).is_none(),
        "keys live under their user"
    );
}

#[test]
fn who_asks_for_more_than_allowed_leaves_nothing_behind() {
    let index = index();
    let claimed = index.claim(&user("ana"), &key("k1"), FP, 3);
    assert!(matches!(claimed, Claimed::Refused(Refusal::OverLimit)));
    assert!(index.buyers.is_empty());
}

#[test]
fn a_dropped_claim_frees_the_key_and_sends_joiners_to_look_again() {
    let index = index();
    let claim = mine(&index, "ana", "k1", 1);
    let Some(Known::Join(mut hear)) = index.look(&user("ana"), &key("k1"), FP) else {
        panic!("join")
    };
    drop(claim);
    assert!(matches!(
        hear.try_recv(),
        Err(oneshot::error::TryRecvError::Closed)
    ));
    let _again = mine(&index, "ana", "k1", 1);
}

/// Each turn takes the buyer out of the map, mostly while the other one holds it.
#[test]
fn two_who_press_at_once_never_both_get_the_key() {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    let (index, holders) = (index(), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100_000 {
                    match index.claim(&user("ana"), &key("k1"), FP, 1) {
                        Claimed::Mine(claim) => {
                            assert_eq!(holders.fetch_add(1, SeqCst), 0, "two hold one key");
                            holders.fetch_sub(1, SeqCst);
                            drop(claim);
                        }
                        Claimed::Known(Known::Join(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert!(index.buyers.is_empty());
}

#[test]
fn a_refused_key_may_try_again_and_leaves_nothing_behind() {
    let index = index();
    mine(&index, "ana", "k1", 1).refused(&Answer::Refused(Refusal::NotEnough));
    assert!(index.look(&user("ana"), &key("k1"), FP).is_none());
    assert!(index.buyers.is_empty());
}

#[test]
fn units_under_way_count_against_the_limit_and_closing_gives_them_back() {
    let index = index();
    let (a, b) = (mine(&index, "ana", "k1", 2), mine(&index, "ana", "k2", 2));
    assert!(a.place(order(1), 2));
    assert!(
        !b.place(order(2), 2),
        "the guard refuses what the limit forbids"
    );
    b.refused(&Answer::Refused(Refusal::OverLimit));
    a.won(&Answer::Unknown);
    assert!(matches!(
        index.claim(&user("ana"), &key("k3"), FP, 1),
        Claimed::Refused(Refusal::OverLimit)
    ));
    index.release(&user("ana"), 2);
    assert!(mine(&index, "ana", "k3", 2).place(order(3), 2));
}

#[test]
fn orders_per_user_are_bounded_closed_ones_included() {
    let index = index();
    for i in 0..3 {
        let claim = mine(&index, "ana", &format!("k{i}"), 1);
        assert!(claim.place(order(i), 1));
        claim.won(&Answer::Unknown);
        index.release(&user("ana"), 1);
    }
    assert!(matches!(
        index.claim(&user("ana"), &key("k9"), FP, 1),
        Claimed::Refused(Refusal::OverLimit)
    ));
}
