//! Reads the ledger back once after each start, beside what goes on: a start itself checks
//! only what is new. Damage shuts the ledger, and with it the engine; and it is written down
//! beside the tables, so that no later start sells on what is known to be rotten.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use floodgate_ledger::{Ledger, ReadError};

/// Rests per time that a piece takes: a fifth of a processor.
const RESTS: u32 = 4;

/// In the ledger's folder: what was found there.
const DAMAGE: &str = "damage";

/// What an earlier run found, if it found anything.
pub(crate) fn known_damage(ledger: &Path) -> Option<String> {
    let path = ledger.join(DAMAGE);
    let told = std::fs::read(&path).ok()?;
    match String::from_utf8_lossy(&told).trim() {
        // The file was made, and then the disk was full or the power went.
        "" => Some(format!(
            "the ledger is damaged; an earlier run found it and could not write down where in {}",
            path.display()
        )),
        why => Some(why.to_owned()),
    }
}

fn write_down(ledger: &Path, why: &ReadError) {
    let written = File::create(ledger.join(DAMAGE)).and_then(|mut file| {
        writeln!(file, "{why}")?;
        file.sync_all()
    });
    if let Err(error) = written {
        tracing::error!(%error, "write down that the ledger is damaged");
    }
}

pub(super) struct Scrub {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scrub {
    pub fn start(ledger: Ledger, folder: &Path) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, folder) = (Arc::clone(&is_over), folder.to_owned());
        let thread = thread::Builder::new().name("scrub".into()).spawn(move || {
            let began = Instant::now();
            let mut piece = Instant::now();
            let done = ledger.scrub(|| {
                thread::park_timeout(piece.elapsed() * RESTS);
                piece = Instant::now();
                !over.load(Ordering::Acquire)
            });
            match done {
                Ok(Some(found)) => tracing::info!(
                    records = found.records,
                    entries = found.entries,
                    seconds = began.elapsed().as_secs_f64(),
                    "the ledger was read back, and is whole"
                ),
                Ok(None) => {}
                // The ledger says so itself, and is shut.
                Err(error @ (ReadError::Damaged(_) | ReadError::Corrupt(_))) => {
                    tracing::error!(%error, "read the ledger back");
                    write_down(&folder, &error);
                }
                Err(
                    error @ (ReadError::Trimmed { .. }
                    | ReadError::Format { .. }
                    | ReadError::Device(_)),
                ) => tracing::error!(%error, "read the ledger back"),
            }
        })?;
        Ok(Self {
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Scrub {
    /// Blocks for as long as a piece takes.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there is told on standard error, and takes nobody along.
            let _ = thread.join();
        }
    }
}
