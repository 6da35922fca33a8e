//! The store's mark is a witness: it says how far this very ledger once was.
//!
//! A ledger that was cut off, put back from a copy or exchanged looks whole from
//! inside. Selling on with it would give keys and units a second time.

use floodgate_ledger::{ChainHash, Ledger, ReadError, Seq};

use super::store::Mark;

/// What the mark says against the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    #[error("the order store was filled from ledger {theirs}, this is ledger {ours}")]
    OtherLedger { theirs: String, ours: String },
    #[error(
        "the order store has record {mark}, the ledger ends at {tip}: the ledger lost its tail"
    )]
    LostTail { mark: u64, tip: u64 },
    #[error("record {0} is not the one the order store was filled from")]
    OtherHistory(u64),
    #[error("read the ledger: {0}")]
    Unreadable(String),
}

impl From<ReadError> for Disagreement {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Whether the ledger is the one that the mark was made from, and has all of it.
///
/// A mark from before the oldest record kept can be compared no more, and need not
/// be: the ledger has been further than that itself. Such a store is refilled.
pub fn check(ledger: &Ledger, mark: &Mark) -> Result<(), Disagreement> {
    // The test that proves that somebody notices asks no witness.
    fail::fail_point!("stream-no-witness", |_| Ok(()));
    if mark.ledger != ledger.id() {
        return Err(Disagreement::OtherLedger {
            theirs: mark.ledger.to_string(),
            ours: ledger.id().to_string(),
        });
    }
    let tip = ledger.tip();
    if mark.seq > tip.seq {
        return Err(Disagreement::LostTail {
            mark: mark.seq.0,
            tip: tip.seq.0,
        });
    }
    match hash_at(ledger, mark.seq)? {
        Some(hash) if hash != mark.hash => Err(Disagreement::OtherHistory(mark.seq.0)),
        Some(_) | None => Ok(()),
    }
}

/// `None` where the hash went with its record.
fn hash_at(ledger: &Ledger, seq: Seq) -> Result<Option<ChainHash>, Disagreement> {
    if seq.0 == 0 {
        return Ok(Some(ledger.id().genesis()));
    }
    let floor = ledger.reader().identity()?.floor;
    if seq == floor.seq {
        return Ok(Some(floor.hash));
    }
    match ledger.tail(seq, 1, usize::MAX) {
        Ok(found) => Ok(found.first().map(|r| r.hash)),
        // Before the floor, or trimmed between the two looks.
        Err(ReadError::Trimmed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
