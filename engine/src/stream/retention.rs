//! Retention: a record goes once the order store has it and nobody is likely to
//! ask for it again.
//!
//! Both must be so: the store's mark has passed the record, and it is older than
//! the retention time. Snapshots, unique keys and dead letters stay; so does the
//! newest trimmed record's hash, which the store's mark is compared with.
//!
//! Not here: how space comes back (the ledger), what a store gets that is older
//! than what is kept (`refill.rs`).

use std::time::Duration;

use floodgate_ledger::{Ledger, ReadError, Seq};

use crate::domain::time::UnixMs;

/// Records come in their order and age by hours: a minute more or less is nothing.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The newest record that may go, if any may: after `floor`, up to `mark`, from
/// before now by `keep`.
///
/// By halving, so a look reads a few dozen records and not millions. Times follow
/// seqs but for wall clocks that were set between two runs; then the border is one
/// of several, and what lies before it is older than a record that says it is old.
pub fn may_go<E>(
    floor: Seq,
    mark: Seq,
    now: UnixMs,
    keep: Duration,
    mut at: impl FnMut(Seq) -> Result<UnixMs, E>,
) -> Result<Option<Seq>, E> {
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    let Some(border) = now.0.checked_sub(keep_ms) else {
        return Ok(None);
    };
    // Everything up to `old` may go, `young` and what follows stays.
    let (mut old, mut young) = (floor.0, mark.0.saturating_add(1));
    while young.saturating_sub(old) > 1 {
        let middle = old + (young - old) / 2;
        if at(Seq(middle))?.0 <= border {
            old = middle;
        } else {
            young = middle;
        }
    }
    Ok((old > floor.0).then_some(Seq(old)))
}

/// Looks every minute, for ever. `mark` says how far the order store has durably
/// come, or nothing while that is in doubt.
pub async fn run(
    ledger: Ledger,
    mark: impl Fn() -> Option<Seq>,
    now: impl Fn() -> UnixMs,
    keep: Duration,
) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(mark) = mark() else { continue };
        match trim(&ledger, mark, now(), keep).await {
            Ok(Some(through)) => tracing::info!(through = through.0, "ledger records trimmed"),
            Ok(None) => {}
            // The next look tries again; a ledger that is shut says so by itself.
            Err(error) => tracing::warn!(error, "trim the ledger"),
        }
    }
}

async fn trim(
    ledger: &Ledger,
    mark: Seq,
    now: UnixMs,
    keep: Duration,
) -> Result<Option<Seq>, String> {
    let reader = ledger.reader().clone();
    // A record that has to come from the disk may take its time.
    let border = tokio::task::spawn_blocking(move || {
        let floor = reader.identity()?.floor.seq;
        may_go(floor, mark, now, keep, |seq| {
            let found = reader.tail(seq, 1, usize::MAX)?;
            // Between floor and mark every record is there; one that is not stays.
            Ok::<_, ReadError>(found.first().map_or(UnixMs(u64::MAX), |r| UnixMs(r.at_ms)))
        })
    });
    let Some(through) = border.await.map_err(text)?.map_err(text)? else {
        return Ok(None);
    };
    let receipt = ledger.trim(through).await.map_err(text)?;
    receipt.await.map_err(text)?;
    Ok(Some(through))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;

    /// Records from 1 on with these times; what may go, after how many looks.
    fn border(floor: u64, mark: u64, now: u64, at: &[u64]) -> (Option<u64>, usize) {
        let mut n_looks = 0;
        let keep = Duration::from_millis(HOUR);
        let Ok(found) = may_go(Seq(floor), Seq(mark), UnixMs(now), keep, |seq| {
            n_looks += 1;
            let at = at[usize::try_from(seq.0).expect("small") - 1];
            Ok::<_, Infallible>(UnixMs(at))
        });
        (found.map(|seq| seq.0), n_looks)
    }

    #[test]
    fn a_record_goes_when_it_is_old_and_the_store_has_it() {
        let at = [10, 20, 30, 40, 50];
        let go = |floor, mark, now| border(floor, mark, HOUR + now, &at).0;
        assert_eq!(go(0, 5, 9), None, "all are young");
        assert_eq!(go(0, 5, 10), Some(1));
        assert_eq!(go(0, 5, 39), Some(3));
        assert_eq!(go(0, 2, 39), Some(2), "the store has no more");
        assert_eq!(go(0, 0, 39), None, "the store has nothing");
        assert_eq!(go(3, 5, 39), None, "gone already");
        assert_eq!(go(4, 2, 99), None, "a store older than the floor");
        assert_eq!(go(0, 5, 99), Some(5), "the one at the mark too");
        assert_eq!(
            border(0, 5, HOUR - 1, &at),
            (None, 0),
            "the clock is in 1970"
        );
        let last = u64::MAX;
        assert_eq!(border(last - 1, last, 0, &at), (None, 0), "no overflow");
    }

    #[test]
    fn a_look_at_a_million_records_reads_a_few() {
        let at: Vec<u64> = (0..1_000_000).collect();
        let (found, n_looks) = border(0, 1_000_000, HOUR + 765_432, &at);
        assert_eq!(found, Some(765_433));
        assert!(n_looks <= 21, "{n_looks}");
    }

    proptest! {
        /// Whatever clocks did: never past the mark, never back, and the newest that
        /// goes is old by its own word.
        #[test]
        fn clocks_that_were_set_do_no_harm(
            at in proptest::collection::vec(0..100_u64, 1..60),
            floor in 0..60_u64,
            mark in 0..60_u64,
            now in 0..120_u64,
        ) {
            let n = at.len() as u64;
            let (floor, mark) = (floor.min(n), mark.min(n));
            let time = |at: &[u64], seq: u64| at[usize::try_from(seq).expect("small") - 1];
            let (found, _) = border(floor, mark, HOUR + now, &at);
            if let Some(seq) = found {
                prop_assert!(floor < seq && seq <= mark);
                prop_assert!(time(&at, seq) <= now);
            }
            let mut sorted = at.clone();
            sorted.sort_unstable();
            let right = (floor + 1..=mark).rev().find(|seq| time(&sorted, *seq) <= now);
            prop_assert_eq!(border(floor, mark, HOUR + now, &sorted).0, right);
        }
    }
}
