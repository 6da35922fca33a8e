//! A look at RocksDB's manifest, before RocksDB reads it.
//!
//! Of all flipped bits there is one kind that RocksDB (11.8) neither notices nor
//! survives: a record of its manifest that claims to be "recycled" is read for ever,
//! so a start would hang instead of refusing. RocksDB recycles logs, and only when
//! told to, but no manifest; whoever finds such a record knows that it is damaged.
//! Everything else about a manifest RocksDB checks itself.

use std::fs;
use std::path::Path;

/// A manifest is written in blocks; what does not fit a header is left empty.
const BLOCK_BYTES: usize = 32 << 10;
/// Checksum (4), length (2), type (1).
const HEADER_BYTES: usize = 7;

/// Names the damaged record. A folder without a readable manifest is none of our business.
pub(crate) fn check(db: &Path) -> Result<(), String> {
    let Ok(current) = fs::read_to_string(db.join("CURRENT")) else {
        return Ok(());
    };
    let name = current.trim_end();
    match fs::read(db.join(name)).ok().as_deref().and_then(recycled) {
        Some(at) => Err(format!("{name}: the record at byte {at} is damaged")),
        None => Ok(()),
    }
}

/// Where the first record stands that says it is recycled.
fn recycled(manifest: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&[.., short, long, kind]) = manifest.get(at..at + HEADER_BYTES) {
        // The recyclable ones of RocksDB's `log_format.h`.
        if matches!(kind, 5..=8 | 11 | 131) {
            return Some(at);
        }
        at += HEADER_BYTES + usize::from(u16::from_le_bytes([short, long]));
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: usize) -> Vec<u8> {
        let length = u16::try_from(payload).expect("fits").to_le_bytes();
        let header = [0xAA, 0xAA, 0xAA, 0xAA, length[0], length[1], kind];
        // A payload that looks like trouble, should anybody take it for a header.
        [&header[..], &vec![5; payload]].concat()
    }

    #[test]
    fn a_recycled_record_is_found_wherever_it_stands() {
        assert_eq!(recycled(&[]), None);
        assert_eq!(recycled(&record(1, 100)), None);
        assert_eq!(recycled(&record(5, 100)), Some(0));
        let two = [record(1, 100), record(6, 9)].concat();
        assert_eq!(recycled(&two), Some(107));
        // Five bytes are left in the block: too few for a header.
        let first = record(2, BLOCK_BYTES - HEADER_BYTES - 5);
        let over = |kind| [first.clone(), vec![0; 5], record(kind, 20)].concat();
        assert_eq!(recycled(&over(4)), None);
        assert_eq!(recycled(&over(8)), Some(BLOCK_BYTES));
        // A record that is still being written.
        assert_eq!(recycled(&two[..110]), None);
    }
}
