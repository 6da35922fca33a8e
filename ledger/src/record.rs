//! The words of the ledger: what callers hand in and what they read back.
//!
//! Everything here is a plain value. Lengths are checked once, when a draft is
//! handed in (`Draft::check`); what was read from disk was checked by `frame`.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::DraftError;

/// Longest group, id and owner; one byte carries the length.
pub const ID_BYTES_MAX: usize = 64;
/// Longest unique key; one byte carries the length.
pub const UNIQUE_BYTES_MAX: usize = 255;
/// Most unique keys a record may claim; one byte carries the count.
pub const UNIQUES_MAX: usize = 255;
/// Largest body of a record. Orders are a few hundred bytes; a sale with 10,000
/// SKUs stays below this.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// Dense position of a record, from 1, never reused. 0 stands for "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The position after this one. 2^64 records cannot be written: at a
    /// million a second that takes 584,000 years.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one ledger for ever. A rebuilt, restored or shortened ledger takes a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LedgerId(pub [u8; 16]);

impl LedgerId {
    /// What the hash of the first record is chained to.
    #[must_use]
    pub fn genesis(&self) -> ChainHash {
        ChainHash(Sha256::digest(self.0).into())
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// SHA-256 over the hash before and the record: equal hashes, equal histories.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 32]);

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The newest durable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    pub seq: Seq,
    pub hash: ChainHash,
}

/// What kind of thing a record is about. The meaning is the caller's; 0 is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

/// A record to be written: the whole new state of one entity.
///
/// The ledger does not read the state before: **the caller guarantees that the
/// version of an entity grows from draft to draft**. An older version handed in
/// later would replace the newer one in [`crate::Reader::entity`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub kind: Kind,
    /// What the entity belongs to (a sale), 1 to 64 bytes.
    pub group: Bytes,
    /// 1 to 64 bytes.
    pub id: Bytes,
    pub version: u64,
    /// Whether the entity still matters at start-up.
    pub live: bool,
    /// Who may list it with `by_owner`, 1 to 64 bytes.
    pub owner: Option<Bytes>,
    /// Keys claimed for ever by this entity. Claim each once: a later version
    /// that names it again is refused like anybody else.
    pub uniques: Vec<Bytes>,
    pub at_ms: u64,
    pub body: Bytes,
}

impl Draft {
    /// Checks every length against what the format can carry.
    pub fn check(&self) -> Result<(), DraftError> {
        let within = |field, found: usize, min, max| {
            if (min..=max).contains(&found) {
                Ok(())
            } else {
                Err(DraftError::Length {
                    field,
                    found,
                    min,
                    max,
                })
            }
        };
        if self.kind.0 == 0 {
            return Err(DraftError::KindZero);
        }
        within("group", self.group.len(), 1, ID_BYTES_MAX)?;
        within("id", self.id.len(), 1, ID_BYTES_MAX)?;
        if let Some(owner) = &self.owner {
            within("owner", owner.len(), 1, ID_BYTES_MAX)?;
        }
        within("uniques (count)", self.uniques.len(), 0, UNIQUES_MAX)?;
        for unique in &self.uniques {
            within("unique key", unique.len(), 1, UNIQUE_BYTES_MAX)?;
        }
        within("body", self.body.len(), 0, BODY_BYTES_MAX)
    }
}

/// The atomic unit: all of it is written, in this order, or nothing.
///
/// `meta` are the caller's own keys (marks, id floor, epochs), replaced as they
/// are. A group without drafts is fine: it is as durable as any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub drafts: Vec<Draft>,
    pub meta: Vec<(Bytes, Bytes)>,
}

impl Group {
    /// A group of one record.
    #[must_use]
    pub fn one(draft: Draft) -> Self {
        Self {
            drafts: vec![draft],
            meta: Vec::new(),
        }
    }
}

/// Where a group came to stand. Without drafts `last` is one less than `first`:
/// an empty range after the tip of that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub first: Seq,
    pub last: Seq,
}

/// Names an entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntityRef {
    pub group: Bytes,
    pub kind: Kind,
    pub id: Bytes,
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, kind, id } = self;
        write!(
            f,
            "{}/{}/{}",
            group.escape_ascii(),
            kind.0,
            id.escape_ascii()
        )
    }
}

/// The newest state of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub kind: Kind,
    pub group: Bytes,
    pub id: Bytes,
    pub version: u64,
    pub live: bool,
    pub owner: Option<Bytes>,
    pub at_ms: u64,
    /// The record that said so.
    pub seq: Seq,
    pub body: Bytes,
}

/// One entry of the ledger as it is tailed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub seq: Seq,
    pub hash: ChainHash,
    pub kind: Kind,
    pub group: Bytes,
    pub id: Bytes,
    pub version: u64,
    pub live: bool,
    pub owner: Option<Bytes>,
    pub uniques: Vec<Bytes>,
    pub at_ms: u64,
    pub body: Bytes,
}

/// A record a consumer could not carry onwards, with the consumer's own note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub seq: Seq,
    pub note: Bytes,
}
