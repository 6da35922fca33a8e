//! What provider and operator remember, gathered from the journals: each transaction that
//! was told as paid, what the engine answered, and which refunds were asked.

use std::collections::HashMap;

use compact_str::CompactString;

use super::memory::Memory;
use super::{Findings, Promise};
use crate::answer::{Meaning, Outcome};
use crate::journal::{Act, Entry, Journal};
use crate::pay::wire::Told;
use crate::pay::{Claim, Payer};
use crate::wire::show_id;

/// Channel and transaction number: they name a payment for ever.
pub(super) type Name = (CompactString, CompactString);

/// A transaction as the provider told of it.
pub(super) struct Txn {
    pub(super) order: u128,
    pub(super) amount_cent: i64,
    pub(super) currency: CompactString,
    pub(super) payer: Payer,
    pub(super) lie: bool,
    /// It was told as paid; else only as failed.
    pub(super) paid: bool,
    /// What the engine said to it, and when, in microseconds since 1970.
    pub(super) told: Vec<(Told, i64)>,
    /// It was told until it was taken, or for as long as the provider had patience.
    pub(super) whole: bool,
}

/// A refund that an operator asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// "Done" was told.
    pub(super) done: bool,
    /// It was asked for until then, or for as long as the operator had patience.
    pub(super) whole: bool,
}

#[derive(Default)]
pub(super) struct Provider {
    pub(super) txns: HashMap<Name, Txn>,
    pub(super) refunds: HashMap<u128, Asked>,
    pub(super) n_sent: u64,
    pub(super) n_taken: u64,
}

impl Provider {
    pub(super) fn of(journals: &[Journal], memory: &Memory, findings: &mut Findings) -> Self {
        let mut provider = Self::default();
        for (at, journal) in journals.iter().enumerate() {
            for entry in journal.entries() {
                match entry.act {
                    Act::Buy(_) | Act::Cancel => {}
                    Act::Callback(no) => {
                        provider.callback(at, journal, &entry, no, memory, findings);
                    }
                    Act::Refund => provider.refund(at, journal, &entry, memory, findings),
                }
            }
        }
        provider
    }

    fn callback(
        &mut self,
        at: usize,
        journal: &Journal,
        entry: &Entry<'_>,
        no: u8,
        memory: &Memory,
        findings: &mut Findings,
    ) {
        self.n_sent += 1;
        let plan = &journal.header.plan;
        let callbacks = plan.callbacks(entry.attempt);
        let dealt = callbacks.iter().find(|callback| callback.no == no);
        let first = memory.first_told.get(&(at, entry.attempt));
        let (Some(callback), Some(&first)) = (dealt, first) else {
            return;
        };
        let order = &memory.told[first].order;
        let channel = plan.channel(entry.attempt, callback.txn);
        let txn = plan.txn_text(entry.attempt, callback.txn);
        let evidence = format!("{channel} transaction {txn} of order {}", show_id(order.id));
        let known = self.txns.entry((channel.into(), txn.into()));
        let known = known.or_insert_with(|| Txn {
            order: order.id,
            amount_cent: 0,
            currency: "".into(),
            payer: plan.payer(entry.attempt),
            lie: false,
            paid: false,
            told: Vec::new(),
            whole: false,
        });
        known.whole |= journal.whole;
        if callback.claim != Claim::Failed {
            known.paid = true;
            known.lie = matches!(callback.claim, Claim::Lie(_));
            known.amount_cent = callback.claim.amount(order.amount_cent);
            known.currency = callback.claim.currency(&order.currency).into();
        }
        if entry.outcome == Outcome::Taken {
            self.n_taken += 1;
            let answered_us = i64::try_from(entry.answered_us()).unwrap_or(i64::MAX);
            let answered_us = 1_000 * journal.header.started_unix_ms + answered_us;
            match Told::parse(entry.body) {
                // Nothing is kept of a failed attempt, so nothing is to be held against it.
                Ok(_) if callback.claim == Claim::Failed => {}
                Ok(told) => known.told.push((told, answered_us)),
                Err(error) => findings.add(Promise::P5, || format!("{evidence}: {error}")),
            }
        } else if entry.outcome.meaning() == Meaning::Refused {
            findings.add(Promise::P5, || {
                let body = String::from_utf8_lossy(entry.body);
                format!(
                    "{evidence}: the callback was refused with {}: {body}",
                    entry.status
                )
            });
        }
    }

    fn refund(
        &mut self,
        at: usize,
        journal: &Journal,
        entry: &Entry<'_>,
        memory: &Memory,
        findings: &mut Findings,
    ) {
        let Some(&first) = memory.first_told.get(&(at, entry.attempt)) else {
            return;
        };
        let order = memory.told[first].order.id;
        let done = entry.outcome == Outcome::GivenBack;
        let asked = self.refunds.entry(order).or_default();
        asked.done |= done;
        asked.whole |= journal.whole;
        // It is asked only once the order took a payment.
        if !done && entry.outcome.meaning() == Meaning::Refused {
            findings.add(Promise::P5, || {
                let (id, body) = (show_id(order), String::from_utf8_lossy(entry.body));
                format!(
                    "order {id} was paid, and its refund is refused with {}: {body}",
                    entry.status
                )
            });
        }
    }
}
