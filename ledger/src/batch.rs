//! When to flush: the pure half of group commit.
//!
//! No thread, no disk, no clock of its own. `committer.rs` moves the bytes and
//! asks here whether the batch is due and whether more still fits.

use std::time::{Duration, Instant};

/// What one commit may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Also the largest group.
    pub records_max: usize,
    /// Also the largest group.
    pub bytes_max: usize,
    /// Longest the first group of a batch waits for company. The default 0
    /// flushes whatever is there: under load the next batch gathers by itself
    /// while this one is on its way to the disk.
    pub wait: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            records_max: 4_096,
            bytes_max: 8 << 20,
            wait: Duration::ZERO,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Idle,
    SleepUntil(Instant),
    Flush,
}

/// How much is gathered, and since when.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    opened_at: Option<Instant>,
    records: usize,
    bytes: usize,
}

impl Batch {
    /// Whether a group of this size joins. The first always does: what could
    /// never fit was refused when it was handed in.
    pub(crate) fn fits(&self, records: usize, bytes: usize, limits: &BatchLimits) -> bool {
        self.opened_at.is_none()
            || (self.records + records <= limits.records_max
                && self.bytes + bytes <= limits.bytes_max)
    }

    pub(crate) fn add(&mut self, now: Instant, records: usize, bytes: usize) {
        self.opened_at.get_or_insert(now);
        self.records += records;
        self.bytes += bytes;
    }

    pub(crate) fn next(&self, now: Instant, limits: &BatchLimits) -> Next {
        let Some(opened_at) = self.opened_at else {
            return Next::Idle;
        };
        let due_at = opened_at + limits.wait;
        let full = self.records >= limits.records_max || self.bytes >= limits.bytes_max;
        if full || due_at <= now {
            Next::Flush
        } else {
            Next::SleepUntil(due_at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(wait_ms: u64) -> BatchLimits {
        BatchLimits {
            records_max: 4,
            bytes_max: 100,
            wait: Duration::from_millis(wait_ms),
        }
    }

    #[test]
    fn an_empty_batch_is_idle() {
        assert_eq!(
            Batch::default().next(Instant::now(), &limits(0)),
            Next::Idle
        );
    }

    #[test]
    fn without_a_wait_whatever_is_there_goes_at_once() {
        let now = Instant::now();
        let mut batch = Batch::default();
        batch.add(now, 1, 10);
        assert_eq!(batch.next(now, &limits(0)), Next::Flush);
    }

    #[test]
    fn the_first_group_sets_the_moment_the_batch_is_due() {
        let now = Instant::now();
        let ms = |n| now + Duration::from_millis(n);
        let mut batch = Batch::default();
        batch.add(now, 1, 10);
        batch.add(ms(4), 1, 10);
        assert_eq!(batch.next(ms(4), &limits(5)), Next::SleepUntil(ms(5)));
        assert_eq!(batch.next(ms(5), &limits(5)), Next::Flush);
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let now = Instant::now();
        let mut by_records = Batch::default();
        by_records.add(now, 4, 10);
        assert_eq!(by_records.next(now, &limits(5)), Next::Flush);
        let mut by_bytes = Batch::default();
        by_bytes.add(now, 1, 100);
        assert_eq!(by_bytes.next(now, &limits(5)), Next::Flush);
    }

    #[test]
    fn what_would_pass_a_limit_waits_for_the_next_batch() {
        let mut batch = Batch::default();
        assert!(
            batch.fits(9, 900, &limits(0)),
            "the first group always joins"
        );
        batch.add(Instant::now(), 3, 50);
        assert!(batch.fits(1, 50, &limits(0)));
        assert!(!batch.fits(2, 10, &limits(0)));
        assert!(!batch.fits(1, 51, &limits(0)));
    }
}
