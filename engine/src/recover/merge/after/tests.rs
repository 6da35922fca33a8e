use proptest::prelude::*;

use super::super::tests::{T, order, sale};
use super::super::{Copy, Pile};
use super::*;
use crate::domain::entitlement::{Entitlement, WhenFull};
use crate::domain::ids::{Channel, ChannelTxnNo, DeviceId, SkuId, WorkId};
use crate::domain::money::{Cents, Currency};
use crate::domain::payment::Payment;

const NOW: UnixMs = UnixMs(T + 60_000);

fn payment(order: &Order, state: PaymentState) -> PaymentFact {
    let n = order.id.parts().counter;
    PaymentFact {
        sale: Some(order.sale.clone()),
        version: state.rank(),
        at: UnixMs(T + 9),
        payment: Payment {
            id: PaymentId::parse(&format!("pay_{n:032x}")).expect("an id"),
            order: Some(order.id),
            channel: Channel::parse("card").expect("an id"),
            channel_txn_no: ChannelTxnNo::parse(&format!("txn-{n}")).expect("an id"),
            amount: Cents(100),
            currency: Currency::parse("EUR").expect("a currency"),
            state,
            paid_at: UnixMs(T + 7),
            received_at: UnixMs(T + 8),
            note: String::new(),
            refund_no: String::new(),
            raw: None,
        },
    }
}

fn grant(order: &Order, version: u64) -> EntitlementFact {
    let n = order.id.parts().counter;
    let device = DeviceId::parse("phone").expect("an id");
    EntitlementFact {
        sale: order.sale.clone(),
        version,
        at: UnixMs(T + 9),
        entitlement: Entitlement {
            id: EntitlementId::parse(&format!("ent_{n:032x}")).expect("an id"),
            order: order.id,
            user: order.user.clone(),
            sku: SkuId::parse("pot").expect("an id"),
            work: WorkId::parse("song").expect("an id"),
            granted_at: UnixMs(T + 9),
            valid_until: UnixMs(T + 99_999_999),
            devices_max: 2,
            when_full: WhenFull::Refuse,
            devices: (1..version).map(|_| (device.clone(), NOW)).collect(),
            revoked_at: None,
        },
    }
}

/// The order after these events.
fn lived(events: &[OrderEvent]) -> Order {
    events.iter().fold(order(1), |order, event| {
        let step = order.step(*event, 1, UnixMs(T + 5));
        step.expect("legal").expect("a change").0
    })
}

const PAID: &[OrderEvent] = &[OrderEvent::PaymentApplied, OrderEvent::Granted];
const CANCELED: &[OrderEvent] = &[OrderEvent::Cancel];
const REFUND: OrderEvent = OrderEvent::RefundAsked { restock: true };
const REFUND_DUE: &[OrderEvent] = &[OrderEvent::PaymentApplied, REFUND];

/// Knits one order (or none) with one payment and one entitlement.
fn knit(
    order_now: Option<Order>,
    state: PaymentState,
) -> (Option<OrderState>, PaymentState, bool, usize) {
    let mut after = After::default();
    let first = order(1);
    after.add_payment(payment(&first, state));
    after.add_entitlement(grant(&first, 1), Copy::Store);
    let mut orders: Vec<Order> = order_now.into_iter().collect();
    let versions: Vec<_> = orders.iter().map(|order| order.version).collect();
    let done = after.knit(&mut orders, NOW);
    for (order, version) in orders.iter().zip(versions) {
        assert!(order.version >= version);
    }
    let fact = after.payments.values().next().expect("it");
    assert_eq!(fact.version, fact.payment.state.rank());
    let grant = after.entitlements.values().next().expect("it");
    assert_eq!(
        grant.version,
        if grant.entitlement.is_live() { 1 } else { 2 }
    );
    assert!(after.knit(&mut orders, NOW).is_empty(), "once is enough");
    (
        orders.first().map(|order| order.state),
        fact_state(&after),
        grant_is_live(&after),
        done.len(),
    )
}

fn fact_state(after: &After) -> PaymentState {
    after.payments.values().next().expect("it").payment.state
}

fn grant_is_live(after: &After) -> bool {
    let grant = after.entitlements.values().next().expect("it");
    grant.entitlement.is_live()
}

#[test]
fn a_payment_that_was_applied_pays_its_order_or_goes_back() {
    use PaymentState::{Applied, RefundDue};
    // The group was cut between the payment and its order.
    let pending = Some(order(1));
    assert_eq!(
        knit(pending, Applied),
        (Some(OrderState::Paid), Applied, true, 1)
    );
    let whole = Some(lived(PAID));
    assert_eq!(
        knit(whole, Applied),
        (Some(OrderState::Delivered), Applied, true, 0)
    );
    // Units of a closed order may be another's by now.
    for events in [CANCELED, REFUND_DUE] {
        let order = lived(events);
        let state = Some(order.state);
        assert_eq!(knit(Some(order), Applied), (state, RefundDue, false, 2));
    }
    assert_eq!(knit(None, Applied), (None, RefundDue, false, 2));
}

#[test]
fn a_refund_that_was_confirmed_ends_its_order() {
    use PaymentState::{RefundDue, Refunded};
    let due = || Some(lived(REFUND_DUE));
    assert_eq!(
        knit(due(), Refunded),
        (
            Some(OrderState::Refunded { restocked: true }),
            Refunded,
            false,
            2
        )
    );
    assert_eq!(
        knit(due(), RefundDue),
        (
            Some(OrderState::RefundDue { restocked: true }),
            RefundDue,
            false,
            1
        ),
        "the provider is still to be asked"
    );
    // A second capture went back; the order is paid by another.
    assert_eq!(
        knit(Some(lived(PAID)), Refunded),
        (Some(OrderState::Delivered), Refunded, true, 0)
    );
}

#[test]
fn an_order_that_is_paid_by_no_payment_is_told() {
    let (paid, pending) = (lived(PAID), order(2));
    let orders = [paid.clone(), pending];
    let mut after = After::default();
    after.add_payment(payment(&paid, PaymentState::Review));
    assert_eq!(after.unproven(&orders), [paid.id]);
    after.add_payment(payment(&paid, PaymentState::Applied));
    assert_eq!(after.unproven(&orders), []);
}

#[test]
fn what_waits_for_a_desk_or_a_person_waits_on() {
    for state in [PaymentState::Captured, PaymentState::Review] {
        let pending = Some(order(1));
        let before = pending.as_ref().map(|order| order.state);
        assert_eq!(knit(pending, state), (before, state, true, 0));
    }
}

#[test]
fn the_highest_version_wins_and_one_version_told_twice_is_told() {
    let order = order(1);
    let (low, high) = (PaymentState::Applied, PaymentState::Refunded);
    for [first, second] in [[low, high], [high, low]] {
        let mut after = After::default();
        after.add_payment(payment(&order, first));
        after.add_payment(payment(&order, second));
        assert_eq!(fact_state(&after), high);
        assert_eq!(after.differing, []);
    }
    let mut after = After::default();
    let (ours, mut theirs) = (grant(&order, 3), grant(&order, 3));
    // Another time of the same record is no difference.
    theirs.at = NOW;
    after.add_entitlement(ours.clone(), Copy::Ledger);
    after.add_entitlement(theirs.clone(), Copy::Store);
    assert_eq!(after.differing, []);
    theirs.entitlement.devices_max = 9;
    after.add_entitlement(theirs, Copy::Stock);
    assert_eq!(after.differing.len(), 1);
    assert_eq!(after.entitlements.values().collect::<Vec<_>>(), [&ours]);
}

#[test]
fn what_a_host_keeps_beside_the_holds_counts_like_any_copy() {
    let (sale, order) = (sale(), order(1));
    let mut pile = Pile::default();
    pile.add(order.clone(), Copy::Store);
    pile.after
        .add_payment(payment(&order, PaymentState::Captured));
    let applied = payment_draft(&payment(&order, PaymentState::Applied));
    let granted = entitlement_draft(&grant(&order, 2));
    let paid = lived(&[OrderEvent::PaymentApplied]);
    let paid = facts::order_draft(&paid, facts::order_body(&paid));
    for draft in [paid, applied, granted] {
        let version = (draft.kind, draft.version);
        pile.take_tail(&sale, version, &draft.body, NOW)
            .expect("taken");
    }
    let merged = pile.settle(&sale, NOW).expect("merged");
    assert_eq!(merged.orders[0].state, OrderState::Paid);
    assert_eq!(fact_state(&merged.after), PaymentState::Applied);
    assert_eq!(merged.after.n_entitlements(), 1);
    assert_eq!(merged.mended, Vec::<String>::new());

    let mut pile = Pile::default();
    for (kind, body) in [(9, b"".as_slice()), (5, b"\xFF"), (1, b"\xFF")] {
        let said = pile.take_tail(&sale, (floodgate_ledger::Kind(kind), 1), body, NOW);
        assert!(said.is_err(), "{kind}");
    }
}

proptest! {
    /// Whatever copies are put together: no money stays with an order that is over, none
    /// that was owed is forgotten, and no grant outlives its order.
    #[test]
    fn no_money_and_no_grant_is_left_over(
        n_events in 0_usize..4, rank in 1_u64..=5, is_there: bool,
    ) {
        use PaymentState as P;
        let all = [OrderEvent::PaymentApplied, REFUND, OrderEvent::RefundDone];
        let state = [P::Captured, P::Review, P::Applied, P::RefundDue, P::Refunded]
            .into_iter().find(|s| s.rank() == rank).expect("one of them");
        let (order, payment, is_granted, _) =
            knit(is_there.then(|| lived(&all[..n_events])), state);
        let is_over = !matches!(order, Some(state) if state.is_live());
        prop_assert!(!is_over || (payment != P::Applied && !is_granted));
        if matches!(state, P::RefundDue | P::Refunded) {
            prop_assert_eq!(payment, state);
        }
    }
}

#[test]
fn what_the_store_lacks_begins_with_its_grant() {
    let order = order(1);
    let versions = |copy, version| {
        let mut after = After::default();
        after.add_entitlement(grant(&order, version), copy);
        after
            .drafts()
            .map(|draft| draft.version)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(Copy::Stock, 3), [1, 3]);
    assert_eq!(versions(Copy::Stock, 1), [1]);
    assert_eq!(versions(Copy::Store, 3), [3]);
    assert_eq!(versions(Copy::Ledger, 3), [1, 3]);
}
