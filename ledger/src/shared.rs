//! What the handle and the committer share: room, tip, latch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, watch};

use crate::error::Failure;
use crate::metrics::LedgerMetrics;
use crate::record::Tip;

#[derive(Debug)]
pub(crate) struct Shared {
    /// Free places in the queue, counted in records. Closed with the ledger.
    pub(crate) room: Semaphore,
    pub(crate) queue_records_max: usize,
    /// The newest durable record; moves after the fsync and before the receipts.
    pub(crate) tip: watch::Sender<Tip>,
    failure: watch::Sender<Option<Failure>>,
    /// The committer has looked at the queue for the last time, or is about to.
    ended: AtomicBool,
    pub(crate) metrics: LedgerMetrics,
}

impl Shared {
    pub(crate) fn new(queue_records_max: usize, tip: Tip, metrics: LedgerMetrics) -> Self {
        Self {
            room: Semaphore::new(queue_records_max),
            queue_records_max,
            tip: watch::Sender::new(tip),
            failure: watch::Sender::new(None),
            ended: AtomicBool::new(false),
            metrics,
        }
    }

    /// Shuts the ledger for ever. The first reason stays.
    pub(crate) fn latch(&self, why: &str) {
        self.room.close();
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(why, "ledger latched shut");
                *failure = Some(Failure {
                    why: Arc::from(why),
                });
            }
            first
        });
    }

    /// The committer says this before its last look at the queue; a sender asks
    /// after its send. One of the two sees the other, whoever comes first.
    pub(crate) fn end(&self) {
        self.room.close();
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.borrow().clone()
    }

    pub(crate) fn failures(&self) -> watch::Receiver<Option<Failure>> {
        self.failure.subscribe()
    }

    pub(crate) fn depth(&self) -> usize {
        self.queue_records_max
            .saturating_sub(self.room.available_permits())
    }
}
