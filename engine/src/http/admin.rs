//! The admin listener: metrics and health for machines, sales and audits for
//! people with the token. Never on the public port.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Serialize;

use super::auth;
use super::respond::{Body, Code, Problem, Reply};
use super::routes::method_not_allowed;
use super::wire::{AuditOrderOut, SaleOut, StockOut};
use crate::config::AdminToken;
use crate::domain::ids::OrderId;
use crate::domain::sale::{RawSale, Switches};
use crate::reconcile::Reconciler;
use crate::sale::{Created, LiveSale, Selling, Switched};
use crate::stream::{OrderStore, StreamState, StreamWorker};

/// A definition may have 10,000 SKUs.
const BODY_BYTES_MAX: usize = 4 << 20;
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
const PAGE_MAX: usize = 10_000;

pub struct Admin {
    pub selling: Arc<Selling>,
    pub store: Arc<dyn OrderStore>,
    pub stream: Arc<StreamWorker>,
    pub reconciler: Arc<Reconciler>,
    pub registry: Registry,
    pub token: AdminToken,
    pub node: u16,
    pub ready: Arc<AtomicBool>,
}

struct Call {
    method: Method,
    query: Option<String>,
    headers: HeaderMap,
    body: Incoming,
}

impl Call {
    fn query(&self, name: &str) -> Option<&str> {
        self.query
            .as_deref()?
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    Reply::bytes(status, "text/plain; charset=utf-8", body.into())
}

fn no_sale() -> Problem {
    Problem::new(Code::NotFound, "there is no sale with this id")
}

impl Admin {
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _peer: IpAddr,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let call = Call {
            method: head.method,
            query: head.uri.query().map(ToOwned::to_owned),
            headers: head.headers,
            body,
        };
        match self.route(&path, call).await {
            Ok(reply) => reply.response,
            Err(problem) => Reply::problem(&problem, "admin").response,
        }
    }

    async fn route(&self, path: &str, call: Call) -> Result<Reply, Problem> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let get = call.method == Method::GET || call.method == Method::HEAD;
        let post = call.method == Method::POST;
        match segments.as_slice() {
            ["livez"] if get => return Ok(text(StatusCode::OK, "alive\n")),
            ["readyz"] if get => {
                return Ok(
                    self.readyz(call.query.as_deref().is_some_and(|q| q.contains("verbose")))
                );
            }
            ["metrics"] if get => return self.metrics(),
            ["livez" | "readyz" | "metrics"] => return Err(method_not_allowed("GET, HEAD")),
            _ => {}
        }
        if segments.first() != Some(&"admin") {
            return Err(Problem::new(Code::NotFound, "no call has this path"));
        }
        if !auth::bearer_matches(&call.headers, self.token.reveal()) {
            return Err(Problem::new(
                Code::Unauthenticated,
                "send Authorization: Bearer with the admin token",
            ));
        }
        match segments.as_slice() {
            ["admin", "v1", "sales"] if post => self.create(call).await,
            ["admin", "v1", "sales"] if get => Ok(self.list()),
            ["admin", "v1", "sales", id] if get => self.show(id).await,
            ["admin", "v1", "sales", id, "pause"] if post => {
                self.switch(id, |s| Switches { paused: true, ..s }).await
            }
            ["admin", "v1", "sales", id, "resume"] if post => {
                self.switch(id, |s| Switches { paused: false, ..s }).await
            }
            ["admin", "v1", "sales", id, "end"] if post => {
                self.switch(id, |s| Switches { ended: true, ..s }).await
            }
            ["admin", "v1", "sales", id, "orders"] if get => self.orders(id, &call).await,
            ["admin", "v1", "reconcile"] if post => Ok(self.reconcile().await),
            ["admin", "v1", "sales"] => Err(method_not_allowed("GET, HEAD, POST")),
            ["admin", "v1", "sales", _] | ["admin", "v1", "sales", _, "orders"] => {
                Err(method_not_allowed("GET, HEAD"))
            }
            ["admin", "v1", "sales", _, "pause" | "resume" | "end"]
            | ["admin", "v1", "reconcile"] => Err(method_not_allowed("POST")),
            _ => Err(Problem::new(Code::NotFound, "no call has this path")),
        }
    }

    fn readyz(&self, verbose: bool) -> Reply {
        let mut lines = Vec::new();
        let mut ready = self.ready.load(Ordering::Relaxed);
        lines.push(format!(
            "engine: {}",
            if ready {
                "ready"
            } else {
                "starting or stopping"
            }
        ));
        match self.selling.ledger().failure() {
            None => lines.push(format!(
                "ledger: ok, record {}",
                self.selling.ledger().tip().seq.0
            )),
            Some(failure) => {
                ready = false;
                lines.push(format!("ledger: shut: {}", failure.why));
            }
        }
        match self.stream.state() {
            StreamState::Running => lines.push("order store: ok".to_owned()),
            // Sales do not wait for the store: not ready would be a lie.
            StreamState::Waiting(why) => lines.push(format!("order store: waiting: {why}")),
            StreamState::Stopped(why) => lines.push(format!("order store: stopped: {why}")),
        }
        for live in self.selling.sales().values() {
            if live.is_broken() {
                ready = false;
                lines.push(format!(
                    "sale {}: selling stopped, the stock does not add up",
                    live.sale().id
                ));
            }
        }
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let body = if verbose {
            lines.join("\n")
        } else {
            (if ready { "ready" } else { "not ready" }).to_owned()
        };
        text(status, format!("{body}\n"))
    }

    fn metrics(&self) -> Result<Reply, Problem> {
        let mut body = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut body)
            .map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
        Ok(Reply::bytes(
            StatusCode::OK,
            "text/plain; version=0.0.4",
            body.into(),
        ))
    }

    async fn create(&self, call: Call) -> Result<Reply, Problem> {
        let body = tokio::time::timeout(
            BODY_TIME_MAX,
            Limited::new(call.body, BODY_BYTES_MAX).collect(),
        )
        .await
        .map_err(|_| Problem::new(Code::RequestTimeout, "the body did not arrive in time"))?
        .map_err(|_| {
            Problem::new(
                Code::BodyTooLarge,
                format!("allowed are {BODY_BYTES_MAX} bytes"),
            )
        })?
        .to_bytes();
        let raw: RawSale = serde_json::from_slice(&body)
            .map_err(|e| Problem::new(Code::MalformedBody, e.to_string()))?;
        let sale = raw
            .check()
            .map_err(|e| Problem::new(Code::InvalidField, e.to_string()))?;
        match self
            .selling
            .create(sale)
            .await
            .map_err(|e| Problem::new(Code::Internal, e.to_string()))?
        {
            Created::New(live) => {
                // Its gauges should not wait for the next round.
                self.reconciler.pass().await;
                Ok(Reply::json(StatusCode::CREATED, &self.out(&live)))
            }
            Created::Same(live) => Ok(Reply::json(StatusCode::OK, &self.out(&live))),
            Created::Different(fields) => Err(Problem::new(Code::SaleExists, fields.join("; "))),
            Created::Refused(why) => Err(Problem::new(Code::InvalidField, why)),
        }
    }

    fn out(&self, live: &LiveSale) -> SaleOut {
        let mut out = SaleOut::of(live, self.selling.clock().now());
        out.durable_seq = Some(self.selling.ledger().tip().seq.0);
        out
    }

    fn list(&self) -> Reply {
        #[derive(Serialize)]
        struct Sales {
            sales: Vec<SaleOut>,
        }
        let mut sales: Vec<SaleOut> = self
            .selling
            .sales()
            .values()
            .map(|live| self.out(live))
            .collect();
        sales.sort_by(|a, b| a.id.cmp(&b.id));
        Reply::json(StatusCode::OK, &Sales { sales })
    }

    /// Counters come from one cut per bucket, so that they add up.
    async fn show(&self, id: &str) -> Result<Reply, Problem> {
        let live = self.selling.sale(id).ok_or_else(no_sale)?;
        let audits = self.selling.audit(&live).await;
        let mut out = self.out(&live);
        for (at, sku) in out.skus.iter_mut().enumerate() {
            let sum = |f: fn(&crate::sale::Line) -> u64| {
                audits.iter().map(|a| f(&a.facts[at])).sum::<u64>()
            };
            let allotted = sum(|l| l.allotted);
            sku.stock = Some(StockOut {
                opened: live.opened(at),
                available: sum(crate::sale::Line::available),
                held: sum(|l| l.held),
                sold: sum(|l| l.sold),
                withdrawn: sum(|l| l.withdrawn),
                transfer: live.opened(at).saturating_sub(allotted),
            });
        }
        Ok(Reply::json(StatusCode::OK, &out))
    }

    async fn switch(
        &self,
        id: &str,
        change: impl FnOnce(Switches) -> Switches,
    ) -> Result<Reply, Problem> {
        match self.selling.switch(id, change).await {
            Switched::Done(live) => Ok(Reply::json(StatusCode::OK, &self.out(&live))),
            Switched::Missing => Err(no_sale()),
            Switched::Refused(why) => Err(Problem::new(Code::SaleEnded, why)),
        }
    }

    async fn reconcile(&self) -> Reply {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Out {
            differences: usize,
            sales: Vec<crate::reconcile::SaleReport>,
            detail: Vec<String>,
        }
        let sales = self.reconciler.pass().await;
        let detail: Vec<String> = sales.iter().flat_map(|s| s.differences.clone()).collect();
        Reply::json(
            StatusCode::OK,
            &Out {
                differences: detail.len(),
                sales,
                detail,
            },
        )
    }

    async fn orders(&self, id: &str, call: &Call) -> Result<Reply, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Page<'a> {
            orders: Vec<AuditOrderOut<'a>>,
            next_cursor: Option<String>,
            seq: u64,
        }
        let live = self.selling.sale(id).ok_or_else(no_sale)?;
        let field =
            |name: &str, what: String| Problem::new(Code::InvalidField, format!("{name}: {what}"));
        let after = match call.query("cursor") {
            None | Some("") => None,
            Some(text) => Some(
                OrderId::parse(text)
                    .ok_or_else(|| field("cursor", "not one that a page gave".into()))?,
            ),
        };
        let limit = match call.query("limit") {
            None => 1_000,
            Some(text) => text
                .parse::<usize>()
                .ok()
                .filter(|n| (1..=PAGE_MAX).contains(n))
                .ok_or_else(|| field("limit", format!("allowed are 1 to {PAGE_MAX}")))?,
        };
        let sale = live.sale().id.clone();
        let internal = |e: String| Problem::new(Code::Internal, e);
        let from = call.query("from").unwrap_or("ledger");
        match from {
            "ledger" => {
                let selling = Arc::clone(&self.selling);
                let page =
                    tokio::task::spawn_blocking(move || selling.orders_page(&sale, after, limit))
                        .await
                        .map_err(|e| internal(e.to_string()))?
                        .map_err(|e| internal(e.to_string()))?;
                Ok(Reply::json(
                    StatusCode::OK,
                    &Page {
                        orders: page
                            .orders
                            .iter()
                            .map(|o| AuditOrderOut::of(o, None))
                            .collect(),
                        next_cursor: page.next.map(|id| id.to_string()),
                        seq: page.durable_seq,
                    },
                ))
            }
            "store" => {
                let (store, node) = (Arc::clone(&self.store), self.node);
                let page = tokio::task::spawn_blocking(move || {
                    store.orders_page(node, &sale, after, limit)
                })
                .await
                .map_err(|e| internal(e.to_string()))?
                .map_err(|e| internal(e.to_string()))?;
                Ok(Reply::json(
                    StatusCode::OK,
                    &Page {
                        orders: page
                            .orders
                            .iter()
                            .map(|o| AuditOrderOut::of(&o.order, Some(o.n_events)))
                            .collect(),
                        next_cursor: page.next.map(|id| id.to_string()),
                        seq: page.mark.map_or(0, |m| m.seq.0),
                    },
                ))
            }
            other => Err(field(
                "from",
                format!("{other:?} is not known; allowed are ledger and store"),
            )),
        }
    }
}
