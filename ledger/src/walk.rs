//! Walking over entities, and one entity out of its key and value.

use bytes::{BufMut, BytesMut};

use crate::device::Table;
use crate::error::ReadError;
use crate::frame::{self, EntityKey, FrameError};
use crate::keys;
use crate::read::entry_damage;
use crate::record::{Kind, Snapshot};
use crate::tables::{Cursor, Reach};

/// A walk over entities. It ends after the first error.
pub struct Entities<'a> {
    raw: Cursor<'a>,
    kind: Option<Kind>,
    live_only: bool,
    failed: bool,
}

impl<'a> Entities<'a> {
    /// `open` makes a cursor over the entities with this reach.
    pub(crate) fn start(
        open: impl FnOnce(Reach) -> Cursor<'a>,
        walk: bool,
        group: Option<&[u8]>,
        kind: Option<Kind>,
        live_only: bool,
    ) -> Self {
        let prefix = group
            .map(|group| keys::entity_prefix(group, kind))
            .unwrap_or_default();
        let mut raw = open(Reach {
            from: Some(prefix.clone()),
            to: keys::after_prefix(prefix),
            walk,
        });
        raw.seek_to_first();
        Self {
            raw,
            kind,
            live_only,
            failed: false,
        }
    }
}

impl Entities<'_> {
    /// Goes on behind this key.
    pub(crate) fn skip_past(&mut self, key: &[u8]) {
        // The smallest key above one is that key and a zero.
        self.raw.seek(&[key, &[0]].concat());
    }
}

impl Iterator for Entities<'_> {
    type Item = Result<Snapshot, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed
            && let Some((key, value)) = self.raw.item()
        {
            let kind_at = 1 + usize::from(*key.first().unwrap_or(&0));
            let kind_fits = self
                .kind
                .is_none_or(|kind| key.get(kind_at) == Some(&kind.0));
            let wanted = kind_fits && (!self.live_only || frame::says_live(value));
            let found = wanted.then(|| snapshot(key, value));
            self.raw.next();
            if let Some(found) = found {
                self.failed = found.is_err();
                return Some(found);
            }
        }
        if self.failed {
            return None;
        }
        self.failed = true;
        self.raw.status().err().map(|error| Err(error.into()))
    }
}

/// One allocation holds key and value; the parts are cut out of it.
pub(crate) fn snapshot(key: &[u8], value: &[u8]) -> Result<Snapshot, ReadError> {
    let mut whole = BytesMut::with_capacity(key.len() + value.len());
    whole.put_slice(key);
    whole.put_slice(value);
    let whole = whole.freeze();
    let (key, value) = whole.split_at(key.len());
    let damage = |why: FrameError| entry_damage(Table::Entities, key, &why);
    let EntityKey { group, kind, id } = frame::decode_entity_key(key).map_err(damage)?;
    let state = frame::decode_state(value).map_err(damage)?;
    Ok(Snapshot {
        kind,
        group: whole.slice_ref(group),
        id: whole.slice_ref(id),
        version: state.version,
        live: state.live,
        owner: state.owner.map(|owner| whole.slice_ref(owner)),
        at_ms: state.at_ms,
        seq: state.seq,
        body: whole.slice_ref(state.body),
    })
}
