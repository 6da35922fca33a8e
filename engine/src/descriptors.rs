//! File descriptors: who may use how many, decided before the first is opened.
//!
//! A connection is one; so is a table file of the ledger. If buyers could take the
//! last one, the ledger's next file would fail to open, and a ledger that failed once
//! is shut. So the limit of the process is shared out at the start, and connections
//! get what the others leave.

use std::num::NonZeroU16;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Everything but connections and table files: RocksDB's logs, manifest, folders and
/// the files a compaction has in hand, SQLite's three or two
/// lines to a database, epoll, listeners, stdio.
const FIXED: u64 = 128;
/// An eighth of the limit is the ledger's, within these.
const LEDGER_FILES_MIN: u64 = 128;
const LEDGER_FILES_MAX: u64 = 4_096;
/// With fewer the engine would sell to nobody.
const CONNECTIONS_MIN: u64 = 64;

/// What each may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// On the public listener.
    pub connections_max: usize,
    pub ledger_files_max: NonZeroU16,
}

/// Shares out `limit`, of which the admin listener takes `n_admin`.
pub fn share(limit: u64, wanted: usize, n_admin: usize) -> Result<Shares, String> {
    let ledger = (limit / 8).clamp(LEDGER_FILES_MIN, LEDGER_FILES_MAX);
    let others = ledger + FIXED + n_admin as u64;
    let left = limit.saturating_sub(others);
    if left < CONNECTIONS_MIN {
        return Err(format!(
            "this process may open {limit} files (ulimit -n); ledger, order store and admin \
             listener need {others} of them and connections at least {CONNECTIONS_MIN}: allow \
             {} or more (LimitNOFILE in systemd, nofile in limits.conf)",
            others + CONNECTIONS_MIN
        ));
    }
    Ok(Shares {
        connections_max: wanted.min(usize::try_from(left).unwrap_or(usize::MAX)),
        ledger_files_max: NonZeroU16::new(ledger as u16).unwrap_or(NonZeroU16::MAX),
    })
}

/// Raises the soft limit to the hard one, as far as the kernel lets it, and says what
/// the limit is then.
pub fn raise() -> u64 {
    let was = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: was.maximum,
        ..was
    };
    if was.current != was.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, ?was, "raise the limit of open files");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Shares out what the process has, and says so where it is less than was asked for.
pub fn at_start(wanted: usize, n_admin: usize) -> Result<Shares, String> {
    let limit = raise();
    let shares = share(limit, wanted, n_admin)?;
    let connections = shares.connections_max;
    if connections < wanted {
        tracing::warn!(
            limit,
            wanted,
            connections,
            "http.connections_max is lowered: the limit of open files (ulimit -n, LimitNOFILE) \
             leaves no room for more"
        );
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connections(limit: u64, wanted: usize) -> Option<usize> {
        share(limit, wanted, 64).ok().map(|s| s.connections_max)
    }

    #[test]
    fn buyers_get_what_the_ledger_leaves() {
        // 128 for the ledger, 128 for the rest and 64 for operators.
        assert_eq!(connections(1_024, 15_000), Some(704));
        assert_eq!(connections(384, 15_000), Some(64));
        assert_eq!(connections(383, 15_000), None);
        assert_eq!(connections(0, 15_000), None);
        assert_eq!(connections(20_000, 15_000), Some(15_000));
        assert_eq!(connections(20_000, 20_000), Some(17_308));
        assert_eq!(connections(u64::MAX, 15_000), Some(15_000));
        let problem = share(256, 15_000, 64).expect_err("too few");
        assert!(problem.contains("allow 384 or more"), "{problem}");
    }

    proptest! {
        #[test]
        fn the_shares_are_never_more_than_there_are(
            limit in 0_u64..2_000_000, wanted in 1_usize..1_000_000, n_admin in 0_usize..1_000,
        ) {
            if let Ok(shares) = share(limit, wanted, n_admin) {
                let ledger = u64::from(shares.ledger_files_max.get());
                let used = shares.connections_max as u64 + n_admin as u64 + ledger + FIXED;
                prop_assert!(used <= limit && shares.connections_max <= wanted);
                prop_assert!((LEDGER_FILES_MIN..=LEDGER_FILES_MAX).contains(&ledger));
            }
        }
    }
}
