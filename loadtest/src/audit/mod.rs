//! The verdict: from the buyers' journals and the engine's books, are the
//! promises P1-P8 kept?
//!
//! Pure: everything it judges is handed in, so tests can hand in lies. Each
//! finding names its promise and its evidence. What cannot be judged soundly
//! becomes a note, never a finding.

mod callbacks;
mod grants;
mod held;
mod memory;
mod money;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod money_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod told;

use serde::Serialize;

use crate::journal::Journal;
use crate::pay::wire::{Entitlement, Payment};
use crate::wire::{Order, Reconciliation, Sale};
pub use memory::{Memory, Told};
pub use money::Money;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Promise {
    P1,
    P2,
    P3,
    P4,
    P5,
    P6,
    P7,
    P8,
    /// Nothing was sold, so nothing was proved.
    #[serde(rename = "no sale happened")]
    NoSale,
}

impl Promise {
    pub fn name(self) -> &'static str {
        match self {
            Self::P1 => "P1 never oversell",
            Self::P2 => "P2 won means durable",
            Self::P3 => "P3 one key, one order",
            Self::P4 => "P4 never take back a win",
            Self::P5 => "P5 nothing stays stuck",
            Self::P6 => "P6 limits hold",
            Self::P7 => "P7 every order reaches the store once",
            Self::P8 => "P8 stock adds up",
            Self::NoSale => "no sale happened",
        }
    }

    pub const ALL: [Self; 9] = [
        Self::P1,
        Self::P2,
        Self::P3,
        Self::P4,
        Self::P5,
        Self::P6,
        Self::P7,
        Self::P8,
        Self::NoSale,
    ];
}

/// A buyer's look at an order, `GET /v1/orders/{id}`.
#[derive(Clone, Debug)]
pub struct Lookup {
    pub id: u128,
    pub user: String,
    pub status: u16,
    pub order: Option<Result<Order, String>>,
}

/// A buyer's look at what was granted, `GET /v1/me/entitlements`.
#[derive(Clone, Debug)]
pub struct Granted {
    pub user: String,
    pub entitlements: Result<Vec<Entitlement>, String>,
}

/// What the engine says about itself.
#[derive(Clone, Debug)]
pub struct Books {
    pub sale: Sale,
    /// The engine's time before its ledger was read, and after everything due had its time.
    pub settled_us: i64,
    pub ledger: Vec<Order>,
    pub ledger_seq: u64,
    /// None: nobody was to pay, and the engine was not asked.
    pub payments: Option<Vec<Payment>>,
    /// A sample of the buyers.
    pub grants: Vec<Granted>,
    pub store: Vec<Order>,
    pub store_mark: u64,
    /// Why the books never became quiet.
    pub stuck: Option<String>,
    pub lookups: Vec<Lookup>,
    pub reconciliation: Reconciliation,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub promise: Promise,
    pub count: u64,
    /// The first few.
    pub evidence: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// In the order of the promises; empty means pass.
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
    pub attempts: u64,
    pub sends: u64,
    pub told_wins: u64,
    pub orders: u64,
    pub live_units: u64,
    pub opened_units: i64,
    pub lookups: u64,
    /// Where winners paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
}

impl Verdict {
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// The harness's last line.
    pub fn line(&self) -> String {
        match self.findings.first() {
            None => "audit: pass".into(),
            Some(finding) => {
                let evidence = finding.evidence.first().map_or("", String::as_str);
                format!("audit: fail: {}: {evidence}", finding.promise.name())
            }
        }
    }
}

const EVIDENCE_MAX: usize = 5;

/// Collects findings; bounded, however wrong things are.
#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, promise: Promise, evidence: impl FnOnce() -> String) {
        let at = match self.0.iter().position(|finding| finding.promise == promise) {
            Some(at) => at,
            None => {
                self.0.push(Finding {
                    promise,
                    count: 0,
                    evidence: Vec::new(),
                });
                self.0.len() - 1
            }
        };
        let finding = &mut self.0[at];
        finding.count += 1;
        if finding.evidence.len() < EVIDENCE_MAX {
            finding.evidence.push(evidence());
        }
    }
}

/// Judges the books against what the buyers remember.
pub fn audit(journals: &[Journal], books: &Books) -> Verdict {
    let mut findings = Findings::default();
    let mut notes = Vec::new();
    let memory = Memory::of(journals, &mut findings, &mut notes);
    let index = held::Index::of(books, &mut findings);
    told::check(journals, &memory, books, &index, &mut findings, &mut notes);
    held::check(journals, &memory, books, &index, &mut findings, &mut notes);
    let money = money::check(journals, &memory, books, &index, &mut findings, &mut notes);
    let attempts = journals
        .iter()
        .map(|journal| u64::from(journal.header.attempts))
        .sum();
    let sends = memory.n_sends;
    if books.ledger.is_empty() && sends > 0 {
        findings.add(Promise::NoSale, || {
            format!("{sends} sends and not a single order; {}", memory.census())
        });
    }
    let mut findings = findings.0;
    findings.sort_by_key(|finding| finding.promise);
    let live = books.ledger.iter().filter(|order| order.status.is_live());
    Verdict {
        findings,
        notes,
        attempts,
        sends,
        told_wins: memory.told.len() as u64,
        orders: books.ledger.len() as u64,
        live_units: live
            .flat_map(|order| &order.items)
            .map(|item| u64::from(item.quantity))
            .sum(),
        opened_units: books.sale.skus.iter().map(|sku| sku.stock.opened).sum(),
        lookups: books.lookups.len() as u64,
        money,
    }
}
