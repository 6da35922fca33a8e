//! A ledger's tables in memory: a disk for who wants to see thousands of starts
//! and crashes a second.
//!
//! What was written is there at the next open; nothing outlives the process. It
//! copies on write, so a cursor or a copy stays with its moment and costs little.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::device::{Device, DeviceError, Table, Write};
use crate::record::LedgerId;
use crate::tables::Reach;

type Map = BTreeMap<Box<[u8]>, Bytes>;
type Maps = [Arc<Map>; Table::ALL.len()];

/// Clones are the same disk. As a [`Device`] it never fails; wrap it in one that does.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    /// Of the ledger that will be founded here.
    id: LedgerId,
    maps: Arc<RwLock<Maps>>,
}

impl MemoryDisk {
    /// An empty disk. The id is handed in, so that equal runs have equal hashes.
    #[must_use]
    pub fn new(id: LedgerId) -> Self {
        Self {
            id,
            maps: Arc::default(),
        }
    }

    /// Another disk with what this one holds now, as of a backup.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            id: self.id,
            maps: Arc::new(RwLock::new(self.maps.read().clone())),
        }
    }

    /// Makes one table what it was on another disk, as a lost file would.
    pub fn fall_back(&self, table: Table, to: &Self) {
        let older = Arc::clone(&to.maps.read()[table as usize]);
        self.maps.write()[table as usize] = older;
    }

    /// The entry with the greatest key.
    #[must_use]
    pub fn last(&self, table: Table) -> Option<(Bytes, Bytes)> {
        let maps = self.maps.read();
        let (key, value) = maps[table as usize].last_key_value()?;
        Some((Bytes::copy_from_slice(key), value.clone()))
    }

    pub(crate) fn id(&self) -> LedgerId {
        self.id
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.maps.read()[table as usize].get(key).cloned()
    }

    pub(crate) fn freeze(&self) -> Frozen {
        Frozen(self.maps.read().clone())
    }
}

impl Device for MemoryDisk {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        let mut maps = self.maps.write();
        for write in writes {
            match *write {
                Write::Put { table, key, value } => {
                    let map = Arc::make_mut(&mut maps[table as usize]);
                    map.insert(key.into(), Bytes::copy_from_slice(value));
                }
                Write::Delete { table, key } => {
                    Arc::make_mut(&mut maps[table as usize]).remove(key);
                }
                Write::DeleteRange { table, from, to } => {
                    Arc::make_mut(&mut maps[table as usize])
                        .retain(|key, _| &key[..] < from || &key[..] >= to);
                }
            }
        }
        Ok(())
    }
}

/// All tables of one moment.
pub(crate) struct Frozen(Maps);

impl Frozen {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.0[table as usize].get(key).cloned()
    }

    pub(crate) fn cursor(&self, table: Table, reach: Reach) -> MemoryCursor {
        let Reach { from, to, walk: _ } = reach;
        MemoryCursor {
            map: Arc::clone(&self.0[table as usize]),
            from: from.unwrap_or_default(),
            to,
            at: None,
        }
    }
}

pub(crate) struct MemoryCursor {
    map: Arc<Map>,
    /// Included; nothing is below the empty key.
    from: Vec<u8>,
    /// Not included.
    to: Option<Vec<u8>>,
    /// None before the first seek and beyond either end.
    at: Option<Box<[u8]>>,
}

impl MemoryCursor {
    pub(crate) fn seek_to_first(&mut self) {
        self.at = self.first(Bound::Included(&self.from));
    }

    pub(crate) fn seek_to_last(&mut self) {
        self.at = self.last(self.end());
    }

    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.at = self.first(Bound::Included(key.max(&self.from)));
    }

    pub(crate) fn next(&mut self) {
        if let Some(at) = self.at.take() {
            self.at = self.first(Bound::Excluded(&at));
        }
    }

    pub(crate) fn prev(&mut self) {
        if let Some(at) = self.at.take() {
            self.at = self.last(Bound::Excluded(&at));
        }
    }

    pub(crate) fn item(&self) -> Option<(&[u8], &[u8])> {
        let (key, value) = self.map.get_key_value(self.at.as_ref()?)?;
        Some((key, value))
    }

    fn end(&self) -> Bound<&[u8]> {
        self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded)
    }

    fn first(&self, from: Bound<&[u8]>) -> Option<Box<[u8]>> {
        let mut range = self.map.range::<[u8], _>(in_order(from, self.end())?);
        range.next().map(|(key, _)| key.clone())
    }

    fn last(&self, to: Bound<&[u8]>) -> Option<Box<[u8]>> {
        let range = in_order(Bound::Included(&self.from), to)?;
        let mut range = self.map.range::<[u8], _>(range);
        range.next_back().map(|(key, _)| key.clone())
    }
}

type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// None for a range that nothing can be in: a map would not take it.
fn in_order<'a>(from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> Option<Range<'a>> {
    let empty = match (from, to) {
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
            a >= b
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    };
    (!empty).then_some((from, to))
}
