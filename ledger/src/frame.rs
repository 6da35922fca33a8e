//! The bytes of one record, written and read in exactly one way.
//!
//! Pure: no disk, no clock. Decoding is strict and total: any bytes give a frame
//! or a named error, never a panic, and what decodes encodes to the same bytes.
//! The layout is drawn in `FORMAT.md`. Two parts of a frame are, byte for byte,
//! the key and the value of the entity it is about, so nothing is copied twice.

use sha2::{Digest, Sha256};

use crate::record::{BODY_BYTES_MAX, ChainHash, Draft, ID_BYTES_MAX, Kind, Seq};

/// First byte of every frame.
pub const FRAME_FORMAT: u8 = 1;
/// First byte of every entity value, which is a part of a frame.
pub const STATE_FORMAT: u8 = 1;
/// A frame ends with its chain hash.
pub const HASH_BYTES: usize = 32;

const FLAG_LIVE: u8 = 1;
const FLAG_OWNER: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("cut short: {field} needs {need} bytes, {left} are left")]
    Short {
        field: &'static str,
        need: usize,
        left: usize,
    },
    #[error("frame format {found}; this program reads {FRAME_FORMAT}")]
    Format { found: u8 },
    #[error("state format {found}; this program reads {STATE_FORMAT}")]
    StateFormat { found: u8 },
    #[error("{field} of {found} bytes; {min} to {max} allowed")]
    Length {
        field: &'static str,
        found: usize,
        min: usize,
        max: usize,
    },
    #[error("kind 0")]
    KindZero,
    #[error("unknown flags {found:#04x}")]
    Flags { found: u8 },
    #[error("{left} bytes after the end")]
    Trailing { left: usize },
}

/// Where the parts of an encoded draft lie in its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) key: (usize, usize),
    pub(crate) uniques_at: usize,
    pub(crate) n_uniques: u8,
    pub(crate) state_at: usize,
    pub(crate) hash_at: usize,
}

impl Span {
    pub(crate) fn end(&self) -> usize {
        self.hash_at + HASH_BYTES
    }

    pub(crate) fn frame<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[self.start..self.end()]
    }

    pub(crate) fn entity_key<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[self.key.0..self.key.1]
    }

    pub(crate) fn state<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[self.state_at..self.hash_at]
    }

    /// The sealed seq: big-endian, so it is the record's key as it stands.
    pub(crate) fn seq<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[self.state_at + 2..self.state_at + 10]
    }

    /// The unique keys, as they lie in the frame.
    pub(crate) fn uniques<'a>(&self, buf: &'a [u8]) -> Uniques<'a> {
        Uniques {
            left: self.n_uniques,
            bytes: &buf[self.uniques_at..self.state_at],
        }
    }
}

/// Bytes that `encode` will append for this draft.
pub(crate) fn encoded_bytes(draft: &Draft) -> usize {
    let uniques: usize = draft.uniques.iter().map(|unique| 1 + unique.len()).sum();
    let owner = draft.owner.as_ref().map_or(0, |owner| 1 + owner.len());
    // Format, id length, group length, kind, count; state format, flags, seq, version, time, length.
    5 + draft.group.len()
        + draft.id.len()
        + uniques
        + 2
        + 3 * 8
        + owner
        + 4
        + draft.body.len()
        + HASH_BYTES
}

/// Appends a checked draft's frame with seq and hash still zero; `seal` fills them in.
pub(crate) fn encode(draft: &Draft, out: &mut Vec<u8>) -> Span {
    let start = out.len();
    out.extend_from_slice(&[FRAME_FORMAT, len_u8(&draft.id)]);
    let key_at = out.len();
    out.push(len_u8(&draft.group));
    out.extend_from_slice(&draft.group);
    out.push(draft.kind.0);
    out.extend_from_slice(&draft.id);
    let key = (key_at, out.len());
    let n_uniques = u8::try_from(draft.uniques.len()).expect("Draft::check bounds the count");
    out.push(n_uniques);
    let uniques_at = out.len();
    for unique in &draft.uniques {
        out.push(len_u8(unique));
        out.extend_from_slice(unique);
    }
    let state_at = out.len();
    let owner_flag = if draft.owner.is_some() { FLAG_OWNER } else { 0 };
    out.extend_from_slice(&[STATE_FORMAT, u8::from(draft.live) | owner_flag]);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&draft.version.to_be_bytes());
    out.extend_from_slice(&draft.at_ms.to_be_bytes());
    if let Some(owner) = &draft.owner {
        out.push(len_u8(owner));
        out.extend_from_slice(owner);
    }
    let body_len = u32::try_from(draft.body.len()).expect("Draft::check bounds the body");
    out.extend_from_slice(&body_len.to_be_bytes());
    out.extend_from_slice(&draft.body);
    let hash_at = out.len();
    out.extend_from_slice(&[0; HASH_BYTES]);
    Span {
        start,
        key,
        uniques_at,
        n_uniques,
        state_at,
        hash_at,
    }
}

/// Gives the frame its place: writes seq and chain hash, returns the hash.
pub(crate) fn seal(buf: &mut [u8], span: &Span, seq: Seq, prev: &ChainHash) -> ChainHash {
    buf[span.state_at + 2..span.state_at + 10].copy_from_slice(&seq.0.to_be_bytes());
    let hash = chain(prev, &buf[span.start..span.hash_at]);
    buf[span.hash_at..span.end()].copy_from_slice(&hash.0);
    hash
}

fn chain(prev: &ChainHash, bytes: &[u8]) -> ChainHash {
    ChainHash(
        Sha256::new()
            .chain_update(prev.0)
            .chain_update(bytes)
            .finalize()
            .into(),
    )
}

fn len_u8(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).expect("Draft::check bounds every length to one byte")
}

/// One whole frame, for tools and tests: what the committer would write for
/// this draft at this place. Refuses what `Draft::check` refuses.
pub fn frame_bytes(
    draft: &Draft,
    seq: Seq,
    prev: &ChainHash,
) -> Result<Vec<u8>, crate::error::DraftError> {
    draft.check()?;
    let mut out = Vec::with_capacity(encoded_bytes(draft));
    let span = encode(draft, &mut out);
    seal(&mut out, &span, seq, prev);
    Ok(out)
}

/// A decoded frame, borrowed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub key: EntityKey<'a>,
    pub uniques: Uniques<'a>,
    pub state: State<'a>,
    pub hash: ChainHash,
    hashed: &'a [u8],
}

impl Frame<'_> {
    /// Whether this frame follows the record with hash `prev`.
    #[must_use]
    pub fn follows(&self, prev: &ChainHash) -> bool {
        chain(prev, self.hashed) == self.hash
    }
}

/// Group, kind and id, as they stand in a frame and as key of the entity table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityKey<'a> {
    pub group: &'a [u8],
    pub kind: Kind,
    pub id: &'a [u8],
}

/// What a record says about its entity; also the value of the entity table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    pub seq: Seq,
    pub version: u64,
    pub live: bool,
    pub at_ms: u64,
    pub owner: Option<&'a [u8]>,
    pub body: &'a [u8],
}

/// The unique keys of a frame whose lengths were checked when it was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uniques<'a> {
    left: u8,
    bytes: &'a [u8],
}

impl<'a> Iterator for Uniques<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (len, rest) = self.bytes.split_first()?;
        let (unique, rest) = rest.split_at_checked(usize::from(*len))?;
        self.bytes = rest;
        Some(unique)
    }
}

/// Reads one whole frame.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let mut at = Cursor(bytes);
    let found = at.u8("format")?;
    if found != FRAME_FORMAT {
        return Err(FrameError::Format { found });
    }
    let id_len = usize::from(at.u8("id length")?);
    let key = entity_key(&mut at, id_len)?;
    let n_uniques = at.u8("count of unique keys")?;
    let uniques = at.0;
    for _ in 0..n_uniques {
        let len = usize::from(at.u8("length of a unique key")?);
        at.take("unique key", len, 1, usize::from(u8::MAX))?;
    }
    let uniques = Uniques {
        left: n_uniques,
        bytes: &uniques[..uniques.len() - at.0.len()],
    };
    let state = state(&mut at)?;
    let hashed = &bytes[..bytes.len() - at.0.len()];
    let hash = ChainHash(at.array("hash")?);
    at.end()?;
    Ok(Frame {
        key,
        uniques,
        state,
        hash,
        hashed,
    })
}

/// Reads the key of the entity table: what is left after the kind is the id.
pub fn decode_entity_key(bytes: &[u8]) -> Result<EntityKey<'_>, FrameError> {
    let group_len = usize::from(*bytes.first().unwrap_or(&0));
    let mut at = Cursor(bytes);
    let key = entity_key(&mut at, bytes.len().saturating_sub(group_len + 2))?;
    at.end()?;
    Ok(key)
}

/// Reads the value of the entity table.
pub fn decode_state(bytes: &[u8]) -> Result<State<'_>, FrameError> {
    let mut at = Cursor(bytes);
    let state = state(&mut at)?;
    at.end()?;
    Ok(state)
}

/// Looks only at the live flag of an entity value.
pub(crate) fn says_live(state: &[u8]) -> bool {
    state.get(1).is_some_and(|flags| flags & FLAG_LIVE != 0)
}

fn entity_key<'a>(at: &mut Cursor<'a>, id_len: usize) -> Result<EntityKey<'a>, FrameError> {
    let group_len = usize::from(at.u8("group length")?);
    let group = at.take("group", group_len, 1, ID_BYTES_MAX)?;
    let kind = Kind(at.u8("kind")?);
    if kind.0 == 0 {
        return Err(FrameError::KindZero);
    }
    let id = at.take("id", id_len, 1, ID_BYTES_MAX)?;
    Ok(EntityKey { group, kind, id })
}

fn state<'a>(at: &mut Cursor<'a>) -> Result<State<'a>, FrameError> {
    let found = at.u8("state format")?;
    if found != STATE_FORMAT {
        return Err(FrameError::StateFormat { found });
    }
    let flags = at.u8("flags")?;
    if flags & !(FLAG_LIVE | FLAG_OWNER) != 0 {
        return Err(FrameError::Flags { found: flags });
    }
    let seq = Seq(u64::from_be_bytes(at.array("seq")?));
    let version = u64::from_be_bytes(at.array("version")?);
    let at_ms = u64::from_be_bytes(at.array("time")?);
    let owner = if flags & FLAG_OWNER == 0 {
        None
    } else {
        let len = usize::from(at.u8("owner length")?);
        Some(at.take("owner", len, 1, ID_BYTES_MAX)?)
    };
    let body_len = u32::from_be_bytes(at.array("body length")?) as usize;
    let body = at.take("body", body_len, 0, BODY_BYTES_MAX)?;
    Ok(State {
        seq,
        version,
        live: flags & FLAG_LIVE != 0,
        at_ms,
        owner,
        body,
    })
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, field: &'static str, need: usize) -> Result<&'a [u8], FrameError> {
        let left = self.0.len();
        let (head, rest) =
            self.0
                .split_at_checked(need)
                .ok_or(FrameError::Short { field, need, left })?;
        self.0 = rest;
        Ok(head)
    }

    fn take(
        &mut self,
        field: &'static str,
        found: usize,
        min: usize,
        max: usize,
    ) -> Result<&'a [u8], FrameError> {
        if !(min..=max).contains(&found) {
            return Err(FrameError::Length {
                field,
                found,
                min,
                max,
            });
        }
        self.bytes(field, found)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, FrameError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FrameError> {
        let left = self.0.len();
        let (head, rest) = self.0.split_first_chunk().ok_or(FrameError::Short {
            field,
            need: N,
            left,
        })?;
        self.0 = rest;
        Ok(*head)
    }

    fn end(self) -> Result<(), FrameError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Trailing { left: self.0.len() })
        }
    }
}
