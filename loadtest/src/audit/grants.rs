//! P5, where something is granted: an order over a SKU with a grant is delivered once it
//! is paid, its buyer has it once, and whoever got the money back has it no longer.

use std::collections::HashMap;

use super::money::Money;
use super::{Books, Findings, Promise};
use crate::journal::Journal;
use crate::pay::wire::{Entitlement, EntitlementStatus};
use crate::wire::{Order, Status, show_id};

pub(super) fn check(
    journals: &[Journal],
    books: &Books,
    money: &mut Money,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    let Some(defined) = journals.iter().find_map(|j| j.header.defined.as_ref()) else {
        notes.push("another run defined the sale: what is granted was not judged".into());
        return;
    };
    let works: HashMap<&str, &str> = defined
        .skus
        .iter()
        .filter_map(|sku| Some((sku.id.as_str(), sku.work.as_deref()?)))
        .collect();
    let mut orders: HashMap<&str, Vec<&Order>> = HashMap::new();
    for order in &books.ledger {
        orders.entry(&order.user).or_default().push(order);
        check_delivered(order, &works, findings);
    }
    for granted in &books.grants {
        money.buyers_asked += 1;
        let user = granted.user.as_str();
        let entitlements = match &granted.entitlements {
            Ok(entitlements) => entitlements,
            Err(why) => {
                findings.add(Promise::P5, || {
                    format!("user {user} asks for what was granted: {why}")
                });
                continue;
            }
        };
        let own = orders.get(user).map_or(&[][..], Vec::as_slice);
        for order in own {
            for item in &order.items {
                let work = works.get(item.sku_id.as_str()).copied();
                check_item(order, &item.sku_id, work, entitlements, findings);
            }
        }
        for entitlement in entitlements {
            match entitlement.status {
                EntitlementStatus::Active => money.entitlements_active += 1,
                EntitlementStatus::Revoked => money.entitlements_revoked += 1,
                EntitlementStatus::Expired => {}
            }
            let of_this_sale = entitlement.sale.as_deref() == Some(books.sale.id.as_str());
            let bought = own.iter().any(|order| {
                order.id == entitlement.order
                    && order
                        .items
                        .iter()
                        .any(|item| item.sku_id == entitlement.sku)
            });
            if of_this_sale && !bought {
                findings.add(Promise::P5, || {
                    let (id, order) = (&entitlement.id, show_id(entitlement.order));
                    format!("user {user} has entitlement {id} of order {order}, and no such order")
                });
            }
        }
    }
}

/// Paid is the end where nothing is granted, delivered where something is.
fn check_delivered(order: &Order, works: &HashMap<&str, &str>, findings: &mut Findings) {
    let mut items = order.items.iter();
    let has_grant = items.any(|item| works.contains_key(item.sku_id.as_str()));
    let why = match order.status {
        Status::Paid if has_grant => "was paid and never delivered",
        Status::Delivered if !has_grant => "is delivered, nothing in it is granted",
        Status::PendingPayment
        | Status::Paid
        | Status::Delivered
        | Status::Closed
        | Status::RefundDue
        | Status::Refunded => return,
    };
    findings.add(Promise::P5, || format!("order {} {why}", show_id(order.id)));
}

fn check_item(
    order: &Order,
    sku: &str,
    work: Option<&str>,
    entitlements: &[Entitlement],
    findings: &mut Findings,
) {
    let of_item = |e: &&Entitlement| e.order == order.id && e.sku == sku;
    let all: Vec<_> = entitlements.iter().filter(of_item).collect();
    let active = |e: &&&Entitlement| e.status == EntitlementStatus::Active;
    let n_active = all.iter().filter(active).count();
    let wanted = usize::from(order.status == Status::Delivered && work.is_some());
    let mut broken = |why: String| {
        findings.add(Promise::P5, || {
            let (id, user) = (show_id(order.id), &order.user);
            format!(
                "order {id} of user {user} ({:?}), SKU {sku}: {why}",
                order.status
            )
        });
    };
    if n_active != wanted {
        broken(format!("{n_active} active entitlements, expected {wanted}"));
    } else if all.len() > 1 {
        broken(format!("{} entitlements for one grant", all.len()));
    }
    if let Some(other) = all.iter().find(|e| Some(e.work.as_str()) != work) {
        broken(format!("is granted {}, defined is {work:?}", other.work));
    }
}
