//! Reads a ledger back while it is in use: every record against its chain, every entry of the
//! other tables against its block's checksum, and each entity against its form.
//!
//! A start checks only what came since the last one, or it would take longer with every
//! sale. What rots on the disk before that is found here.

use crate::device::Table;
use crate::error::{Damage, ReadError};
use crate::open::{self, Identity};
use crate::record::{ChainHash, Seq};
use crate::tables::{Reach, Tables};
use crate::verify::stretch;
use crate::walk::snapshot;

/// Read between two rests.
const PIECE: u64 = 10_000;

/// What was read and found right: how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    pub records: u64,
    pub entries: u64,
}

/// `rest` is asked after each piece, and whether to go on. `None`: it said no.
pub(crate) fn scrub(
    tables: &Tables,
    mut rest: impl FnMut() -> bool,
) -> Result<Option<Scrubbed>, ReadError> {
    let Some(records) = records(tables, &mut rest)? else {
        return Ok(None);
    };
    let entries = entries(tables, &mut rest)?;
    Ok(entries.map(|entries| Scrubbed { records, entries }))
}

/// Of all tables but the records.
pub(crate) fn entries(
    tables: &Tables,
    rest: &mut impl FnMut() -> bool,
) -> Result<Option<u64>, ReadError> {
    let mut entries = 0;
    for table in [
        Table::Entities,
        Table::Uniques,
        Table::ByOwner,
        Table::DeadLetters,
    ] {
        let Some(n) = walk(tables, table, rest)? else {
            return Ok(None);
        };
        entries += n;
    }
    // A handful of rows that are no entries, read for their checksums.
    Ok(walk(tables, Table::Meta, rest)?.map(|_| entries))
}

fn records(tables: &Tables, rest: &mut impl FnMut() -> bool) -> Result<Option<u64>, ReadError> {
    let (mut floor, mut n) = (identity(tables)?.floor, 0);
    let (mut at, mut hash): (Seq, ChainHash) = (floor.seq, floor.hash);
    let tip = identity(tables)?.tip;
    while at < tip.seq {
        let through = Seq(tip.seq.0.min(at.0 + PIECE));
        match stretch(tables, at, hash, through) {
            Ok(last) => {
                n += through.0 - at.0;
                (at, hash) = (through, last);
            }
            Err(error) => {
                // Trimmed meanwhile?
                let now = identity(tables)?.floor;
                if now == floor {
                    return Err(error);
                }
                floor = now;
                (at, hash) = (now.seq, now.hash);
            }
        }
        if !rest() {
            return Ok(None);
        }
    }
    if at == tip.seq && hash != tip.hash {
        return Err(Damage::Tip { seq: tip.seq }.into());
    }
    Ok(Some(n))
}

fn identity(tables: &Tables) -> Result<Identity, ReadError> {
    let none = Damage::NoMeta { key: "id" };
    open::identity(tables)?.ok_or(ReadError::Damaged(none))
}

/// In pieces, each a view of its own: one that is held for long would keep old files.
fn walk(
    tables: &Tables,
    table: Table,
    rest: &mut impl FnMut() -> bool,
) -> Result<Option<u64>, ReadError> {
    let (mut n, mut from) = (0, None);
    loop {
        let reach = Reach {
            from: from.take(),
            to: None,
            walk: true,
        };
        let mut raw = tables.cursor(table, reach);
        raw.seek_to_first();
        let mut last = None;
        for _ in 0..PIECE {
            let Some((key, value)) = raw.item() else {
                break;
            };
            if table == Table::Entities {
                snapshot(key, value)?;
            }
            n += 1;
            last = Some(key.to_vec());
            raw.next();
        }
        let at_the_end = raw.item().is_none();
        raw.status()?;
        if !rest() {
            return Ok(None);
        }
        match last {
            // The next key there can be.
            Some(mut key) if !at_the_end => {
                key.push(0);
                from = Some(key);
            }
            Some(_) | None => return Ok(Some(n)),
        }
    }
}
