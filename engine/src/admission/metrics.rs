//! What admission counts beside those it turns away (`floodgate_shed_total`).

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::limits::Limit;

#[derive(Debug, Clone)]
pub struct AdmissionMetrics {
    overflows: IntCounterVec,
}

impl AdmissionMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let overflows = IntCounterVec::new(
            Opts::new(
                "floodgate_limit_overflows_total",
                "Requests that a limit let pass because its table was full",
            ),
            &["limit"],
        )?;
        registry.register(Box::new(overflows.clone()))?;
        let metrics = Self { overflows };
        // An alert on growth needs the zero before the first time.
        for limit in Limit::ALL {
            metrics.overflows(limit).inc_by(0);
        }
        Ok(metrics)
    }

    pub(super) fn overflows(&self, limit: Limit) -> IntCounter {
        self.overflows.with_label_values(&[limit.name()])
    }
}
