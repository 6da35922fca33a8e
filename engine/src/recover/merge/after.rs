//! What came after the orders: payments and entitlements, brought together, and with
//! their orders.
//!
//! Pure. The highest version wins, as with orders. A copy may stop in the middle of what
//! the ledger wrote as one group (a payment is there and its order not yet paid): each
//! such pair is brought to where no money and no grant is left over.

use std::collections::{BTreeMap, BTreeSet};

use floodgate_ledger::Draft;

use super::Copy;
use crate::domain::ids::{EntitlementId, OrderId, PaymentId};
use crate::domain::order::{Order, OrderEvent, OrderState};
use crate::domain::payment::{PaymentEvent, PaymentState};
use crate::domain::time::UnixMs;
use crate::sale::facts;
use crate::stream::{EntitlementFact, PaymentFact, RowId, RowKind, Source};

/// What one sale has, or what is of none.
#[derive(Debug, Default)]
pub struct After {
    payments: BTreeMap<PaymentId, PaymentFact>,
    entitlements: BTreeMap<EntitlementId, EntitlementFact>,
    /// Entitlements that the order store has.
    stored: BTreeSet<EntitlementId>,
    /// Told differently by two copies in one version; the first of them stands.
    pub differing: Vec<RowId>,
}

impl After {
    /// Copies are added in the order of their trust. An error is a body that cannot be
    /// read.
    pub fn take(&mut self, kind: RowKind, source: &Source<'_>, copy: Copy) -> Result<(), String> {
        let text = |e| format!("{} in group {}: {e}", kind.name(), said(source.group));
        match kind {
            RowKind::Order => {}
            RowKind::Payment => self.add_payment(PaymentFact::read(source).map_err(text)?),
            RowKind::Entitlement => {
                self.add_entitlement(EntitlementFact::read(source).map_err(text)?, copy);
            }
        }
        Ok(())
    }

    pub fn add_payment(&mut self, fact: PaymentFact) {
        let id = fact.payment.id.clone();
        let known = self.payments.entry(id.clone());
        if newest(known, fact, |f| f.version, |a, b| a.payment == b.payment) {
            self.differing.push(RowId::Payment(id));
        }
    }

    pub fn add_entitlement(&mut self, fact: EntitlementFact, copy: Copy) {
        let id = fact.entitlement.id.clone();
        if copy == Copy::Store {
            self.stored.insert(id.clone());
        }
        let known = self.entitlements.entry(id.clone());
        let is_same = |a: &EntitlementFact, b: &EntitlementFact| a.entitlement == b.entitlement;
        if newest(known, fact, |f| f.version, is_same) {
            self.differing.push(RowId::Entitlement(id));
        }
    }

    pub fn n_payments(&self) -> usize {
        self.payments.len()
    }

    pub fn n_entitlements(&self) -> usize {
        self.entitlements.len()
    }

    /// As the first records of them in a ledger: each claims its unique keys. What the order
    /// store lacks begins with its grant, for those who are told of grants.
    pub fn drafts(&self) -> impl Iterator<Item = Draft> {
        let payments = self.payments.values().map(payment_draft);
        let entitlements = self.entitlements.values().flat_map(|fact| {
            let untold = !self.stored.contains(&fact.entitlement.id);
            let granted = (untold && fact.version > 1).then(|| as_granted(fact));
            let granted = granted.as_ref().map(entitlement_draft);
            granted.into_iter().chain([entitlement_draft(fact)])
        });
        payments.chain(entitlements)
    }

    /// Paid orders whose payment stands in no copy: they stay paid, and a person should
    /// know before one of them is given back.
    pub fn unproven(&self, orders: &[Order]) -> Vec<OrderId> {
        let applied = self.payments.values().filter_map(|fact| {
            let applied = fact.payment.state == PaymentState::Applied;
            fact.payment.order.filter(|_| applied)
        });
        let applied: BTreeSet<OrderId> = applied.collect();
        let sold = orders.iter().filter(|order| order.state.is_sold());
        sold.map(|order| order.id)
            .filter(|id| !applied.contains(id))
            .collect()
    }

    /// Brings payments, entitlements and `orders`, which are sorted by id, to where they
    /// agree. Returns what was done, in words.
    pub fn knit(&mut self, orders: &mut [Order], now: UnixMs) -> Vec<String> {
        let mut done = Vec::new();
        let find = |orders: &[Order], id| orders.binary_search_by_key(&id, |order| order.id).ok();
        let (mut owed, mut paid_back) = (BTreeSet::new(), BTreeSet::new());
        for fact in self.payments.values_mut() {
            let Some(id) = fact.payment.order else {
                continue;
            };
            let at = find(orders, id);
            if fact.payment.state == PaymentState::Applied {
                let gone = match at.map(|at| (at, orders[at].state)) {
                    Some((_, OrderState::Paid | OrderState::Delivered)) => None,
                    Some((at, OrderState::PendingPayment { .. })) => {
                        if step(&mut orders[at], OrderEvent::PaymentApplied, now) {
                            done.push(format!("order {id}: paid, as its payment says"));
                        }
                        None
                    }
                    Some((
                        _,
                        state @ (OrderState::Closed { .. }
                        | OrderState::RefundDue { .. }
                        | OrderState::Refunded { .. }),
                    )) => Some(format!("its order is {}", state.name())),
                    None => Some("its order stands in no copy that may be sold".to_owned()),
                };
                if let Some(why) = gone {
                    give_back(fact, &why, now);
                    done.push(format!("payment {}: goes back, {why}", fact.payment.id));
                }
            }
            match fact.payment.state {
                PaymentState::Refunded => {
                    paid_back.insert(id);
                }
                PaymentState::Captured | PaymentState::Applied | PaymentState::RefundDue => {
                    owed.insert(id);
                }
                PaymentState::Review => {}
            }
        }
        // Its payment's refund was confirmed, and nothing would ask for it again.
        for id in paid_back.difference(&owed) {
            if let Some(at) = find(orders, *id)
                && matches!(orders[at].state, OrderState::RefundDue { .. })
                && step(&mut orders[at], OrderEvent::RefundDone, now)
            {
                done.push(format!("order {id}: refunded, as its payment says"));
            }
        }
        for fact in self.entitlements.values_mut() {
            let id: OrderId = fact.entitlement.order;
            let over = match find(orders, id).map(|at| orders[at].state) {
                // One that is still to be paid was granted nothing; the desk sees to it.
                Some(
                    OrderState::PendingPayment { .. } | OrderState::Paid | OrderState::Delivered,
                ) => false,
                Some(
                    OrderState::Closed { .. }
                    | OrderState::RefundDue { .. }
                    | OrderState::Refunded { .. },
                )
                | None => true,
            };
            if let Some(revoked) = fact.entitlement.revoke(now).filter(|_| over) {
                fact.entitlement = revoked;
                fact.version += 1;
                fact.at = now;
                let id = &fact.entitlement.id;
                done.push(format!("entitlement {id}: revoked, its order is over"));
            }
        }
        done
    }
}

/// Keeps the higher version; says whether two of one version differ.
fn newest<K: Ord, T>(
    known: std::collections::btree_map::Entry<'_, K, T>,
    fact: T,
    version: impl Fn(&T) -> u64,
    is_same: impl Fn(&T, &T) -> bool,
) -> bool {
    use std::collections::btree_map::Entry;
    match known {
        Entry::Vacant(free) => {
            free.insert(fact);
            false
        }
        Entry::Occupied(mut known) => {
            let (ours, theirs) = (version(known.get()), version(&fact));
            if ours < theirs {
                known.insert(fact);
                return false;
            }
            ours == theirs && !is_same(known.get(), &fact)
        }
    }
}

/// Under the order's own epoch: its bucket gets a new one anyway.
fn step(order: &mut Order, event: OrderEvent, now: UnixMs) -> bool {
    match order.step(event, order.version.epoch(), now) {
        Ok(Some((next, _))) => {
            *order = next;
            true
        }
        Ok(None) | Err(_) => false,
    }
}

fn give_back(fact: &mut PaymentFact, why: &str, now: UnixMs) {
    if let Ok(Some(state)) = fact.payment.state.step(PaymentEvent::GiveBack) {
        fact.payment.state = state;
        fact.payment.note = format!("recovered: {why}");
        fact.version = state.rank();
        fact.at = now;
    }
}

fn as_granted(fact: &EntitlementFact) -> EntitlementFact {
    let mut first = fact.clone();
    (first.version, first.at) = (1, fact.entitlement.granted_at);
    first.entitlement.devices.clear();
    first.entitlement.revoked_at = None;
    first
}

fn payment_draft(fact: &PaymentFact) -> Draft {
    let payment = &fact.payment;
    let key = facts::payment_key(&payment.channel, &payment.channel_txn_no);
    Draft {
        version: fact.version,
        uniques: vec![key],
        ..facts::payment_draft(fact.sale.as_ref(), payment, fact.at)
    }
}

fn entitlement_draft(fact: &EntitlementFact) -> Draft {
    facts::entitlement_draft(&fact.sale, &fact.entitlement, fact.version, fact.at)
}

fn said(group: &[u8]) -> String {
    group.escape_ascii().to_string()
}

#[cfg(test)]
mod tests;
