//! What happened, in numbers: counts, percentiles, one row a second.
//!
//! Latency runs from the intended send time to the end of the answer.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::answer::{CLASSES, Outcome};

/// Up to two minutes at three digits; longer ones count as two minutes.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Rows beyond this are added to the last one.
const SECONDS_MAX: usize = 86_400;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    pub n: u64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

/// A histogram of microseconds.
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant bounds are valid"))
    }
}

impl Latency {
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    pub fn percentiles(&self) -> Percentiles {
        let at = |q| self.0.value_at_quantile(q);
        Percentiles {
            n: self.0.len(),
            mean_us: self.0.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    pub second: u64,
    /// Answers by class, in the order of [`CLASSES`].
    pub answers: [u64; CLASSES.len()],
    pub dropped: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

#[derive(Default)]
pub struct Stats {
    pub outcomes: std::collections::HashMap<Outcome, u64>,
    pub all: Latency,
    pub won: Latency,
    pub sold_out: Latency,
    /// Callbacks of the payment provider that were taken.
    pub taken: Latency,
    /// From the first intended send to a definite answer, retries included.
    pub settled: Latency,
    /// How late sends left: the generator's own share of the latency.
    pub lateness: Latency,
    pub sends: u64,
    pub dropped: u64,
    pub connect_failures: u64,
    /// Buyers who never heard a definite answer within the outage time.
    pub gave_up: u64,
    rows: Vec<Second>,
    row: Second,
    row_latency: Latency,
}

impl Stats {
    pub fn answered(&mut self, outcome: Outcome, intended_us: u64, answered_us: u64) {
        self.roll(answered_us);
        let latency_us = answered_us.saturating_sub(intended_us);
        *self.outcomes.entry(outcome).or_default() += 1;
        self.row.answers[outcome.class()] += 1;
        // A buyer's own cut is nobody's latency.
        if outcome != Outcome::OwnCut {
            self.all.record(latency_us);
            self.row_latency.record(latency_us);
        }
        if outcome == Outcome::Won {
            self.won.record(latency_us);
        } else if outcome == Outcome::SoldOut {
            self.sold_out.record(latency_us);
        } else if outcome == Outcome::Taken {
            self.taken.record(latency_us);
        }
    }

    pub fn dropped(&mut self, n: u64, now_us: u64) {
        self.roll(now_us);
        self.dropped += n;
        self.row.dropped += n;
    }

    /// Closes rows of seconds that are over; also called when nothing happens.
    pub fn roll(&mut self, now_us: u64) {
        while now_us / 1_000_000 > self.row.second && self.rows.len() < SECONDS_MAX {
            self.close_row();
        }
    }

    fn close_row(&mut self) {
        let latency = self.row_latency.percentiles();
        let next = Second {
            second: self.row.second + 1,
            ..Second::default()
        };
        let mut row = std::mem::replace(&mut self.row, next);
        (row.p50_us, row.p99_us, row.max_us) = (latency.p50_us, latency.p99_us, latency.max_us);
        self.rows.push(row);
        if latency.n > 0 {
            self.row_latency.0.reset();
        }
    }

    pub fn rows(&self) -> &[Second] {
        &self.rows
    }

    pub fn finish(&mut self) -> Vec<Second> {
        self.close_row();
        std::mem::take(&mut self.rows)
    }

    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }
}

/// `12.3 ms`, for people.
pub fn show_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..10_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// `1,234,567`, for people.
pub fn show_count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_intended_time_and_rows_close_by_the_second() {
        let mut stats = Stats::default();
        stats.answered(Outcome::Won, 0, 500_000);
        stats.answered(Outcome::SoldOut, 2_000_000, 2_001_000);
        stats.dropped(3, 2_500_000);
        assert_eq!(stats.rows().len(), 2);
        let rows = stats.finish();
        assert_eq!(
            (
                rows.len(),
                rows[0].answers[0],
                rows[1].answers,
                rows[2].dropped
            ),
            (3, 1, [0; 9], 3)
        );
        assert!((499_000..=501_000).contains(&rows[0].p50_us));
        assert_eq!(stats.won.percentiles().n, 1);
        assert!((999..=1_001).contains(&stats.sold_out.percentiles().max_us));
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(12), "12");
        assert_eq!(show_us(950), "950 µs");
        assert_eq!(show_us(12_340), "12.3 ms");
    }
}
