//! A group-commit ledger on RocksDB: many records, one fsync.
//!
//! Callers hand in groups of records and wait; one thread owns the disk. A
//! receipt resolves only after the fsync that covers its group returned, so a
//! good receipt means durable. After one failed write the ledger is shut for
//! ever: nobody can know what the disk holds, so nobody is told "committed".
//!
//! It knows records, entities, unique keys and its caller's marks. It does not
//! know what a record means: no sale, no SKU, no order. Its bytes are laid down
//! in `FORMAT.md` and pinned by `tests/golden.rs`.

mod record;

pub mod frame;

mod batch;
mod committer;
mod config;
mod device;
mod driver;
mod error;
mod keys;
mod ledger;
mod manifest;
mod memory;
mod metrics;
mod open;
mod plan;
mod read;
mod rocks;
mod scrub;
mod shared;
mod tables;
mod verify;
mod walk;
mod work;

pub use batch::BatchLimits;
pub use config::LedgerConfig;
pub use device::{Device, DeviceError, Table, Write};
pub use driver::{Driver, Stepped};
pub use error::{AppendError, CommitError, Damage, DraftError, Failure, OpenError, ReadError};
pub use keys::LEDGER_FORMAT;
pub use ledger::{Ledger, Receipt};
pub use memory::MemoryDisk;
pub use metrics::LedgerMetrics;
pub use open::Identity;
pub use read::{Reader, View};
pub use record::{
    BODY_BYTES_MAX, ChainHash, Committed, DeadLetter, Draft, EntityRef, Group, ID_BYTES_MAX, Kind,
    LedgerId, Record, Seq, Snapshot, Tip, UNIQUE_BYTES_MAX, UNIQUES_MAX,
};
pub use rocks::RocksDevice;
pub use scrub::Scrubbed;
pub use verify::VerifyReport;
pub use walk::Entities;
