//! The reconciler: does the stock still add up? All the time, and on demand.
//!
//! It compares three tellings of the same sale: the stock host's counters and
//! the ledger's facts, taken at one place in each bucket's call order, and the
//! order store, read with its mark. It repairs nothing; on oversell it stops the
//! sale at once, because that is the one thing no repair can take back.

mod metrics;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use self::metrics::ReconcileMetrics;
use crate::domain::ids::OrderId;
use crate::domain::sale::Sale;
use crate::domain::time::UnixMs;
use crate::sale::{LiveSale, Selling};
use crate::stream::witness::{self, Disagreement};
use crate::stream::{LetterError, Letters, OrderStore, StockCount};

/// What one pass found in one sale.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SaleReport {
    pub sale_id: String,
    pub skus: Vec<SkuReport>,
    /// Whether the store was at the ledger's tip, so that it could be compared.
    pub store_compared: bool,
    /// Orders that the store refuses; they are left out of the comparison with it.
    pub dead_letters: usize,
    pub differences: Vec<String>,
}

#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SkuReport {
    pub sku_id: String,
    pub opened: u64,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
    pub withdrawn: u64,
    pub transfer: u64,
    pub oversold: u64,
    pub drift_host_ledger: u64,
    pub drift_ledger_store: u64,
}

pub struct Reconciler {
    pub selling: Arc<Selling>,
    pub store: Arc<dyn OrderStore>,
    pub letters: Arc<Letters>,
    pub node: u16,
    pub metrics: ReconcileMetrics,
}

impl Reconciler {
    /// Runs until the runtime ends.
    pub async fn run(self: Arc<Self>, every: Duration) {
        loop {
            self.pass().await;
            tokio::time::sleep(every).await;
        }
    }

    pub async fn pass(self: &Arc<Self>) -> Vec<SaleReport> {
        let mut reports = Vec::new();
        let mut clean = true;
        for live in self.selling.sales().values() {
            let mut report = self.look_at(live).await;
            for difference in &report.differences {
                tracing::error!(
                    sale = report.sale_id,
                    difference,
                    "the stock does not add up"
                );
            }
            // Said when it became a dead letter; a line every pass would tell no more.
            if report.dead_letters > 0 {
                report.differences.push(format!(
                    "dead_letter: {} orders are not in the order store as the ledger has them, \
                     or lack an event there; replay the dead letters",
                    report.dead_letters
                ));
                self.metrics
                    .differences
                    .with_label_values(&["dead_letter"])
                    .inc();
            }
            clean &= report.differences.is_empty();
            self.metrics.show(&report);
            self.metrics.gate(live);
            reports.push(report);
        }
        if clean {
            self.metrics.succeeded(self.selling.clock().now());
        }
        reports.sort_by(|a, b| a.sale_id.cmp(&b.sale_id));
        reports
    }

    async fn look_at(self: &Arc<Self>, live: &Arc<LiveSale>) -> SaleReport {
        let sale = live.sale();
        let tip_before = self.selling.ledger().tip().seq;
        let audits = self.selling.audit(live).await;
        let mut differences = Vec::new();
        for audit in &audits {
            self.metrics
                .epoch(sale.id.as_str(), audit.bucket.0, audit.epoch);
        }
        if audits.len() != usize::from(sale.buckets) {
            differences.push(format!(
                "{} of {} buckets answered the audit",
                audits.len(),
                sale.buckets
            ));
        }
        for audit in audits.iter().filter(|a| !a.is_equal()) {
            differences.push(format!(
                "bucket {}: the host says {:?}, the ledger's facts are {:?} with {} live orders",
                audit.bucket.0, audit.host, audit.facts, audit.n_live
            ));
            self.metrics
                .differences
                .with_label_values(&["host_ledger"])
                .inc();
        }
        let dead = self.letters.orders_of(&sale.id);
        let store = self.store_counts(live, &dead).await;
        if let Some(Err(why)) = &store {
            differences.push(why.to_string());
            self.metrics
                .differences
                .with_label_values(&["ledger_store"])
                .inc();
        }
        // Only a store that stood at the ledger's tip before and after the audit
        // was asked about the same orders.
        let tip_after = self.selling.ledger().tip().seq;
        // A letter is buried before the mark passes it, so one that is not among
        // `dead` is among the orders that were counted, unless the list has changed.
        let settled = tip_before == tip_after && dead == self.letters.orders_of(&sale.id);
        let compared = store
            .as_ref()
            .and_then(|read| read.as_ref().ok())
            .filter(|counts| counts.seq == tip_before.0 && settled);
        let mut skus = Vec::new();
        for (at, sku) in sale.skus.iter().enumerate() {
            let sum = |f: fn(&crate::sale::Line) -> u64| {
                audits.iter().map(|a| f(&a.facts[at])).sum::<u64>()
            };
            let (allotted, held, sold, withdrawn) = (
                sum(|l| l.allotted),
                sum(|l| l.held),
                sum(|l| l.sold),
                sum(|l| l.withdrawn),
            );
            let oversold =
                (held + sold).saturating_sub(live.opened(at) - withdrawn.min(live.opened(at)));
            if oversold > 0 {
                live.set_broken(true);
                differences.push(format!(
                    "SKU {}: {oversold} units sold that were never opened",
                    sku.id
                ));
                self.metrics
                    .differences
                    .with_label_values(&["oversold"])
                    .inc();
            }
            let drift_ledger_store = compared.map_or(0, |counts| {
                let found = counts.store.iter().find(|c| c.sku == sku.id.as_str());
                let (dead_held, dead_sold) = counts.dead.get(&at).copied().unwrap_or_default();
                held.abs_diff(found.map_or(0, |c| c.held) + dead_held)
                    + sold.abs_diff(found.map_or(0, |c| c.sold) + dead_sold)
            });
            if drift_ledger_store > 0 {
                differences.push(format!(
                    "SKU {}: ledger and order store differ by {drift_ledger_store} units",
                    sku.id
                ));
                self.metrics
                    .differences
                    .with_label_values(&["ledger_store"])
                    .inc();
            }
            skus.push(SkuReport {
                sku_id: sku.id.to_string(),
                opened: live.opened(at),
                available: allotted.saturating_sub(held + sold + withdrawn),
                held,
                sold,
                withdrawn,
                // Units between two buckets; with one bucket there are none.
                transfer: live.opened(at).saturating_sub(allotted),
                oversold,
                drift_host_ledger: audits.iter().map(|a| a.drift()[at]).sum(),
                drift_ledger_store,
            });
        }
        SaleReport {
            sale_id: sale.id.to_string(),
            skus,
            store_compared: compared.is_some(),
            dead_letters: dead.len(),
            differences,
        }
    }

    /// `None` while the store is away; an error when what it holds is not of this ledger.
    async fn store_counts(
        self: &Arc<Self>,
        live: &Arc<LiveSale>,
        dead: &BTreeSet<OrderId>,
    ) -> Option<Result<Counts, Disagreement>> {
        let (me, live, dead) = (Arc::clone(self), Arc::clone(live), dead.clone());
        let read = tokio::task::spawn_blocking(move || {
            let sale = live.sale();
            let (store, mark) = me.store.stock_counts(me.node, &sale.id, &dead)?;
            let mut counts = Counts {
                store,
                dead: me.dead_units(sale, &dead)?,
                seq: 0,
            };
            let Some(mark) = mark else {
                return Ok(Ok(counts));
            };
            counts.seq = mark.seq.0;
            let known = witness::check(me.selling.ledger(), &mark);
            Ok::<_, LetterError>(known.map(|()| counts))
        })
        .await;
        match read {
            Ok(Ok(counts)) => Some(counts),
            Ok(Err(error)) => {
                tracing::warn!(%error, "read the order store's counts");
                None
            }
            Err(_) => None,
        }
    }
}

/// What the store has of a sale, and what it would have with its dead letters.
struct Counts {
    store: Vec<StockCount>,
    /// Units held and sold by orders with a dead letter, by position of the SKU.
    dead: HashMap<usize, (u64, u64)>,
    seq: u64,
}

impl Reconciler {
    /// As the ledger has these orders now: what the store has of them, if anything,
    /// may be one version old or another.
    fn dead_units(
        &self,
        sale: &Sale,
        dead: &BTreeSet<OrderId>,
    ) -> Result<HashMap<usize, (u64, u64)>, LetterError> {
        let mut units: HashMap<usize, (u64, u64)> = HashMap::new();
        for id in dead {
            let Some(row) = self.letters.current(&sale.id, id)? else {
                continue;
            };
            for item in &row.order.items {
                let Some((at, _)) = sale.sku(&item.sku) else {
                    continue;
                };
                let (held, sold) = units.entry(at).or_default();
                if row.order.state.is_held() {
                    *held += u64::from(item.quantity);
                }
                if row.order.state.is_sold() {
                    *sold += u64::from(item.quantity);
                }
            }
        }
        Ok(units)
    }
}

/// For tests and metrics: seconds since the epoch.
fn seconds(at: UnixMs) -> f64 {
    at.0 as f64 / 1_000.0
}
