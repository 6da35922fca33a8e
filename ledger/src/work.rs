//! What travels from callers to the committer.
//!
//! A group is encoded by its caller, in parallel with others; the committer only
//! fills in seq and hash and hands slices of the same buffer to the device.

use std::ops::Range;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::config::LedgerConfig;
use crate::error::{AppendError, CommitError};
use crate::frame::{self, Span};
use crate::keys;
use crate::record::{Committed, Group, Seq};

pub(crate) type Answer = Result<Committed, CommitError>;

/// One encoded group: frames and owner keys in one buffer.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) buf: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    /// Keys already carry the caller's prefix.
    pub(crate) meta: Vec<(Vec<u8>, Bytes)>,
    /// Whether any draft claims a unique key: most groups claim none.
    pub(crate) claims: bool,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) span: Span,
    /// Where the owner key lies, and the group that is its value.
    pub(crate) owner: Option<Range<usize>>,
    pub(crate) group: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Job {
    Append(Encoded),
    Letters {
        bury: Vec<([u8; 8], Bytes)>,
        remove: Vec<[u8; 8]>,
    },
    Trim {
        through: Seq,
    },
    /// Everything handed over before is committed, then the thread ends.
    Stop,
}

#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) job: Job,
    /// Room taken in the queue, given back when answered.
    pub(crate) permits: u32,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Checks and encodes a group; refuses what could never be one commit.
pub(crate) fn encode(group: &Group, config: &LedgerConfig) -> Result<Encoded, AppendError> {
    let mut bytes = 0;
    for (index, draft) in group.drafts.iter().enumerate() {
        draft
            .check()
            .map_err(|why| AppendError::Draft { index, why })?;
        let owner = draft
            .owner
            .as_ref()
            .map_or(0, |owner| 2 + owner.len() + draft.id.len());
        bytes += frame::encoded_bytes(draft) + owner;
    }
    let mut meta = Vec::with_capacity(group.meta.len());
    let mut meta_bytes = 0;
    for (index, (key, value)) in group.meta.iter().enumerate() {
        if !(1..=keys::META_KEY_BYTES_MAX).contains(&key.len()) {
            let max = keys::META_KEY_BYTES_MAX;
            return Err(AppendError::MetaKey {
                index,
                found: key.len(),
                max,
            });
        }
        meta_bytes += key.len() + value.len();
        meta.push((keys::caller_meta(key), value.clone()));
    }
    let limits = &config.batch;
    let records = group.drafts.len();
    if records > limits.records_max || bytes + meta_bytes > limits.bytes_max {
        return Err(AppendError::GroupTooLarge {
            records,
            bytes: bytes + meta_bytes,
            records_max: limits.records_max,
            bytes_max: limits.bytes_max,
        });
    }
    let mut buf = Vec::with_capacity(bytes);
    let mut entries = Vec::with_capacity(records);
    for draft in &group.drafts {
        let span = frame::encode(draft, &mut buf);
        let owner = draft.owner.as_ref().map(|owner| {
            let at = buf.len();
            keys::owner_into(&mut buf, owner, draft.kind, &draft.id);
            at..buf.len()
        });
        // The entity key starts with the group's length, then the group.
        let group_at = span.key.0 + 1;
        entries.push(Entry {
            span,
            owner,
            group: group_at..group_at + draft.group.len(),
        });
    }
    let claims = group.drafts.iter().any(|draft| !draft.uniques.is_empty());
    Ok(Encoded {
        buf,
        entries,
        meta,
        claims,
    })
}
