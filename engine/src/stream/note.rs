//! The note of a dead letter, as bytes in the ledger.
//!
//! It carries the record's own bytes, so that a replay does not hang on a record
//! that may have been trimmed by then, and what only the record says beside them.
//! The note's bytes outlive every version of the engine: tags are never reused.

use floodgate_ledger::{DeadLetter, Kind, Seq};
use prost::Message as _;

use super::fact::Source;
use super::letters::LetterError;
use super::row::{Row, RowKind};
use crate::domain::time::UnixMs;

/// One record that the store refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub seq: u64,
    /// As the refused record has it.
    pub row: Row,
    /// What the store said, the last time it was asked.
    pub why: String,
    /// When it was refused for the first time.
    pub at: UnixMs,
    /// Where the ledger ended when it was replayed; nothing until then.
    pub(super) taken_at: Option<Seq>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Note {
    /// The body of the refused record.
    #[prost(bytes = "vec", tag = "1")]
    pub body: Vec<u8>,
    /// What the store said, the last time it was asked.
    #[prost(string, tag = "2")]
    pub why: String,
    /// When it was refused for the first time.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
    /// What an order's own body says of an order; nothing where it is one.
    #[prost(message, optional, tag = "4")]
    pub record: Option<Around>,
    /// Where the ledger ended when the store had taken it after all; nothing until then.
    #[prost(uint64, optional, tag = "5")]
    pub taken_at: Option<u64>,
}

/// What a record says around its body.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Around {
    /// Its kind in the ledger.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub group: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub version: u64,
    #[prost(uint64, tag = "4")]
    pub at_ms: u64,
}

impl Note {
    pub fn of(row: &Row, why: String, at: UnixMs) -> Self {
        let source = row.source();
        Self {
            body: source.body.to_vec(),
            why,
            at_ms: at.0,
            record: match row.kind() {
                RowKind::Order => None,
                RowKind::Payment | RowKind::Entitlement => Some(Around {
                    kind: source.kind.0.into(),
                    group: source.group.to_vec(),
                    version: source.version,
                    at_ms: source.at.0,
                }),
            },
            taken_at: None,
        }
    }
}

pub(super) fn read(found: &DeadLetter) -> Result<Letter, LetterError> {
    let seq = found.seq.0;
    let note = Note::decode(&found.note[..]).map_err(|e| unreadable(seq, &e))?;
    let around = note.record.unwrap_or_else(|| Around {
        kind: RowKind::Order.kind().0.into(),
        ..Around::default()
    });
    let kind = u8::try_from(around.kind).map_err(|e| unreadable(seq, &e))?;
    let row = Row::read(&Source {
        seq,
        kind: Kind(kind),
        group: &around.group,
        version: around.version,
        at: UnixMs(around.at_ms),
        body: &note.body,
    });
    let row = row.map_err(|e| unreadable(seq, &e))?;
    let unknown = || unreadable(seq, &format_args!("kind {kind}, which no store keeps"));
    Ok(Letter {
        seq,
        row: row.ok_or_else(unknown)?,
        why: note.why,
        at: UnixMs(note.at_ms),
        taken_at: note.taken_at.map(Seq),
    })
}

pub(super) fn unreadable(seq: u64, what: &dyn std::fmt::Display) -> LetterError {
    let what = what.to_string();
    LetterError::Note { seq, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_today_is_what_every_later_version_must_read() {
        let order = Note {
            body: b"tea".to_vec(),
            why: "no".into(),
            at_ms: 300,
            record: None,
            taken_at: None,
        };
        let payment = Note {
            record: Some(Around {
                kind: 5,
                group: b"shop".to_vec(),
                version: 3,
                at_ms: 301,
            }),
            ..order.clone()
        };
        let of_order = b"\x0a\x03tea\x12\x02no\x18\xac\x02".to_vec();
        let around = b"\x22\x0d\x08\x05\x12\x04shop\x18\x03\x20\xad\x02";
        let of_payment = [of_order.as_slice(), around].concat();
        let taken = Note {
            taken_at: Some(302),
            ..order.clone()
        };
        let of_taken = [of_order.as_slice(), b"\x28\xae\x02"].concat();
        for (note, bytes) in [(order, of_order), (payment, of_payment), (taken, of_taken)] {
            assert_eq!(note.encode_to_vec(), bytes);
            assert_eq!(Note::decode(&bytes[..]), Ok(note));
        }
    }
}
