//! The reconciler: does the stock still add up? All the time, and on demand.
//!
//! It compares three tellings of the same sale: the stock host's counters and
//! the ledger's facts, taken at one place in each bucket's call order, and the
//! order store up to its mark, with the ledger. Payments and entitlements are told twice
//! only, by ledger and store. It repairs nothing; on oversell it stops the
//! sale at once, because that is the one thing no repair can take back.
//!
//! A glance at the buckets takes a call each; a pass, which asks the order store as well,
//! may take minutes. So they go on side by side, and nobody waits for a pass who did not
//! ask for one.

mod books;
mod compare;
mod cut;
mod metrics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use floodgate_ledger::Seq;
use parking_lot::Mutex;
use serde::Serialize;

pub use self::books::{Books, Depth};
use self::books::{BooksError, Compared};
use self::cut::Units;
pub use self::metrics::ReconcileMetrics;
use crate::domain::ids::SaleId;
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
    selling: Arc<Selling>,
    books: Arc<Books>,
    metrics: ReconcileMetrics,
    /// Units of each SKU by which the last pass found buckets and ledger apart.
    apart: Mutex<HashMap<SaleId, Vec<u64>>>,
}

/// What the buckets of a sale and their mirror say.
struct Glance {
    /// Of the ledger, before anybody was asked.
    tip: Seq,
    /// Whether every bucket answered.
    is_whole: bool,
    skus: Vec<SkuReport>,
    differences: Vec<String>,
}

impl Reconciler {
    pub fn new(selling: Arc<Selling>, books: Arc<Books>, metrics: ReconcileMetrics) -> Self {
        Self {
            selling,
            books,
            metrics,
            apart: Mutex::default(),
        }
    }

    /// Runs until the runtime ends: passes, each at the pace of the order store.
    pub async fn run(self: Arc<Self>, every: Duration) {
        loop {
            self.pass(Depth::Routine).await;
            tokio::time::sleep(every).await;
        }
    }

    /// Runs until the runtime ends: glances, whatever the order store does.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        loop {
            for live in self.selling.sales().values() {
                self.glance(live).await;
            }
            tokio::time::sleep(every).await;
        }
    }

    /// A pass is a success when every sale was compared with the order store, and
    /// nothing differed anywhere: what nobody looked at is not known to add up.
    pub async fn pass(&self, depth: Depth) -> Vec<SaleReport> {
        let mut reports = Vec::new();
        let mut clean = true;
        for live in self.selling.sales().values() {
            reports.push(self.told(self.look_at(live, depth).await, &mut clean));
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

    /// Its gauges, and whether it may sell.
    pub async fn show(&self, live: &Arc<LiveSale>) {
        self.glance(live).await;
    }

    fn log(&self, sale: &str, differences: &[String]) {
        for difference in differences {
            tracing::error!(sale, difference, "the stock does not add up");
        }
    }

    /// What is left out of a comparison is a difference, too.
    fn told(&self, mut report: SaleReport, clean: &mut bool) -> SaleReport {
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

    async fn glance(&self, live: &Arc<LiveSale>) -> Glance {
        let sale = live.sale();
        let tip = self.selling.ledger().tip().seq;
        let audits = self.selling.audit(live).await;
        let mut differences = Vec::new();
        for audit in &audits {
            self.metrics
                .epoch(sale.id.as_str(), audit.bucket.0, audit.epoch);
        }
        let is_whole = audits.len() == usize::from(sale.buckets);
        if !is_whole {
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
        let skus = compare::skus(sale, &opened, &audits);
        // A sale that is whole again sells again; whether it is, only all buckets tell.
        let oversold = skus.iter().any(|s| s.oversold > 0);
        if oversold || is_whole {
            live.set_broken(oversold);
        }
        for sku in skus.iter().filter(|sku| sku.oversold > 0) {
            differences.push(format!(
                "SKU {}: {} units sold that were never opened",
                sku.sku_id, sku.oversold
            ));
            self.count("oversold");
        }
        // Units of a bucket that says nothing are nowhere: the last numbers will do.
        if is_whole {
            let id = sale.id.as_str();
            self.metrics
                .show_stock(id, &self.with_apart(&sale.id, &skus));
        }
        self.metrics.gate(live);
        self.log(sale.id.as_str(), &differences);
        Glance {
            tip,
            is_whole,
            skus,
            differences,
        }
    }

    /// With what the last pass found between buckets and ledger, which no glance can see.
    fn with_apart(&self, sale: &SaleId, skus: &[SkuReport]) -> Vec<SkuReport> {
        let mut shown = skus.to_vec();
        if let Some(apart) = self.apart.lock().get(sale) {
            for (sku, units) in shown.iter_mut().zip(apart) {
                sku.drift_host_ledger += units;
            }
        }
        shown
    }

    async fn look_at(&self, live: &Arc<LiveSale>, depth: Depth) -> SaleReport {
        let sale = live.sale();
        let Glance {
            tip,
            is_whole,
            mut skus,
            differences: mut said,
        } = self.glance(live).await;
        let mut differences = Vec::new();
        let (compared, n_dead) = self.ask_store(Some(live), depth, &mut differences).await;
        let compared = compared.as_deref();
        for (sku, drift) in skus
            .iter_mut()
            .zip(compared.iter().flat_map(|c| &c.orders.drift_units))
        {
            sku.drift_ledger_store = *drift;
        }
        // Nothing happened between the glance and the cut, so they are of one moment.
        let tip_after = self.selling.ledger().tip().seq;
        let stood_still = |c: &&Compared| is_whole && tip == c.tip && tip == tip_after;
        let mut found = None;
        if let Some(compared) = compared.filter(stood_still) {
            let mut apart = Vec::with_capacity(skus.len());
            for (sku, units) in skus.iter_mut().zip(&compared.orders.ledger) {
                let (held, sold) = (sku.held, sku.sold);
                let drift = units.abs_diff(Units { held, sold });
                apart.push(drift);
                if drift > 0 {
                    sku.drift_host_ledger += drift;
                    differences.push(format!(
                        "SKU {}: buckets and ledger differ by {drift} units",
                        sku.sku_id
                    ));
                    self.count("host_ledger");
                }
            }
            found = Some(apart);
        }
        // A finding of before stood until here; without a comparison nobody knows any more.
        match found {
            Some(apart) => self.apart.lock().insert(sale.id.clone(), apart),
            None => self.apart.lock().remove(&sale.id),
        };
        let id = sale.id.as_str();
        self.metrics.show_drift(id, &skus, compared.is_some());
        self.log(id, &differences);
        said.append(&mut differences);
        report(&sale.id.to_string(), skus, (compared, n_dead), said)
    }

    /// Payments for which no order of ours was named.
    async fn look_at_loose(&self, depth: Depth) -> SaleReport {
        let mut differences = Vec::new();
        let (compared, n_dead) = self.ask_store(None, depth, &mut differences).await;
        self.log(NO_SALE, &differences);
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
