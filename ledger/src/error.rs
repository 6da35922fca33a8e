//! Everything that can go wrong, in words that say what and what is allowed.
//!
//! Blame is in the type: `DraftError` and `AppendError` are the caller's or the
//! moment's, `CommitError` is the answer of the log, `OpenError` and `ReadError`
//! are about the folder.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::FrameError;
use crate::record::{EntityRef, Seq};

/// A draft that the format cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    #[error("kind 0 is refused; kinds go from 1 to 255")]
    KindZero,
    #[error("{field}: {found} given, {min} to {max} allowed")]
    Length {
        field: &'static str,
        found: usize,
        min: usize,
        max: usize,
    },
}

/// Nothing of the group was handed over, so nothing of it is or will be in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("draft {index}: {why}")]
    Draft { index: usize, why: DraftError },
    #[error("meta key {index}: {found} bytes given, 1 to {max} allowed")]
    MetaKey {
        index: usize,
        found: usize,
        max: usize,
    },
    #[error(
        "group of {records} records and {bytes} bytes cannot be one commit: \
         at most {records_max} records and {bytes_max} bytes"
    )]
    GroupTooLarge {
        records: usize,
        bytes: usize,
        records_max: usize,
        bytes_max: usize,
    },
    #[error("ledger is closed")]
    Closed,
}

/// The answer to a group that was handed over and is not durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A correct "no". Nothing of the group was written.
    #[error("draft {index}: unique key \"{}\" is held by {held_by}", key.escape_ascii())]
    UniqueTaken {
        index: usize,
        key: Bytes,
        held_by: EntityRef,
    },
    /// The ledger was closed or latched before it confirmed the group: **unknown**, not
    /// "no". The group may or may not be on the disk; only the next open can tell.
    #[error("ledger is closed: the group was not confirmed; only the next open can tell")]
    Closed,
}

/// Why the ledger latched shut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ledger is shut: {why}")]
pub struct Failure {
    pub why: Arc<str>,
}

/// What is wrong with the bytes of a ledger, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("record {seq}: {why}")]
    Frame { seq: Seq, why: FrameError },
    #[error("record {seq} is missing")]
    Missing { seq: Seq },
    #[error("record {seq} says it is record {says}")]
    WrongSeq { seq: Seq, says: Seq },
    #[error("record {seq} does not fit the hash chain: it, or the hash before it, was changed")]
    Hash { seq: Seq },
    #[error("record {seq} is not the record that the tip names")]
    Tip { seq: Seq },
    #[error("record {seq} stands after the tip {tip}")]
    BeyondTip { seq: Seq, tip: Seq },
    #[error("records exist, but the ledger's {key} is missing")]
    NoMeta { key: &'static str },
    #[error("{table}: entry {key} cannot be read: {why}")]
    Entry {
        table: &'static str,
        key: String,
        why: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("ledger limits: {0}")]
    Limits(String),
    #[error("ledger folder {} is in use by {holder}", path.display())]
    InUse { path: PathBuf, holder: String },
    #[error("ledger folder {} is damaged: {damage}", path.display())]
    Damaged { path: PathBuf, damage: Damage },
    /// RocksDB's own checksums or file list do not agree.
    #[error("ledger folder {} is damaged: {why}", path.display())]
    Corrupt { path: PathBuf, why: String },
    #[error("ledger folder {} has format {found}; this program reads {known}", path.display())]
    Format {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("open ledger {}: {step}: {why}", path.display())]
    Io {
        path: PathBuf,
        step: &'static str,
        why: String,
    },
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("ledger is damaged: {0}")]
    Damaged(#[from] Damage),
    #[error("record {from} was trimmed; the oldest kept is {oldest}")]
    Trimmed { from: Seq, oldest: Seq },
    #[error("ledger has format {found}; this program reads {known}")]
    Format { found: u32, known: u32 },
    /// RocksDB's own checksums or file list do not agree.
    #[error("ledger is damaged: {0}")]
    Corrupt(String),
    #[error("read ledger: {0}")]
    Device(String),
}

impl From<rocksdb::Error> for ReadError {
    fn from(error: rocksdb::Error) -> Self {
        if error.kind() == rocksdb::ErrorKind::Corruption {
            return Self::Corrupt(error.into_string());
        }
        Self::Device(error.into_string())
    }
}
