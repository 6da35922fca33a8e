//! Stock as the SRE sees it. SKU labels for the first 200 of a sale; what comes
//! after is summed under `_rest`, so that a large sale cannot flood Prometheus.

use std::borrow::Cow;

use prometheus::{Gauge, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{SkuReport, seconds};
use crate::domain::time::UnixMs;
use crate::sale::LiveSale;

const SKUS_SHOWN: usize = 200;

#[derive(Clone)]
pub struct ReconcileMetrics {
    units: IntGaugeVec,
    drift: IntGaugeVec,
    oversold: IntGaugeVec,
    waiting: IntGaugeVec,
    admission_rate: IntGaugeVec,
    bucket_epoch: IntGaugeVec,
    pub differences: IntCounterVec,
    last_success: Gauge,
}

impl ReconcileMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            units: gauges(
                "floodgate_stock_units",
                "Units by state",
                &["sale", "sku", "state"],
            )?,
            drift: gauges(
                "floodgate_stock_drift_units",
                "Units that two tellings of the stock count differently",
                &["sale", "sku", "between"],
            )?,
            oversold: gauges(
                "floodgate_oversold_units",
                "Live units beyond what was opened",
                &["sale", "sku"],
            )?,
            waiting: gauges(
                "floodgate_waiting",
                "Requests that wait for a token",
                &["sale"],
            )?,
            admission_rate: gauges(
                "floodgate_admission_rate",
                "Purchases admitted a second",
                &["sale"],
            )?,
            bucket_epoch: gauges(
                "floodgate_bucket_epoch",
                "How often a bucket was made anew",
                &["sale", "bucket"],
            )?,
            differences: IntCounterVec::new(
                Opts::new(
                    "floodgate_reconcile_differences_total",
                    "Differences found, by kind",
                ),
                &["kind"],
            )?,
            last_success: Gauge::new(
                "floodgate_reconcile_last_success_timestamp_seconds",
                "When everything last added up",
            )?,
        };
        registry.register(Box::new(metrics.units.clone()))?;
        registry.register(Box::new(metrics.drift.clone()))?;
        registry.register(Box::new(metrics.oversold.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.admission_rate.clone()))?;
        registry.register(Box::new(metrics.bucket_epoch.clone()))?;
        registry.register(Box::new(metrics.differences.clone()))?;
        registry.register(Box::new(metrics.last_success.clone()))?;
        for kind in ["host_ledger", "ledger_store", "oversold", "dead_letter"] {
            metrics.differences.with_label_values(&[kind]).inc_by(0);
        }
        Ok(metrics)
    }

    pub fn succeeded(&self, now: UnixMs) {
        self.last_success.set(seconds(now));
    }

    pub(super) fn gate(&self, live: &LiveSale) {
        let sale = live.sale();
        let id = sale.id.as_str();
        let n_waiting = i64::try_from(live.n_waiting()).unwrap_or(i64::MAX);
        self.waiting.with_label_values(&[id]).set(n_waiting);
        self.admission_rate
            .with_label_values(&[id])
            .set(i64::from(sale.admission.rate));
    }

    pub(super) fn epoch(&self, sale: &str, bucket: u16, epoch: u32) {
        self.bucket_epoch
            .with_label_values(&[sale, &bucket.to_string()])
            .set(i64::from(epoch));
    }

    /// What is where, and how far buckets and ledger are apart.
    pub(super) fn show_stock(&self, sale: &str, skus: &[SkuReport]) {
        for sku in labelled(skus) {
            let id = sku.sku_id.as_str();
            let states = [
                ("opened", sku.opened),
                ("available", sku.available),
                ("held", sku.held),
                ("sold", sku.sold),
                ("withdrawn", sku.withdrawn),
                ("transfer", sku.transfer),
            ];
            for (state, units) in states {
                self.units
                    .with_label_values(&[sale, id, state])
                    .set(units.cast_signed());
            }
            self.oversold
                .with_label_values(&[sale, id])
                .set(sku.oversold.cast_signed());
        }
        self.show_drift(sale, skus, false);
    }

    /// Until the store is compared again its drift is as it was.
    pub(super) fn show_drift(&self, sale: &str, skus: &[SkuReport], store_compared: bool) {
        for sku in labelled(skus) {
            let drift = |between: &str, units: u64| {
                let of = self
                    .drift
                    .with_label_values(&[sale, sku.sku_id.as_str(), between]);
                of.set(units.cast_signed());
            };
            drift("host_ledger", sku.drift_host_ledger);
            if store_compared {
                drift("ledger_store", sku.drift_ledger_store);
            }
        }
    }
}

/// Those with a label of their own, and the sum of the others.
fn labelled(skus: &[SkuReport]) -> impl Iterator<Item = Cow<'_, SkuReport>> {
    let (shown, rest) = skus.split_at(skus.len().min(SKUS_SHOWN));
    let sum = |f: fn(&SkuReport) -> u64| rest.iter().map(f).sum();
    let others = (!rest.is_empty()).then(|| SkuReport {
        sku_id: "_rest".into(),
        opened: sum(|s| s.opened),
        available: sum(|s| s.available),
        held: sum(|s| s.held),
        sold: sum(|s| s.sold),
        withdrawn: sum(|s| s.withdrawn),
        transfer: sum(|s| s.transfer),
        oversold: sum(|s| s.oversold),
        drift_host_ledger: sum(|s| s.drift_host_ledger),
        drift_ledger_store: sum(|s| s.drift_ledger_store),
    });
    shown
        .iter()
        .map(Cow::Borrowed)
        .chain(others.map(Cow::Owned))
}
