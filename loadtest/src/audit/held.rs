//! What the engine holds must add up: P1 (units), P6 (limits), P7 (the store is
//! the ledger's copy), P8 (stock), and P3 within the enumerations themselves.

use std::collections::HashMap;

use super::memory::Memory;
use super::{Books, Findings, Promise};
use crate::answer::Outcome;
use crate::journal::Journal;
use crate::wire::{Order, Status, show_id};

pub(super) struct Index<'a> {
    pub(super) ledger: HashMap<u128, &'a Order>,
    store: HashMap<u128, &'a Order>,
}

impl<'a> Index<'a> {
    pub(super) fn of(books: &'a Books, findings: &mut Findings) -> Self {
        Self {
            ledger: by_id(&books.ledger, "ledger", findings),
            store: by_id(&books.store, "store", findings),
        }
    }
}

fn by_id<'a>(orders: &'a [Order], name: &str, findings: &mut Findings) -> HashMap<u128, &'a Order> {
    let mut ids = HashMap::with_capacity(orders.len());
    let mut keys = HashMap::with_capacity(orders.len());
    for order in orders {
        if ids.insert(order.id, order).is_some() {
            findings.add(Promise::P7, || {
                format!("the {name} lists order {} twice", show_id(order.id))
            });
        } else if let Some(other) = keys.insert((order.user.as_str(), order.key.as_str()), order.id)
        {
            findings.add(Promise::P3, || {
                let (user, key) = (&order.user, &order.key);
                format!(
                    "user {user}, key {key} has two orders in the {name}: {} and {}",
                    show_id(other),
                    show_id(order.id)
                )
            });
        }
    }
    ids
}

pub(super) fn check(
    journals: &[Journal],
    memory: &Memory,
    books: &Books,
    index: &Index<'_>,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    check_units(journals, books, findings, notes);
    check_limits(journals, books, findings, notes);
    check_store(books, index, findings);
    check_stock(books, findings);
    note_unsold(journals, memory, books, notes);
}

fn units_where(orders: &[Order], sku: &str, wanted: impl Fn(Status) -> bool) -> i64 {
    let counted = orders.iter().filter(|order| wanted(order.status));
    counted
        .flat_map(|order| &order.items)
        .filter(|item| item.sku_id == sku)
        .map(|item| i64::from(item.quantity))
        .sum()
}

fn check_units(
    journals: &[Journal],
    books: &Books,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    for sku in &books.sale.skus {
        for (name, orders) in [("ledger", &books.ledger), ("store", &books.store)] {
            let live = units_where(orders, &sku.id, Status::is_live);
            if live > sku.stock.opened {
                findings.add(Promise::P1, || {
                    format!(
                        "SKU {}: {live} live units in the {name}, {} opened",
                        sku.id, sku.stock.opened
                    )
                });
            }
        }
    }
    let known = |id: &str| books.sale.skus.iter().any(|sku| sku.id == id);
    if let Some(order) = books
        .ledger
        .iter()
        .find(|order| order.items.iter().any(|item| !known(&item.sku_id)))
    {
        findings.add(Promise::P1, || {
            format!(
                "order {} sells a SKU the sale does not have: {:?}",
                show_id(order.id),
                order.items
            )
        });
    }
    for defined in journals
        .iter()
        .filter_map(|journal| journal.header.defined.as_ref())
        .flat_map(|defined| &defined.skus)
    {
        match books
            .sale
            .skus
            .iter()
            .find(|sku| sku.id == defined.id.as_str())
        {
            None => findings.add(Promise::P8, || {
                format!("SKU {} was defined, the sale does not show it", defined.id)
            }),
            Some(sku) if sku.stock.opened < defined.units => findings.add(Promise::P8, || {
                format!(
                    "SKU {}: {} units were defined, {} are opened",
                    defined.id, defined.units, sku.stock.opened
                )
            }),
            Some(sku) if sku.stock.opened > defined.units => {
                notes.push(format!(
                    "SKU {}: {} units were defined, {} are opened (topped up?)",
                    defined.id, defined.units, sku.stock.opened
                ));
            }
            Some(_) => {}
        }
    }
}

fn check_limits(
    journals: &[Journal],
    books: &Books,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    let defined = journals
        .iter()
        .filter_map(|journal| journal.header.defined.as_ref())
        .find_map(|defined| defined.units_per_user);
    let Some(limit) = defined.or(books.sale.units_per_user) else {
        notes.push("the sale has no limit a user: P6 has nothing to hold".into());
        return;
    };
    for (name, orders) in [("ledger", &books.ledger), ("store", &books.store)] {
        let mut units: HashMap<&str, u64> = HashMap::new();
        for order in orders.iter().filter(|order| order.status.is_live()) {
            let sum: u64 = order
                .items
                .iter()
                .map(|item| u64::from(item.quantity))
                .sum();
            *units.entry(&order.user).or_default() += sum;
        }
        let mut over: Vec<_> = units
            .into_iter()
            .filter(|&(_, units)| units > u64::from(limit))
            .collect();
        over.sort_unstable();
        for (user, units) in over {
            findings.add(Promise::P6, || {
                format!("user {user} has {units} live units in the {name}, the limit is {limit}")
            });
        }
    }
}

fn check_store(books: &Books, index: &Index<'_>, findings: &mut Findings) {
    if let Some(stuck) = &books.stuck {
        findings.add(Promise::P7, || stuck.clone());
    }
    for order in &books.ledger {
        let id = || show_id(order.id);
        match index.store.get(&order.id) {
            None => findings.add(Promise::P7, || {
                format!(
                    "order {} ({:?}) is in the ledger, not in the store",
                    id(),
                    order.status
                )
            }),
            Some(row) => {
                for (what, same) in [
                    (
                        "status",
                        row.status == order.status && row.closed == order.closed,
                    ),
                    ("version", row.version == order.version),
                    ("content", row.same_deal(order)),
                    (
                        "owner",
                        row.user == order.user
                            && row.key == order.key
                            && row.sale_id == order.sale_id,
                    ),
                ] {
                    if !same {
                        findings.add(Promise::P7, || {
                            format!(
                                "order {}: {what} differs: ledger {order:?}, store {row:?}",
                                id()
                            )
                        });
                    }
                }
            }
        }
    }
    for row in &books.store {
        if !index.ledger.contains_key(&row.id) {
            findings.add(Promise::P7, || {
                format!(
                    "order {} is in the store, not in the ledger",
                    show_id(row.id)
                )
            });
        }
        let (least, most) = events_expected(row.status, books.payments.is_some());
        match row.events {
            None => findings.add(Promise::P7, || {
                format!(
                    "the store does not say how many events order {} has",
                    show_id(row.id)
                )
            }),
            Some(events) if events < least || events > most => findings.add(Promise::P7, || {
                format!(
                    "order {} is {:?} with {events} events in the store, expected {least}{}",
                    show_id(row.id),
                    row.status,
                    if most > least { " or more" } else { "" }
                )
            }),
            Some(_) => {}
        }
    }
}

/// How many transitions lead to a status. Paid orders can have taken detours (a late
/// payment, a longer window); unpaid ones cannot where nobody pays. Where somebody does, a
/// closed order may have had fresh units for a payment that was never recorded.
fn events_expected(status: Status, money: bool) -> (u32, u32) {
    match status {
        Status::PendingPayment => (1, 1),
        Status::Closed if money => (2, u32::MAX),
        Status::Closed => (2, 2),
        Status::Paid => (2, u32::MAX),
        Status::Delivered => (3, u32::MAX),
        Status::RefundDue => (2, u32::MAX),
        Status::Refunded => (3, u32::MAX),
    }
}

fn check_stock(books: &Books, findings: &mut Findings) {
    for sku in &books.sale.skus {
        let stock = sku.stock;
        let sum = stock.available + stock.held + stock.sold + stock.withdrawn + stock.transfer;
        if sum != stock.opened {
            findings.add(Promise::P8, || {
                format!(
                    "SKU {}: opened {} ≠ {sum} = {stock:?}",
                    sku.id, stock.opened
                )
            });
        }
        if [
            stock.available,
            stock.held,
            stock.sold,
            stock.withdrawn,
            stock.transfer,
        ]
        .iter()
        .any(|&units| units < 0)
        {
            findings.add(Promise::P8, || {
                format!("SKU {}: less than nothing: {stock:?}", sku.id)
            });
        }
        let held = units_where(&books.ledger, &sku.id, |status| {
            status == Status::PendingPayment
        });
        if held != stock.held {
            findings.add(Promise::P8, || {
                format!(
                    "SKU {}: stock says {} held, unpaid orders hold {held}",
                    sku.id, stock.held
                )
            });
        }
        let sold = units_where(&books.ledger, &sku.id, |status| {
            matches!(status, Status::Paid | Status::Delivered)
        });
        if sold != stock.sold {
            findings.add(Promise::P8, || {
                format!(
                    "SKU {}: stock says {} sold, paid orders have {sold}",
                    sku.id, stock.sold
                )
            });
        }
    }
    let found = &books.reconciliation;
    if found.differences > 0 {
        findings.add(Promise::P8, || {
            format!(
                "the engine's own reconciliation finds {} differences: {}",
                found.differences,
                found.detail.join("; ")
            )
        });
    }
}

/// Not a promise that can be proved from outside, but worth a look.
fn note_unsold(journals: &[Journal], memory: &Memory, books: &Books, notes: &mut Vec<String>) {
    let available: i64 = books.sale.skus.iter().map(|sku| sku.stock.available).sum();
    let sold_out = memory.count(Outcome::SoldOut);
    if available == 0 || sold_out == 0 {
        return;
    }
    let closed = books
        .ledger
        .iter()
        .filter(|order| !order.status.is_live())
        .count();
    let mut note =
        format!("{available} units are left although {sold_out} answers said \"sold out\"");
    if closed > 0 {
        note.push_str(&format!(
            "; {closed} orders gave theirs back, perhaps too late for them"
        ));
    }
    let opened: i64 = books.sale.skus.iter().map(|sku| sku.stock.opened).sum();
    let ever: i64 = books
        .ledger
        .iter()
        .flat_map(|order| &order.items)
        .map(|item| i64::from(item.quantity))
        .sum();
    let most: u32 = journals
        .iter()
        .map(|journal| journal.header.plan.quantity + 1)
        .max()
        .unwrap_or(1);
    // Even if every order ever made had been live at once, with a generous
    // thousand requests in flight, stock was never gone.
    if ever + 1_000 * i64::from(most) < opened {
        note.push_str("; the sale was never near its end, so those answers were wrong");
    }
    notes.push(note);
}
