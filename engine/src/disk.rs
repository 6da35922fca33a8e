//! Room on the disk: when it gets short, selling pauses before the ledger fails.
//!
//! A ledger that cannot write is shut for ever and takes the process with it. So
//! below a low-water mark no new order begins; what is left of the disk serves
//! cancels, closes and the stream. Above the mark and a tenth, selling resumes
//! by itself: the tenth keeps a disk at the very mark from switching all the time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntGauge, Registry};

use crate::sale::Selling;

/// 80,000 orders a second are some 50 MB of ledger: a mark of ten times that
/// leaves time for many looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether room is short, from what is free, the mark (0: never) and what was so before.
pub fn is_low(free_bytes: u64, mark_bytes: u64, was_low: bool) -> bool {
    let enough = if was_low {
        mark_bytes.saturating_add(mark_bytes / 10)
    } else {
        mark_bytes
    };
    free_bytes < enough
}

/// Bytes that a process without privileges may still write there.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Pauses and resumes every sale with the room in one folder.
pub struct DiskWatch {
    folder: PathBuf,
    mark_bytes: u64,
    selling: Arc<Selling>,
    free: IntGauge,
    /// The last look failed; said once, not every second.
    blind: bool,
}

impl DiskWatch {
    /// Has looked once when it returns: an engine without room sells nothing from its start.
    pub fn start(
        folder: &Path,
        mark_bytes: u64,
        selling: Arc<Selling>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let free = IntGauge::new(
            "floodgate_disk_free_bytes",
            "Free space of the data folder's file system",
        )?;
        registry.register(Box::new(free.clone()))?;
        let mut watch = Self {
            folder: folder.into(),
            mark_bytes,
            selling,
            free,
            blind: false,
        };
        watch.look();
        Ok(watch)
    }

    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    fn look(&mut self) {
        match free_bytes(&self.folder) {
            Ok(free) => {
                self.blind = false;
                self.free.set(i64::try_from(free).unwrap_or(i64::MAX));
                let was = self.selling.is_disk_low();
                let low = is_low(free, self.mark_bytes, was);
                self.selling.set_disk_low(low);
                let (mark, folder) = (self.mark_bytes, self.folder.display());
                match (was, low) {
                    (false, true) => {
                        tracing::error!(free, mark, %folder, "the disk is nearly full: sales pause");
                    }
                    (true, false) => {
                        tracing::warn!(free, mark, %folder, "the disk has room again: sales go on");
                    }
                    (false, false) | (true, true) => {}
                }
            }
            // What was known last stays; a ledger that cannot write says so itself.
            Err(error) if !self.blind => {
                self.blind = true;
                tracing::warn!(%error, folder = %self.folder.display(), "cannot tell free space");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_low;

    #[test]
    fn selling_pauses_below_the_mark_and_resumes_a_tenth_above_it() {
        // (free, was low) -> low, at a mark of 1,000.
        let cases = [
            (5_000, false, false),
            (1_000, false, false),
            (999, false, true),
            (999, true, true),
            (1_000, true, true),
            (1_099, true, true),
            (1_100, true, false),
            (1_099, false, false),
            (0, false, true),
        ];
        for (free, was, low) in cases {
            assert_eq!(
                is_low(free, 1_000, was),
                low,
                "{free} free, low before: {was}"
            );
        }
    }

    #[test]
    fn a_mark_of_zero_is_off_and_the_largest_does_not_overflow() {
        assert!(!is_low(0, 0, false) && !is_low(0, 0, true));
        assert!(is_low(u64::MAX - 1, u64::MAX, true));
    }
}
