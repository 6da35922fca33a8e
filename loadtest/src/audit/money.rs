//! P5, where money is: every payment that was told is in the ledger once, and ends
//! applied or given back; an order is paid exactly if it took a payment; an unpaid one
//! closes. With it the units: what was refunded and not put back on sale is withdrawn.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::callbacks::{Name, Provider, Txn};
use super::held::Index;
use super::memory::Memory;
use super::{Books, Findings, Promise, grants};
use crate::journal::Journal;
use crate::pay::Payer;
use crate::pay::wire::{Payment, PaymentStatus, Told};
use crate::wire::{Order, Status, show_id};

/// What became of the money, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Money {
    pub callbacks_sent: u64,
    pub callbacks_taken: u64,
    /// Transactions that were told as paid.
    pub transactions: u64,
    pub payments: u64,
    pub applied: u64,
    pub refunded: u64,
    pub review: u64,
    /// Of payments after the window: orders that came back to life, and money that went back.
    pub late_applied: u64,
    pub late_refunded: u64,
    /// Of buyers who paid twice.
    pub twice_refunded: u64,
    pub refunds_asked: u64,
    pub orders_paid: u64,
    pub orders_delivered: u64,
    pub orders_refunded: u64,
    pub orders_closed: u64,
    pub orders_unpaid: u64,
    pub buyers_asked: u64,
    pub entitlements_active: u64,
    pub entitlements_revoked: u64,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "money: {} callbacks sent, {} taken; {} transactions, {} payments: {} applied, {} refunded, {} under review\n\
             money: after the window {} applied, {} refunded; of buyers who paid twice {} refunded; {} refunds asked\n\
             money: {} orders paid, {} delivered, {} refunded, {} closed, {} unpaid; \
             {} buyers asked: {} entitlements active, {} revoked",
            self.callbacks_sent,
            self.callbacks_taken,
            self.transactions,
            self.payments,
            self.applied,
            self.refunded,
            self.review,
            self.late_applied,
            self.late_refunded,
            self.twice_refunded,
            self.refunds_asked,
            self.orders_paid,
            self.orders_delivered,
            self.orders_refunded,
            self.orders_closed,
            self.orders_unpaid,
            self.buyers_asked,
            self.entitlements_active,
            self.entitlements_revoked,
        )
    }
}

/// The close of a window is a moment's work, and clocks differ by less.
const MARGIN_US: i64 = 2_000_000;

pub(super) fn check(
    journals: &[Journal],
    memory: &Memory,
    books: &Books,
    index: &Index<'_>,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) -> Option<Money> {
    check_windows(books, findings);
    let payments = books.payments.as_deref()?;
    let provider = Provider::of(journals, memory, findings);
    let mut money = Money {
        callbacks_sent: provider.n_sent,
        callbacks_taken: provider.n_taken,
        transactions: provider.txns.values().filter(|txn| txn.paid).count() as u64,
        payments: payments.len() as u64,
        refunds_asked: provider.refunds.len() as u64,
        ..Money::default()
    };
    if provider.n_sent > 0 && provider.n_taken == 0 {
        findings.add(Promise::P5, || {
            format!("{} callbacks were sent and none was taken", provider.n_sent)
        });
    }
    let applied = check_payments(journals, &provider, payments, index, findings, notes);
    check_told(&provider, payments, index, findings);
    check_orders(journals, &provider, payments, &applied, books, findings);
    check_withdrawn(journals, books, findings, notes);
    grants::check(journals, books, &mut money, findings, notes);
    count(&provider, payments, books, &mut money);
    Some(money)
}

fn check_windows(books: &Books, findings: &mut Findings) {
    for order in &books.ledger {
        let late_us = books.settled_us - order.deadline_us;
        if order.status == Status::PendingPayment && late_us > MARGIN_US {
            findings.add(Promise::P5, || {
                let id = show_id(order.id);
                format!(
                    "order {id} is unpaid, its window ended {} s ago",
                    late_us / 1_000_000
                )
            });
        }
    }
}

fn name_of(payment: &Payment) -> Name {
    (payment.channel.clone(), payment.txn.clone())
}

fn show(payment: &Payment) -> String {
    format!(
        "payment {} ({} transaction {})",
        payment.id, payment.channel, payment.txn
    )
}

/// Each payment by itself; how many each order took.
fn check_payments(
    journals: &[Journal],
    provider: &Provider,
    payments: &[Payment],
    index: &Index<'_>,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) -> HashMap<u128, u64> {
    let mut seen = HashMap::with_capacity(payments.len());
    let mut applied: HashMap<u128, u64> = HashMap::new();
    let mut n_strange = 0u64;
    for payment in payments {
        let mut broken = |why: &dyn std::fmt::Display| {
            findings.add(Promise::P5, || format!("{} {why}", show(payment)));
        };
        if let Some(other) = seen.insert(name_of(payment), payment) {
            broken(&format_args!(
                "is in the ledger twice, also as {}",
                other.id
            ));
        }
        match payment.status {
            PaymentStatus::Captured => broken(&"is stuck as CAPTURED"),
            PaymentStatus::RefundDue => broken(&"is stuck as REFUND_DUE"),
            PaymentStatus::Applied => {
                match payment.order.filter(|id| index.ledger.contains_key(id)) {
                    Some(order) => *applied.entry(order).or_default() += 1,
                    None => broken(&"was applied to no order of the ledger"),
                }
            }
            PaymentStatus::Refunded | PaymentStatus::Review => {}
        }
        let ours = |journal: &Journal| {
            let prefix = &journal.header.plan.key_prefix;
            !prefix.is_empty() && payment.txn.starts_with(prefix.as_str())
        };
        match provider.txns.get(&name_of(payment)) {
            Some(txn) if txn.paid => check_against(txn, payment, &mut broken),
            Some(_failed) => broken(&"is in the ledger, told were only failed attempts"),
            None if journals
                .iter()
                .any(|journal| ours(journal) && journal.whole) =>
            {
                broken(&"is in the ledger, nobody ever told of it");
            }
            None => n_strange += 1,
        }
    }
    if n_strange > 0 {
        notes.push(format!("{n_strange} payments were told by somebody else"));
    }
    applied
}

/// The ledger's payment against what the provider said.
fn check_against(txn: &Txn, payment: &Payment, broken: &mut dyn FnMut(&dyn std::fmt::Display)) {
    if (payment.amount_cent, &payment.currency) != (txn.amount_cent, &txn.currency) {
        broken(&format_args!(
            "is over {} {}, told was {} {}",
            payment.amount_cent, payment.currency, txn.amount_cent, txn.currency
        ));
    }
    if payment.order != Some(txn.order) {
        let order = payment.order.map_or_else(|| "none".to_owned(), show_id);
        broken(&format_args!(
            "is of order {order}, told was {}",
            show_id(txn.order)
        ));
    }
    if payment.status == PaymentStatus::Applied && txn.lie {
        broken(&"was applied although it did not match the order");
    }
    if payment.status == PaymentStatus::Review && !txn.lie {
        broken(&"is under review although it matched the order");
    }
}

/// Every answer to the provider against what became of the payment.
fn check_told(
    provider: &Provider,
    payments: &[Payment],
    index: &Index<'_>,
    findings: &mut Findings,
) {
    let held: HashMap<Name, &Payment> = payments.iter().map(|p| (name_of(p), p)).collect();
    let refunded = |order: &u128| {
        let order = index.ledger.get(order);
        order.is_some_and(|order| matches!(order.status, Status::RefundDue | Status::Refunded))
    };
    for (name, txn) in provider.txns.iter().filter(|(_, txn)| txn.paid) {
        let mut broken = |why: String| {
            findings.add(Promise::P5, || {
                let order = show_id(txn.order);
                format!("{} transaction {} of order {order} {why}", name.0, name.1)
            });
        };
        let Some(payment) = held.get(name) else {
            if !txn.told.is_empty() {
                broken("was taken, the ledger does not have it".into());
            } else if txn.whole {
                broken("was told until nobody had patience left, and never taken".into());
            }
            continue;
        };
        if txn.lie && !txn.told.is_empty() && txn.told.iter().all(|(t, _)| *t != Told::Review) {
            let first = txn.told[0].0;
            broken(format!("did not match the order and was told {first:?}"));
            continue;
        }
        let gone = match payment.status {
            PaymentStatus::RefundDue | PaymentStatus::Refunded => true,
            PaymentStatus::Captured | PaymentStatus::Applied | PaymentStatus::Review => false,
        };
        for (told, _) in &txn.told {
            let follows = match told {
                Told::Applied if gone => refunded(&txn.order),
                Told::Applied => payment.status == PaymentStatus::Applied,
                Told::RefundDue | Told::Refunded => gone,
                // A person may have decided since.
                Told::Review => true,
                Told::Ignored => false,
            };
            if !follows {
                broken(format!("was told {told:?} and is {:?}", payment.status));
                break;
            }
        }
    }
}

fn check_orders(
    journals: &[Journal],
    provider: &Provider,
    payments: &[Payment],
    applied: &HashMap<u128, u64>,
    books: &Books,
    findings: &mut Findings,
) {
    let in_time = paid_in_time(provider, books);
    let gone = payments
        .iter()
        .filter(|p| p.status == PaymentStatus::Refunded);
    let gone: HashMap<u128, &Payment> = gone.filter_map(|p| Some((p.order?, p))).collect();
    for order in &books.ledger {
        let id = || show_id(order.id);
        let mut broken = |promise, why: &dyn std::fmt::Display| {
            findings.add(promise, || format!("order {} {why}", id()));
        };
        let n_applied = applied.get(&order.id).copied().unwrap_or(0);
        if n_applied > 1 {
            broken(Promise::P5, &format_args!("took {n_applied} payments"));
        }
        match order.status {
            Status::Paid | Status::Delivered if n_applied == 0 => {
                broken(
                    Promise::P5,
                    &format_args!("is {:?} without a payment", order.status),
                );
            }
            Status::PendingPayment | Status::Closed | Status::RefundDue | Status::Refunded
                if n_applied > 0 =>
            {
                broken(
                    Promise::P5,
                    &format_args!("took a payment and is {:?}", order.status),
                );
            }
            Status::RefundDue => broken(Promise::P5, &"is stuck as RefundDue"),
            Status::Refunded if !gone.contains_key(&order.id) => {
                broken(Promise::P5, &"is refunded, no payment of it went back");
            }
            Status::Closed if in_time.contains_key(&order.id) => {
                let before_s = in_time[&order.id] / 1_000_000;
                let why = format!("was paid {before_s} s before its window ended and is closed");
                broken(Promise::P5, &why);
            }
            Status::PendingPayment
            | Status::Paid
            | Status::Delivered
            | Status::Closed
            | Status::Refunded => {}
        }
        let given_back = matches!(order.status, Status::RefundDue | Status::Refunded);
        match provider.refunds.get(&order.id) {
            None if given_back && attempt_of(journals, order).is_some() => {
                broken(Promise::P4, &"was refunded, nobody asked for that");
            }
            Some(asked) if asked.done && !given_back => {
                let why = format!("was told refunded and is {:?}", order.status);
                broken(Promise::P5, &why);
            }
            Some(asked) if asked.whole && !given_back => {
                let status = order.status;
                let why = format!(
                    "is {status:?}, and its refund was asked for until nobody had patience left"
                );
                broken(Promise::P5, &why);
            }
            None | Some(_) => {}
        }
    }
}

/// Orders whose right payment was taken well before the end of the window, by how much.
fn paid_in_time(provider: &Provider, books: &Books) -> HashMap<u128, i64> {
    let deadlines: HashMap<u128, i64> = books
        .ledger
        .iter()
        .map(|order| (order.id, order.deadline_us))
        .collect();
    let right = provider.txns.values().filter(|txn| txn.paid && !txn.lie);
    right
        .filter_map(|txn| {
            let answered_us = txn.told.iter().map(|(_, at_us)| *at_us).min()?;
            let before_us = deadlines.get(&txn.order)? - answered_us;
            (before_us > MARGIN_US).then_some((txn.order, before_us))
        })
        .collect()
}

/// The journal and attempt that an order comes from.
fn attempt_of<'a>(journals: &'a [Journal], order: &Order) -> Option<(&'a Journal, u32)> {
    journals.iter().find_map(|journal| {
        let attempt = journal.header.plan.attempt_of(&order.key)?;
        (attempt < journal.header.attempts).then_some((journal, attempt))
    })
}

/// Units that were refunded and not put back on sale.
fn check_withdrawn(
    journals: &[Journal],
    books: &Books,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    let mut expected: HashMap<&str, i64> = HashMap::new();
    for order in &books.ledger {
        if !matches!(order.status, Status::RefundDue | Status::Refunded) {
            continue;
        }
        let dealt = attempt_of(journals, order)
            .and_then(|(journal, attempt)| journal.header.plan.refund(attempt));
        let Some(refund) = dealt else {
            notes.push("somebody else refunds too: withdrawn units were not judged".into());
            return;
        };
        for item in order.items.iter().filter(|_| !refund.restock) {
            *expected.entry(&item.sku_id).or_default() += i64::from(item.quantity);
        }
    }
    for sku in &books.sale.skus {
        let expected = expected.get(sku.id.as_str()).copied().unwrap_or(0);
        if sku.stock.withdrawn != expected {
            findings.add(Promise::P8, || {
                format!(
                    "SKU {}: stock says {} withdrawn, refunds without restock have {expected}",
                    sku.id, sku.stock.withdrawn
                )
            });
        }
    }
}

fn count(provider: &Provider, payments: &[Payment], books: &Books, money: &mut Money) {
    for payment in payments {
        let payer = provider.txns.get(&name_of(payment)).map(|txn| txn.payer);
        match payment.status {
            PaymentStatus::Captured | PaymentStatus::RefundDue => {}
            PaymentStatus::Applied => {
                money.applied += 1;
                money.late_applied += u64::from(payer == Some(Payer::Late));
            }
            PaymentStatus::Refunded => {
                money.refunded += 1;
                money.late_refunded += u64::from(payer == Some(Payer::Late));
                money.twice_refunded += u64::from(payer == Some(Payer::Twice));
            }
            PaymentStatus::Review => money.review += 1,
        }
    }
    for order in &books.ledger {
        let count = match order.status {
            Status::PendingPayment => &mut money.orders_unpaid,
            Status::Paid => &mut money.orders_paid,
            Status::Delivered => &mut money.orders_delivered,
            Status::Closed => &mut money.orders_closed,
            Status::RefundDue | Status::Refunded => &mut money.orders_refunded,
        };
        *count += 1;
    }
}
