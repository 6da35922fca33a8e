//! Where the tables of a ledger stand: in RocksDB, or in memory.
//!
//! Everything that reads goes through here and sees one thing: values by key,
//! and cursors that stay with the moment they were made. What is written goes
//! through `Device`.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DB, DBPinnableSlice, DBRawIterator, Error, ReadOptions, SnapshotWithThreadMode};

use crate::device::Table;
use crate::memory::{Frozen, MemoryCursor, MemoryDisk};
use crate::rocks::{self, Rocks};

#[derive(Clone)]
pub(crate) enum Tables {
    Rocks(Arc<Rocks>),
    Memory(MemoryDisk),
}

/// The keys a cursor may see: `from` included, `to` not.
#[derive(Default)]
pub(crate) struct Reach {
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) to: Option<Vec<u8>>,
    /// A long walk: it reads ahead and pushes nothing out of the cache.
    pub(crate) walk: bool,
}

/// The tables of one moment.
pub(crate) enum Moment<'a> {
    Rocks(SnapshotWithThreadMode<'a, DB>),
    Memory(Frozen),
}

/// A value, borrowed from where it stands.
pub(crate) enum Value<'a> {
    Rocks(DBPinnableSlice<'a>),
    Memory(Bytes),
}

pub(crate) enum Cursor<'a> {
    Rocks(DBRawIterator<'a>),
    Memory(MemoryCursor),
}

impl Tables {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Value<'_>>, Error> {
        match self {
            Self::Rocks(rocks) => Ok(rocks.get(table, key)?.map(Value::Rocks)),
            Self::Memory(disk) => Ok(disk.get(table, key).map(Value::Memory)),
        }
    }

    pub(crate) fn cursor(&self, table: Table, reach: Reach) -> Cursor<'_> {
        match self {
            Self::Rocks(rocks) => rocks.cursor(table, options(reach)),
            Self::Memory(disk) => Cursor::Memory(disk.freeze().cursor(table, reach)),
        }
    }

    pub(crate) fn moment(&self) -> Moment<'_> {
        match self {
            Self::Rocks(rocks) => Moment::Rocks(rocks.db().snapshot()),
            Self::Memory(disk) => Moment::Memory(disk.freeze()),
        }
    }

    pub(crate) fn get_at(
        &self,
        moment: &Moment<'_>,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Bytes>, Error> {
        match (self, moment) {
            (Self::Rocks(rocks), Moment::Rocks(snapshot)) => {
                Ok(snapshot.get_cf(rocks.table(table), key)?.map(Bytes::from))
            }
            (_, Moment::Memory(frozen)) => Ok(frozen.get(table, key)),
            (Self::Memory(_), Moment::Rocks(_)) => unreachable!("a moment is of its own tables"),
        }
    }

    pub(crate) fn cursor_at<'a>(
        &'a self,
        moment: &Moment<'a>,
        table: Table,
        reach: Reach,
    ) -> Cursor<'a> {
        match (self, moment) {
            (Self::Rocks(rocks), Moment::Rocks(snapshot)) => {
                let mut options = options(reach);
                options.set_snapshot(snapshot);
                rocks.cursor(table, options)
            }
            (_, Moment::Memory(frozen)) => Cursor::Memory(frozen.cursor(table, reach)),
            (Self::Memory(_), Moment::Rocks(_)) => unreachable!("a moment is of its own tables"),
        }
    }

    pub(crate) fn flush(&self) -> Result<(), Error> {
        match self {
            Self::Rocks(rocks) => rocks.flush(),
            Self::Memory(_) => Ok(()),
        }
    }

    pub(crate) fn drop_files(&self, table: Table, from: &[u8], to: &[u8]) -> Result<(), Error> {
        match self {
            Self::Rocks(rocks) => rocks.drop_files(table, from, to),
            Self::Memory(_) => Ok(()),
        }
    }
}

fn options(reach: Reach) -> ReadOptions {
    let mut options = if reach.walk {
        rocks::walk()
    } else {
        ReadOptions::default()
    };
    if let Some(from) = reach.from {
        options.set_iterate_lower_bound(from);
    }
    if let Some(to) = reach.to {
        options.set_iterate_upper_bound(to);
    }
    options
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Rocks(value) => value,
            Self::Memory(value) => value,
        }
    }
}

impl Cursor<'_> {
    pub(crate) fn seek_to_first(&mut self) {
        match self {
            Self::Rocks(raw) => raw.seek_to_first(),
            Self::Memory(cursor) => cursor.seek_to_first(),
        }
    }

    pub(crate) fn seek_to_last(&mut self) {
        match self {
            Self::Rocks(raw) => raw.seek_to_last(),
            Self::Memory(cursor) => cursor.seek_to_last(),
        }
    }

    /// To the first key that is not below this one.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        match self {
            Self::Rocks(raw) => raw.seek(key),
            Self::Memory(cursor) => cursor.seek(key),
        }
    }

    pub(crate) fn next(&mut self) {
        match self {
            Self::Rocks(raw) => raw.next(),
            Self::Memory(cursor) => cursor.next(),
        }
    }

    pub(crate) fn prev(&mut self) {
        match self {
            Self::Rocks(raw) => raw.prev(),
            Self::Memory(cursor) => cursor.prev(),
        }
    }

    /// Key and value where it stands; none at either end, and after an error.
    pub(crate) fn item(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Rocks(raw) => raw.item(),
            Self::Memory(cursor) => cursor.item(),
        }
    }

    /// Ask when there is no item: an end and an error look alike.
    pub(crate) fn status(&self) -> Result<(), Error> {
        match self {
            Self::Rocks(raw) => raw.status(),
            Self::Memory(_) => Ok(()),
        }
    }
}
