//! The circuit breaker: a provider that keeps failing is left alone for a while. Pure;
//! the clock is handed in.
//!
//! ```text
//! closed ──n failures in a row──▶ open ──its time is over──▶ half open, one call
//!    ▲                              ▲                          │
//!    └──────────── success ─────────┼──────────────────────────┤
//!                                   └───────── failure ────────┘
//! ```
//! A call that was let through and never tells what came of it does not hold the one
//! place of "half open" for ever: after `probe_max` the next one has it.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub struct BreakerLimits {
    /// So many failures in a row open it.
    pub failures_max: u32,
    /// How long nobody is let through.
    pub open: Duration,
    /// Longest one call has the place of "half open".
    pub probe_max: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            failures_max: 5,
            open: Duration::from_secs(5),
            probe_max: Duration::from_secs(15),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { until: Instant },
}

#[derive(Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    state: State,
}

impl Breaker {
    pub fn new(limits: BreakerLimits) -> Self {
        Self {
            limits,
            state: State::Closed { failures: 0 },
        }
    }

    /// Whether a call may go now; if not, when to ask again. Whoever may go tells what
    /// came of it.
    pub fn ask(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } | State::HalfOpen { until } if now < until => Err(until - now),
            State::Open { .. } | State::HalfOpen { .. } => {
                let until = now + self.limits.probe_max;
                self.state = State::HalfOpen { until };
                Ok(())
            }
        }
    }

    /// As [`Breaker::ask`], by somebody who may not go after all.
    pub fn look(&self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } | State::HalfOpen { until } if now < until => Err(until - now),
            State::Open { .. } | State::HalfOpen { .. } => Ok(()),
        }
    }

    /// The provider answered, whatever it said.
    pub fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// It did not. True when this opened the breaker.
    pub fn failed(&mut self, now: Instant) -> bool {
        let failures = match self.state {
            State::Closed { failures } => failures.saturating_add(1),
            State::HalfOpen { .. } => self.limits.failures_max,
            // Of a call that began before: the time is running already.
            State::Open { .. } => return false,
        };
        if failures < self.limits.failures_max {
            self.state = State::Closed { failures };
            return false;
        }
        let until = now + self.limits.open;
        self.state = State::Open { until };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BreakerLimits = BreakerLimits {
        failures_max: 3,
        open: Duration::from_secs(5),
        probe_max: Duration::from_secs(15),
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_no_others() {
        let (mut breaker, now) = (Breaker::new(LIMITS), Instant::now());
        for _ in 0..10 {
            assert!(!breaker.failed(now) && !breaker.failed(now));
            breaker.succeeded();
            assert_eq!(breaker.ask(now), Ok(()));
        }
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.failed(now));
        assert_eq!(breaker.ask(now + seconds(2)), Err(seconds(3)));
        // Calls that began before it opened do not keep it open.
        assert!(!breaker.failed(now + seconds(4)));
        assert_eq!(breaker.ask(now + seconds(5)), Ok(()));
    }

    #[test]
    fn half_open_lets_one_through_and_its_outcome_decides() {
        let (mut breaker, start) = (Breaker::new(LIMITS), Instant::now());
        for _ in 0..3 {
            breaker.failed(start);
        }
        let now = start + seconds(5);
        assert_eq!(breaker.look(now), Ok(()), "looking takes no place");
        assert_eq!(breaker.ask(now), Ok(()));
        assert!(breaker.ask(now).is_err() && breaker.look(now).is_err());
        assert!(breaker.failed(now + seconds(1)), "one failure is enough");
        assert_eq!(breaker.ask(now + seconds(5)), Err(seconds(1)));
        assert_eq!(breaker.ask(now + seconds(6)), Ok(()));
        breaker.succeeded();
        assert!(breaker.ask(now).is_ok() && breaker.ask(now).is_ok());
        assert!(!breaker.failed(now), "it counts from none again");
    }

    #[test]
    fn a_call_that_never_tells_loses_its_place() {
        let (mut breaker, start) = (Breaker::new(LIMITS), Instant::now());
        for _ in 0..3 {
            breaker.failed(start);
        }
        let now = start + seconds(5);
        assert_eq!(breaker.ask(now), Ok(()));
        assert_eq!(breaker.ask(now + seconds(14)), Err(seconds(1)));
        assert_eq!(breaker.ask(now + seconds(15)), Ok(()));
        assert_eq!(breaker.ask(now + seconds(15)), Err(seconds(15)));
    }
}
