//! The keys of one shard: hashes of byte strings, as Redis has them.

use std::collections::HashMap;
use std::hash::BuildHasher;

type RandomState = foldhash::fast::RandomState;
type Map = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;

/// Maps of a key that is expected to become large. A map that grows moves all it
/// has: many small ones, growing one by one, stall nobody for long.
const MAPS: usize = 64;
/// One in so many entries is written, to touch the memory of all.
const TOUCH: usize = 16;

/// The fields of one key.
#[derive(Debug, Clone)]
pub struct Fields {
    maps: Box<[Map]>,
    state: RandomState,
}

impl Default for Fields {
    fn default() -> Self {
        Self::with(1, 0)
    }
}

impl Fields {
    fn with(n_maps: usize, n_fields: usize) -> Self {
        let state = RandomState::default();
        let map = |_| Map::with_capacity_and_hasher(n_fields.div_ceil(n_maps), state.clone());
        Self {
            maps: (0..n_maps).map(map).collect(),
            state,
        }
    }

    /// An empty key with room for so many fields, in memory that was touched: the
    /// first touch of a page costs a buyer more than the rest of the script.
    pub fn roomy(n_fields: usize) -> Self {
        let mut fields = Self::with(MAPS, n_fields);
        // A page of memory has room for a hundred: some of them touch them all.
        for n in (0..n_fields).step_by(TOUCH) {
            fields.insert(n.to_be_bytes().into(), Box::default());
        }
        fields.maps.iter_mut().for_each(Map::clear);
        fields
    }

    fn at(&self, field: &[u8]) -> usize {
        if self.maps.len() == 1 {
            return 0;
        }
        // The maps use the low and the topmost bits of the same hash.
        (self.state.hash_one(field) >> 32) as usize % self.maps.len()
    }

    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.maps[self.at(field)].get(field).map(|value| &value[..])
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.maps.iter().flatten();
        all.map(|(field, value)| (&field[..], &value[..]))
    }

    /// Whether the field is new.
    pub fn insert(&mut self, field: Box<[u8]>, value: Box<[u8]>) -> bool {
        let at = self.at(&field);
        self.maps[at].insert(field, value).is_none()
    }

    /// Whether the field was there.
    fn remove(&mut self, field: &[u8]) -> bool {
        let at = self.at(field);
        self.maps[at].remove(field).is_some()
    }

    fn len(&self) -> usize {
        self.maps.iter().map(Map::len).sum()
    }
}

/// A clone is what a backup would hold.
#[derive(Debug, Clone, Default)]
pub struct Keyspace {
    keys: HashMap<Box<[u8]>, Fields, RandomState>,
    /// Fields with room, for keys that are about to be made.
    room: HashMap<Box<[u8]>, Fields, RandomState>,
}

impl Keyspace {
    pub fn fields(&self, key: &[u8]) -> Option<&Fields> {
        self.keys.get(key)
    }

    /// The fields of a key, made when missing.
    pub fn fields_mut(&mut self, key: &[u8]) -> &mut Fields {
        if !self.keys.contains_key(key) {
            let fields = self.room.remove(key).unwrap_or_default();
            self.keys.insert(key.into(), fields);
        }
        self.keys.get_mut(key).expect("inserted above")
    }

    pub fn delete_fields<'a>(&mut self, key: &[u8], fields: impl Iterator<Item = &'a [u8]>) -> i64 {
        let Some(hash) = self.keys.get_mut(key) else {
            return 0;
        };
        let n = fields.filter(|f| hash.remove(f)).count();
        if hash.len() == 0 {
            self.keys.remove(key);
        }
        i64::try_from(n).unwrap_or(i64::MAX)
    }

    pub fn unlink(&mut self, key: &[u8]) -> bool {
        self.keys.remove(key).is_some()
    }

    pub fn len(&self, key: &[u8]) -> usize {
        self.keys.get(key).map_or(0, Fields::len)
    }

    /// Makes a key what it was in another telling of the same keys.
    pub fn put_back(&mut self, key: &[u8], from: &Self) {
        match from.keys.get(key) {
            Some(fields) => self.keys.insert(key.into(), fields.clone()),
            None => self.keys.remove(key),
        };
    }

    pub fn room(&mut self, key: &[u8], fields: Fields) {
        self.room.insert(key.into(), fields);
    }
}
