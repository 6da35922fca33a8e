//! The worker: tails the ledger from the store's own mark, for ever.
//!
//! A thread of its own, because the store blocks. It is a lag, never a brake:
//! sales do not wait for it, and while records keep coming it works a twentieth of
//! the time only, because a row costs about as much as the sale of its order.
//! Once the rush is over it works without a pause until it is even.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use floodgate_ledger::{Ledger, Seq};
use parking_lot::{Condvar, Mutex};

use super::aside::Aside;
use super::letters::{LetterError, Letters};
use super::metrics::StreamMetrics;
use super::row::rows_of;
use super::store::{Batch, Mark, OrderStore, Put, StoreError};
use super::witness::{self, Disagreement};

/// Pauses per time of work while a sale is running.
const YIELD: u32 = 19;

#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub node: u16,
    pub batch_records_max: usize,
    pub batch_bytes_max: usize,
    /// More new records than this during one batch mean that a sale is running.
    pub rush_records: u64,
    /// Between looks at a ledger that has nothing new.
    pub idle_wait: Duration,
    /// First and longest wait after the store refused.
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            node: 0,
            batch_records_max: 1_000,
            batch_bytes_max: 4 << 20,
            rush_records: 100,
            idle_wait: Duration::from_millis(20),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
        }
    }
}

/// How the stream stands; `/readyz?verbose` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamState {
    Running,
    /// The store is away; trying again.
    Waiting(String),
    /// Going on would overwrite or skip something: a person must look.
    Stopped(String),
}

struct Shared {
    state: Mutex<StreamState>,
    mark: Mutex<Option<Mark>>,
    stop: AtomicBool,
    wake: Condvar,
    wake_lock: Mutex<()>,
}

pub struct StreamWorker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl StreamWorker {
    pub fn start(
        ledger: Ledger,
        store: Arc<dyn OrderStore>,
        letters: Arc<Letters>,
        config: WorkerConfig,
        metrics: StreamMetrics,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(StreamState::Running),
            mark: Mutex::new(None),
            stop: AtomicBool::new(false),
            wake: Condvar::new(),
            wake_lock: Mutex::new(()),
        });
        let aside = Aside {
            ledger: ledger.clone(),
            store: Arc::clone(&store),
            letters,
            node: config.node,
            lone_refusals: BTreeSet::new(),
        };
        let worker = Worker {
            ledger,
            store,
            aside,
            config,
            metrics,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("stream".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub fn state(&self) -> StreamState {
        self.shared.state.lock().clone()
    }

    /// How far the store has come, as last heard.
    pub fn mark(&self) -> Option<Mark> {
        self.shared.mark.lock().clone()
    }

    /// Finishes the batch under way. What is left goes on from the mark at the next start.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        {
            // Under the lock, or the word could fall between the worker's look and its sleep.
            let _guard = self.shared.wake_lock.lock();
            self.shared.stop.store(true, Ordering::Release);
        }
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the stream thread had panicked");
        }
    }
}

impl Drop for StreamWorker {
    fn drop(&mut self) {
        self.join();
    }
}

struct Worker {
    ledger: Ledger,
    store: Arc<dyn OrderStore>,
    aside: Aside,
    config: WorkerConfig,
    metrics: StreamMetrics,
    shared: Arc<Shared>,
}

/// Why the worker cannot go on by itself.
pub(super) enum Halt {
    Away(String),
    Stop(String),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Away(_) => Self::Away(error.to_string()),
            StoreError::Poison { .. } | StoreError::Newer { .. } | StoreError::Damaged(_) => {
                Self::Stop(error.to_string())
            }
        }
    }
}

impl From<LetterError> for Halt {
    fn from(error: LetterError) -> Self {
        Self::Stop(error.to_string())
    }
}

impl From<Disagreement> for Halt {
    fn from(error: Disagreement) -> Self {
        Self::Stop(error.to_string())
    }
}

impl Worker {
    fn run(mut self) {
        let mut retry = self.config.retry_min;
        let mut even_at = Instant::now();
        let mut mark = None;
        let mut known = false;
        let mut tip_seen = self.ledger.tip().seq;
        while !self.shared.stop.load(Ordering::Acquire) {
            let began = Instant::now();
            let carried = known;
            let step = if known {
                self.step(&mut mark)
            } else {
                self.begin().map(|found| {
                    mark = found;
                    known = true;
                    1
                })
            };
            self.show_lag(mark.as_ref(), &mut even_at);
            match step {
                Ok(n) => {
                    self.shared.mark.lock().clone_from(&mark);
                    // Telling its mark is not yet taking a batch.
                    if carried {
                        *self.shared.state.lock() = StreamState::Running;
                        retry = self.config.retry_min;
                    }
                    let tip = self.ledger.tip().seq;
                    let rush = tip.0 - tip_seen.0 > self.config.rush_records;
                    tip_seen = tip;
                    self.sleep(match (n, rush) {
                        (0, _) => self.config.idle_wait,
                        (_, true) => began.elapsed() * YIELD,
                        (_, false) => Duration::ZERO,
                    });
                }
                Err(Halt::Away(why)) => {
                    self.metrics.errors.inc();
                    tracing::warn!(why, "the order store did not take a batch; trying again");
                    *self.shared.state.lock() = StreamState::Waiting(why);
                    // What the store has is unknown now: ask it.
                    known = false;
                    self.sleep(retry);
                    retry = (retry * 2).min(self.config.retry_max);
                }
                Err(Halt::Stop(why)) => {
                    self.metrics.errors.inc();
                    tracing::error!(why, "the stream to the order store stopped");
                    *self.shared.state.lock() = StreamState::Stopped(why);
                    break;
                }
            }
        }
        // A stream that stands still must not look as if it were even.
        while !self.shared.stop.load(Ordering::Acquire) {
            self.show_lag(mark.as_ref(), &mut even_at);
            self.sleep(Duration::from_secs(1));
        }
    }

    fn show_lag(&self, mark: Option<&Mark>, even_at: &mut Instant) {
        let tip = self.ledger.tip().seq.0;
        let lag = tip.saturating_sub(mark.map_or(0, |m| m.seq.0));
        if lag == 0 {
            *even_at = Instant::now();
        }
        self.metrics.lag_records.set(lag.cast_signed());
        self.metrics
            .lag_seconds
            .set(even_at.elapsed().as_secs_f64());
    }

    fn sleep(&self, wait: Duration) {
        let mut guard = self.shared.wake_lock.lock();
        if !self.shared.stop.load(Ordering::Acquire) {
            let _ = self.shared.wake.wait_for(&mut guard, wait);
        }
    }

    /// The store's mark, if it can be from this ledger at all.
    fn begin(&self) -> Result<Option<Mark>, Halt> {
        let mark = self.store.mark(self.config.node)?;
        if let Some(mark) = &mark {
            witness::check(&self.ledger, mark)?;
        }
        Ok(mark)
    }

    /// One batch; returns how many records it carried.
    fn step(&mut self, mark: &mut Option<Mark>) -> Result<usize, Halt> {
        let from = mark.as_ref().map_or(Seq(1), |m| m.seq.next());
        if from > self.ledger.tip().seq {
            return Ok(0);
        }
        let records = self
            .ledger
            .tail(
                from,
                self.config.batch_records_max,
                self.config.batch_bytes_max,
            )
            .map_err(|e| Halt::Stop(e.to_string()))?;
        let Some(last) = records.last() else {
            return Ok(0);
        };
        let to = Mark {
            ledger: self.ledger.id(),
            seq: last.seq,
            hash: last.hash,
        };
        let mut batch = Batch::default();
        for record in &records {
            let row =
                rows_of(record).map_err(|e| Halt::Stop(format!("record {}: {e}", record.seq.0)))?;
            batch.orders.extend(row);
        }
        let asked = self.store.put(self.config.node, &batch, mark.as_ref(), &to);
        let put = match asked {
            Ok(Put::Advanced) => {
                self.aside.taken(&batch, from.0, &to)?;
                Put::Advanced
            }
            Ok(moved @ Put::MarkMoved(_)) => moved,
            Err(error) => {
                // Only a refusal of rows is the rows' own fault.
                error.refusal()?;
                self.metrics.errors.inc();
                self.aside.put(batch, mark.as_ref(), &to)?
            }
        };
        match put {
            Put::Advanced => *mark = Some(to),
            Put::MarkMoved(actual) => {
                tracing::warn!(
                    ?actual,
                    "the order store's mark moved under us; going on from there"
                );
                if let Some(actual) = &actual {
                    witness::check(&self.ledger, actual)?;
                }
                *mark = actual;
            }
        }
        Ok(records.len())
    }
}
