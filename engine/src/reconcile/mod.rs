//! The reconciler: does the stock still add up? All the time, and on demand.
//!
//! It compares three tellings of the same sale: the stock host's counters and
//! the ledger's facts, taken at one place in each bucket's call order, and the
//! order store up to its mark, with the ledger. Payments and entitlements are told twice
//! only, by ledger and store. It repairs nothing; on oversell it stops the
//! sale at once, because that is the one thing no repair can take back.

mod books;
mod compare;
mod cut;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use self::books::{Books, Depth};
use self::books::{BooksError, Compared};
use self::cut::Units;
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
    /// Whether the order store was compared, now or a moment ago and nothing has moved.
    pub store_compared: bool,
    /// Records that it had not heard of then: what they say is compared later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_lag_records: Option<u64>,
    /// What the store refuses; it is left out of the comparison with it.
    pub dead_letters: usize,
    /// Those that ledger and store do not have alike.
    pub drift_orders: u64,
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
        let opened: Vec<u64> = (0..sale.skus.len()).map(|at| live.opened(at)).collect();
        let mut skus = compare::skus(sale, &opened, &audits);
        // At once, before the order store is asked, which may take its time. A sale that is
        // whole again sells again; whether it is, only all buckets tell.
        let oversold = skus.iter().any(|s| s.oversold > 0);
        if oversold || audits.len() == usize::from(sale.buckets) {
            live.set_broken(oversold);
        }
        let (compared, n_dead) = self.ask_store(Some(live), depth, &mut differences).await;
        let compared = compared.as_deref();
        for (sku, drift) in skus
            .iter_mut()
            .zip(compared.iter().flat_map(|c| &c.orders.drift_units))
        {
            sku.drift_ledger_store = *drift;
        }
        // Nothing happened between the audits and the cut, so they are of one moment.
        let tip_after = self.selling.ledger().tip().seq;
        let stood_still = |c: &&Compared| tip_before == c.tip && tip_before == tip_after;
        if let Some(compared) = compared.filter(stood_still)
            && audits.len() == usize::from(sale.buckets)
        {
            for (sku, units) in skus.iter_mut().zip(&compared.orders.ledger) {
                let (held, sold) = (sku.held, sku.sold);
                let drift = units.abs_diff(Units { held, sold });
                if drift > 0 {
                    sku.drift_host_ledger += drift;
                    differences.push(format!(
                        "SKU {}: buckets and ledger differ by {drift} units",
                        sku.sku_id
                    ));
                    self.count("host_ledger");
                }
            }
        }
        for sku in &skus {
            if sku.oversold > 0 {
                differences.push(format!(
                    "SKU {}: {} units sold that were never opened",
                    sku.sku_id, sku.oversold
                ));
                self.count("oversold");
            }
        }
        report(&sale.id.to_string(), skus, (compared, n_dead), differences)
    }

    /// Payments for which no order of ours was named.
    async fn look_at_loose(&self, depth: Depth) -> SaleReport {
        let mut differences = Vec::new();
        let (compared, n_dead) = self.ask_store(None, depth, &mut differences).await;
        report(
            NO_SALE,
            Vec::new(),
            (compared.as_deref(), n_dead),
            differences,
        )
    }

    /// What a cut found, if the store can be compared now, and how much of the sale is dead
    /// letters.
    async fn ask_store(
        &self,
        live: Option<&Arc<LiveSale>>,
        depth: Depth,
        differences: &mut Vec<String>,
    ) -> (Option<Arc<Compared>>, usize) {
        let n_dead = self.books.n_dead(live.map(|live| &live.sale().id));
        let (books, live) = (Arc::clone(&self.books), live.map(Arc::clone));
        let (is_loose, now) = (live.is_none(), self.selling.clock().now());
        let looked = tokio::task::spawn_blocking(move || {
            books.look(live.as_ref().map(|live| live.sale()), now, depth)
        })
        .await;
        let compared = match looked {
            Ok(Ok(compared)) => compared,
            // A stranger's store is one difference a sale, and none beside.
            Ok(Err(BooksError::Foreign(_))) if is_loose => None,
            Ok(Err(BooksError::Over)) => None,
            Ok(Err(why @ (BooksError::Foreign(_) | BooksError::Damaged(_)))) => {
                differences.push(why.to_string());
                self.count("ledger_store");
                None
            }
            Ok(Err(BooksError::Letter(error))) => {
                tracing::warn!(%error, "read the order store");
                None
            }
            Err(error) => {
                tracing::error!(%error, "read the order store");
                None
            }
        };
        for (kind, drift) in compared.iter().flat_map(|compared| {
            [
                (RowKind::Order, &compared.orders.drift),
                (RowKind::Payment, &compared.payments),
                (RowKind::Entitlement, &compared.entitlements),
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

fn report(
    sale_id: &str,
    skus: Vec<SkuReport>,
    (compared, dead_letters): (Option<&Compared>, usize),
    differences: Vec<String>,
) -> SaleReport {
    SaleReport {
        sale_id: sale_id.to_owned(),
        skus,
        store_compared: compared.is_some(),
        store_lag_records: compared.map(|c| c.tip.0.saturating_sub(c.mark.0)),
        dead_letters,
        drift_orders: compared.map_or(0, |c| c.orders.drift.n),
        drift_payments: compared.map_or(0, |c| c.payments.n),
        drift_entitlements: compared.map_or(0, |c| c.entitlements.n),
        differences,
    }
}

/// For tests and metrics: seconds since the epoch.
fn seconds(at: UnixMs) -> f64 {
    at.0 as f64 / 1_000.0
}
