//! Requests by route and code; labels are closed sets.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::respond::Code;

macro_rules! routes {
    ($($name:ident $text:literal),+ $(,)?) => {
        /// What a request asked for, as metrics call it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Route { $($name),+ }
        impl Route {
            const ALL: &'static [Route] = &[$(Route::$name),+];
            fn text(self) -> &'static str { match self { $(Route::$name => $text),+ } }
        }
    };
}

routes! {
    Page "page",
    OpenApi "openapi",
    Sales "sales",
    Sale "sale",
    OrderCreate "order_create",
    OrderPreview "order_preview",
    OrderGet "order_get",
    OrderCancel "order_cancel",
    MyOrders "my_orders",
    Prepay "payment_prepay",
    PaymentStatus "payment_status",
    PaymentCallback "payment_callback",
    MockPay "mock_pay",
    MyEntitlements "my_entitlements",
    License "license",
    PlayAuth "play_auth",
    PlayCheck "play_check",
    PlayHeartbeat "play_heartbeat",
    DownloadToken "download_token",
    DownloadCheck "download_check",
    Preflight "preflight",
    Other "other",
}

#[derive(Clone)]
pub struct HttpMetrics {
    /// By route; the successes 200, 201, 202, 204 and 304, then every problem code.
    requests: Vec<Vec<IntCounter>>,
    seconds: Vec<Histogram>,
}

const SUCCESSES: [u16; 5] = [200, 201, 202, 204, 304];

impl HttpMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "floodgate_requests_total",
                "Requests on the public listener",
            ),
            &["route", "code"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "floodgate_request_seconds",
                "From the whole request to the answer",
            )
            .buckets(vec![
                1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.3, 1.0, 3.0, 10.0,
            ]),
            &["route"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        let codes = |route: Route| {
            let good = SUCCESSES
                .iter()
                .map(|s| requests.with_label_values(&[route.text(), &s.to_string()]));
            let bad = Code::ALL
                .iter()
                .map(|c| requests.with_label_values(&[route.text(), c.text()]));
            good.chain(bad).collect::<Vec<_>>()
        };
        Ok(Self {
            requests: Route::ALL.iter().map(|r| codes(*r)).collect(),
            seconds: Route::ALL
                .iter()
                .map(|r| seconds.with_label_values(&[r.text()]))
                .collect(),
        })
    }

    pub fn count(&self, route: Route, status: u16, problem: Option<Code>, took: Duration) {
        let at = match problem {
            Some(code) => SUCCESSES.len() + code as usize,
            None => SUCCESSES.iter().position(|s| *s == status).unwrap_or(0),
        };
        self.requests[route as usize][at].inc();
        self.seconds[route as usize].observe(took.as_secs_f64());
    }
}
