//! What everybody in a schedule shares: chance, the trace, and whether the engine
//! is still alive.
//!
//! A crash happens at a step: from then on nothing that the engine does reaches
//! disk, stock or buyer, whatever its tasks still compute; then they are dropped.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use floodgate_engine::domain::time::{Clock, UnixMs};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3Default;

use crate::setup::{Rates, Setup, T0};

/// Script calls in one schedule: far more than any that comes to rest.
const CALLS_MAX: u32 = 20_000;

/// How often each thing happened: a schedule that reaches nothing proves nothing.
pub type Counts = std::collections::BTreeMap<&'static str, u64>;

pub struct World {
    pub setup: Setup,
    state: Mutex<State>,
    crashed: Notify,
}

struct State {
    rng: Rng,
    frozen: bool,
    healed: bool,
    /// Meddled with in a way that only a rebuild brings to light.
    tampered: bool,
    crash_in: Option<u32>,
    /// For how long the process stood still.
    stood_still_ms: u64,
    calls: u32,
    trace: Trace,
    counts: Counts,
    broken: Option<String>,
    /// Records with which a commit ended: between two of them nothing can be seen.
    commit_ends: BTreeSet<u64>,
    clock: SimClock,
    /// The least and the most that any clock of the engine said.
    clock_min: u64,
    clock_max: u64,
}

struct Trace {
    hash: Xxh3Default,
    lines: Option<Vec<String>>,
    line: String,
}

/// Wall time at the start of a life, and from there on as fast as virtual time.
#[derive(Clone, Copy)]
pub struct SimClock {
    base: u64,
    started: Instant,
}

impl Clock for SimClock {
    fn now(&self) -> UnixMs {
        let run = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        UnixMs(self.base + run)
    }
}

impl World {
    pub fn new(seed: u64, keep_lines: bool) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let setup = Setup::draw(&mut rng);
        let world = Self {
            setup,
            state: Mutex::new(State {
                rng,
                frozen: true,
                healed: false,
                tampered: false,
                crash_in: None,
                stood_still_ms: 0,
                calls: 0,
                trace: Trace {
                    hash: Xxh3Default::new(),
                    lines: keep_lines.then(Vec::new),
                    line: String::new(),
                },
                counts: Counts::new(),
                broken: None,
                commit_ends: BTreeSet::new(),
                clock: SimClock {
                    base: T0,
                    started: Instant::now(),
                },
                clock_min: u64::MAX,
                clock_max: 0,
            }),
            crashed: Notify::new(),
        };
        world.note(format_args!("seed {seed}: {:?}", world.setup));
        Arc::new(world)
    }

    /// Another life begins, by a clock that starts at `base`.
    pub fn begin(&self, base: u64) -> SimClock {
        let mut state = self.state.lock();
        let clock = SimClock {
            base,
            started: Instant::now(),
        };
        state.clock = clock;
        state.clock_min = state.clock_min.min(base);
        state.frozen = false;
        clock
    }

    /// Ends a life; its clock's last word is returned.
    pub fn end(&self) -> u64 {
        let mut state = self.state.lock();
        state.frozen = true;
        state.crash_in = None;
        let now = state.clock.now().0;
        state.clock_max = state.clock_max.max(now);
        now
    }

    /// The least and the most that any clock has said; asked while the engine lives.
    pub fn clocks(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.clock_min, state.clock_max.max(state.clock.now().0))
    }

    pub fn crash_in(&self, steps: u32) {
        self.state.lock().crash_in = Some(steps);
    }

    pub fn is_frozen(&self) -> bool {
        self.state.lock().frozen
    }

    pub fn is_healed(&self) -> bool {
        self.state.lock().healed
    }

    /// From here on nothing fails any more.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.healed = true;
        state.crash_in = None;
        drop(state);
        self.note(format_args!("healed"));
    }

    /// Whether the engine comes past this step alive.
    pub fn passes(&self, step: &'static str) -> bool {
        let mut state = self.state.lock();
        if state.frozen {
            return false;
        }
        if let Some(steps) = &mut state.crash_in {
            *steps = steps.saturating_sub(1);
            if *steps == 0 {
                state.frozen = true;
                drop(state);
                self.count(step);
                self.note(format_args!("{step}"));
                self.crashed.notify_one();
                return false;
            }
        }
        true
    }

    /// Waits for ever once the engine is dead.
    pub async fn pass(&self, step: &'static str) {
        if !self.passes(step) {
            std::future::pending::<()>().await;
        }
    }

    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// One more script call; false when there were so many that nothing will come of it.
    pub fn one_more_call(&self) -> bool {
        let mut state = self.state.lock();
        state.calls += 1;
        let endless = state.calls > CALLS_MAX;
        drop(state);
        if endless {
            self.breaks(format_args!(
                "P5 nothing stays stuck: script calls without end"
            ));
        }
        !endless
    }

    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.state.lock().rng)
    }

    /// Whether a fault of this likelihood happens here.
    pub fn happens(&self, rate: impl FnOnce(&Rates) -> u16) -> bool {
        let rate = rate(&self.setup.rates);
        let mut state = self.state.lock();
        rate > 0 && !state.healed && state.rng.u16(..1_000) < rate
    }

    pub fn count(&self, what: &'static str) {
        *self.state.lock().counts.entry(what).or_default() += 1;
    }

    /// The process is stopped and goes on later, where it was.
    pub async fn stand_still(&self, for_ms: u64) {
        self.count("fault: the engine stood still");
        self.note(format_args!("stands still for {for_ms} ms"));
        self.state.lock().stood_still_ms += for_ms;
        tokio::time::advance(ms(for_ms)).await;
    }

    /// For how long it did so far.
    pub fn stood_still_ms(&self) -> u64 {
        self.state.lock().stood_still_ms
    }

    pub fn tamper(&self) {
        self.state.lock().tampered = true;
    }

    pub fn is_tampered(&self) -> bool {
        self.state.lock().tampered
    }

    /// The disk has these records, in one commit. Where an older copy was put back, others
    /// had their numbers, and ended their commits elsewhere.
    pub fn committed(&self, first: u64, last: u64) {
        let ends = &mut self.state.lock().commit_ends;
        ends.split_off(&first);
        ends.insert(last);
    }

    pub fn is_commit_end(&self, seq: u64) -> bool {
        self.state.lock().commit_ends.contains(&seq)
    }

    /// A line of the trace: what happened, in the order in which it did.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut state = self.state.lock();
        let at = if state.frozen {
            0
        } else {
            state.clock.now().0 - state.clock.base
        };
        let trace = &mut state.trace;
        trace.line.clear();
        // Writing to a string cannot fail.
        let _ = write!(trace.line, "{at:>7} {what}");
        trace.hash.update(trace.line.as_bytes());
        if let Some(lines) = &mut trace.lines {
            lines.push(trace.line.clone());
        }
    }

    /// Remembers the first broken promise.
    pub fn breaks(&self, what: fmt::Arguments<'_>) {
        self.note(format_args!("BROKEN {what}"));
        let mut state = self.state.lock();
        if state.broken.is_none() {
            state.broken = Some(what.to_string());
        }
    }

    pub fn is_broken(&self) -> bool {
        self.state.lock().broken.is_some()
    }

    pub fn now(&self) -> u64 {
        self.state.lock().clock.now().0
    }

    /// Of this life, in milliseconds.
    pub fn age(&self) -> u64 {
        let state = self.state.lock();
        state.clock.now().0 - state.clock.base
    }

    /// What came of the schedule.
    pub fn outcome(&self) -> Outcome {
        let mut state = self.state.lock();
        Outcome {
            broken: state.broken.take(),
            trace: state.trace.hash.digest(),
            lines: state.trace.lines.take().unwrap_or_default(),
            counts: std::mem::take(&mut state.counts),
        }
    }
}

#[derive(Debug)]
pub struct Outcome {
    pub broken: Option<String>,
    pub trace: u64,
    pub lines: Vec<String>,
    pub counts: Counts,
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
