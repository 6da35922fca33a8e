//! How long the stream rests after a batch. Pure.
//!
//! It is a lag, never a brake: a row costs about as much as the sale of its order,
//! so while a sale runs the stream works a twentieth of the time. A rush is told by
//! what came **while it worked**: what came during a rest would only say how long
//! the rest was, and a quiet trickle would look like a rush for ever. Buyers who hear
//! "sold out" leave no record, but they need the processors as well.

use std::time::Duration;

use super::worker::WorkerConfig;

/// Rests per time of work while a sale is running.
const YIELD: u32 = 19;

/// Rests per time of work while buyers keep the workers busy with anything else: what is
/// left of the time is enough to keep even with a ledger that grows too slowly for a rush.
const YIELD_TO_BUSY: u32 = 4;

#[derive(Clone, Copy)]
pub(super) struct Worked {
    pub took: Duration,
    /// Records that came to the ledger meanwhile.
    pub n_new: u64,
    /// How long a worker was busy meanwhile.
    pub busy: Duration,
}

pub(super) fn rest(n_carried: usize, worked: Worked, config: &WorkerConfig) -> Duration {
    if n_carried == 0 {
        config.idle_wait
    } else {
        let rests = if is_rush(worked, config.rush_per_second) {
            YIELD
        } else if worked.busy > worked.took / 2 {
            YIELD_TO_BUSY
        } else {
            0
        };
        // A slow store must not turn into a stream that hardly ever looks.
        worked.took.saturating_mul(rests).min(config.rest_max)
    }
}

/// The wait after the store refused, of `longest` at most: half of it for certain and
/// half by `chance` (0 to 1), so that engines that lost one database do not come back
/// to it in step.
pub(super) fn retry_wait(longest: Duration, chance: f64) -> Duration {
    longest / 2 + (longest / 2).mul_f64(chance.clamp(0.0, 1.0))
}

fn is_rush(worked: Worked, per_second: u32) -> bool {
    let came = u128::from(worked.n_new) * Duration::from_secs(1).as_nanos();
    came > u128::from(per_second) * worked.took.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest_ms(took_ms: u64, n_carried: usize, n_new: u64) -> u128 {
        rest_busy_ms(took_ms, n_carried, n_new, 0)
    }

    fn rest_busy_ms(took_ms: u64, n_carried: usize, n_new: u64, busy_ms: u64) -> u128 {
        let config = WorkerConfig {
            rush_per_second: 2_000,
            idle_wait: Duration::from_millis(20),
            rest_max: Duration::from_secs(1),
            ..WorkerConfig::default()
        };
        let worked = Worked {
            took: Duration::from_millis(took_ms),
            n_new,
            busy: Duration::from_millis(busy_ms),
        };
        rest(n_carried, worked, &config).as_millis()
    }

    #[test]
    fn a_rush_is_told_by_its_rate() {
        assert_eq!(rest_ms(50, 1_000, 4_000), 950, "80,000 a second");
        assert_eq!(rest_ms(50, 1_000, 101), 950, "just above 2,000 a second");
        assert_eq!(rest_ms(50, 1_000, 100), 0, "just as many");
        // A slow store takes long for its batch; that alone is no rush.
        assert_eq!(rest_ms(4_000, 1_000, 400), 0);
    }

    #[test]
    fn busy_workers_are_given_way_to_and_a_rush_more_so() {
        assert_eq!(rest_busy_ms(50, 1_000, 0, 25), 0, "half of the time");
        assert_eq!(rest_busy_ms(50, 1_000, 0, 26), 200, "more than half");
        assert_eq!(rest_busy_ms(50, 1_000, 4_000, 50), 950);
        assert_eq!(rest_busy_ms(0, 0, 0, 1), 20, "nothing to carry");
    }

    #[test]
    fn no_rest_is_longer_than_the_longest() {
        assert_eq!(rest_ms(4_000, 1_000, 320_000), 1_000);
        assert_eq!(rest_busy_ms(4_000, 1_000, 0, 4_000), 1_000);
    }

    #[test]
    fn a_retry_comes_by_chance_in_the_second_half_of_its_wait() {
        let longest = Duration::from_secs(5);
        let wait = |chance| retry_wait(longest, chance).as_millis();
        assert_eq!([wait(0.0), wait(0.5), wait(1.0)], [2_500, 3_750, 5_000]);
    }

    #[test]
    fn without_work_it_looks_again_soon_and_after_a_rush_at_once() {
        assert_eq!(rest_ms(0, 0, 0), 20);
        assert_eq!(rest_ms(50, 1_000, 0), 0);
    }
}
