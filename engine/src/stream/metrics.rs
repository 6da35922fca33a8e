//! How far the order store is behind, how often it refused, and what it refuses.

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

#[derive(Debug, Clone)]
pub struct StreamMetrics {
    pub lag_records: IntGauge,
    pub lag_seconds: Gauge,
    pub errors: IntCounter,
    pub dead_letters: IntGauge,
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
                "Age of the oldest ledger record the order store lacks; 0 when it has all",
            )?,
            errors: IntCounter::new(
                "floodgate_stream_errors_total",
                "Batches the order store did not take",
            )?,
            dead_letters: IntGauge::new(
                "floodgate_dead_letters",
                "Ledger records that the order store refuses",
            )?,
        };
        registry.register(Box::new(metrics.lag_records.clone()))?;
        registry.register(Box::new(metrics.lag_seconds.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.dead_letters.clone()))?;
        Ok(metrics)
    }
}
