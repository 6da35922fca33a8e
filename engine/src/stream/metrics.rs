//! How far the order store is behind, and how often it refused.

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

#[derive(Debug, Clone)]
pub struct StreamMetrics {
    pub lag_records: IntGauge,
    pub lag_seconds: Gauge,
    pub errors: IntCounter,
}

impl StreamMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            lag_records: IntGauge::new(
                "floodgate_stream_lag_records",
                "Ledger records the order store lacks",
            )?,
            lag_seconds: Gauge::new(
                "floodgate_stream_lag_seconds",
                "Since the order store had everything",
            )?,
            errors: IntCounter::new(
                "floodgate_stream_errors_total",
                "Batches the order store did not take",
            )?,
        };
        registry.register(Box::new(metrics.lag_records.clone()))?;
        registry.register(Box::new(metrics.lag_seconds.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        Ok(metrics)
    }
}
