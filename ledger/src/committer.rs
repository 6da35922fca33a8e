//! Group commit: many groups, one write, one fsync.
//!
//! One thread owns the order of records and the device. It takes what the queue
//! holds, plans it, writes once synced, and only then answers, one wake-up a
//! group. The first failed write latches the ledger: this thread ends and every
//! receipt says "closed".
//!
//! Not here: when a batch is due (`batch.rs`), which place and which "no" a group
//! gets (`plan.rs`), bytes of a record (`frame.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::batch::{Batch, BatchLimits, Next};
use crate::device::{Device, Table, Write};
use crate::driver::Stepped;
use crate::keys;
use crate::plan::{Plan, Reply, put};
use crate::record::{Seq, Tip};
use crate::shared::Shared;
use crate::tables::Tables;
use crate::work::{Job, Work};

pub(crate) struct Committer {
    pub(crate) queue: Receiver<Work>,
    pub(crate) device: Box<dyn Device>,
    pub(crate) tables: Tables,
    pub(crate) limits: BatchLimits,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tip: Tip,
    pub(crate) floor: Tip,
}

/// However its only writer ends, the ledger does not go on unwatched and nobody
/// waits for an answer that cannot come.
pub(crate) struct AtTheEnd {
    shared: Arc<Shared>,
    queue: Receiver<Work>,
}

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.latch("the committer panicked");
        }
        self.shared.end();
        // A receipt whose reply is dropped says "closed".
        while self.queue.try_recv().is_ok() {}
        fail::fail_point!("ledger-ended");
    }
}

impl Committer {
    /// Runs until stopped, latched, or until every handle is gone.
    pub(crate) fn run(mut self) {
        let _end = self.at_the_end();
        let mut carry = None;
        while self.turn(&mut carry, true) != Stepped::Ended {}
    }

    pub(crate) fn at_the_end(&self) -> AtTheEnd {
        AtTheEnd {
            shared: Arc::clone(&self.shared),
            queue: self.queue.clone(),
        }
    }

    /// Gathers one batch and commits it; `patient` waits for its first group.
    pub(crate) fn turn(&mut self, carry: &mut Option<Work>, patient: bool) -> Stepped {
        let mut works = Vec::new();
        let stopping = self.gather(&mut works, carry, patient);
        let idle = works.is_empty();
        if !idle && self.commit(works).is_err() || stopping {
            return Stepped::Ended;
        }
        if idle {
            Stepped::Idle
        } else {
            Stepped::Committed
        }
    }

    /// Takes groups until the batch is due. Returns whether to stop after it.
    fn gather(&self, works: &mut Vec<Work>, carry: &mut Option<Work>, patient: bool) -> bool {
        let mut batch = Batch::default();
        let mut next = carry.take();
        loop {
            if let Some(work) = next.take().or_else(|| self.queue.try_recv().ok()) {
                if matches!(work.job, Job::Stop) {
                    return true;
                }
                if !batch.fits(work.records, work.bytes, &self.limits) {
                    *carry = Some(work);
                    return false;
                }
                batch.add(Instant::now(), work.records, work.bytes);
                works.push(work);
                continue;
            }
            let waited = match batch.next(Instant::now(), &self.limits) {
                Next::Flush => return false,
                Next::Idle | Next::SleepUntil(_) if !patient => return false,
                Next::Idle => self
                    .queue
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Next::SleepUntil(due_at) => self.queue.recv_deadline(due_at),
            };
            match waited {
                Ok(work) => next = Some(work),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    fn commit(&mut self, works: Vec<Work>) -> Result<(), ()> {
        let started_at = Instant::now();
        let mut plan = Plan::new(self.tip, self.floor);
        for work in works {
            if let Err(why) = plan.add(work, &self.tables) {
                self.shared.latch(&why);
                return Err(());
            }
        }
        let Plan {
            jobs,
            replies,
            tip,
            floor,
            records,
            ..
        } = plan;
        let (tip_value, floor_value) = (keys::tip_value(&tip), keys::tip_value(&floor));
        let (trim_from, trim_to) = (
            keys::record(self.floor.seq.next()),
            keys::record(floor.seq.next()),
        );
        let trims = floor != self.floor;
        let mut writes = Vec::with_capacity(4 * records + 8);
        for job in &jobs {
            job.writes(&mut writes);
        }
        if tip != self.tip {
            writes.push(put(Table::Meta, keys::META_TIP, &tip_value));
        }
        if trims {
            writes.push(put(Table::Meta, keys::META_FLOOR, &floor_value));
            let (table, from, to) = (Table::Records, &trim_from[..], &trim_to[..]);
            writes.push(Write::DeleteRange { table, from, to });
        }

        let replies = match ack_early() {
            Some(wait) => {
                self.answer(replies);
                std::thread::sleep(wait);
                Vec::new()
            }
            None => replies,
        };
        if !writes.is_empty() {
            fail::fail_point!("ledger-before-write", |_| -> Result<(), ()> {
                std::process::abort()
            });
            if let Err(error) = self.device.write_synced(&writes) {
                // Latch before the receipts fall: whoever hears "closed" can see why.
                self.shared.latch(&error.0);
                return Err(());
            }
            fail::fail_point!("ledger-after-sync", |_| -> Result<(), ()> {
                std::process::abort()
            });
            self.shared
                .metrics
                .commit_seconds
                .observe(started_at.elapsed().as_secs_f64());
            #[allow(
                clippy::cast_precision_loss,
                reason = "a batch is far below 2^52 records"
            )]
            self.shared.metrics.commit_records.observe(records as f64);
        }
        (self.tip, self.floor) = (tip, floor);
        if records > 0 {
            self.shared.tip.send_replace(tip);
        }
        self.answer(replies);
        // From the very first on: a file that an earlier trim cut in two may be gone
        // whole by now.
        let (first, last) = (keys::record(Seq::ZERO), keys::record(floor.seq));
        if trims && let Err(error) = self.tables.drop_files(Table::Records, &first, &last) {
            tracing::warn!(%error, "trimmed records: files not given back yet");
        }
        Ok(())
    }

    fn answer(&self, replies: Vec<Reply>) {
        let permits: usize = replies.iter().map(|reply| reply.permits as usize).sum();
        self.shared.room.add_permits(permits);
        self.shared
            .metrics
            .queue_depth
            .sub(i64::try_from(permits).unwrap_or(i64::MAX));
        for reply in replies {
            // A caller that went away does not want to know.
            let _ = reply.to.send(reply.answer);
        }
    }
}

/// Only with the feature `failpoints`: answers before the disk, to prove that the audit notices.
fn ack_early() -> Option<Duration> {
    fail::fail_point!("ledger-ack-early", |ms: Option<String>| {
        Some(Duration::from_millis(
            ms.and_then(|ms| ms.parse().ok()).unwrap_or(0),
        ))
    });
    None
}
