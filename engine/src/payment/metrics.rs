//! Callbacks and refunds; labels are closed sets.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

macro_rules! words {
    ($(#[$doc:meta])* $list:ident { $($(#[$note:meta])* $name:ident $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $list { $($(#[$note])* $name),+ }
        impl $list {
            const ALL: &'static [Self] = &[$(Self::$name),+];
            fn text(self) -> &'static str { match self { $(Self::$name => $text),+ } }
        }
    };
}

words! {
    /// What a callback came to.
    CallbackResult {
        Applied "applied",
        RefundDue "refund_due",
        Refunded "refunded",
        Review "review",
        /// Of an attempt that came to nothing.
        Ignored "ignored",
        /// The same capture again.
        Replayed "replayed",
        /// The same capture again, with another amount, currency or order.
        Conflict "conflict",
        /// The signature is missing, wrong, old or future.
        Unsigned "unsigned",
        /// The signature is right, and the body cannot be read.
        Malformed "malformed",
        /// The body was too long, too slow or cut off: nobody looked at the signature.
        Unread "unread",
        /// Not known to be durable in time; the provider asks again.
        Unknown "unknown",
    }
}

words! {
    /// What asking the provider for a refund came to.
    RefundResult {
        Refunded "refunded",
        Pending "pending",
        Refused "refused",
        Failed "failed",
    }
}

#[derive(Clone)]
pub struct PaymentMetrics {
    callbacks: Vec<IntCounter>,
    refund_calls: Vec<IntCounter>,
    /// From the whole request to the answer.
    pub callback_seconds: Histogram,
    /// From the capture to the callback: the provider's delay and the network's.
    pub callback_delay_seconds: Histogram,
    pub refunds_due: IntGauge,
}

impl PaymentMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let callbacks = IntCounterVec::new(
            Opts::new(
                "floodgate_payment_callbacks_total",
                "Callbacks of payment providers, by what they came to",
            ),
            &["result"],
        )?;
        let refund_calls = IntCounterVec::new(
            Opts::new(
                "floodgate_refund_calls_total",
                "Calls to the payment provider for a refund, by what they came to",
            ),
            &["result"],
        )?;
        let callback_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "floodgate_payment_callback_seconds",
                "From the whole callback to its answer",
            )
            .buckets(vec![
                1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0,
            ]),
        )?;
        let callback_delay_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "floodgate_payment_callback_delay_seconds",
                "From the capture, as the provider dates it, to the first callback of it",
            )
            .buckets(vec![
                0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 86_400.0,
            ]),
        )?;
        let refunds_due = IntGauge::new(
            "floodgate_refunds_due",
            "Payments that must go back and have not yet",
        )?;
        registry.register(Box::new(callbacks.clone()))?;
        registry.register(Box::new(refund_calls.clone()))?;
        registry.register(Box::new(callback_seconds.clone()))?;
        registry.register(Box::new(callback_delay_seconds.clone()))?;
        registry.register(Box::new(refunds_due.clone()))?;
        Ok(Self {
            callbacks: CallbackResult::ALL
                .iter()
                .map(|r| callbacks.with_label_values(&[r.text()]))
                .collect(),
            refund_calls: RefundResult::ALL
                .iter()
                .map(|r| refund_calls.with_label_values(&[r.text()]))
                .collect(),
            callback_seconds,
            callback_delay_seconds,
            refunds_due,
        })
    }

    pub fn callback(&self, result: CallbackResult) {
        self.callbacks[result as usize].inc();
    }

    pub fn refund_call(&self, result: RefundResult) {
        self.refund_calls[result as usize].inc();
    }
}
