//! The generator: lines (connections) that carry sends from the floor to the engine.
//!
//! One current-thread runtime, so the harness takes one core at most. A ticker
//! of one millisecond wakes a line when something is due; lines wake each other
//! from there. Idle lines cost nothing and there is no timer a send besides the
//! answer's time limit.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use crate::answer::Outcome;
use crate::client::{CallError, Connection, Target};
use crate::floor::{About, End, Floor, Job, Step, Take};
use crate::journal::{Header, JournalError, Writer};
use crate::pay::{Operator, Provider, Till};
use crate::plan::{Plan, Variant};
use crate::progress;
use crate::scenario::Scenario;
use crate::stats::{Second, Stats};

#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("a line of the generator ended early: {0}")]
    Line(#[from] tokio::task::JoinError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(
        "winners pay in this scenario, and nobody said with which secret: give --payment-secret"
    )]
    NoTill,
}

/// A finished run.
pub struct Ran {
    pub stats: Stats,
    pub rows: Vec<Second>,
    pub journal: PathBuf,
    pub seconds: f64,
    pub interrupted: bool,
}

/// What the world outside has to do with a run: it may close the doors early, and see
/// how many wins there are so far.
pub struct Doors {
    /// Set to true: no new buyers; who is inside is served to the end.
    pub closed: watch::Receiver<bool>,
    pub wins: Arc<AtomicU64>,
    /// No line a second.
    pub quiet: bool,
    /// Needed where winners pay.
    pub till: Option<Till>,
}

impl Doors {
    /// Open as long as the scenario says.
    pub fn open(quiet: bool) -> Self {
        Self {
            closed: watch::channel(false).1,
            wins: Arc::default(),
            quiet,
            till: None,
        }
    }
}

struct Shared {
    floor: Mutex<Floor>,
    requests: Requests,
    plan: Plan,
    starts: Instant,
}

impl Shared {
    fn now_us(&self) -> u64 {
        Instant::now()
            .saturating_duration_since(self.starts)
            .as_micros() as u64
    }
}

/// Connects, then sends everything the scenario says, the first at `starts`.
pub async fn run(
    scenario: &Scenario,
    header: &Header,
    target: &Target,
    journal: &Path,
    starts: Instant,
    mut doors: Doors,
) -> Result<Ran, RunError> {
    let plan = header.plan.clone();
    if plan.pay.is_some() && doors.till.is_none() {
        return Err(RunError::NoTill);
    }
    let writer = Writer::create(journal, header)?;
    let shared = Arc::new(Shared {
        floor: Mutex::new(Floor::new(scenario, plan.clone(), writer)),
        requests: Requests::new(header, target, doors.till.as_ref()),
        plan,
        starts,
    });
    let mut lines = Vec::with_capacity(scenario.connections);
    for line in 0..scenario.connections {
        let connection = Connection::new(target.addr, scenario.answer_timeout);
        let timeout = scenario.answer_timeout;
        lines.push(tokio::spawn(serve_line(
            shared.clone(),
            line,
            connection,
            timeout,
        )));
    }
    let (total, wins) = (scenario.pace.total(), Arc::clone(&doors.wins));
    let ticker = tokio::spawn(tick(shared.clone(), total, wins, doors.quiet));
    let all = async {
        for line in lines {
            line.await?;
        }
        Ok::<(), RunError>(())
    };
    tokio::pin!(all);
    let (mut interrupted, mut may_close) = (false, true);
    loop {
        tokio::select! {
            result = &mut all => {
                result?;
                break;
            }
            // Not closed, it says that nobody is left who could close them.
            closed = async { doors.closed.wait_for(|closed| *closed).await.is_ok() }, if may_close => {
                may_close = false;
                if closed {
                    shared.floor.lock().close();
                    shared.floor.lock().wake_if_due(u64::MAX);
                }
            }
            signal = tokio::signal::ctrl_c(), if !interrupted => {
                signal?;
                interrupted = true;
                shared.floor.lock().stop();
                shared.floor.lock().wake_if_due(u64::MAX);
            }
        }
    }
    ticker.abort();
    let _ = ticker.await; // Only says that it was aborted.
    let seconds = shared.now_us() as f64 / 1e6;
    let Ok(shared) = Arc::try_unwrap(shared).map_err(|_| ()) else {
        return Err(RunError::Io(std::io::Error::other(
            "a line still holds the floor",
        )));
    };
    let floor = shared.floor.into_inner();
    let mut stats = floor.stats;
    let rows = stats.finish();
    let journal = floor.journal.finish(!interrupted)?;
    Ok(Ran {
        stats,
        rows,
        journal,
        seconds,
        interrupted,
    })
}

/// Waiting this long after a refused connection keeps an outage from burning the CPU.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

async fn serve_line(
    shared: Arc<Shared>,
    line: usize,
    mut connection: Connection,
    answer_timeout: Duration,
) {
    let mut request = Vec::with_capacity(1024);
    // A line stands for many buyers, so its first connect is nobody's latency;
    // if it fails the first send tries again and counts.
    let _ = connection.connect().await;
    tokio::time::sleep_until(shared.starts.into()).await;
    loop {
        let picked = std::future::poll_fn(|context| {
            let mut floor = shared.floor.lock();
            match floor.take(shared.now_us()) {
                Take::Job(job) => {
                    let (cut, about) = (floor.cuts(&job), floor.about(&job));
                    Poll::Ready(Some((job, cut, about)))
                }
                Take::Finished => Poll::Ready(None),
                Take::Wait => {
                    floor.park(line, context.waker());
                    Poll::Pending
                }
            }
        });
        let Some((job, cut, about)) = picked.await else {
            return;
        };
        let sent_us = shared.now_us();
        shared
            .requests
            .write(&shared.plan, &job, &about, sent_us, &mut request);
        let refused = match (job.step, &shared.requests.operator) {
            (Step::Refund, Some(operator)) => {
                // Operators are few: none keeps one of the admin API's connections.
                let mut own = Connection::new(operator.admin.addr, answer_timeout);
                send(&shared, &mut own, job, cut, &request, sent_us).await
            }
            _others => send(&shared, &mut connection, job, cut, &request, sent_us).await,
        };
        if refused {
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }
}

/// One send, booked. True when the connection was refused.
async fn send(
    shared: &Shared,
    connection: &mut Connection,
    job: Job,
    cut: bool,
    request: &[u8],
    sent_us: u64,
) -> bool {
    let lost = |outcome| End {
        outcome,
        status: 0,
        retry_after_s: None,
        body: &[],
    };
    let fate = if cut {
        let wait = Duration::from_millis(shared.plan.jitter_ms(job.attempt, 90, 4));
        connection.send_and_cut(request, wait).await.map(|()| None)
    } else {
        connection.call(request).await.map(Some)
    };
    let reason;
    let end = match fate {
        Ok(None) => lost(Some(Outcome::OwnCut)),
        Ok(Some(head)) => {
            let body = connection.body();
            let outcome = match job.step {
                Step::Buy | Step::Click | Step::BuyOther => Outcome::of_purchase(head.status, body),
                Step::Cancel => Outcome::of_cancel(head.status, body),
                Step::Callback { .. } => Outcome::of_callback(head.status, body),
                Step::Refund => Outcome::of_refund(head.status, body),
            };
            End {
                outcome: Some(outcome),
                status: head.status,
                retry_after_s: head.retry_after_s,
                body,
            }
        }
        Err(CallError::Connect(_)) => lost(None),
        Err(CallError::Cut(_)) => lost(Some(Outcome::Cut)),
        Err(CallError::TimedOut { .. }) => lost(Some(Outcome::TimedOut)),
        Err(CallError::Protocol(error)) => {
            reason = error.to_string();
            End {
                body: reason.as_bytes(),
                ..lost(Some(Outcome::Unreadable))
            }
        }
    };
    let refused = end.outcome.is_none();
    let now_us = shared.now_us();
    shared.floor.lock().book(job, &end, sent_us, now_us);
    refused
}

async fn tick(shared: Arc<Shared>, total: u64, wins: Arc<AtomicU64>, quiet: bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (mut n_printed, mut n_won) = (0, 0);
    loop {
        ticks.tick().await;
        let now_us = shared.now_us();
        let mut lines = Vec::new();
        {
            let mut floor = shared.floor.lock();
            floor.wake_if_due(now_us);
            floor.stats.roll(now_us);
            // Several runs may count together.
            let so_far = floor.stats.count(Outcome::Won);
            wins.fetch_add(so_far - n_won, Ordering::Relaxed);
            n_won = so_far;
            for row in &floor.stats.rows()[n_printed..] {
                lines.push(progress::line(
                    row,
                    floor.n_started(),
                    total,
                    floor.n_pending(),
                ));
            }
            n_printed += lines.len();
        }
        if !quiet && !lines.is_empty() {
            // A terminal that went away must not stop the run.
            let _ = writeln!(std::io::stdout().lock(), "{}", lines.join("\n"));
        }
    }
}

/// Request bytes, prepared as far as possible.
struct Requests {
    buy: Vec<u8>,
    cancel_host: Vec<u8>,
    /// Content-Length and body, by SKU and variant.
    tails: Vec<[Vec<u8>; 2]>,
    provider: Option<Provider>,
    operator: Option<Operator>,
}

impl Requests {
    fn new(header: &Header, target: &Target, till: Option<&Till>) -> Self {
        let plan = &header.plan;
        let host = &target.authority;
        let tail = |sku: usize, more: u32| {
            let body = plan.body(crate::plan::Ask {
                sku,
                quantity: plan.quantity + more,
            });
            let mut tail = format!("\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
            tail.extend_from_slice(&body);
            tail
        };
        Self {
            buy: format!(
                "POST /v1/orders HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nx-user-id: "
            )
            .into_bytes(),
            cancel_host: format!("/cancel HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nx-user-id: ").into_bytes(),
            tails: (0..plan.skus.len()).map(|sku| [tail(sku, 0), tail(sku, 1)]).collect(),
            provider: till.map(|till| Provider::new(till, target, header.started_unix_ms)),
            operator: till.map(Operator::new),
        }
    }

    fn write(&self, plan: &Plan, job: &Job, about: &About, now_us: u64, out: &mut Vec<u8>) {
        out.clear();
        let variant = match job.step {
            Step::Buy | Step::Click => Variant::First,
            Step::BuyOther => Variant::Other,
            Step::Cancel => {
                out.extend_from_slice(b"POST /v1/orders/");
                if let About::Order(id) = about {
                    out.extend_from_slice(id.as_bytes());
                }
                out.extend_from_slice(&self.cancel_host);
                plan.write_user(job.attempt, out);
                out.extend_from_slice(b"\r\n\r\n");
                return;
            }
            Step::Callback { no, .. } => {
                let callbacks = plan.callbacks(job.attempt);
                let callback = callbacks.iter().find(|callback| callback.no == no);
                if let (Some(provider), Some(callback), About::Bill(bill)) =
                    (&self.provider, callback, about)
                {
                    provider.write(plan, job.attempt, callback, bill, now_us, out);
                }
                return;
            }
            Step::Refund => {
                if let (Some(operator), Some(refund), About::Bill(bill)) =
                    (&self.operator, plan.refund(job.attempt), about)
                {
                    operator.write(&bill.order, refund, out);
                }
                return;
            }
        };
        out.extend_from_slice(&self.buy);
        plan.write_user(job.attempt, out);
        out.extend_from_slice(b"\r\nidempotency-key: ");
        plan.write_key(job.attempt, out);
        let ask = plan.ask(job.attempt, variant);
        out.extend_from_slice(&self.tails[ask.sku][variant as usize]);
    }
}
