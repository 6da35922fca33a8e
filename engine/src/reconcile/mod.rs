//! The reconciler: does the stock still add up? All the time, and on demand.
//!
//! It compares three tellings of the same sale: the stock host's counters and
//! the ledger's facts, taken at one place in each bucket's call order, and the
//! order store, read with its mark. Payments and entitlements are told twice only, by
//! ledger and store. It repairs nothing; on oversell it stops the
//! sale at once, because that is the one thing no repair can take back.

mod after;
mod books;
mod compare;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use floodgate_ledger::Seq;
use serde::Serialize;

pub use self::books::{Books, Depth};
use self::books::{BooksError, Counted, Told};
pub use self::metrics::ReconcileMetrics;
use crate::domain::time::UnixMs;
use crate::sale::{LiveSale, Selling};
use crate::stream::RowKind;

/// Stands for a sale in the report of what is of none, as in the ledger.
const NO_SALE: &str = "*payments";

/// What one pass found in one sale.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SaleReport {
    pub sale_id: String,
    pub skus: Vec<SkuReport>,
    /// Whether the store was at the ledger's tip, so that it could be compared.
    pub store_compared: bool,
    /// What the store refuses; it is left out of the comparison with it.
    pub dead_letters: usize,
    /// Those that ledger and store do not have in the same version.
    pub drift_payments: u64,
    pub drift_entitlements: u64,
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
    pub books: Arc<Books>,
    pub metrics: ReconcileMetrics,
}

impl Reconciler {
    /// Runs until the runtime ends.
    pub async fn run(self: Arc<Self>, every: Duration) {
        loop {
            self.pass(Depth::Routine).await;
            tokio::time::sleep(every).await;
        }
    }

    /// A pass is a success when every sale was compared with the order store, and
    /// nothing differed anywhere: what nobody looked at is not known to add up.
    pub async fn pass(&self, depth: Depth) -> Vec<SaleReport> {
        let mut reports = Vec::new();
        let mut clean = true;
        for live in self.selling.sales().values() {
            let report = self.told(self.look_at(live, depth).await, &mut clean);
            self.metrics.show(&report);
            self.metrics.gate(live);
            reports.push(report);
        }
        let loose = self.told(self.look_at_loose(depth).await, &mut clean);
        if !loose.differences.is_empty() {
            reports.push(loose);
        }
        if clean {
            self.metrics.succeeded(self.selling.clock().now());
        }
        reports.sort_by(|a, b| a.sale_id.cmp(&b.sale_id));
        reports
    }

    /// The log and the counters hear of it.
    fn told(&self, mut report: SaleReport, clean: &mut bool) -> SaleReport {
        for difference in &report.differences {
            let sale = report.sale_id.as_str();
            tracing::error!(sale, difference, "the stock does not add up");
        }
        // Said when it became a dead letter; a line every pass would tell no more.
        if report.dead_letters > 0 {
            report.differences.push(format!(
                "dead_letter: {} orders, payments or entitlements are not in the order store as \
                 the ledger has them, or lack an event there; replay the dead letters",
                report.dead_letters
            ));
            self.count("dead_letter");
        }
        *clean &= report.differences.is_empty() && report.store_compared;
        report
    }

    fn count(&self, kind: &str) {
        self.metrics.differences.with_label_values(&[kind]).inc();
    }

    async fn look_at(&self, live: &Arc<LiveSale>, depth: Depth) -> SaleReport {
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
        for said in audits.iter().filter_map(|a| compare::bucket(sale, a)) {
            differences.push(said);
            self.count("host_ledger");
        }
        let (compared, n_dead) = self
            .ask_store(Some(live), tip_before, depth, &mut differences)
            .await;
        let opened: Vec<u64> = (0..sale.skus.len()).map(|at| live.opened(at)).collect();
        let skus = compare::skus(
            sale,
            &opened,
            &audits,
            compared.as_ref().map(|counted| &counted.units[..]),
        );
        // A sale that is whole again sells again; whether it is, only all buckets tell.
        let oversold = skus.iter().any(|s| s.oversold > 0);
        if oversold || audits.len() == usize::from(sale.buckets) {
            live.set_broken(oversold);
        }
        for sku in &skus {
            if sku.oversold > 0 {
                differences.push(format!(
                    "SKU {}: {} units sold that were never opened",
                    sku.sku_id, sku.oversold
                ));
                self.count("oversold");
            }
            if sku.drift_ledger_store > 0 {
                differences.push(format!(
                    "SKU {}: ledger and order store differ by {} units",
                    sku.sku_id, sku.drift_ledger_store
                ));
                self.count("ledger_store");
            }
        }
        let counted = compared.as_deref();
        SaleReport {
            sale_id: sale.id.to_string(),
            skus,
            store_compared: counted.is_some(),
            dead_letters: n_dead,
            drift_payments: counted.map_or(0, |c| c.payments.n),
            drift_entitlements: counted.map_or(0, |c| c.entitlements.n),
            differences,
        }
    }

    /// Payments for which no order of ours was named.
    async fn look_at_loose(&self, depth: Depth) -> SaleReport {
        let tip = self.selling.ledger().tip().seq;
        let mut differences = Vec::new();
        let (compared, dead_letters) = self.ask_store(None, tip, depth, &mut differences).await;
        SaleReport {
            sale_id: NO_SALE.to_owned(),
            skus: Vec::new(),
            store_compared: compared.is_some(),
            dead_letters,
            drift_payments: compared.map_or(0, |counted| counted.payments.n),
            drift_entitlements: 0,
            differences,
        }
    }

    /// What the store has, if it can be compared with what was told since `tip_before`,
    /// and how much of it is dead letters.
    async fn ask_store(
        &self,
        live: Option<&Arc<LiveSale>>,
        tip_before: Seq,
        depth: Depth,
        differences: &mut Vec<String>,
    ) -> (Option<Arc<Counted>>, usize) {
        let sale = live.map(|live| live.sale().id.clone());
        let dead = self.books.dead(sale.as_ref());
        let n_dead = dead.len();
        let (books, live) = (Arc::clone(&self.books), live.map(Arc::clone));
        let (asked, now) = (dead.clone(), self.selling.clock().now());
        let store = tokio::task::spawn_blocking(move || {
            let sale = live.as_ref().map(|live| live.sale());
            books.look(sale, asked, tip_before, now, depth)
        })
        .await;
        // Only a store that stood at the ledger's tip before and after the audit was
        // asked about the same orders. A letter is buried before the mark passes it,
        // so one that is not among `dead` is among the orders that were counted,
        // unless the list has changed.
        let tip_after = self.selling.ledger().tip().seq;
        let settled = tip_before == tip_after && dead == self.books.dead(sale.as_ref());
        let compared = match store {
            Ok(Ok(Told::Counted { counted, seq })) => {
                (settled && seq == tip_before).then_some(counted)
            }
            Ok(Ok(Told::NotNow)) => None,
            // A stranger's store is one difference a sale, and none beside.
            Ok(Err(BooksError::Foreign(_))) if sale.is_none() => None,
            Ok(Err(why @ (BooksError::Foreign(_) | BooksError::Damaged(_)))) => {
                differences.push(why.to_string());
                self.count("ledger_store");
                None
            }
            Ok(Err(BooksError::Letter(error))) => {
                tracing::warn!(%error, "read the order store's counts");
                None
            }
            Err(error) => {
                tracing::error!(%error, "read the order store's counts");
                None
            }
        };
        for (kind, drift) in compared.iter().flat_map(|counted| {
            [
                (RowKind::Payment, &counted.payments),
                (RowKind::Entitlement, &counted.entitlements),
            ]
        }) {
            if let Some(said) = drift.said(kind) {
                differences.push(said);
                self.count("ledger_store");
            }
        }
        (compared, n_dead)
    }
}

/// For tests and metrics: seconds since the epoch.
fn seconds(at: UnixMs) -> f64 {
    at.0 as f64 / 1_000.0
}
