//! What the selling path moves. Handles are resolved once.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::answer::{Answer, Refusal};
use super::windows::Windows;
use crate::admission::Shed;
use crate::domain::time::UnixMs;

#[derive(Clone, Debug)]
pub struct SaleMetrics {
    pub won: IntCounter,
    refused: [IntCounter; 6],
    unknown: IntCounter,
    pub batch_orders: Histogram,
    pub desk_seconds: Histogram,
    pub stock_seconds: Histogram,
    pub commit_seconds: Histogram,
    pub admit_seconds: Histogram,
    /// Where the gauge beside it comes from.
    pub windows: Windows,
    release_lag: Gauge,
    pub clock_skew: Gauge,
    pub silent: IntGaugeVec,
    pub rebuilds: IntCounterVec,
    pub reserve_errors: IntCounterVec,
    pub shed: IntCounterVec,
    pub grants: IntCounterVec,
    pub strays_adopted: IntCounter,
    pub strays_set_aside: IntCounter,
}

fn stage_buckets() -> Vec<f64> {
    // From a call in memory (20 us) to a buyer's patience (5 s).
    vec![
        2e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5,
        1.0, 2.5, 5.0,
    ]
}

impl SaleMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let orders = IntCounterVec::new(
            Opts::new("floodgate_orders_total", "Answers to purchases"),
            &["outcome"],
        )?;
        let stages = prometheus::HistogramVec::new(
            HistogramOpts::new(
                "floodgate_stage_seconds",
                "Time of a purchase in each stage",
            )
            .buckets(stage_buckets()),
            &["stage"],
        )?;
        let batch = Histogram::with_opts(
            // Up to the desk's largest batch. A mean near 1 under load means batching is broken.
            HistogramOpts::new("floodgate_batch_orders", "Orders a script call carries").buckets(
                vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
            ),
        )?;
        let release_lag = Gauge::new(
            "floodgate_release_lag_seconds",
            "Since the end of the pay window that should have been closed first; 0 when none is due",
        )?;
        let clock_skew = Gauge::new(
            "floodgate_clock_skew_seconds",
            "How far the machine's clock is ahead of the one that deadlines go by, which does not follow it when it is put right",
        )?;
        let silent = IntGaugeVec::new(
            Opts::new(
                "floodgate_silent_buckets",
                "Buckets whose stock host has not answered for a while",
            ),
            &["sale"],
        )?;
        let rebuilds = IntCounterVec::new(
            Opts::new(
                "floodgate_bucket_rebuilds_total",
                "Buckets made anew from the ledger",
            ),
            &["cause"],
        )?;
        let reserve_errors = IntCounterVec::new(
            Opts::new(
                "floodgate_reserve_errors_total",
                "Reserve calls that were neither held nor refused",
            ),
            &["kind"],
        )?;
        let shed = IntCounterVec::new(
            Opts::new(
                "floodgate_shed_total",
                "Purchases and wishes for licences turned away before a desk was asked",
            ),
            &["reason"],
        )?;
        let grants = IntCounterVec::new(
            Opts::new(
                "floodgate_grants_total",
                "Entitlements granted with their payment, granted later by a repair, revoked",
            ),
            &["result"],
        )?;
        let strays = IntCounterVec::new(
            Opts::new(
                "floodgate_strays_total",
                "Orders that only the stock host knew when the engine started",
            ),
            &["outcome"],
        )?;
        // An alert on growth needs the zero before the first time.
        for (counters, labels) in [
            (&reserve_errors, &["changed", "guard", "ledger"][..]),
            (
                &rebuilds,
                &["changed", "guard", "settle", "transfer", "late", "drift"],
            ),
            (&shed, &Shed::REASONS),
            (&grants, &["granted", "repaired", "revoked"]),
        ] {
            for label in labels {
                counters.with_label_values(&[label]).inc_by(0);
            }
        }
        registry.register(Box::new(orders.clone()))?;
        registry.register(Box::new(stages.clone()))?;
        registry.register(Box::new(batch.clone()))?;
        registry.register(Box::new(release_lag.clone()))?;
        registry.register(Box::new(clock_skew.clone()))?;
        registry.register(Box::new(silent.clone()))?;
        registry.register(Box::new(rebuilds.clone()))?;
        registry.register(Box::new(shed.clone()))?;
        registry.register(Box::new(grants.clone()))?;
        // Shown before the first of each: an alert looks at what grows from 0.
        for result in ["granted", "repaired", "revoked"] {
            grants.with_label_values(&[result]);
        }
        registry.register(Box::new(strays.clone()))?;
        registry.register(Box::new(reserve_errors.clone()))?;
        let outcome = |name: &str| orders.with_label_values(&[name]);
        let stage = |name: &str| stages.with_label_values(&[name]);
        Ok(Self {
            won: outcome("won"),
            refused: [
                "not_open",
                "paused",
                "ended",
                "not_enough",
                "over_limit",
                "key_reused",
            ]
            .map(outcome),
            unknown: outcome("unknown"),
            batch_orders: batch,
            desk_seconds: stage("desk"),
            stock_seconds: stage("stock"),
            commit_seconds: stage("commit"),
            admit_seconds: stage("admit"),
            windows: Windows::default(),
            release_lag,
            clock_skew,
            silent,
            rebuilds,
            reserve_errors,
            shed,
            grants,
            strays_adopted: strays.with_label_values(&["adopted"]),
            strays_set_aside: strays.with_label_values(&["set_aside"]),
        })
    }

    /// Before the metrics are read.
    pub fn show_release_lag(&self, now: UnixMs) {
        self.release_lag
            .set(self.windows.overdue(now).as_secs_f64());
    }

    pub fn refused(&self, refusal: Refusal) -> &IntCounter {
        &self.refused[match refusal {
            Refusal::NotOpen => 0,
            Refusal::Paused => 1,
            Refusal::Ended => 2,
            Refusal::NotEnough => 3,
            Refusal::OverLimit => 4,
            Refusal::KeyReused => 5,
        }]
    }

    pub fn count(&self, answer: &Answer) {
        match answer {
            Answer::Won(_) => self.won.inc(),
            Answer::Refused(refusal) => self.refused(*refusal).inc(),
            Answer::Unknown => self.unknown.inc(),
        }
    }
}
