//! Group commit: many groups, one write, one fsync.
//!
//! One thread owns the order of records and the device. It takes what the queue
//! holds, gives every group its seqs and hashes, checks unique keys, writes once
//! synced, and only then answers, one wake-up a group. The first failed write
//! latches the ledger: this thread ends and every receipt says "closed".
//!
//! Not here: when a batch is due (`batch.rs`), bytes of a record (`frame.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use tokio::sync::oneshot;

use crate::batch::{Batch, BatchLimits, Next};
use crate::device::{Device, Table, Write};
use crate::error::CommitError;
use crate::frame;
use crate::keys;
use crate::record::{ChainHash, Committed, EntityRef, Seq, Tip};
use crate::rocks::Rocks;
use crate::shared::Shared;
use crate::work::{Answer, Encoded, Entry, Job, Work};

pub(crate) struct Committer {
    pub(crate) queue: Receiver<Work>,
    pub(crate) device: Box<dyn Device>,
    pub(crate) rocks: Arc<Rocks>,
    pub(crate) limits: BatchLimits,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tip: Tip,
    pub(crate) floor: Tip,
}

/// The ledger must not go on unwatched when its only writer dies.
struct LatchOnPanic(Arc<Shared>);

impl Drop for LatchOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.latch("the committer panicked");
        }
    }
}

impl Committer {
    /// Runs until stopped, latched, or until every handle is gone.
    pub(crate) fn run(mut self) {
        let _latch = LatchOnPanic(Arc::clone(&self.shared));
        let mut carry = None;
        let mut stopping = false;
        while !stopping {
            let mut works = Vec::new();
            stopping = self.gather(&mut works, &mut carry);
            if !works.is_empty() && self.commit(works).is_err() {
                return;
            }
        }
        // What still comes in finds the queue gone and hears "closed".
        self.shared.room.close();
    }

    /// Takes groups until the batch is due. Returns whether to stop after it.
    fn gather(&self, works: &mut Vec<Work>, carry: &mut Option<Work>) -> bool {
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
            if let Err(why) = plan.add(work, &self.rocks) {
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
        if trims && let Err(error) = self.rocks.drop_files(Table::Records, &trim_from, &trim_to) {
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

struct Reply {
    to: oneshot::Sender<Answer>,
    answer: Answer,
    permits: u32,
}

/// The state after this batch, should the write succeed.
struct Plan {
    /// What was accepted, sealed.
    jobs: Vec<Job>,
    replies: Vec<Reply>,
    tip: Tip,
    floor: Tip,
    durable: Seq,
    records: usize,
    /// Unique keys claimed in this batch, which no table shows yet.
    claimed: HashMap<Bytes, EntityRef>,
}

impl Plan {
    fn new(tip: Tip, floor: Tip) -> Self {
        let durable = tip.seq;
        let (jobs, replies, claimed) = Default::default();
        Self {
            jobs,
            replies,
            tip,
            floor,
            durable,
            records: 0,
            claimed,
        }
    }

    /// Gives the work its place, or its "no". An error means that the disk cannot be read.
    fn add(&mut self, work: Work, rocks: &Rocks) -> Result<(), String> {
        let Work {
            job,
            permits,
            reply: to,
            ..
        } = work;
        let mut answer = Ok(Committed {
            first: self.tip.seq.next(),
            last: self.tip.seq,
        });
        match job {
            Job::Append(mut group) => match self.claim(&group, rocks)? {
                Some(taken) => answer = Err(taken),
                None => {
                    self.seal(&mut group);
                    answer = answer.map(|place| Committed {
                        last: self.tip.seq,
                        ..place
                    });
                    self.jobs.push(Job::Append(group));
                }
            },
            Job::Trim { through } => {
                // Never what is not durable yet, never backwards.
                let through = through.min(self.durable);
                if through > self.floor.seq {
                    self.floor = Tip {
                        seq: through,
                        hash: hash_at(through, rocks)?,
                    };
                }
            }
            job @ (Job::Letters { .. } | Job::Stop) => self.jobs.push(job),
        }
        self.replies.push(Reply {
            to,
            answer,
            permits,
        });
        Ok(())
    }

    fn seal(&mut self, group: &mut Encoded) {
        for entry in &group.entries {
            let seq = self.tip.seq.next();
            let hash = frame::seal(&mut group.buf, &entry.span, seq, &self.tip.hash);
            self.tip = Tip { seq, hash };
        }
        self.records += group.entries.len();
    }

    /// Claims the group's unique keys, all or none.
    fn claim(&mut self, group: &Encoded, rocks: &Rocks) -> Result<Option<CommitError>, String> {
        if !group.claims {
            return Ok(None);
        }
        let mut mine: HashMap<Bytes, EntityRef> = HashMap::new();
        for (index, entry) in group.entries.iter().enumerate() {
            for key in entry.span.uniques(&group.buf) {
                let known = mine.get(key).or_else(|| self.claimed.get(key)).cloned();
                let held_by = match known {
                    Some(holder) => Some(holder),
                    None => holder(key, rocks)?,
                };
                let key = Bytes::copy_from_slice(key);
                if let Some(held_by) = held_by {
                    return Ok(Some(CommitError::UniqueTaken {
                        index,
                        key,
                        held_by,
                    }));
                }
                let me = keys::parse_holder(entry.span.entity_key(&group.buf))
                    .expect("an encoded entity key reads back");
                mine.insert(key, me);
            }
        }
        self.claimed.extend(mine);
        Ok(None)
    }
}

fn holder(key: &[u8], rocks: &Rocks) -> Result<Option<EntityRef>, String> {
    let found = rocks
        .get(Table::Uniques, key)
        .map_err(rocksdb::Error::into_string)?;
    found
        .map(|value| keys::parse_holder(&value).map_err(|why| why.to_string()))
        .transpose()
}

fn hash_at(seq: Seq, rocks: &Rocks) -> Result<ChainHash, String> {
    let found = rocks
        .get(Table::Records, &keys::record(seq))
        .map_err(rocksdb::Error::into_string)?;
    let bytes = found.ok_or_else(|| format!("record {seq} is missing"))?;
    frame::decode(&bytes)
        .map(|frame| frame.hash)
        .map_err(|why| format!("record {seq}: {why}"))
}

fn put<'a>(table: Table, key: &'a [u8], value: &'a [u8]) -> Write<'a> {
    Write::Put { table, key, value }
}

impl Job {
    /// Every key and value is a slice of what the caller encoded.
    fn writes<'a>(&'a self, out: &mut Vec<Write<'a>>) {
        match self {
            Self::Append(Encoded {
                buf,
                entries,
                meta,
                claims: _,
            }) => {
                for Entry { span, owner, group } in entries {
                    let entity_key = span.entity_key(buf);
                    out.push(put(Table::Records, span.seq(buf), span.frame(buf)));
                    out.push(put(Table::Entities, entity_key, span.state(buf)));
                    if let Some(owner) = owner {
                        out.push(put(
                            Table::ByOwner,
                            &buf[owner.clone()],
                            &buf[group.clone()],
                        ));
                    }
                    for unique in span.uniques(buf) {
                        out.push(put(Table::Uniques, unique, entity_key));
                    }
                }
                out.extend(meta.iter().map(|(key, value)| put(Table::Meta, key, value)));
            }
            Self::Letters { bury, remove } => {
                out.extend(
                    bury.iter()
                        .map(|(key, note)| put(Table::DeadLetters, key, note)),
                );
                let delete = |key| Write::Delete {
                    table: Table::DeadLetters,
                    key,
                };
                out.extend(remove.iter().map(|key| delete(&key[..])));
            }
            // The range follows from the floor before and after the whole batch.
            Self::Trim { .. } | Self::Stop => {}
        }
    }
}
