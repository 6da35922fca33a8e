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
use super::paths::paths;
use super::respond::{Body, Code, DETAIL_BYTES_MAX, Problem, Reply, shortened};
use super::wire::{SaleOut, StockOut};
use super::{auth, health, json, openapi};
use crate::config::AdminToken;
use crate::domain::sale::{Phase, Switches};
use crate::reconcile::Reconciler;
use crate::sale::{Created, LiveSale, Selling, Switched};
use crate::stream::{Letters, OrderStore, StreamWorker};

const BODY: BodyLimits = BodyLimits {
    // A definition may have 10,000 SKUs.
    bytes_max: 4 << 20,
    time_max: Duration::from_secs(10),
};

paths! {
    /// What a path names.
    enum Place {
        Livez ["livez"] Get,
        Readyz ["readyz"] Get,
        Metrics ["metrics"] Get,
        OpenApi ["admin", "openapi.json"] Get,
        Sales ["admin", "v1", "sales"] GetAndPost,
        Sale(sale) ["admin", "v1", "sales", sale] Get,
        SaleOrders(sale) ["admin", "v1", "sales", sale, "orders"] Get,
        Pause(sale) ["admin", "v1", "sales", sale, "pause"] Post,
        Resume(sale) ["admin", "v1", "sales", sale, "resume"] Post,
        End(sale) ["admin", "v1", "sales", sale, "end"] Post,
        Order(id) ["admin", "v1", "orders", id] Get,
        Refund(id) ["admin", "v1", "orders", id, "refund"] Post,
        Payments ["admin", "v1", "payments"] Get,
        Accept(id) ["admin", "v1", "payments", id, "accept"] Post,
        Reject(id) ["admin", "v1", "payments", id, "reject"] Post,
        Reconcile ["admin", "v1", "reconcile"] Post,
        DeadLetters ["admin", "v1", "dead-letters"] Get,
        ReplayAll ["admin", "v1", "dead-letters", "replay"] Post,
        Replay(seq) ["admin", "v1", "dead-letters", seq, "replay"] Post,
    }
}

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
        call.check_head()?;
        let segments = call.segments();
        if segments.first() == Some(&"admin") {
            self.check_token(call)?;
        }
        let place = Place::find(&segments)
            .ok_or_else(|| Problem::new(Code::NotFound, "no call has this path"))?;
        if !place.methods().have(&call.head.method) {
            return Err(Problem::method_not_allowed(place.methods().allow()));
        }
        let nothing = async |body: Unread| body.empty_or_json(call.headers()).await;
        match place {
            Place::Livez => Ok(health::livez()),
            Place::Readyz => {
                let query = call.head.uri.query();
                Ok(self.readyz(query.is_some_and(|q| q.contains("verbose"))))
            }
            Place::Metrics => self.metrics(),
            Place::OpenApi => Ok(openapi::admin(call)),
            Place::Sales if call.is_post() => self.create(call, body).await,
            Place::Sales => Ok(self.list()),
            Place::Sale(id) => self.show(id).await,
            Place::SaleOrders(id) => self.orders(id, call).await,
            Place::Pause(id) => {
                nothing(body).await?;
                self.pause(id, true).await
            }
            Place::Resume(id) => {
                nothing(body).await?;
                self.pause(id, false).await
            }
            Place::End(id) => {
                nothing(body).await?;
                self.switch(id, |s| Switches { ended: true, ..s }).await
            }
            Place::Order(id) => self.order(id),
            Place::Refund(id) => self.refund(id, call, body).await,
            Place::Payments => self.payments(call).await,
            Place::Accept(id) => self.review(id, true, call, body).await,
            Place::Reject(id) => self.review(id, false, call, body).await,
            Place::Reconcile => {
                nothing(body).await?;
                Ok(self.reconcile().await)
            }
            Place::DeadLetters => self.dead_letters(call).await,
            Place::ReplayAll => {
                nothing(body).await?;
                self.replay_all(call).await
            }
            Place::Replay(seq) => {
                nothing(body).await?;
                self.replay(seq).await
            }
        }
    }

    fn check_token(&self, call: &Call) -> Result<(), Problem> {
        if auth::bearer_matches(call.headers(), self.token.reveal()) {
            return Ok(());
        }
        Err(Problem::new(
            Code::Unauthenticated,
            "send Authorization: Bearer with the admin token",
        )
        .with(WWW_AUTHENTICATE, "Bearer"))
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
                self.reconciler.show(&live).await;
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
