//! What was told must stay true: P2 (it is in the ledger), P3 (one order a key)
//! and P4 (the same deal, in a state that can follow what was told).

use super::held::Index;
use super::memory::{Memory, Told};
use super::{Books, Findings, Promise};
use crate::answer::{Meaning, Outcome};
use crate::journal::{Act, Journal};
use crate::plan::{Plan, Variant};
use crate::wire::{ClosedReason, Order, Status, show_id};

pub(super) fn check(
    journals: &[Journal],
    memory: &Memory,
    books: &Books,
    index: &Index<'_>,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    for told in &memory.told {
        let plan = &journals[told.journal].header.plan;
        check_deal(plan, told, journals, findings);
        match index.ledger.get(&told.order.id) {
            None => findings.add(Promise::P2, || {
                format!(
                    "{} was told order {}, the ledger does not have it",
                    who(plan, told.attempt),
                    show_id(told.order.id)
                )
            }),
            Some(held) => check_held(plan, told, held, memory, books, findings),
        }
        check_one_order(plan, told, memory, findings);
    }
    for (at, journal) in journals.iter().enumerate() {
        check_later_answers(at, journal, memory, findings);
        check_owners(at, journal, memory, books, findings, notes);
    }
    check_lookups(books, index, findings);
}

fn who(plan: &Plan, attempt: u32) -> String {
    format!(
        "user {}, key {}",
        plan.user_text(attempt),
        plan.key_text(attempt)
    )
}

fn matches_ask(plan: &Plan, attempt: u32, variant: Variant, order: &Order) -> bool {
    let ask = plan.ask(attempt, variant);
    matches!(order.items.as_slice(), [item]
        if item.sku_id == plan.skus[ask.sku].as_str() && item.quantity == ask.quantity)
}

/// The deal is what was asked for, at the price of the definition.
fn check_deal(plan: &Plan, told: &Told, journals: &[Journal], findings: &mut Findings) {
    let order = &told.order;
    let wrong = |what: &str| {
        format!(
            "{}: order {} {what}",
            who(plan, told.attempt),
            show_id(order.id)
        )
    };
    if order.sale_id != plan.sale_id.as_str() {
        findings.add(Promise::P4, || {
            wrong(&format!(
                "belongs to sale {}, asked was {}",
                order.sale_id, plan.sale_id
            ))
        });
    }
    if !matches_ask(plan, told.attempt, told.variant, order) {
        findings.add(Promise::P4, || {
            wrong(&format!(
                "holds {:?}, which is not what was asked for",
                order.items
            ))
        });
    }
    let sum: i64 = order
        .items
        .iter()
        .map(|item| item.price_cent.saturating_mul(i64::from(item.quantity)))
        .sum();
    if sum != order.amount_cent {
        findings.add(Promise::P4, || {
            wrong(&format!(
                "costs {} cents, its items cost {sum}",
                order.amount_cent
            ))
        });
    }
    let Some(defined) = &journals[told.journal].header.defined else {
        return;
    };
    for item in &order.items {
        let Some(sku) = defined
            .skus
            .iter()
            .find(|sku| item.sku_id == sku.id.as_str())
        else {
            continue;
        };
        if sku.price_cent != item.price_cent || order.currency != sku.currency.as_str() {
            findings.add(Promise::P4, || {
                wrong(&format!(
                    "is priced {} {}, defined is {} {}",
                    item.price_cent, order.currency, sku.price_cent, sku.currency
                ))
            });
        }
    }
}

/// Another told win of the same key must be the same order for the same body.
fn check_one_order(plan: &Plan, told: &Told, memory: &Memory, findings: &mut Findings) {
    let Some(&first) = memory.first_told.get(&(told.journal, told.attempt)) else {
        return;
    };
    let first = &memory.told[first];
    if first.order.id != told.order.id {
        findings.add(Promise::P3, || {
            format!(
                "{} was told two orders: {} and {}",
                who(plan, told.attempt),
                show_id(first.order.id),
                show_id(told.order.id)
            )
        });
    } else if first.variant != told.variant {
        findings.add(Promise::P3, || {
            format!(
                "{} won order {}, and the same key with another body was accepted too",
                who(plan, told.attempt),
                show_id(told.order.id)
            )
        });
    } else if !told.order.keeps_deal(&first.order, plan.pay.is_some()) {
        findings.add(Promise::P4, || {
            format!(
                "{} was told order {} twice, with different content",
                who(plan, told.attempt),
                show_id(told.order.id)
            )
        });
    }
}

/// The ledger's order against the told one.
fn check_held(
    plan: &Plan,
    told: &Told,
    held: &Order,
    memory: &Memory,
    books: &Books,
    findings: &mut Findings,
) {
    let id = show_id(held.id);
    if held.user != plan.user_text(told.attempt) || held.key != plan.key_text(told.attempt) {
        findings.add(Promise::P4, || {
            format!(
                "{} was told order {id}, the ledger says it is user {}'s, key {}",
                who(plan, told.attempt),
                held.user,
                held.key
            )
        });
    }
    if !held.keeps_deal(&told.order, plan.pay.is_some()) {
        findings.add(Promise::P4, || {
            let (told, held) = (deal(&told.order), deal(held));
            format!("order {id} was told as {told}, the ledger has {held}")
        });
    }
    let cancel = memory.cancels.get(&held.id).copied();
    if let Some(why) = state_contradicts(told.order.status, held, cancel, books) {
        findings.add(Promise::P4, || {
            format!("{}: order {id} {why}", who(plan, told.attempt))
        });
    }
}

fn deal(order: &Order) -> String {
    format!(
        "[{} {} {}, created {}, deadline {}]",
        order
            .items
            .iter()
            .map(|item| format!("{}×{}@{}", item.quantity, item.sku_id, item.price_cent))
            .collect::<Vec<_>>()
            .join("+"),
        order.amount_cent,
        order.currency,
        order.created_us,
        order.deadline_us
    )
}

/// Why `held` cannot be what became of an order told as `told`.
fn state_contradicts(
    told: Status,
    held: &Order,
    cancel: Option<bool>,
    books: &Books,
) -> Option<String> {
    if cancel == Some(true) && held.status != Status::Closed {
        return Some(format!("was told canceled and is {:?}", held.status));
    }
    if !reachable(told, held.status) {
        return Some(format!("was told {told:?} and is {:?}", held.status));
    }
    if held.status != Status::Closed || told == Status::Closed {
        return None;
    }
    let now_us = books.sale.server_time.as_microsecond();
    match held.closed {
        Some(ClosedReason::Canceled) if cancel.is_none() => {
            Some("was closed as canceled, its buyer never asked for that".into())
        }
        Some(ClosedReason::Timeout) if now_us < held.deadline_us => Some(format!(
            "was closed by timeout {} ms before its deadline",
            (held.deadline_us - now_us) / 1_000
        )),
        Some(ClosedReason::Timeout) if cancel == Some(true) => {
            Some("was told canceled and is closed by timeout".into())
        }
        Some(ClosedReason::Canceled | ClosedReason::Timeout) => None,
        None => Some("is closed without a reason".into()),
    }
}

/// States that can follow; a late payment may revive a closed order.
fn reachable(from: Status, to: Status) -> bool {
    use Status::{Closed, Delivered, Paid, PendingPayment, RefundDue, Refunded};
    match from {
        PendingPayment => true,
        Closed | Paid => match to {
            Closed => from == Closed,
            Paid | Delivered | RefundDue | Refunded => true,
            PendingPayment => false,
        },
        Delivered => matches!(to, Delivered | RefundDue | Refunded),
        RefundDue => matches!(to, RefundDue | Refunded),
        Refunded => to == Refunded,
    }
}

/// Sends that began after the win was told: the same body must find it again,
/// another body must be refused as reuse. Sheds and unknowns say nothing.
fn check_later_answers(at: usize, journal: &Journal, memory: &Memory, findings: &mut Findings) {
    let plan = &journal.header.plan;
    for entry in journal.entries() {
        let Act::Buy(variant) = entry.act else {
            continue;
        };
        if entry.outcome.meaning() != Meaning::Refused {
            continue;
        }
        let Some(&first) = memory.first_told.get(&(at, entry.attempt)) else {
            continue;
        };
        let first = &memory.told[first];
        if entry.sent_us <= first.answered_us {
            continue;
        }
        let id = show_id(first.order.id);
        if variant == first.variant {
            findings.add(Promise::P4, || {
                format!(
                    "{} won order {id}; the same request later heard \"{}\" ({})",
                    who(plan, entry.attempt),
                    entry.outcome.name(),
                    entry.status
                )
            });
        } else if entry.outcome != Outcome::KeyReused {
            findings.add(Promise::P3, || {
                format!(
                    "{} won order {id}; the key with another body heard \"{}\" ({}) instead of IDEMPOTENCY_KEY_REUSED",
                    who(plan, entry.attempt),
                    entry.outcome.name(),
                    entry.status
                )
            });
        }
    }
}

/// Orders in the books under our keys: the right user, the told order, a body
/// that was sent, and never for a key whose every answer was a refusal.
fn check_owners(
    at: usize,
    journal: &Journal,
    memory: &Memory,
    books: &Books,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    let plan = &journal.header.plan;
    let mut n_untold = 0u64;
    for order in &books.ledger {
        let Some(attempt) = plan.attempt_of(&order.key) else {
            continue;
        };
        if attempt >= journal.header.attempts {
            continue;
        }
        let id = show_id(order.id);
        if order.user != plan.user_text(attempt) {
            findings.add(Promise::P3, || {
                format!(
                    "order {id} has key {} under user {}, who never used it",
                    order.key, order.user
                )
            });
            continue;
        }
        let heard = memory.heard(at, attempt);
        match memory.first_told.get(&(at, attempt)) {
            Some(&first) => {
                let told = memory.told[first].order.id;
                if told != order.id {
                    findings.add(Promise::P3, || {
                        format!(
                            "{} was told order {}, the ledger has order {id} for it",
                            who(plan, attempt),
                            show_id(told)
                        )
                    });
                }
            }
            None => {
                n_untold += 1;
                if !heard.unknown && !heard.won && journal.whole {
                    findings.add(Promise::P3, || {
                        let what = if heard.sent {
                            "was refused by every answer"
                        } else {
                            "was never sent"
                        };
                        format!(
                            "{} {what}, yet it owns order {id} ({:?})",
                            who(plan, attempt),
                            order.status
                        )
                    });
                }
                let asked = [Variant::First, Variant::Other];
                if !asked
                    .into_iter()
                    .any(|variant| matches_ask(plan, attempt, variant, order))
                {
                    findings.add(Promise::P3, || {
                        format!(
                            "{} owns order {id} over {:?}, which it never asked for",
                            who(plan, attempt),
                            order.items
                        )
                    });
                }
            }
        }
    }
    if n_untold > 0 {
        notes.push(format!(
            "{n_untold} orders belong to buyers who never heard of their win (unknown outcomes)"
        ));
    }
}

/// Buyers looking up their wins must see what the ledger has.
fn check_lookups(books: &Books, index: &Index<'_>, findings: &mut Findings) {
    for lookup in &books.lookups {
        let id = show_id(lookup.id);
        match &lookup.order {
            None => findings.add(Promise::P4, || {
                format!(
                    "user {} looks up order {id}, which was won, and gets {}",
                    lookup.user, lookup.status
                )
            }),
            Some(Err(error)) => findings.add(Promise::P4, || {
                format!("user {} looks up order {id}: {error}", lookup.user)
            }),
            Some(Ok(seen)) => {
                let Some(held) = index.ledger.get(&lookup.id) else {
                    continue;
                };
                if !seen.same_deal(held) || !reachable(held.status, seen.status) {
                    findings.add(Promise::P4, || {
                        format!(
                            "user {} sees order {id} as {} {:?}, the ledger has {} {:?}",
                            lookup.user,
                            deal(seen),
                            seen.status,
                            deal(held),
                            held.status
                        )
                    });
                }
            }
        }
    }
}
