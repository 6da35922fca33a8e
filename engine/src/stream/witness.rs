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
    #[error("record {0} is not in the ledger any more")]
    Trimmed(u64),
    #[error("read the ledger: {0}")]
    Unreadable(String),
}

impl From<ReadError> for Disagreement {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Whether the ledger is the one that the mark was made from, and has all of it.
pub fn check(ledger: &Ledger, mark: &Mark) -> Result<(), Disagreement> {
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
    if hash_at(ledger, mark.seq)? == mark.hash {
        Ok(())
    } else {
        Err(Disagreement::OtherHistory(mark.seq.0))
    }
}

fn hash_at(ledger: &Ledger, seq: Seq) -> Result<ChainHash, Disagreement> {
    if seq.0 == 0 {
        return Ok(ledger.id().genesis());
    }
    let found = ledger.tail(seq, 1, usize::MAX)?;
    found
        .first()
        .filter(|r| r.seq == seq)
        .map(|r| r.hash)
        .ok_or(Disagreement::Trimmed(seq.0))
}
