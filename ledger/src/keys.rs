//! The keys and small values of every table but the frames. Pure; see `FORMAT.md`.

use bytes::Bytes;

use crate::frame::{self, EntityKey, FrameError};
use crate::record::{ChainHash, EntityRef, Kind, Seq, Tip};

/// The whole layout's version, in meta.
pub const LEDGER_FORMAT: u32 = 1;

// The ledger's own meta keys start with 0, the caller's with 1: they cannot meet.
pub(crate) const META_FORMAT: &[u8] = b"\0format";
pub(crate) const META_ID: &[u8] = b"\0id";
pub(crate) const META_INCARNATION: &[u8] = b"\0incarnation";
/// The newest record.
pub(crate) const META_TIP: &[u8] = b"\0tip";
/// The newest record that was read back and fitted the chain.
pub(crate) const META_VERIFIED: &[u8] = b"\0verified";
/// The newest record that was trimmed; (0, genesis) at first.
pub(crate) const META_FLOOR: &[u8] = b"\0floor";

/// Longest meta key of the caller.
pub(crate) const META_KEY_BYTES_MAX: usize = 1_024;

pub(crate) fn caller_meta(key: &[u8]) -> Vec<u8> {
    [&[1], key].concat()
}

pub(crate) fn record(seq: Seq) -> [u8; 8] {
    seq.0.to_be_bytes()
}

pub(crate) fn tip_value(tip: &Tip) -> [u8; 40] {
    let mut value = [0; 40];
    value[..8].copy_from_slice(&tip.seq.0.to_be_bytes());
    value[8..].copy_from_slice(&tip.hash.0);
    value
}

pub(crate) fn parse_tip(value: &[u8]) -> Option<Tip> {
    let (seq, hash) = value.split_first_chunk::<8>()?;
    Some(Tip {
        seq: Seq(u64::from_be_bytes(*seq)),
        hash: ChainHash(hash.try_into().ok()?),
    })
}

pub(crate) fn entity_prefix(group: &[u8], kind: Option<Kind>) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + group.len());
    // A group longer than any that could be written matches nothing.
    key.push(u8::try_from(group.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(group);
    key.extend(kind.map(|kind| kind.0));
    key
}

pub(crate) fn entity(group: &[u8], kind: Kind, id: &[u8]) -> Vec<u8> {
    let mut key = entity_prefix(group, Some(kind));
    key.extend_from_slice(id);
    key
}

pub(crate) fn owner_prefix(owner: &[u8], kind: Kind) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + owner.len());
    key.push(u8::try_from(owner.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(owner);
    key.push(kind.0);
    key
}

/// Appends an owner key; the id is last, so that newest first is one backward walk.
pub(crate) fn owner_into(out: &mut Vec<u8>, owner: &[u8], kind: Kind, id: &[u8]) {
    out.push(u8::try_from(owner.len()).expect("Draft::check bounds the owner"));
    out.extend_from_slice(owner);
    out.push(kind.0);
    out.extend_from_slice(id);
}

/// The smallest key above everything that starts with `prefix`.
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

/// Who holds a unique key: the value is the holder's entity key.
pub(crate) fn parse_holder(value: &[u8]) -> Result<EntityRef, FrameError> {
    let whole = Bytes::copy_from_slice(value);
    let EntityKey { group, kind, id } = frame::decode_entity_key(&whole)?;
    Ok(EntityRef {
        group: whole.slice_ref(group),
        kind,
        id: whole.slice_ref(id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_after_a_prefix_is_above_everything_that_starts_with_it() {
        assert_eq!(after_prefix(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(vec![1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(vec![255, 255]), None);
    }

    #[test]
    fn an_owner_key_starts_with_its_prefix() {
        let mut key = Vec::new();
        owner_into(&mut key, b"ana", Kind(1), b"id");
        assert!(key.starts_with(&owner_prefix(b"ana", Kind(1))));
    }

    #[test]
    fn a_tip_reads_back() {
        let tip = Tip {
            seq: Seq(7),
            hash: ChainHash([9; 32]),
        };
        assert_eq!(parse_tip(&tip_value(&tip)), Some(tip));
        assert_eq!(parse_tip(b"short"), None);
    }
}
