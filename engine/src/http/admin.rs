//! The admin listener: metrics and health for machines, sales and audits for
//! people with the token. Never on the public port.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::WWW_AUTHENTICATE;
use hyper::{Request, Response, StatusCode};
use prometheus::Registry;
use serde::Serialize;

use super::call::{BodyLimits, Call, Unread};
use super::respond::{Body, Code, DETAIL_BYTES_MAX, Problem, Reply, shortened};
use super::wire::{SaleOut, StockOut};
use super::{auth, health, json};
use crate::config::AdminToken;
use crate::domain::sale::{Phase, Switches};
use crate::reconcile::{Depth, Reconciler};
use crate::sale::{Created, LiveSale, Selling, Switched};
use crate::stream::{Letters, OrderStore, StreamWorker};

const BODY: BodyLimits = BodyLimits {
    // A definition may have 10,000 SKUs.
    bytes_max: 4 << 20,
    time_max: Duration::from_secs(10),
};

pub struct Admin {
    pub selling: Arc<Selling>,
    pub store: Arc<dyn OrderStore>,
    pub stream: Arc<StreamWorker>,
    pub letters: Arc<Letters>,
    pub reconciler: Arc<Reconciler>,
    pub registry: Registry,
    pub token: AdminToken,
    pub node: u16,
    pub ready: Arc<AtomicBool>,
}

pub(super) fn no_sale() -> Problem {
    Problem::new(Code::NotFound, "there is no sale with this id")
}

fn ended() -> Problem {
    Problem::new(Code::SaleEnded, "an ended sale cannot be opened again")
}

/// Every field that differs is named, however long the lists are that do.
fn differences(fields: Vec<String>) -> String {
    const BETWEEN: &str = "; ";
    let whole = fields.join(BETWEEN);
    if whole.len() <= DETAIL_BYTES_MAX {
        return whole;
    }
    let bytes_max = (DETAIL_BYTES_MAX / fields.len().max(1)).saturating_sub(BETWEEN.len());
    let short: Vec<_> = fields
        .into_iter()
        .map(|f| shortened(f.into(), bytes_max))
        .collect();
    short.join(BETWEEN)
}

impl Admin {
    /// In a task of its own: what an operator began is finished, though the operator
    /// hangs up. A sale that is durable and not open would be nobody's.
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Body> {
        let answered = tokio::spawn(self.answer(request, peer)).await;
        answered.unwrap_or_else(|error| {
            tracing::error!(%error, "an admin call");
            Reply::empty(StatusCode::INTERNAL_SERVER_ERROR).response
        })
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let (head, body) = request.into_parts();
        let call = Call { head, peer };
        let answer = self.route(&call, Unread::new(body, BODY)).await;
        // As the public listener names its run.
        let run_id = self.selling.ledger().incarnation() & 0xFFFF_FFFF;
        let run_id = u32::try_from(run_id).unwrap_or(0);
        call.answer(run_id, answer).response
    }

    async fn route(&self, call: &Call, body: Unread) -> Result<Reply, Problem> {
        call.check_host()?;
        let segments = call.segments();
        let (get, post) = (call.is_get(), call.is_post());
        match segments.as_slice() {
            ["livez"] if get => return Ok(health::livez()),
            ["readyz"] if get => {
                let query = call.head.uri.query();
                return Ok(self.readyz(query.is_some_and(|q| q.contains("verbose"))));
            }
            ["metrics"] if get => return self.metrics(),
            ["livez" | "readyz" | "metrics"] => {
                return Err(Problem::method_not_allowed("GET, HEAD"));
            }
            _ => {}
        }
        if segments.first() != Some(&"admin") {
            return Err(Problem::new(Code::NotFound, "no call has this path"));
        }
        if !auth::bearer_matches(call.headers(), self.token.reveal()) {
            return Err(Problem::new(
                Code::Unauthenticated,
                "send Authorization: Bearer with the admin token",
            )
            .with(WWW_AUTHENTICATE, "Bearer"));
        }
        match segments.as_slice() {
            ["admin", "v1", "sales"] if post => self.create(call, body).await,
            ["admin", "v1", "sales"] if get => Ok(self.list()),
            ["admin", "v1", "sales", id] if get => self.show(id).await,
            ["admin", "v1", "sales", id, "orders"] if get => self.orders(id, call).await,
            ["admin", "v1", "sales", id, "pause"] if post => {
                body.empty_or_json(call.headers()).await?;
                self.pause(id, true).await
            }
            ["admin", "v1", "sales", id, "resume"] if post => {
                body.empty_or_json(call.headers()).await?;
                self.pause(id, false).await
            }
            ["admin", "v1", "sales", id, "end"] if post => {
                body.empty_or_json(call.headers()).await?;
                self.switch(id, |s| Switches { ended: true, ..s }).await
            }
            ["admin", "v1", "orders", id] if get => self.order(id),
            ["admin", "v1", "orders", id, "refund"] if post => self.refund(id, call, body).await,
            ["admin", "v1", "payments"] if get => self.payments(call).await,
            ["admin", "v1", "payments", id, "accept"] if post => {
                self.review(id, true, call, body).await
            }
            ["admin", "v1", "payments", id, "reject"] if post => {
                self.review(id, false, call, body).await
            }
            ["admin", "v1", "reconcile"] if post => {
                body.empty_or_json(call.headers()).await?;
                Ok(self.reconcile().await)
            }
            ["admin", "v1", "dead-letters"] if get => self.dead_letters(call).await,
            ["admin", "v1", "dead-letters", "replay"] if post => {
                body.empty_or_json(call.headers()).await?;
                self.replay_all(call).await
            }
            ["admin", "v1", "dead-letters", seq, "replay"] if post => {
                body.empty_or_json(call.headers()).await?;
                self.replay(seq).await
            }
            ["admin", "v1", "sales"] => Err(Problem::method_not_allowed("GET, HEAD, POST")),
            ["admin", "v1", "sales", _]
            | ["admin", "v1", "sales", _, "orders"]
            | ["admin", "v1", "orders", _]
            | ["admin", "v1", "payments"]
            | ["admin", "v1", "dead-letters"] => Err(Problem::method_not_allowed("GET, HEAD")),
            ["admin", "v1", "sales", _, "pause" | "resume" | "end"]
            | ["admin", "v1", "orders", _, "refund"]
            | ["admin", "v1", "payments", _, "accept" | "reject"]
            | ["admin", "v1", "reconcile"]
            | ["admin", "v1", "dead-letters", "replay"]
            | ["admin", "v1", "dead-letters", _, "replay"] => {
                Err(Problem::method_not_allowed("POST"))
            }
            _ => Err(Problem::new(Code::NotFound, "no call has this path")),
        }
    }

    async fn create(&self, call: &Call, body: Unread) -> Result<Reply, Problem> {
        let raw = json::read_sale(&body.json(call.headers()).await?)?;
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
                self.reconciler.pass(Depth::Routine).await;
                Ok(Reply::json(StatusCode::CREATED, &self.out(&live)))
            }
            Created::Same(live) => Ok(Reply::json(StatusCode::OK, &self.out(&live))),
            Created::Different(fields) => Err(Problem::new(Code::SaleExists, differences(fields))),
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

    async fn pause(&self, id: &str, paused: bool) -> Result<Reply, Problem> {
        let live = self.selling.sale(id).ok_or_else(no_sale)?;
        if live.phase(self.selling.clock().now()) == Phase::Ended {
            return Err(ended());
        }
        // "Not ended" is part of what is asked for, so that an end which comes in
        // between is refused under the lock that made it.
        let asked = Switches {
            paused,
            ended: false,
        };
        self.switch(id, |_| asked).await
    }

    async fn switch(
        &self,
        id: &str,
        change: impl FnOnce(Switches) -> Switches,
    ) -> Result<Reply, Problem> {
        match self.selling.switch(id, change).await {
            Switched::Done(live) => Ok(Reply::json(StatusCode::OK, &self.out(&live))),
            Switched::Missing => Err(no_sale()),
            Switched::Refused(why) => match self.selling.sale(id) {
                Some(live) if live.switches().ended => Err(ended()),
                Some(_) | None => Err(Problem::new(Code::NotReady, why)),
            },
        }
    }
}
