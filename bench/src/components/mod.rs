//! The parts of one purchase, each alone: what does it cost here?
//!
//! A component measures once and says one value a figure; rounds and spread are
//! the caller's. Sizes are handed in, so that `cargo test` runs the same code
//! in a moment.

mod admission;
mod idle;
mod ledger;
pub(crate) mod orders;
mod ready;
mod stock;
mod stream;

/// The servers that the engine's tests start.
#[path = "../../../engine/tests/common/postgres.rs"]
mod postgres;

use std::path::Path;
use std::time::Duration;

use crate::report::Report;

/// One value a figure.
pub type Figures = Vec<(String, f64)>;

/// How much of each is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Orders a batch size.
    pub stock_orders: u32,
    /// Orders a host holds before the next ones are timed: few, many.
    pub stock_held: [u32; 2],
    /// Groups are handed in for this long, a batch size.
    pub ledger_run: Duration,
    pub ledger_idle_appends: usize,
    pub admissions: u32,
    pub stream_orders: u32,
}

impl Sizes {
    pub const FULL: Self = Self {
        stock_orders: 51_200,
        stock_held: [1_000, 1_000_000],
        ledger_run: Duration::from_millis(500),
        ledger_idle_appends: 500,
        admissions: 1_000_000,
        stream_orders: 50_000,
    };

    /// For tests: the answers are checked, the times mean nothing.
    pub const TINY: Self = Self {
        stock_orders: 1_024,
        stock_held: [100, 1_000],
        ledger_run: Duration::from_millis(20),
        ledger_idle_appends: 10,
        admissions: 1_000,
        stream_orders: 1_000,
    };
}

/// Purchases one after another on an engine that has nothing else to do.
const IDLE_ORDERS: usize = 2_000;
/// Live orders an engine finds when it starts.
const READY_ORDERS: u32 = 1_000_000;

/// What runs in this process, without the engine's binary.
pub fn in_process(sizes: &Sizes, out: &Path) -> Result<Figures, String> {
    let mut figures = stock::by_batch(sizes.stock_orders)?;
    figures.extend(stock::by_orders_held(sizes.stock_held)?);
    figures.extend(stock::on_redis(sizes.stock_orders)?);
    // Idle first: a folder full of records that goes away keeps the disk busy.
    figures.extend(ledger::idle(sizes.ledger_idle_appends, out)?);
    figures.extend(ledger::by_batch(sizes.ledger_run, out)?);
    figures.extend(admission::decisions(sizes.admissions)?);
    figures.extend(stream::to_sqlite(sizes.stream_orders, out)?);
    figures.extend(stream::to_postgres(sizes.stream_orders, out)?);
    Ok(figures)
}

/// Everything, `rounds` times. The million orders come last: what they leave
/// for the disk to write would slow everybody else's fsync.
pub fn measure(rounds: usize, out: &Path, report: &mut Report) -> Result<(), String> {
    for round in 1..=rounds {
        eprintln!("parts: round {round} of {rounds}");
        let mut figures = in_process(&Sizes::FULL, out)?;
        figures.extend(idle::purchases(IDLE_ORDERS, out)?);
        for (name, value) in figures {
            report.push(&name, value);
        }
    }
    eprintln!("parts: {rounds} starts with {READY_ORDERS} live orders");
    let full = ready::Full::make(READY_ORDERS, out)?;
    for _ in 0..rounds {
        report.push("ready_seconds_1m_orders", full.seconds_to_ready()?);
    }
    Ok(())
}

/// The value below which `share` of them lie, in milliseconds.
fn at_share_ms(took: &mut [Duration], share: f64) -> f64 {
    took.sort_unstable();
    let at = (took.len() as f64 * share) as usize;
    took.get(at.min(took.len().saturating_sub(1)))
        .map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_still_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let figures = in_process(&Sizes::TINY, folder.path()).expect("figures");
        for (name, value) in &figures {
            assert!(value.is_finite() && *value > 0.0, "{name} is {value}");
        }
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "stock_us_per_order_64",
            "redis_us_per_order_64",
            "ledger_records_per_s_1024",
            "stream_sqlite_rps",
            "stream_postgres_rps",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
    }

    #[test]
    fn shares_of_few_values() {
        let mut took: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(at_share_ms(&mut took, 0.5), 51.0);
        assert_eq!(at_share_ms(&mut took, 0.99), 100.0);
        assert!(at_share_ms(&mut [], 0.5).is_nan());
    }
}
