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
use super::paths::paths;
use super::ratelimit::Policies;
use super::respond::{Body, Code, Problem, Reply};
use super::{entitlements, mock_pay, openapi, orders, payments, sales, tokens};
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

paths! {
    /// What a path names.
    enum Place {
        Page [""] Get,
        SalePage(sale) ["sales", sale] Get,
        OpenApi ["openapi.json"] Get,
        Sales ["v1", "sales"] Get,
        Sale(sale) ["v1", "sales", sale] Get,
        Orders ["v1", "orders"] Post,
        Preview ["v1", "orders", "preview"] Post,
        Order(id) ["v1", "orders", id] Get,
        Cancel(id) ["v1", "orders", id, "cancel"] Post,
        Mine ["v1", "me", "orders"] Get,
        Callback ["v1", "payments", "callback"] Post,
        Prepay(id) ["v1", "payments", id, "prepay"] Post,
        PaymentStatus(id) ["v1", "payments", id, "status"] Get,
        MockPay(token) ["mock-pay", token] GetAndPost,
        Entitlements ["v1", "me", "entitlements"] Get,
        Licenses ["v1", "licenses"] Post,
        PlayAuth(work) ["v1", "play", "auth", work] Get,
        PlayCheck ["v1", "play", "check"] Get,
        Heartbeat ["v1", "play", "heartbeat"] Post,
        DownloadToken(work) ["v1", "download-tokens", work] Get,
        DownloadCheck ["v1", "download", "check"] Get,
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
        if let Err(problem) = call.check_head() {
            return (Route::Other, Err(problem));
        }
        let method = &call.head.method;
        // `OPTIONS *` asks for the server as a whole.
        let server = call.head.uri.path() == "*";
        let place = Place::find(&call.segments());
        let allow = match place {
            Some(place) => place.methods().allow_with_options(),
            None if server => "GET, HEAD, POST, OPTIONS",
            None => {
                let problem = Problem::new(Code::NotFound, "no call has this path");
                return (Route::Other, Err(problem));
            }
        };
        if method == Method::OPTIONS {
            let reply = Reply::empty(StatusCode::NO_CONTENT).fixed(ALLOW, allow);
            return (Route::Preflight, Ok(reply));
        }
        let Some(place) = place.filter(|p| p.methods().have(method)) else {
            return (Route::Other, Err(Problem::method_not_allowed(allow)));
        };
        match place {
            Place::Page | Place::SalePage(_) => (Route::Page, Ok(sales::page(call))),
            Place::OpenApi => (Route::OpenApi, Ok(openapi::public(call))),
            Place::Sales => (Route::Sales, sales::list(self, call)),
            Place::Sale(id) => (Route::Sale, sales::show(self, call, id)),
            Place::Orders => (Route::OrderCreate, orders::create(self, call, body).await),
            Place::Preview => (Route::OrderPreview, orders::preview(self, call, body).await),
            Place::Order(id) => (Route::OrderGet, orders::show(self, call, id)),
            Place::Cancel(id) => (
                Route::OrderCancel,
                orders::cancel(self, call, body, id).await,
            ),
            Place::Mine => (Route::MyOrders, orders::mine(self, call)),
            Place::Prepay(id) => (Route::Prepay, payments::prepay(self, call, body, id).await),
            Place::PaymentStatus(id) => (Route::PaymentStatus, payments::status(self, call, id)),
            Place::Callback => (
                Route::PaymentCallback,
                payments::callback(self, call, body).await,
            ),
            Place::MockPay(token) => (
                Route::MockPay,
                mock_pay::page(self, call, body, token).await,
            ),
            Place::Entitlements => (Route::MyEntitlements, entitlements::mine(self, call)),
            Place::Licenses => (
                Route::License,
                entitlements::license(self, call, body).await,
            ),
            Place::PlayAuth(work) => (Route::PlayAuth, tokens::play(self, call, work)),
            Place::PlayCheck => (Route::PlayCheck, tokens::check(self, call, Kind::Play)),
            Place::Heartbeat => (
                Route::PlayHeartbeat,
                tokens::heartbeat(self, call, body).await,
            ),
            Place::DownloadToken(work) => {
                (Route::DownloadToken, tokens::download(self, call, work))
            }
            Place::DownloadCheck => (
                Route::DownloadCheck,
                tokens::check(self, call, Kind::Download),
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
