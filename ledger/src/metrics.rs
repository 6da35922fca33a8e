//! What the ledger tells Prometheus.

use prometheus::{Histogram, HistogramOpts, IntGauge, Registry};

/// Handles are shared by clones; `register` once per process.
#[derive(Clone, Debug)]
pub struct LedgerMetrics {
    /// One write with its fsync, as the committer sees it.
    pub commit_seconds: Histogram,
    /// A mean near 1 under load means that batching is broken.
    pub commit_records: Histogram,
    /// Records handed over and not yet answered.
    pub queue_depth: IntGauge,
}

impl Default for LedgerMetrics {
    fn default() -> Self {
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
                .expect("fixed names and buckets are valid")
        };
        Self {
            commit_seconds: histogram(
                "floodgate_commit_seconds",
                "Duration of one ledger commit: write and fsync",
                // An NVMe fsync takes 0.1 to 0.5 ms, a tired disk 50 ms, a stalled one seconds.
                vec![
                    0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5,
                    1.0, 5.0,
                ],
            ),
            commit_records: histogram(
                "floodgate_commit_records",
                "Records in one ledger commit",
                // Powers of four up to the default batch limit.
                vec![1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0],
            ),
            queue_depth: IntGauge::new(
                "floodgate_ledger_queue_depth",
                "Records handed to the ledger and not yet durable",
            )
            .expect("fixed name is valid"),
        }
    }
}

impl LedgerMetrics {
    /// Makes the families visible in `registry`. Fails when the names are taken.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.commit_seconds.clone()))?;
        registry.register(Box::new(self.commit_records.clone()))?;
        registry.register(Box::new(self.queue_depth.clone()))
    }
}
