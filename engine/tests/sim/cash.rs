//! The judge of money: what became of each payment, record by record, and what was told
//! of it. As `check.rs`, it knows the promises, the journal and the ledger.

use std::collections::{BTreeMap, BTreeSet};

use floodgate_engine::domain::codec::decode_payment;
use floodgate_engine::domain::ids::{OrderId, PaymentId};
use floodgate_engine::domain::order::{Order, OrderEvent, OrderState};
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_ledger::Record;

use crate::check::{Facts, broken};
use crate::journal::Journal;
use crate::world::World;

/// The group of payments that name no order; part of the ledger's format.
const NO_SALE: &[u8] = b"*payments";

/// Every payment, as far as the records were read.
#[derive(Default)]
pub struct Cash {
    payments: BTreeMap<PaymentId, Payment>,
    /// Orders whose money moved since the last commit ended.
    touched: BTreeSet<OrderId>,
}

impl Cash {
    pub fn into_payments(self) -> BTreeMap<PaymentId, Payment> {
        self.payments
    }

    fn of(&self, order: OrderId) -> impl Iterator<Item = &Payment> {
        let all = self.payments.values();
        all.filter(move |payment| payment.order == Some(order))
    }

    /// One record of a payment: is it what may follow, and did anybody ask for it?
    pub fn record(
        &mut self,
        world: &World,
        journal: &Journal,
        orders: &BTreeMap<OrderId, Order>,
        record: &Record,
    ) {
        let payment = decode_payment(&record.body).expect("a payment");
        let id = payment.id.clone();
        let group = match payment.order {
            Some(_) => world.setup.sale.id.as_bytes(),
            None => NO_SALE,
        };
        let is_named = id == Payment::id_of(&payment.channel, &payment.channel_txn_no)
            && record.id == id.as_bytes()
            && record.group == group
            && record.version == payment.state.rank();
        if !is_named {
            broken!(world, "one payment per transaction: {id} stands elsewhere");
        }
        let before = self.payments.get(&id);
        let legal = match before {
            None => is_first(journal, orders, &payment),
            Some(before) => {
                if !is_same(before, &payment) {
                    broken!(world, "one payment per transaction: {id} became another");
                }
                follows(journal, before, &payment)
            }
        };
        if !legal {
            broken!(
                world,
                "{id} for {:?} went from {:?} to {:?} for no reason: {}",
                payment.order,
                before.map(|before| before.state),
                payment.state,
                payment.note
            );
        }
        self.touched.extend(payment.order);
        self.payments.insert(id, payment);
    }

    /// The record of an order: one that is refunded has nothing more to wait for.
    pub fn order(&mut self, world: &World, order: &Order) {
        self.touched.insert(order.id);
        if let OrderState::Refunded { .. } = order.state
            && let Some(open) = self
                .of(order.id)
                .find(|p| p.state == PaymentState::RefundDue)
        {
            broken!(
                world,
                "{} was refunded, and {} is still owed",
                order.id,
                open.id
            );
        }
    }

    /// A commit ended: from now on anybody may see orders and payments beside each other.
    pub fn commit_ends(&mut self, world: &World, orders: &BTreeMap<OrderId, Order>) {
        for id in std::mem::take(&mut self.touched) {
            let n_applied = self.of(id).filter(|p| p.state == PaymentState::Applied);
            let (n_applied, order) = (n_applied.count(), orders.get(&id));
            let state = order.map(|order| order.state);
            let wanted = usize::from(state.is_some_and(OrderState::is_sold));
            if n_applied != wanted {
                broken!(world, "{id} is {state:?} with {n_applied} applied payments");
            }
        }
    }
}

/// A payment that nobody knew before: as a provider told of it, and where it belongs.
fn is_first(journal: &Journal, orders: &BTreeMap<OrderId, Order>, payment: &Payment) -> bool {
    let named = payment.order.and_then(|id| orders.get(&id));
    let is_told = journal.captures.iter().any(|capture| {
        let sent = &capture.payment;
        let order = sent.order.filter(|id| orders.contains_key(id));
        same_money(sent, payment) && order == payment.order
    });
    let fits = named.is_some_and(|order| payment.mismatch(order).is_none());
    is_told
        && match payment.state {
            PaymentState::Applied => fits,
            PaymentState::RefundDue => fits && !named.is_some_and(|order| order.state.is_held()),
            PaymentState::Review => !fits,
            PaymentState::Captured | PaymentState::Refunded => false,
        }
}

fn follows(journal: &Journal, before: &Payment, payment: &Payment) -> bool {
    use PaymentState::{Applied, Captured, RefundDue, Refunded, Review};
    let decided = |accept| {
        let mut reviews = journal.reviews.iter();
        reviews.any(|review| review.payment == payment.id && review.accept == accept)
    };
    match (before.state, payment.state) {
        (Review, Applied) => decided(true),
        (Review, RefundDue) => decided(false),
        (Applied, RefundDue) => journal.changes.iter().any(|change| {
            payment.order == Some(change.order)
                && matches!(change.event, OrderEvent::RefundAsked { .. })
        }),
        (RefundDue, Refunded) => journal.sent_back.get(&payment.id) == Some(&payment.refund_no),
        (Captured | Applied | RefundDue | Refunded | Review, _) => false,
    }
}

fn same_money(one: &Payment, other: &Payment) -> bool {
    one.id == other.id
        && one.channel == other.channel
        && one.channel_txn_no == other.channel_txn_no
        && one.amount == other.amount
        && one.currency == other.currency
        && one.paid_at == other.paid_at
}

fn is_same(before: &Payment, payment: &Payment) -> bool {
    same_money(before, payment)
        && before.order == payment.order
        && before.received_at == payment.received_at
}

/// P4 for providers: what they were told stands, and goes on and never back.
pub fn told(world: &World, journal: &Journal, facts: &Facts) {
    for (id, answered) in &journal.answered {
        let now = facts.payments.get(id).map(|payment| payment.state);
        if now.is_none_or(|now| now.rank() < answered.state.rank()) {
            let told = answered.state;
            broken!(
                world,
                "P4 never take back a win: {id} was {told:?} and is {now:?}"
            );
        }
        if answered.n_new > 1 {
            broken!(
                world,
                "one payment per transaction: {id} was told to be new twice"
            );
        }
    }
}

/// P5: no money stays on its way.
pub fn all_settled(world: &World, journal: &Journal, facts: &Facts) {
    for capture in &journal.captures {
        let id = &capture.payment.id;
        match facts.payments.get(id).map(|payment| payment.state) {
            Some(PaymentState::Applied | PaymentState::Refunded | PaymentState::Review) => {}
            state @ (None | Some(PaymentState::Captured | PaymentState::RefundDue)) => {
                broken!(
                    world,
                    "P5 nothing stays stuck: {id} is {state:?} in the end"
                );
            }
        }
    }
    for order in facts.orders.values() {
        if let OrderState::RefundDue { .. } = order.state {
            broken!(world, "P5 nothing stays stuck: {} is refund due", order.id);
        }
    }
}
