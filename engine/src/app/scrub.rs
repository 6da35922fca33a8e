//! Reads the ledger back once after each start, beside what goes on: a start itself checks
//! only what is new. Damage shuts the ledger, and with it the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use floodgate_ledger::Ledger;

/// Rests per time that a piece takes: a fifth of a processor.
const RESTS: u32 = 4;

pub(super) struct Scrub {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Scrub {
    pub fn start(ledger: Ledger) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
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
                Err(error) => tracing::error!(%error, "read the ledger back"),
            }
        })?;
        Ok(Self { is_over, thread })
    }

    /// Blocks for as long as a piece takes.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A panic there is told on standard error, and takes nobody along.
        let _ = self.thread.join();
    }
}
