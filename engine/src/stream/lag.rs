//! How far the order store is behind: records that it lacks, and the age of the first.
//!
//! The age is that of a record and not of a wait: under steady traffic something is
//! always on its way, and that is no growing lag.

use floodgate_ledger::{Ledger, ReadError, Seq};

use super::metrics::StreamMetrics;
use crate::domain::time::UnixMs;

pub(super) struct Lag {
    ledger: Ledger,
    metrics: StreamMetrics,
    /// The first record that the store lacks, and when it was made.
    waiting: Option<(Seq, UnixMs)>,
}

impl Lag {
    pub fn new(ledger: Ledger, metrics: StreamMetrics) -> Self {
        Self {
            ledger,
            metrics,
            waiting: None,
        }
    }

    /// `first` is the first record that the store lacks, written or not.
    pub fn show(&mut self, first: Seq, now: UnixMs) {
        let lag = (self.ledger.tip().seq.0 + 1).saturating_sub(first.0);
        self.metrics.lag_records.set(lag.cast_signed());
        if lag == 0 {
            self.metrics.lag_seconds.set(0.0);
            return;
        }
        if self.waiting.is_none_or(|(seq, _)| seq != first) {
            // What cannot be read stops the stream; until then the age is the last known.
            self.waiting = self.made_at(first).map(|at| (first, at)).or(self.waiting);
        }
        if let Some((_, at)) = self.waiting {
            self.metrics.lag_seconds.set(now.since(at).as_secs_f64());
        }
    }

    /// When a record was made; if it was trimmed, the oldest that was not.
    fn made_at(&self, seq: Seq) -> Option<UnixMs> {
        let found = match self.ledger.tail(seq, 1, usize::MAX) {
            Err(ReadError::Trimmed { oldest, .. }) => self.ledger.tail(oldest, 1, usize::MAX),
            found => found,
        };
        Some(UnixMs(found.ok()?.first()?.at_ms))
    }
}
