//! The plan of one commit: who gets which place, who hears "no", what is written.
//!
//! Reads the disk only to ask who holds a unique key, and writes nothing; should
//! the write fail, the plan is dropped and nothing of it ever was.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::device::{Table, Write};
use crate::error::CommitError;
use crate::frame;
use crate::keys;
use crate::record::{ChainHash, Committed, Seq, Tip};
use crate::tables::Tables;
use crate::work::{Answer, Encoded, Entry, Job, Work};

pub(crate) struct Reply {
    pub(crate) to: oneshot::Sender<Answer>,
    pub(crate) answer: Answer,
    pub(crate) permits: u32,
}

/// The state after this batch, should the write succeed.
pub(crate) struct Plan {
    /// What was accepted, sealed.
    pub(crate) jobs: Vec<Job>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) tip: Tip,
    pub(crate) floor: Tip,
    pub(crate) records: usize,
    durable: Seq,
    /// Unique keys claimed in this batch, which no table shows yet, and the entity keys of
    /// those who hold them.
    claimed: HashMap<Bytes, Bytes>,
}

impl Plan {
    pub(crate) fn new(tip: Tip, floor: Tip) -> Self {
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
    pub(crate) fn add(&mut self, work: Work, tables: &Tables) -> Result<(), String> {
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
            Job::Append(mut group) => match self.claim(&group, tables)? {
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
                        hash: hash_at(through, tables)?,
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
    fn claim(&mut self, group: &Encoded, tables: &Tables) -> Result<Option<CommitError>, String> {
        if !group.claims {
            return Ok(None);
        }
        let mut mine = Vec::new();
        for (index, entry) in group.entries.iter().enumerate() {
            for key in entry.span.uniques(&group.buf) {
                let held_by = match self.claimed.get(key) {
                    Some(entity_key) => Some(entity_key.clone()),
                    None => holder(key, tables)?,
                };
                let key = Bytes::copy_from_slice(key);
                if let Some(held_by) = held_by.filter(|_| !unchecked_on_purpose()) {
                    for key in mine {
                        self.claimed.remove(&key);
                    }
                    let held_by = keys::parse_holder(&held_by).map_err(|why| why.to_string())?;
                    return Ok(Some(CommitError::UniqueTaken {
                        index,
                        key,
                        held_by,
                    }));
                }
                let me = Bytes::copy_from_slice(entry.span.entity_key(&group.buf));
                self.claimed.insert(key.clone(), me);
                mine.push(key);
            }
        }
        Ok(None)
    }
}

/// For the test that shows what a unique key keeps from happening.
fn unchecked_on_purpose() -> bool {
    fail::fail_point!("ledger-unique-unchecked", |_| true);
    false
}

fn holder(key: &[u8], tables: &Tables) -> Result<Option<Bytes>, String> {
    let found = tables
        .get(Table::Uniques, key)
        .map_err(rocksdb::Error::into_string)?;
    Ok(found.map(|value| Bytes::copy_from_slice(&value)))
}

fn hash_at(seq: Seq, tables: &Tables) -> Result<ChainHash, String> {
    let found = tables
        .get(Table::Records, &keys::record(seq))
        .map_err(rocksdb::Error::into_string)?;
    let bytes = found.ok_or_else(|| format!("record {seq} is missing"))?;
    frame::decode(&bytes)
        .map(|frame| frame.hash)
        .map_err(|why| format!("record {seq}: {why}"))
}

pub(crate) fn put<'a>(table: Table, key: &'a [u8], value: &'a [u8]) -> Write<'a> {
    Write::Put { table, key, value }
}

impl Job {
    /// Every key and value is a slice of what the caller encoded.
    pub(crate) fn writes<'a>(&'a self, out: &mut Vec<Write<'a>>) {
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
