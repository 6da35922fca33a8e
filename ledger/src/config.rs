//! What a ledger needs to know before it opens.

use std::num::NonZeroU16;
use std::path::PathBuf;

use crate::batch::BatchLimits;
use crate::error::OpenError;
use crate::metrics::LedgerMetrics;

/// Settings of one ledger. Change fields after `new`; `open` checks them together.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// The folder; created when missing, locked while open.
    pub path: PathBuf,
    pub batch: BatchLimits,
    /// Records handed over and not yet durable. When this many wait, `append`
    /// waits; the caller's own limits decide whom to shed. The default is four
    /// full batches, 200 ms of work at 80,000 records a second.
    pub queue_records_max: usize,
    /// Memory of one write buffer; records and entities have up to four each.
    pub memtable_bytes: usize,
    /// Table files kept open at once, or all there are. Whoever shares the process's
    /// descriptors with others names a number, or the ledger could run out of them.
    pub open_files_max: Option<NonZeroU16>,
    pub metrics: LedgerMetrics,
}

impl LedgerConfig {
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            batch: BatchLimits::default(),
            queue_records_max: 16_384,
            memtable_bytes: 64 << 20,
            open_files_max: None,
            metrics: LedgerMetrics::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let ensure = |holds, why: String| {
            if holds {
                Ok(())
            } else {
                Err(OpenError::Limits(why))
            }
        };
        let BatchLimits {
            records_max,
            bytes_max,
            wait: _,
        } = self.batch;
        let queue_max = self.queue_records_max;
        ensure(
            records_max >= 1,
            "records per batch is 0, at least 1 allowed".into(),
        )?;
        ensure(
            bytes_max >= 1 << 16,
            format!("bytes per batch is {bytes_max}, at least 65536 allowed"),
        )?;
        // A group larger than the queue could never be let in.
        ensure(
            queue_max >= records_max,
            format!("queue of {queue_max} records is smaller than a batch of {records_max}"),
        )?;
        // The queue is counted by 32-bit permits.
        ensure(
            queue_max <= 1 << 24,
            format!("queue of {queue_max} records, at most 16777216 allowed"),
        )?;
        ensure(
            self.memtable_bytes >= 1 << 20,
            format!(
                "write buffer of {} bytes, at least 1048576 allowed",
                self.memtable_bytes
            ),
        )
    }
}
