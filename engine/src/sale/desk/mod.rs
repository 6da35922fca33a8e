//! The desk: the one task that owns a bucket and makes every call to it.
//!
//! Buyers gather while a call is under way; the next call takes them all, so
//! batches grow with load and cost nothing when it is quiet. After the script,
//! the guard has the last word, from ledger facts alone; then the batch joins a
//! group commit, and only the teller, after the fsync, tells anyone.
//!
//! Changes of orders (cancel, window end) go the other way round: first the
//! ledger, then the stock, so units return only after the closing is durable.

mod change;
mod flight;
mod late;
mod money;
mod publish;
mod refill;
mod sell;
mod slate;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use floodgate_ledger::Ledger;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use self::change::{Act, Asked, WhereClosed, Wish};
use self::flight::Flights;
use self::refill::Line;
pub use self::refill::{Give, Given};
pub use self::sell::Ask;
use self::sell::Buyer;
use super::answer::Answer;
use super::bucket::{Bucket, BucketAudit};
use super::guard::{Guard, Units};
use super::index::Index;
use super::live::SkuStock;
use super::metrics::SaleMetrics;
use super::order_ids::{IdLease, OrderIds};
use super::owed::Owed;
use super::refill::{Fetched, Wanted};
use super::revoked::Revoked;
use super::teller::Teller;
use super::windows::FirstWindow;
use crate::admission::Admitted;
use crate::domain::codec::OrderEncoder;
use crate::domain::ids::OrderId;
use crate::domain::sale::Sale;
use crate::domain::time::{Clock, UnixMs};

/// Orders a script call may carry: past this Redis could not stop a script
/// that runs too long.
pub const BATCH_MAX: usize = 512;

#[derive(Debug)]
pub enum Command {
    Buy {
        ask: Admitted<Ask>,
        asked_at: Instant,
        reply: oneshot::Sender<Answer>,
    },
    Change(Wish),
    Audit {
        reply: oneshot::Sender<BucketAudit>,
    },
    /// Units for another bucket.
    Give(Give),
    /// Units from another bucket, the ledger's word for it being durable.
    Take {
        id: String,
        sku: usize,
        given: Given,
        reply: oneshot::Sender<()>,
    },
    /// The refill that was asked for begins: what does the first of the line lack?
    Lacks {
        reply: oneshot::Sender<Units>,
    },
    /// It is over; what came was taken before this.
    Refilled {
        fetched: Fetched,
    },
    /// Finishes what came before and ends.
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// What a desk is built from.
pub struct DeskParts {
    pub sale: Arc<Sale>,
    pub stock: Arc<Vec<SkuStock>>,
    pub index: Arc<Index>,
    pub guard: Guard,
    pub bucket: Bucket,
    /// Its orders were put there as they were read; else it is still to be built.
    pub is_filled: bool,
    pub ids: OrderIds,
    pub lease: Arc<IdLease>,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub metrics: SaleMetrics,
    /// Pay windows of orders that are pending, from the ledger.
    pub windows: Vec<(UnixMs, OrderId)>,
    /// Whoever sends money back hears of it here.
    pub owed: Owed,
    /// Whoever checks tokens looks here.
    pub revoked: Arc<Revoked>,
    /// None where a sale has one bucket.
    pub refill: Option<mpsc::Sender<Wanted>>,
}

pub struct Desk {
    parts: DeskParts,
    commands: mpsc::Receiver<Command>,
    windows: BinaryHeap<Reverse<(UnixMs, OrderId)>>,
    first_window: Arc<FirstWindow>,
    teller: Teller,
    line: Line,
    flights: Flights,
    encoder: OrderEncoder,
}

impl Desk {
    pub fn new(mut parts: DeskParts, teller: Teller, commands: mpsc::Receiver<Command>) -> Self {
        let windows = std::mem::take(&mut parts.windows)
            .into_iter()
            .map(Reverse)
            .collect();
        let first_window = parts.metrics.windows.desk();
        Self {
            parts,
            commands,
            windows,
            first_window,
            teller,
            line: Line::default(),
            flights: Flights::default(),
            encoder: OrderEncoder::default(),
        }
    }

    /// Makes the bucket from the ledger, says so, and works until told to stop.
    pub async fn run(mut self, open: oneshot::Sender<()>) {
        if !self.finish_filling().await {
            self.parts
                .bucket
                .rebuild(&self.parts.sale, &self.parts.guard)
                .await;
        }
        // Whoever opens the sale may have given up.
        let _ = open.send(());
        let mut gathered = Vec::with_capacity(BATCH_MAX);
        loop {
            let due = self.next_window();
            tokio::select! {
                // One order of things: what became durable, who asks, then what is due; a
                // turn does the last two.
                biased;
                landed = self.flights.first_receipt() => {
                    self.land(landed).await;
                }
                n = self.commands.recv_many(&mut gathered, BATCH_MAX) => if n == 0 {
                    self.finish().await;
                    return;
                },
                () = std::future::ready(()), if self.flights.is_owing() => {}
                () = sleep_for(due), if !self.flights.is_closing() => {}
            }
            // Whoever else is ready now comes along: a batch costs little more than an order.
            tokio::task::yield_now().await;
            while gathered.len() < BATCH_MAX
                && let Ok(command) = self.commands.try_recv()
            {
                gathered.push(command);
            }
            if let Some(stop) = self.turn(&mut gathered).await {
                self.finish().await;
                // Whoever asked may have gone; stopping is all that matters.
                let _ = stop.send(());
                return;
            }
        }
    }

    /// What came before a stop.
    async fn finish(&mut self) {
        self.land_all().await;
        while !self.flights.put_off.is_empty() {
            let wishes = std::mem::take(&mut self.flights.put_off);
            self.change(self.parts.clock.now(), wishes).await;
            self.land_all().await;
        }
        self.teller.settle().await;
    }

    async fn finish_filling(&mut self) -> bool {
        let (bucket, sale) = (&mut self.parts.bucket, &self.parts.sale);
        self.parts.is_filled
            && bucket
                .finish(sale, &self.parts.guard)
                .await
                .inspect_err(|error| {
                    tracing::warn!(error, "finish a bucket; it is built once more")
                })
                .is_ok()
    }

    async fn turn(&mut self, gathered: &mut Vec<Command>) -> Option<oneshot::Sender<()>> {
        let mut buyers = Vec::with_capacity(gathered.len());
        let mut changes = std::mem::take(&mut self.flights.put_off);
        let (mut audits, mut stop) = (Vec::new(), None);
        let (mut gives, mut takes, mut refilled) = (Vec::new(), Vec::new(), None);
        let mut lacks: Vec<oneshot::Sender<Units>> = Vec::new();
        let now = self.parts.clock.now();
        for command in gathered.drain(..) {
            match command {
                Command::Buy {
                    ask,
                    asked_at,
                    reply,
                } => {
                    self.parts
                        .metrics
                        .desk_seconds
                        .observe(asked_at.elapsed().as_secs_f64());
                    let (ask, place) = ask.into_parts();
                    // Without an id the claim drops here and the buyer hears "not ready".
                    if let Some(order) = self.draft(&ask, now) {
                        let behind = self.line.wants_any(&ask.units);
                        let buyer = Buyer {
                            ask,
                            order,
                            place,
                            reply,
                        };
                        if behind {
                            self.line.push(buyer);
                        } else {
                            buyers.push(buyer);
                        }
                    }
                }
                Command::Change(wish) => changes.push(wish),
                Command::Audit { reply } => audits.push(reply),
                Command::Give(give) => gives.push(give),
                Command::Take {
                    id,
                    sku,
                    given,
                    reply,
                } => takes.push((id, sku, given, reply)),
                Command::Lacks { reply } => lacks.push(reply),
                Command::Refilled { fetched } => refilled = Some(fetched),
                Command::Stop { reply } => stop = Some(reply),
            }
        }
        if !buyers.is_empty() {
            self.sell(now, buyers).await;
        }
        self.take_due(now, &mut changes);
        if !changes.is_empty() {
            self.change(now, changes).await;
        }
        for (id, sku, given, reply) in takes {
            self.take(&id, sku, given).await;
            // The refiller is gone only when the sale is.
            let _ = reply.send(());
        }
        self.serve_line(now, refilled).await;
        for reply in lacks {
            // The refiller is gone only when the sale is.
            let _ = reply.send(self.lacks());
        }
        for give in gives {
            self.give(now, give).await;
        }
        if !audits.is_empty() {
            // What is on its way to the disk counts in the guard and in no other
            // telling; once it is durable all of them must agree.
            if !counted_on_purpose() {
                self.land_all().await;
            }
            self.teller.settle().await;
        }
        for reply in audits {
            let audit = self.audit().await;
            let is_equal = audit.is_equal();
            // The reconciler may have been stopped meanwhile.
            let _ = reply.send(audit);
            if !is_equal {
                // Told first, mended then: the ledger says how it should be.
                self.rebuild("drift").await;
            }
        }
        stop
    }

    /// A bucket that turns out to have changed is brought back before it is counted:
    /// without buyers nobody else would notice.
    async fn audit(&mut self) -> BucketAudit {
        loop {
            let (sale, guard) = (&self.parts.sale, &self.parts.guard);
            if let Some(audit) = self.parts.bucket.audit(sale, guard).await {
                return audit;
            }
            self.rebuild("changed").await;
        }
    }

    fn next_window(&self) -> Option<Duration> {
        let until = self.windows.peek().map(|Reverse((until, _))| *until);
        self.first_window.tell(until);
        Some(
            until?
                .since(self.parts.clock.now())
                .max(Duration::from_millis(1)),
        )
    }
}

/// Only the test that proves that a bucket is counted after all have landed.
fn counted_on_purpose() -> bool {
    fail::fail_point!("audit-before-landing", |_| true);
    false
}

async fn sleep_for(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
