//! The public listener: finds the call, and puts on every answer what every
//! answer carries (request id, CORS, metrics).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderName, HeaderValue, ORIGIN,
    VARY,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::time::Instant;

use super::call::{BodyLimits, Call, Unread};
use super::metrics::{HttpMetrics, Route};
use super::ratelimit::Policies;
use super::respond::{Body, Code, Problem, Reply};
use super::{entitlements, mock_pay, orders, payments, sales, tokens};
use crate::config::HttpConfig;
use crate::grant::{Grants, Kind};
use crate::payment::Payments;
use crate::sale::Selling;

/// A purchase has a few hundred bytes.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// What the public listener needs.
pub struct Public {
    pub selling: Arc<Selling>,
    pub grants: Arc<Grants>,
    pub config: HttpConfig,
    pub metrics: HttpMetrics,
    pub ready: Arc<AtomicBool>,
    pub policies: Policies,
    pub payments: Arc<Payments>,
    /// Part of the ids that requests are given.
    pub run_id: u32,
}

/// What a path names.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    /// `OPTIONS *`: the server as a whole.
    Server,
    Page,
    Sales,
    Sale(&'a str),
    Orders,
    Preview,
    Order(&'a str),
    Cancel(&'a str),
    Mine,
    Prepay(&'a str),
    PaymentStatus(&'a str),
    Callback,
    MockPay(&'a str),
    Entitlements,
    Licenses,
    PlayAuth(&'a str),
    PlayCheck,
    Heartbeat,
    DownloadToken(&'a str),
    DownloadCheck,
}

impl<'a> Place<'a> {
    fn find(call: &'a Call) -> Option<Self> {
        match call.segments().as_slice() {
            [""] | ["sales", _] => Some(Self::Page),
            ["v1", "sales"] => Some(Self::Sales),
            ["v1", "sales", id] => Some(Self::Sale(id)),
            ["v1", "orders"] => Some(Self::Orders),
            ["v1", "orders", "preview"] => Some(Self::Preview),
            ["v1", "orders", id] => Some(Self::Order(id)),
            ["v1", "orders", id, "cancel"] => Some(Self::Cancel(id)),
            ["v1", "me", "orders"] => Some(Self::Mine),
            ["v1", "payments", "callback"] => Some(Self::Callback),
            ["v1", "payments", id, "prepay"] => Some(Self::Prepay(id)),
            ["v1", "payments", id, "status"] => Some(Self::PaymentStatus(id)),
            ["mock-pay", token] => Some(Self::MockPay(token)),
            ["v1", "me", "entitlements"] => Some(Self::Entitlements),
            ["v1", "licenses"] => Some(Self::Licenses),
            ["v1", "play", "auth", work] => Some(Self::PlayAuth(work)),
            ["v1", "play", "check"] => Some(Self::PlayCheck),
            ["v1", "play", "heartbeat"] => Some(Self::Heartbeat),
            ["v1", "download-tokens", work] => Some(Self::DownloadToken(work)),
            ["v1", "download", "check"] => Some(Self::DownloadCheck),
            [] if call.head.uri.path() == "*" => Some(Self::Server),
            _ => None,
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Self::Server | Self::MockPay(_) => "GET, HEAD, POST, OPTIONS",
            Self::Page
            | Self::Sales
            | Self::Sale(_)
            | Self::Order(_)
            | Self::Mine
            | Self::PaymentStatus(_)
            | Self::Entitlements
            | Self::PlayAuth(_)
            | Self::PlayCheck
            | Self::DownloadToken(_)
            | Self::DownloadCheck => "GET, HEAD, OPTIONS",
            Self::Orders
            | Self::Preview
            | Self::Cancel(_)
            | Self::Prepay(_)
            | Self::Callback
            | Self::Licenses
            | Self::Heartbeat => "POST, OPTIONS",
        }
    }
}

impl Public {
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Body> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let call = Call { head, peer };
        let limits = BodyLimits {
            bytes_max: BODY_BYTES_MAX,
            time_max: self.config.patience.body,
        };
        let (route, answer) = self.route(&call, Unread::new(body, limits)).await;
        let mut reply = call.answer(self.run_id, answer);
        self.cors(call.headers(), &mut reply);
        self.metrics.count(
            route,
            reply.response.status().as_u16(),
            reply.problem,
            started.elapsed(),
        );
        reply.response
    }

    async fn route(&self, call: &Call, body: Unread) -> (Route, Result<Reply, Problem>) {
        if let Err(problem) = call.check_host() {
            return (Route::Other, Err(problem));
        }
        let Some(place) = Place::find(call) else {
            let problem = Problem::new(Code::NotFound, "no call has this path");
            return (Route::Other, Err(problem));
        };
        if call.head.method == Method::OPTIONS {
            let reply = Reply::empty(StatusCode::NO_CONTENT).fixed(ALLOW, place.allow());
            return (Route::Preflight, Ok(reply));
        }
        let (get, post) = (call.is_get(), call.is_post());
        match place {
            Place::Page if get => (Route::Page, Ok(sales::page(call))),
            Place::Sales if get => (Route::Sales, sales::list(self, call)),
            Place::Sale(id) if get => (Route::Sale, sales::show(self, call, id)),
            Place::Orders if post => (Route::OrderCreate, orders::create(self, call, body).await),
            Place::Preview if post => {
                (Route::OrderPreview, orders::preview(self, call, body).await)
            }
            Place::Order(id) if get => (Route::OrderGet, orders::show(self, call, id)),
            Place::Cancel(id) if post => (
                Route::OrderCancel,
                orders::cancel(self, call, body, id).await,
            ),
            Place::Mine if get => (Route::MyOrders, orders::mine(self, call)),
            Place::Prepay(id) if post => {
                (Route::Prepay, payments::prepay(self, call, body, id).await)
            }
            Place::PaymentStatus(id) if get => {
                (Route::PaymentStatus, payments::status(self, call, id))
            }
            Place::Callback if post => (
                Route::PaymentCallback,
                payments::callback(self, call, body).await,
            ),
            Place::MockPay(token) if get || post => (
                Route::MockPay,
                mock_pay::page(self, call, body, token).await,
            ),
            Place::Entitlements if get => (Route::MyEntitlements, entitlements::mine(self, call)),
            Place::Licenses if post => (
                Route::License,
                entitlements::license(self, call, body).await,
            ),
            Place::PlayAuth(work) if get => (Route::PlayAuth, tokens::play(self, call, work)),
            Place::PlayCheck if get => (Route::PlayCheck, tokens::check(self, call, Kind::Play)),
            Place::Heartbeat if post => (
                Route::PlayHeartbeat,
                tokens::heartbeat(self, call, body).await,
            ),
            Place::DownloadToken(work) if get => {
                (Route::DownloadToken, tokens::download(self, call, work))
            }
            Place::DownloadCheck if get => (
                Route::DownloadCheck,
                tokens::check(self, call, Kind::Download),
            ),
            Place::Server
            | Place::Page
            | Place::Sales
            | Place::Sale(_)
            | Place::Orders
            | Place::Preview
            | Place::Order(_)
            | Place::Cancel(_)
            | Place::Mine
            | Place::Prepay(_)
            | Place::PaymentStatus(_)
            | Place::Callback
            | Place::MockPay(_)
            | Place::Entitlements
            | Place::Licenses
            | Place::PlayAuth(_)
            | Place::PlayCheck
            | Place::Heartbeat
            | Place::DownloadToken(_)
            | Place::DownloadCheck => (
                Route::Other,
                Err(Problem::method_not_allowed(place.allow())),
            ),
        }
    }

    fn cors(&self, asked: &HeaderMap, reply: &mut Reply) {
        const FIXED: [(HeaderName, &str); 4] = [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST"),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                "content-type, idempotency-key, x-user-id, x-request-id, authorization, x-device-id",
            ),
            (
                ACCESS_CONTROL_EXPOSE_HEADERS,
                "location, retry-after, idempotency-replayed, x-request-id, etag, ratelimit, \
                 ratelimit-policy",
            ),
            (ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        let origins = &self.config.origins;
        if origins.is_empty() {
            return;
        }
        let headers = reply.response.headers_mut();
        // Also where no Origin came: a cache must not give this answer to a page.
        headers.insert(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = asked.get(ORIGIN) else {
            return;
        };
        if !origins.iter().any(|o| o.as_bytes() == origin.as_bytes()) {
            return;
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        for (name, value) in FIXED {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
