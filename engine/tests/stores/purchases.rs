//! Purchases from the first version of the order to the refund, and what a store shows of
//! their payments and entitlements.

use std::collections::BTreeMap;

use floodgate_engine::stream::{
    Batch, EntitlementFact, OrderStore, PaymentFact, Row, RowId, RowKind,
};
use floodgate_ledger::Draft;

use crate::orders::{bought_and_given_back, sale};
use crate::places::after::{a_life_after, order_draft, row, stray};

pub fn rows(drafts: &[Draft]) -> Batch {
    Batch {
        rows: drafts.iter().map(row).collect(),
        ..Batch::default()
    }
}

/// `n` purchases from the first version of the order to the refund, and some captures
/// that are nobody's, everybody's first step before anybody's second.
pub fn purchases(name: &str, n: u16) -> Vec<Draft> {
    let mut lives: Vec<Vec<Draft>> = Vec::new();
    for i in 0..n {
        let orders = bought_and_given_back(name, i);
        lives.push(orders.iter().map(order_draft).collect());
        lives.push(a_life_after(&orders[0], i));
        if i % 4 == 0 {
            lives.push(vec![stray(1_000 + i)]);
        }
    }
    let longest = lives.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|step| lives.iter().filter_map(move |l| l.get(step).cloned()))
        .collect()
}

pub fn payments_of(store: &dyn OrderStore, name: Option<&str>, limit: usize) -> Vec<PaymentFact> {
    let sale = name.map(sale);
    let mut all: Vec<PaymentFact> = Vec::new();
    loop {
        let after = all.last().map(|fact| fact.payment.id.clone());
        let page = store.payments_page(0, sale.as_ref(), after.as_ref(), limit);
        let page = page.unwrap();
        assert!(page.facts.len() <= limit);
        if page.facts.is_empty() {
            return all;
        }
        all.extend(page.facts);
    }
}

pub fn entitlements_of(store: &dyn OrderStore, name: &str, limit: usize) -> Vec<EntitlementFact> {
    let mut all: Vec<EntitlementFact> = Vec::new();
    loop {
        let after = all.last().map(|fact| fact.entitlement.id.clone());
        let page = store.entitlements_page(0, &sale(name), after.as_ref(), limit);
        let page = page.unwrap();
        assert!(page.facts.len() <= limit);
        if page.facts.is_empty() {
            return all;
        }
        all.extend(page.facts);
    }
}

/// What of one kind the drafts come to, by id.
fn newest_of(drafts: &[Draft], kind: RowKind) -> Vec<Row> {
    let mut by_id: BTreeMap<RowId, Row> = BTreeMap::new();
    for row in drafts.iter().map(row).filter(|row| row.kind() == kind) {
        let kept = by_id.entry(row.id()).or_insert_with(|| row.clone());
        if kept.version() < row.version() {
            *kept = row;
        }
    }
    by_id.into_values().collect()
}

pub fn payment_facts(drafts: &[Draft], name: Option<&str>) -> Vec<PaymentFact> {
    let name = name.map(sale);
    newest_of(drafts, RowKind::Payment)
        .into_iter()
        .filter_map(|row| match row {
            Row::Payment(row) => Some(row.fact),
            Row::Order(_) | Row::Entitlement(_) => None,
        })
        .filter(|fact| fact.sale == name)
        .collect()
}

pub fn entitlement_facts(drafts: &[Draft]) -> Vec<EntitlementFact> {
    newest_of(drafts, RowKind::Entitlement)
        .into_iter()
        .filter_map(|row| match row {
            Row::Entitlement(row) => Some(row.fact),
            Row::Order(_) | Row::Payment(_) => None,
        })
        .collect()
}
