//! Does the ledger say what it always said? Frames, dense seqs, hash chain, tip.
//!
//! The hash of a record needs only the stored hash before it, so a long chain is
//! cut into stretches that are checked side by side; a damaged record is named
//! all the same, because every stretch begins with a hash the one before it ends
//! with.

use std::cmp::Ordering;
use std::thread;

use crate::device::Table;
use crate::error::{Damage, ReadError};
use crate::frame;
use crate::keys;
use crate::record::{ChainHash, Seq, Tip};
use crate::tables::{Reach, Tables};

/// Below this a second thread costs more than it saves (about 20 ms of hashing).
const STRETCH_RECORDS_MIN: u64 = 20_000;
/// More threads than this wait for the disk, not for the processor.
const THREADS_MAX: usize = 4;

/// What was read and found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    pub records: u64,
    /// Of the other tables; only where all of the ledger was read.
    pub entries: u64,
    /// The newest record before the first that was checked.
    pub after: Seq,
    pub tip: Tip,
}

/// Checks that the newest record is the one that the tip names, or that all are trimmed.
pub(crate) fn tip_stands(tables: &Tables, floor: Tip, tip: Tip) -> Result<(), ReadError> {
    let last = last_seq(tables)?.unwrap_or(floor.seq);
    match last.cmp(&tip.seq) {
        Ordering::Greater => Err(Damage::BeyondTip {
            seq: last,
            tip: tip.seq,
        }
        .into()),
        Ordering::Less => Err(Damage::Missing { seq: tip.seq }.into()),
        Ordering::Equal => {
            let hash = if last == floor.seq {
                floor.hash
            } else {
                hash_at(tables, last)?
            };
            if hash == tip.hash {
                Ok(())
            } else {
                Err(Damage::Tip { seq: tip.seq }.into())
            }
        }
    }
}

/// Checks every record after `after` up to `tip`.
pub(crate) fn chain(tables: &Tables, after: Tip, tip: Tip) -> Result<VerifyReport, ReadError> {
    let Some(records) = tip.seq.0.checked_sub(after.seq.0) else {
        // The tip is older than what was verified once: records are gone.
        return Err(Damage::Missing {
            seq: tip.seq.next(),
        }
        .into());
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX) as u64;
    let stretches = (records / STRETCH_RECORDS_MIN).clamp(1, threads);
    let cut = |i: u64| Seq(after.seq.0 + records * i / stretches);
    let whole = |hash: ChainHash| {
        if hash != tip.hash {
            return Err(Damage::Tip { seq: tip.seq }.into());
        }
        Ok(VerifyReport {
            records,
            entries: 0,
            after: after.seq,
            tip,
        })
    };
    if stretches == 1 {
        return whole(stretch(tables, after.seq, after.hash, tip.seq)?);
    }
    let found: Vec<Result<ChainHash, ReadError>> = thread::scope(|scope| {
        let running: Vec<_> = (0..stretches)
            .map(|i| {
                scope.spawn(move || {
                    let prev = if i == 0 {
                        after.hash
                    } else {
                        hash_at(tables, cut(i))?
                    };
                    stretch(tables, cut(i), prev, cut(i + 1))
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("checking does not panic"))
            .collect()
    });
    // In order, so that the first damage is the one that is named.
    let mut last = after.hash;
    for hash in found {
        last = hash?;
    }
    whole(last)
}

/// Checks the records after `after` up to `through`; returns the last hash.
pub(crate) fn stretch(
    tables: &Tables,
    after: Seq,
    mut prev: ChainHash,
    through: Seq,
) -> Result<ChainHash, ReadError> {
    let reach = Reach {
        from: Some(keys::record(after.next()).into()),
        to: Some(keys::record(through.next()).into()),
        walk: true,
    };
    let mut raw = tables.cursor(Table::Records, reach);
    raw.seek_to_first();
    let mut seq = after;
    while seq < through {
        seq = seq.next();
        let Some((key, value)) = raw.item() else {
            raw.status()?;
            return Err(Damage::Missing { seq }.into());
        };
        if key != keys::record(seq) {
            return Err(Damage::Missing { seq }.into());
        }
        let frame = frame::decode(value).map_err(|why| Damage::Frame { seq, why })?;
        if frame.state.seq != seq {
            return Err(Damage::WrongSeq {
                seq,
                says: frame.state.seq,
            }
            .into());
        }
        if !frame.follows(&prev) {
            return Err(Damage::Hash { seq }.into());
        }
        prev = frame.hash;
        raw.next();
    }
    Ok(prev)
}

fn hash_at(tables: &Tables, seq: Seq) -> Result<ChainHash, ReadError> {
    let value = tables
        .get(Table::Records, &keys::record(seq))?
        .ok_or(Damage::Missing { seq })?;
    let frame = frame::decode(&value).map_err(|why| Damage::Frame { seq, why })?;
    Ok(frame.hash)
}

/// The newest record's seq, whatever meta says.
pub(crate) fn last_seq(tables: &Tables) -> Result<Option<Seq>, ReadError> {
    let mut raw = tables.cursor(Table::Records, Reach::default());
    raw.seek_to_last();
    let last = raw.item().map(|(key, _)| {
        let key = key.try_into().map_err(|_| Damage::Entry {
            table: Table::Records.name(),
            key: key.escape_ascii().to_string(),
            why: "key is not eight bytes".into(),
        });
        key.map(|key| Seq(u64::from_be_bytes(key)))
    });
    raw.status()?;
    Ok(last.transpose()?)
}
