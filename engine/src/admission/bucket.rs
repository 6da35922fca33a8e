//! The token bucket of a sale, as pure arithmetic; the clock is handed in.
//!
//! The generic cell rate algorithm (ITU-T I.371, the virtual scheduling form):
//! one number, the theoretical arrival time of the next request, stands for
//! both the tokens left and the line of those who wait. Whoever is told "wait"
//! has a place of their own, so the line is first come, first served; whoever leaves it
//! gives the place to the next who comes.

use std::collections::BTreeSet;
use std::time::Duration;

/// Nanoseconds since any fixed start.
type Nanos = u64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    interval: Nanos,
    burst: Nanos,
    /// When the next request would arrive if all came exactly at the rate.
    next_at: Nanos,
    /// Places in the line that were given back.
    left: BTreeSet<Nanos>,
}

/// The answer to "may I?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    Now,
    /// A token is reserved; it may be used after this long.
    After(Duration),
    /// The wait would be longer than allowed: this long. No token was taken.
    TooLong(Duration),
}

impl TokenBucket {
    /// `rate` tokens a second, at most `burst` at once; both at least 1.
    pub fn new(rate: u32, burst: u32) -> Self {
        let interval = 1_000_000_000 / u64::from(rate.max(1));
        Self {
            interval,
            burst: interval * u64::from(burst.max(1)),
            next_at: 0,
            left: BTreeSet::new(),
        }
    }

    /// From here on another rate; places already given keep their time.
    pub fn change(&mut self, rate: u32, burst: u32) {
        let Self {
            interval, burst, ..
        } = Self::new(rate, burst);
        (self.interval, self.burst) = (interval, burst);
    }

    /// Takes a token now or, waiting at most `wait_max`, later.
    pub fn take(&mut self, now: Nanos, wait_max: Duration) -> Pass {
        let arrival = self.next_at.max(now);
        // Within the burst a request may come this much before its time.
        let allowed_at = (arrival + self.interval).saturating_sub(self.burst);
        // One whose time has passed is gone: two at once would be more than the rate.
        self.left = self.left.split_off(&now);
        let place = match self.left.first() {
            Some(left) if *left < allowed_at => *left,
            Some(_) | None => allowed_at,
        };
        let wait = Duration::from_nanos(place.saturating_sub(now));
        if wait > wait_max {
            return Pass::TooLong(wait);
        }
        if place == allowed_at {
            self.next_at = arrival + self.interval;
        } else {
            self.left.pop_first();
        }
        if wait.is_zero() {
            Pass::Now
        } else {
            Pass::After(wait)
        }
    }

    /// A place that was to be used at this time, and will not be.
    pub fn give_back(&mut self, at: Nanos) {
        self.left.insert(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let none = Duration::ZERO;
        assert_eq!(
            (0..4)
                .map(|_| bucket.take(0, none))
                .filter(|p| *p == Pass::Now)
                .count(),
            3
        );
        assert_eq!(
            bucket.take(0, none),
            Pass::TooLong(Duration::from_millis(100))
        );
        assert_eq!(bucket.take(SECOND / 10, none), Pass::Now);
        assert_eq!(
            bucket.take(SECOND / 10, none),
            Pass::TooLong(Duration::from_millis(100))
        );
    }

    #[test]
    fn those_who_wait_stand_in_line() {
        let mut bucket = TokenBucket::new(10, 1);
        let second = Duration::from_secs(1);
        assert_eq!(bucket.take(0, second), Pass::Now);
        assert_eq!(
            bucket.take(0, second),
            Pass::After(Duration::from_millis(100))
        );
        assert_eq!(
            bucket.take(0, second),
            Pass::After(Duration::from_millis(200))
        );
        assert_eq!(
            bucket.take(0, Duration::from_millis(200)),
            Pass::TooLong(Duration::from_millis(300))
        );
        assert_eq!(
            bucket.take(0, second),
            Pass::After(Duration::from_millis(300)),
            "no token was lost"
        );
    }

    #[test]
    fn a_place_that_was_left_is_the_next_ones() {
        let mut bucket = TokenBucket::new(10, 1);
        let second = Duration::from_secs(1);
        let after = |ms| Pass::After(Duration::from_millis(ms));
        assert_eq!(bucket.take(0, second), Pass::Now);
        assert_eq!(
            [(); 3].map(|()| bucket.take(0, second)),
            [100, 200, 300].map(after)
        );
        bucket.give_back(2 * SECOND / 10);
        assert_eq!(bucket.take(0, Duration::from_millis(200)), after(200));
        assert_eq!(bucket.take(0, second), after(400), "it was there once");
        bucket.give_back(SECOND / 10);
        // Nobody came in time.
        assert_eq!(
            bucket.take(SECOND / 10 + 1, second),
            Pass::After(Duration::from_nanos(400_000_000 - 1))
        );
    }

    proptest! {
        /// Never more than burst + rate × time, wherever one looks, whoever leaves the line.
        #[test]
        fn never_more_than_rate_and_burst(
            rate in 1_u32..2_000, burst in 1_u32..50,
            gaps in prop::collection::vec((0_u64..20_000_000, prop::bool::weighted(0.3)), 1..200),
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            let (mut now, mut used, mut n_left) = (0, Vec::new(), 0);
            for (gap, leaves) in gaps {
                now += gap;
                match bucket.take(now, Duration::from_millis(50)) {
                    Pass::Now => used.push(now),
                    Pass::After(wait) if leaves => {
                        n_left += 1;
                        bucket.give_back(now + wait.as_nanos() as u64);
                    }
                    Pass::After(wait) => used.push(now + wait.as_nanos() as u64),
                    Pass::TooLong(_) => {}
                }
            }
            // Whoever takes a place that was left comes before those who came before.
            prop_assert!(n_left > 0 || used.is_sorted());
            used.sort_unstable();
            for (i, from) in used.iter().enumerate() {
                for (n, to) in used[i..].iter().enumerate() {
                    let allowed = u64::from(burst) + (to - from) / (SECOND / u64::from(rate)) + 1;
                    prop_assert!((n as u64) < allowed);
                }
            }
        }
    }
}
