//! The public listener: finds the call, and puts on every answer what every
//! answer carries (request id, CORS, metrics).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CONTENT_TYPE, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::time::Instant;

use super::metrics::{HttpMetrics, Route};
use super::respond::{Body, Code, Problem, Reply};
use super::{orders, sales};
use crate::config::HttpConfig;
use crate::sale::Selling;

/// A purchase has a few hundred bytes.
const BODY_BYTES_MAX: usize = 8 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the public listener needs.
pub struct Public {
    pub selling: Arc<Selling>,
    pub config: HttpConfig,
    pub metrics: HttpMetrics,
    pub ready: Arc<AtomicBool>,
    run_id: u32,
    requests: AtomicU64,
}

/// One request, as the handlers see it.
pub(super) struct Call {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub peer: IpAddr,
    body: Option<Incoming>,
}

impl Call {
    /// The whole body, within its limits of size and time.
    pub async fn body(&mut self) -> Result<Bytes, Problem> {
        let Some(body) = self.body.take() else {
            return Ok(Bytes::new());
        };
        match tokio::time::timeout(BODY_TIME_MAX, Limited::new(body, BODY_BYTES_MAX).collect())
            .await
        {
            Err(_) => Err(Problem::new(
                Code::RequestTimeout,
                format!(
                    "the body did not arrive within {} s",
                    BODY_TIME_MAX.as_secs()
                ),
            )),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
                Code::BodyTooLarge,
                format!("allowed are {BODY_BYTES_MAX} bytes"),
            )),
            Ok(Err(_)) => Err(Problem::new(Code::MalformedBody, "the body ended early")),
        }
    }

    /// The body of a call that takes JSON, and says so.
    pub async fn json_body(&mut self) -> Result<Bytes, Problem> {
        let kind = self
            .headers
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let essence = kind
            .split(|b| *b == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if !essence.eq_ignore_ascii_case(b"application/json") {
            return Err(Problem::new(
                Code::MediaType,
                "the Content-Type must be application/json",
            ));
        }
        self.body().await
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .as_deref()?
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

pub(super) fn method_not_allowed(allow: &'static str) -> Problem {
    let mut problem = Problem::new(Code::MethodNotAllowed, format!("allowed here: {allow}"));
    problem.allow = Some(allow);
    problem
}

impl Public {
    pub fn new(
        selling: Arc<Selling>,
        config: HttpConfig,
        metrics: HttpMetrics,
        ready: Arc<AtomicBool>,
        run_id: u32,
    ) -> Self {
        Self {
            selling,
            config,
            metrics,
            ready,
            run_id,
            requests: AtomicU64::new(0),
        }
    }

    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Body> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let mut call = Call {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(ToOwned::to_owned),
            headers: head.headers,
            peer,
            body: Some(body),
        };
        let request_id = self.request_id(&call.headers);
        let (route, answer) = self.route(&mut call).await;
        let mut reply = match answer {
            Ok(reply) => reply,
            Err(problem) => {
                if problem.code == Code::Internal {
                    tracing::error!(
                        request_id,
                        path = call.path,
                        detail = problem.detail,
                        "a fault of ours"
                    );
                }
                Reply::problem(&problem, &request_id)
            }
        };
        self.cors(&call.headers, &mut reply);
        tracing::debug!(
            request_id,
            path = call.path,
            status = reply.response.status().as_u16(),
            location = ?reply.response.headers().get(hyper::header::LOCATION),
            "answered"
        );
        let headers = reply.response.headers_mut();
        if let Ok(value) = HeaderValue::try_from(request_id) {
            headers.insert(REQUEST_ID, value);
        }
        self.metrics.count(
            route,
            reply.response.status().as_u16(),
            reply.problem,
            started.elapsed(),
        );
        reply.response
    }

    async fn route(&self, call: &mut Call) -> (Route, Result<Reply, Problem>) {
        if call.method == Method::OPTIONS {
            return (Route::Preflight, Ok(Reply::empty(StatusCode::NO_CONTENT)));
        }
        let path = std::mem::take(&mut call.path);
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let get = call.method == Method::GET || call.method == Method::HEAD;
        let post = call.method == Method::POST;
        let found = match segments.as_slice() {
            [""] | ["sales", _] if get => (Route::Page, Ok(sales::page())),
            ["v1", "sales"] if get => (Route::Sales, sales::list(self, call)),
            ["v1", "sales", id] if get => (Route::Sale, sales::show(self, call, id)),
            ["v1", "orders"] if post => (Route::OrderCreate, orders::create(self, call).await),
            ["v1", "orders", "preview"] if post => {
                (Route::OrderPreview, orders::preview(self, call).await)
            }
            ["v1", "orders", id] if get => (Route::OrderGet, orders::show(self, call, id)),
            ["v1", "orders", id, "cancel"] if post => {
                (Route::OrderCancel, orders::cancel(self, call, id).await)
            }
            ["v1", "me", "orders"] if get => (Route::MyOrders, orders::mine(self, call)),
            [""] | ["sales", _] | ["v1", "sales"] | ["v1", "sales", _] | ["v1", "me", "orders"] => {
                (Route::Other, Err(method_not_allowed("GET, HEAD, OPTIONS")))
            }
            ["v1", "orders"] | ["v1", "orders", "preview"] | ["v1", "orders", _, "cancel"] => {
                (Route::Other, Err(method_not_allowed("POST, OPTIONS")))
            }
            ["v1", "orders", _] => (Route::Other, Err(method_not_allowed("GET, HEAD, OPTIONS"))),
            _ => (
                Route::Other,
                Err(Problem::new(Code::NotFound, "no call has this path")),
            ),
        };
        call.path = path;
        found
    }

    /// The caller's own id where it is one, else ours.
    fn request_id(&self, headers: &HeaderMap) -> String {
        let given = headers.get(&REQUEST_ID).and_then(|v| v.to_str().ok());
        match given.filter(|id| crate::domain::ids::DeviceId::parse(id).is_ok()) {
            Some(id) => id.to_owned(),
            None => format!(
                "{:08x}-{:x}",
                self.run_id,
                self.requests.fetch_add(1, Ordering::Relaxed)
            ),
        }
    }

    fn cors(&self, asked: &HeaderMap, reply: &mut Reply) {
        let headers = reply.response.headers_mut();
        if self.config.origins.is_empty() {
            return;
        }
        headers.insert(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = asked.get(ORIGIN) else {
            return;
        };
        if !self
            .config
            .origins
            .iter()
            .any(|o| o.as_bytes() == origin.as_bytes())
        {
            return;
        }
        let fixed = [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST"),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                "content-type, idempotency-key, x-user-id, x-request-id, authorization",
            ),
            (
                ACCESS_CONTROL_EXPOSE_HEADERS,
                "location, retry-after, idempotency-replayed, x-request-id, etag",
            ),
            (ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
