//! The note of a dead letter, as bytes in the ledger.
//!
//! It carries the order's own bytes, so that a replay does not hang on a record
//! that may have been trimmed by then. The bytes outlive every version of the
//! engine: tags are never reused.

use floodgate_ledger::DeadLetter;
use prost::Message;

use super::letters::LetterError;
use crate::domain::codec::decode_order;
use crate::domain::order::Order;
use crate::domain::time::UnixMs;

/// One record that the store refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub seq: u64,
    /// As the refused record has it.
    pub order: Order,
    /// What the store said, the last time it was asked.
    pub why: String,
    /// When it was refused for the first time.
    pub at: UnixMs,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Note {
    /// The body of the refused record.
    #[prost(bytes = "vec", tag = "1")]
    pub order: Vec<u8>,
    /// What the store said, the last time it was asked.
    #[prost(string, tag = "2")]
    pub why: String,
    /// When it was refused for the first time.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
}

/// A letter and the body of its record.
pub(super) fn read(found: &DeadLetter) -> Result<(Letter, Vec<u8>), LetterError> {
    let seq = found.seq.0;
    let note = Note::decode(&found.note[..]).map_err(|e| unreadable(seq, &e))?;
    let letter = Letter {
        seq,
        order: decode_order(&note.order).map_err(|e| unreadable(seq, &e))?,
        why: note.why,
        at: UnixMs(note.at_ms),
    };
    Ok((letter, note.order))
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
        let note = Note {
            order: b"tea".to_vec(),
            why: "no".into(),
            at_ms: 300,
        };
        let bytes = note.encode_to_vec();
        assert_eq!(bytes, b"\x0a\x03tea\x12\x02no\x18\xac\x02");
        assert_eq!(Note::decode(&bytes[..]), Ok(note));
    }
}
