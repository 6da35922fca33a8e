//! The keys of one shard: hashes of byte strings, as Redis has them.

use std::collections::HashMap;

type Fields = HashMap<Box<[u8]>, Box<[u8]>, foldhash::fast::RandomState>;

#[derive(Debug, Default)]
pub struct Keyspace {
    keys: HashMap<Box<[u8]>, Fields, foldhash::fast::RandomState>,
    /// Sizes asked for keys that do not exist yet.
    room: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
}

impl Keyspace {
    pub fn fields(&self, key: &[u8]) -> Option<&Fields> {
        self.keys.get(key)
    }

    /// The fields of a key, made when missing.
    pub fn fields_mut(&mut self, key: &[u8]) -> &mut Fields {
        if !self.keys.contains_key(key) {
            let room = self.room.get(key).copied().unwrap_or(0);
            let fields =
                Fields::with_capacity_and_hasher(room, foldhash::fast::RandomState::default());
            self.keys.insert(key.into(), fields);
        }
        self.keys.get_mut(key).expect("inserted above")
    }

    pub fn delete_fields<'a>(&mut self, key: &[u8], fields: impl Iterator<Item = &'a [u8]>) -> i64 {
        let Some(hash) = self.keys.get_mut(key) else {
            return 0;
        };
        let n = fields.filter(|f| hash.remove(*f).is_some()).count();
        if hash.is_empty() {
            self.keys.remove(key);
        }
        i64::try_from(n).unwrap_or(i64::MAX)
    }

    pub fn unlink(&mut self, key: &[u8]) -> bool {
        self.keys.remove(key).is_some()
    }

    pub fn len(&self, key: &[u8]) -> usize {
        self.keys.get(key).map_or(0, HashMap::len)
    }

    /// Growing a map of millions stalls every buyer: make room before selling.
    pub fn make_room(&mut self, key: &[u8], fields: usize) {
        self.room.insert(key.into(), fields);
        if let Some(hash) = self.keys.get_mut(key) {
            hash.reserve(fields.saturating_sub(hash.len()));
        }
    }
}
