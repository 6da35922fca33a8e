//! What a turn decides about orders and payments, before any of it is durable: each
//! decision sees the ones before it, and all of them go to the ledger as one group.
//!
//! Reads the ledger; writes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use floodgate_ledger::{Draft, Ledger};

use super::super::bucket::Move;
use super::super::facts::{self, FactError};
use crate::domain::entitlement::{self, Entitlement};
use crate::domain::ids::{EntitlementId, OrderId, PaymentId};
use crate::domain::order::{IllegalStep, Order, OrderEvent, StockMove};
use crate::domain::payment::{Payment, PaymentEvent, PaymentState};
use crate::domain::sale::Sale;
use crate::domain::time::UnixMs;

pub struct Slate {
    ledger: Ledger,
    sale: Arc<Sale>,
    epoch: u32,
    pub now: UnixMs,
    /// Orders that anything was asked about.
    pub touched: HashSet<OrderId>,
    orders: HashMap<OrderId, Arc<Order>>,
    payments: HashMap<PaymentId, Arc<Payment>>,
    /// Each with the version of its snapshot.
    entitlements: HashMap<EntitlementId, (u64, Entitlement)>,
    pub drafts: Vec<Draft>,
    pub moves: Vec<Move>,
    /// Payments that from now on wait for their money to go back.
    pub owed: Vec<Arc<Payment>>,
    /// Paid orders without what they grant.
    pub ungranted: Vec<OrderId>,
    pub n_granted: u64,
    pub n_repaired: u64,
    /// What ends with these changes.
    pub revoked: Vec<EntitlementId>,
    /// Time asked for some of it.
    pub is_timed: bool,
    /// Half of a change stands here and the other half could not be read.
    pub is_spoiled: bool,
}

impl Slate {
    pub fn new(ledger: Ledger, sale: Arc<Sale>, epoch: u32, now: UnixMs) -> Self {
        Self {
            ledger,
            sale,
            epoch,
            now,
            touched: HashSet::new(),
            orders: HashMap::new(),
            payments: HashMap::new(),
            entitlements: HashMap::new(),
            drafts: Vec::new(),
            moves: Vec::new(),
            owed: Vec::new(),
            ungranted: Vec::new(),
            n_granted: 0,
            n_repaired: 0,
            revoked: Vec::new(),
            is_timed: false,
            is_spoiled: false,
        }
    }

    /// Those that are written.
    pub fn payments(&self) -> impl Iterator<Item = &PaymentId> {
        self.payments.keys()
    }

    /// Nothing of it may become durable.
    pub fn spoil(&mut self) {
        self.is_spoiled = true;
    }

    pub fn order(&self, id: OrderId) -> Result<Option<Arc<Order>>, FactError> {
        match self.orders.get(&id) {
            Some(order) => Ok(Some(Arc::clone(order))),
            None => Ok(facts::load_order(&self.ledger, &self.sale.id, id)?.map(Arc::new)),
        }
    }

    /// The order after the event; as it is, when the event changes nothing.
    pub fn step(
        &mut self,
        order: &Arc<Order>,
        event: OrderEvent,
    ) -> Result<Arc<Order>, IllegalStep> {
        let Some((next, moved)) = order.step(event, self.epoch, self.now)? else {
            return Ok(Arc::clone(order));
        };
        let next = Arc::new(next);
        self.record(order, Arc::clone(&next), moved);
        Ok(next)
    }

    fn record(&mut self, order: &Order, next: Arc<Order>, moved: StockMove) {
        let body = facts::order_body(&next);
        self.drafts.push(facts::order_draft(&next, body.clone()));
        self.orders.insert(next.id, Arc::clone(&next));
        if let Some(last) = self.moves.last_mut()
            && last.order.version == order.version
            && last.order.id == order.id
            && moved == StockMove::None
        {
            // The stock hears of both steps as of one.
            last.is = next.state.is_live().then(|| next.mark());
            (last.body, last.order) = (body, next);
            return;
        }
        self.moves.push(Move {
            units: facts::units_of(&self.sale, &next),
            was: order.state.is_live().then(|| order.mark()),
            is: next.state.is_live().then(|| next.mark()),
            from: order.version,
            moved,
            body,
            order: next,
        });
    }

    /// What a paid order entitles its buyer to, and that the buyer has it. An order whose
    /// SKUs grant nothing stays as it is. Returns how many were new.
    pub fn grant(&mut self, order: &Arc<Order>) -> Result<usize, FactError> {
        let sale = Arc::clone(&self.sale);
        let (mut n_grants, mut n_new) = (0, 0);
        for (item, grant) in facts::grants_of(&sale, order) {
            n_grants += 1;
            let granted = Entitlement::granted(order, item, grant, self.now);
            if self.entitlement(&granted.id)?.is_none() {
                self.put_entitlement(1, granted);
                n_new += 1;
            }
        }
        if n_grants > 0 {
            // Only an order that cannot be granted refuses, and that one is not asked.
            let _ = self.step(order, OrderEvent::Granted);
        }
        Ok(n_new)
    }

    pub fn entitlement(&self, id: &EntitlementId) -> Result<Option<(u64, Entitlement)>, FactError> {
        if let Some(known) = self.entitlements.get(id) {
            return Ok(Some(known.clone()));
        }
        let group = self.sale.id.as_bytes();
        let found = self
            .ledger
            .entity(group, facts::ENTITLEMENT, id.as_bytes())?;
        found
            .map(|found| Ok((found.version, facts::entitlement_of(&found)?)))
            .transpose()
    }

    pub fn put_entitlement(&mut self, version: u64, entitlement: Entitlement) {
        let (sale, now) = (&self.sale.id, self.now);
        let draft = facts::entitlement_draft(sale, &entitlement, version, now);
        self.drafts.push(draft);
        let id = entitlement.id.clone();
        self.entitlements.insert(id, (version, entitlement));
    }

    /// The capture of this channel and transaction, whatever it was said to be for.
    pub fn known(&self, payment: &Payment) -> Result<Option<Arc<Payment>>, FactError> {
        fail::fail_point!("payment-forgotten", |_| Ok(None));
        if let Some(known) = self.payments.get(&payment.id) {
            return Ok(Some(Arc::clone(known)));
        }
        let (channel, txn) = (&payment.channel, &payment.channel_txn_no);
        Ok(facts::find_payment(&self.ledger, channel, txn)?.map(Arc::new))
    }

    pub fn payment(&self, id: &PaymentId) -> Result<Option<Arc<Payment>>, FactError> {
        if let Some(known) = self.payments.get(id) {
            return Ok(Some(Arc::clone(known)));
        }
        let group = self.sale.id.as_bytes();
        Ok(facts::load_payment(&self.ledger, group, id)?.map(Arc::new))
    }

    fn payments_of(&self, order: OrderId) -> Result<Vec<Arc<Payment>>, FactError> {
        let mut payments: BTreeMap<PaymentId, Arc<Payment>> =
            facts::payments_of(&self.ledger, order)?
                .into_iter()
                .map(|p| (p.id.clone(), Arc::new(p)))
                .collect();
        let newer = self.payments.values().filter(|p| p.order == Some(order));
        payments.extend(newer.map(|p| (p.id.clone(), Arc::clone(p))));
        Ok(payments.into_values().collect())
    }

    /// A capture that nobody knew before takes its transaction number for ever.
    pub fn first(&mut self, payment: Arc<Payment>) {
        let key = facts::payment_key(&payment.channel, &payment.channel_txn_no);
        self.draft_payment(payment, vec![key]);
    }

    pub fn put(&mut self, payment: Arc<Payment>) {
        self.draft_payment(payment, Vec::new());
    }

    fn draft_payment(&mut self, payment: Arc<Payment>, uniques: Vec<Bytes>) {
        self.drafts.push(Draft {
            uniques,
            ..facts::payment_draft(Some(&self.sale.id), &payment, self.now)
        });
        if payment.state == PaymentState::RefundDue {
            self.owed.push(Arc::clone(&payment));
        }
        self.payments.insert(payment.id.clone(), payment);
    }

    /// What a refund of an order brings with it: its money goes back, and what it
    /// granted ends.
    pub fn give_back(&mut self, order: &Order, why: &str) -> Result<(), FactError> {
        fail::fail_point!("refund-keeps-money", |_| Ok(()));
        for payment in self.payments_of(order.id)? {
            if payment.state == PaymentState::Applied
                && let Ok(Some(due)) = payment.step(PaymentEvent::GiveBack)
            {
                self.put(Arc::new(Payment {
                    note: why.to_owned(),
                    ..due
                }));
            }
        }
        for item in &order.items {
            let id = entitlement::id_of(&order.id, &item.sku);
            let Some((version, known)) = self.entitlement(&id)? else {
                continue;
            };
            if let Some(revoked) = known.revoke(self.now) {
                self.put_entitlement(version + 1, revoked);
                self.revoked.push(id);
            }
        }
        Ok(())
    }

    /// No payment here is what paid it: a recovery found the order alone.
    pub fn is_unproven(&self, order: OrderId) -> Result<bool, FactError> {
        let payments = self.payments_of(order)?;
        Ok(payments.iter().all(|p| p.state != PaymentState::Applied))
    }

    /// The order is refunded once none of its money is left here.
    pub fn is_paid_back(&self, order: OrderId) -> Result<bool, FactError> {
        let payments = self.payments_of(order)?;
        Ok(payments.iter().all(|p| match p.state {
            PaymentState::Refunded | PaymentState::Review => true,
            PaymentState::Captured | PaymentState::Applied | PaymentState::RefundDue => false,
        }))
    }
}
