//! The worker: tails the ledger from the store's own mark, for ever.
//!
//! A thread of its own, because the store blocks. It is a lag, never a brake:
//! sales do not wait for it, and while many records come it rests most of the time
//! (`pace.rs`). Once the rush is over it works without a rest until it is even.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use floodgate_ledger::{Ledger, Seq};
use parking_lot::{Condvar, Mutex};

use super::aside::Aside;
use super::lag::Lag;
use super::letters::{LetterError, Letters};
use super::load::{self, Load, Loaded};
use super::metrics::StreamMetrics;
use super::pace;
use super::refill::{Refill, Refilled};
use super::signs::{Busy, Signs};
use super::store::{Batch, Mark, OrderStore, Put, StoreError};
use super::stride::Stride;
use super::witness::{self, Disagreement};

#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub node: u16,
    /// Of a store that takes so many in time; another one gets fewer (`stride.rs`).
    pub batch_records_max: usize,
    pub batch_bytes_max: usize,
    /// More new records a second than this mean that a sale is running.
    pub rush_per_second: u32,
    /// Longest rest after a batch while a sale is running.
    pub rest_max: Duration,
    /// Between looks at a ledger that has nothing new.
    pub idle_wait: Duration,
    /// Between looks at a store that is given nothing: it may have been put back to an
    /// older day.
    pub look_wait: Duration,
    /// First and longest wait after the store refused; it doubles in between, less a
    /// part by chance.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// Of that chance.
    pub seed: u64,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            node: 0,
            batch_records_max: 1_000,
            batch_bytes_max: 4 << 20,
            // Keeping up with so many takes a tenth of a processor.
            rush_per_second: 2_000,
            rest_max: Duration::from_secs(1),
            idle_wait: Duration::from_millis(20),
            look_wait: Duration::from_secs(5),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            seed: 0,
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

impl Shared {
    fn sleep(&self, wait: Duration) {
        let mut guard = self.wake_lock.lock();
        if !self.stop.load(Ordering::Acquire) {
            let _ = self.wake.wait_for(&mut guard, wait);
        }
    }
}

/// A thread that panics must not look like one that runs.
struct Fallen(Arc<Shared>);

impl Drop for Fallen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = "its thread fell; the log says where".to_owned();
            *self.0.state.lock() = StreamState::Stopped(why);
        }
    }
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
        busy: Busy,
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
            lone_refusals: BTreeMap::new(),
        };
        let signs = Signs {
            ledger: ledger.clone(),
            busy,
        };
        let lagging = ledger.clone();
        let worker = Worker {
            ledger,
            store,
            aside,
            chance: Rng::with_seed(config.seed),
            stride: Stride::new(config.batch_records_max),
            config,
            calm: false,
            doubt: true,
            ahead: VecDeque::new(),
            lag: Lag::new(lagging, metrics.clone()),
            signs,
            metrics,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("stream".into())
            .spawn(move || {
                let _told = Fallen(Arc::clone(&worker.shared));
                worker.run();
            })?;
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

    /// How far the store has come for certain: nothing while it is away, or when it
    /// is not the one it was.
    pub fn mark_in_step(&self) -> Option<Seq> {
        match self.state() {
            StreamState::Running => self.mark().map(|m| m.seq),
            StreamState::Waiting(_) | StreamState::Stopped(_) => None,
        }
    }

    /// Whether the store has everything through there, waited for as long as it may take.
    pub async fn carried(&self, through: Seq, patience: Duration) -> bool {
        let carried = async {
            loop {
                if self.mark().map_or(Seq::ZERO, |mark| mark.seq) >= through {
                    return true;
                }
                if matches!(self.state(), StreamState::Stopped(_)) {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, carried)
            .await
            .unwrap_or(false)
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
    lag: Lag,
    signs: Signs,
    chance: Rng,
    /// Nobody bought during the last batch.
    calm: bool,
    /// The store may be a copy from an older day.
    doubt: bool,
    stride: Stride,
    /// What follows the last batch, as far as it was read already.
    ahead: VecDeque<Load>,
}

/// A store may take two at a time, and the next two are made meanwhile: so many wait
/// beside the one that is put.
const AHEAD_MAX: usize = 3;

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
        match error {
            LetterError::Store(error) => error.into(),
            LetterError::Mark(error) => error.into(),
            LetterError::Busy => Self::Away(error.to_string()),
            LetterError::Read(_) | LetterError::Note { .. } | LetterError::Write(_) => {
                Self::Stop(error.to_string())
            }
        }
    }
}

impl From<Disagreement> for Halt {
    fn from(error: Disagreement) -> Self {
        Self::Stop(error.to_string())
    }
}

/// What became of a batch, and whether the next is in too.
type Answered = Result<(Put, bool), StoreError>;

impl Worker {
    fn run(mut self) {
        let mut retry = self.config.retry_min;
        let mut mark = None;
        let mut known = false;
        // When the store last said where it stands, or took something.
        let mut heard_at = Instant::now();
        while !self.shared.stop.load(Ordering::Acquire) {
            fail::fail_point!("stream-turn");
            let began = self.signs.begin();
            let carried = known;
            let step = if known {
                self.step(&mut mark)
            } else {
                self.begin(mark.as_ref()).map(|found| {
                    if mark.is_some() && mark != found {
                        tracing::info!(?found, "the order store stands elsewhere than last heard");
                    }
                    mark = found;
                    known = true;
                    1
                })
            };
            let worked = self.signs.since(&began);
            self.show_lag(mark.as_ref());
            match step {
                Ok(n_carried) => {
                    self.shared.mark.lock().clone_from(&mark);
                    // Telling its mark is not yet taking a batch.
                    if carried {
                        *self.shared.state.lock() = StreamState::Running;
                        retry = self.config.retry_min;
                    }
                    if n_carried > 0 {
                        heard_at = Instant::now();
                    } else if heard_at.elapsed() >= self.config.look_wait {
                        known = false;
                    }
                    known &= !self.doubt;
                    let rest = pace::rest(n_carried, worked, &self.config);
                    self.calm = rest.is_zero();
                    self.shared.sleep(rest);
                }
                Err(Halt::Away(why)) => {
                    self.metrics.errors.inc();
                    tracing::warn!(why, "the order store did not take a batch; trying again");
                    *self.shared.state.lock() = StreamState::Waiting(why);
                    // What the store has is unknown now: ask it, and spare it a while.
                    known = false;
                    self.doubt = true;
                    self.calm = false;
                    // Perhaps it was too much at once.
                    self.stride.away();
                    self.ahead.clear();
                    let wait = pace::retry_wait(retry, self.chance.f64());
                    self.shared.sleep(wait);
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
            self.show_lag(mark.as_ref());
            self.shared.sleep(Duration::from_secs(1));
        }
    }

    fn show_lag(&mut self, mark: Option<&Mark>) {
        self.lag.show(first_after(mark), self.aside.letters.now());
    }

    /// The store's mark, if it can be from this ledger at all. A store that is not known to
    /// be the one it was gets what was replayed into it.
    fn begin(&mut self, before: Option<&Mark>) -> Result<Option<Mark>, Halt> {
        self.stride.ask(1);
        let mut mark = self.store.mark(self.config.node)?;
        if let Some(mark) = &mark {
            witness::check(&self.ledger, mark)?;
        }
        let letters = &self.aside.letters;
        if self.doubt || mark.as_ref() != before {
            self.doubt = true;
            let n_max = self.stride.now();
            self.stride.ask(n_max.min(letters.n_taken()));
            if letters.put_again(mark.as_ref(), n_max)? {
                mark = mark.or_else(|| Some(Mark::genesis(&self.ledger)));
            }
            self.doubt = false;
        }
        letters.let_go()?;
        Ok(mark)
    }

    /// One batch, and the next with it if the store can and nobody buys; returns how many
    /// records that carried.
    fn step(&mut self, mark: &mut Option<Mark>) -> Result<usize, Halt> {
        let from = first_after(mark.as_ref());
        if self.ahead.front().is_some_and(|load| load.from != from) {
            self.ahead.clear();
        }
        let Load {
            batch,
            to,
            n_records,
            ..
        } = match self.ahead.pop_front() {
            Some(load) => load,
            None => match load::load(&self.ledger, &self.config, from, self.stride.now())? {
                Loaded::Some(load) => load,
                Loaded::Nothing => return Ok(0),
                Loaded::Trimmed => return self.refill(mark),
            },
        };
        self.stride.ask(n_records);
        let (asked, loaded) = self.ask(&batch, mark.as_ref(), &to);
        self.ahead.extend(loaded);
        let put = match asked {
            Ok((Put::Advanced, next_is_in)) => {
                self.stride.taken();
                self.aside.taken(&batch, from.0, &to)?;
                let next = self.ahead.pop_front_if(|_| next_is_in);
                if let Some(next) = next {
                    self.aside.taken(&next.batch, next.from.0, &next.to)?;
                    *mark = Some(next.to);
                    return Ok(n_records + next.n_records);
                }
                Put::Advanced
            }
            Ok((moved @ Put::MarkMoved(_), _)) => moved,
            Err(error) => {
                // Only a refusal of rows is the rows' own fault.
                error.refusal()?;
                self.metrics.errors.inc();
                self.aside.put(batch, mark.as_ref(), &to)?
            }
        };
        match put {
            Put::Advanced => *mark = Some(to),
            Put::MarkMoved(actual) => self.follow(mark, actual)?,
        }
        Ok(n_records)
    }

    /// Puts a batch. While nobody buys the next one goes with it, if it was read already,
    /// and what follows is read meanwhile; not for a store that one batch is enough for.
    fn ask(&self, batch: &Batch, from: Option<&Mark>, to: &Mark) -> (Answered, Vec<Load>) {
        let (store, node) = (&self.store, self.config.node);
        let alone = || Ok((store.put(node, batch, from, to)?, false));
        if !self.calm || self.stride.is_short() {
            return (alone(), Vec::new());
        }
        let n_max = AHEAD_MAX.saturating_sub(self.ahead.len());
        let last = self.ahead.back().map_or(to.seq, |load| load.to.seq);
        load::meanwhile((&self.ledger, &self.config), last, n_max, || {
            match self.ahead.front() {
                Some(next) => store.put_with_next(node, batch, from, to, (&next.batch, &next.to)),
                None => alone(),
            }
        })
    }

    /// Somebody else moved the mark: goes on from there, if it is of this ledger.
    fn follow(&mut self, mark: &mut Option<Mark>, actual: Option<Mark>) -> Result<(), Halt> {
        tracing::warn!(
            ?actual,
            "the order store's mark moved under us; going on from there"
        );
        if let Some(actual) = &actual {
            witness::check(&self.ledger, actual)?;
        }
        *mark = actual;
        self.doubt = true;
        Ok(())
    }

    fn refill(&mut self, mark: &mut Option<Mark>) -> Result<usize, Halt> {
        let refill = Refill {
            ledger: &self.ledger,
            store: &*self.store,
            node: self.config.node,
            stride: &mut self.stride,
        };
        let (signs, shared, config) = (&self.signs, &self.shared, &self.config);
        let (lag, letters) = (&mut self.lag, Arc::clone(&self.aside.letters));
        let first = first_after(mark.as_ref());
        let mut began = signs.begin();
        let go_on = |n_carried| {
            lag.show(first, letters.now());
            shared.sleep(pace::rest(n_carried, signs.since(&began), config));
            began = signs.begin();
            !shared.stop.load(Ordering::Acquire)
        };
        match refill.run(&mut self.aside, mark.as_ref(), go_on)? {
            Refilled::Done(to) => *mark = Some(to),
            Refilled::MarkMoved(actual) => self.follow(mark, actual)?,
            Refilled::Stopped => {}
        }
        Ok(1)
    }
}

/// The first record that a store with this mark lacks.
fn first_after(mark: Option<&Mark>) -> Seq {
    mark.map_or(Seq(1), |m| m.seq.next())
}
