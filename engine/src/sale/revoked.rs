//! What was revoked while tokens for it may still be about.
//!
//! A token lives for minutes and cannot be called back, so whoever checks one looks here.
//! The desk tells of a revocation once it is durable, before anybody hears of it. An
//! entitlement is remembered for the longest life of a token from then on; after that its
//! last token has expired, and it is forgotten. So the memory is bounded by what is
//! revoked within that time.
//!
//! Not here: what was revoked before the engine started. A token of an earlier run says
//! so, and the ledger is asked.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::TOKEN_LIFE_MAX;
use crate::domain::ids::EntitlementId;
use crate::domain::time::UnixMs;

#[derive(Debug)]
pub struct Revoked(RwLock<Table>);

impl Default for Revoked {
    fn default() -> Self {
        Self(RwLock::new(Table::new(TOKEN_LIFE_MAX)))
    }
}

impl Revoked {
    /// `now`: after the revocation became durable, so that every token that was made
    /// from what stood there before ends within a token's life from here.
    pub fn add(&self, entitlement: &EntitlementId, now: UnixMs) {
        self.0.write().add(entitlement.as_bytes(), now);
    }

    pub fn has(&self, entitlement: &str) -> bool {
        self.0.read().has(entitlement.as_bytes())
    }
}

#[derive(Debug)]
struct Table {
    keep: Duration,
    /// Hashes of ids, which are themselves hashes: nobody chooses two that meet.
    ids: HashSet<u128, foldhash::fast::RandomState>,
    /// In the order they came.
    queue: VecDeque<(UnixMs, u128)>,
}

impl Table {
    fn new(keep: Duration) -> Self {
        Self {
            keep,
            ids: HashSet::default(),
            queue: VecDeque::new(),
        }
    }

    fn add(&mut self, entitlement: &[u8], now: UnixMs) {
        while let Some((at, id)) = self.queue.front()
            && at.plus(self.keep) < now
        {
            self.ids.remove(id);
            self.queue.pop_front();
        }
        let id = xxh3_128(entitlement);
        if self.ids.insert(id) {
            self.queue.push_back((now, id));
        }
    }

    fn has(&self, entitlement: &[u8]) -> bool {
        !self.ids.is_empty() && self.ids.contains(&xxh3_128(entitlement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes when: what was revoked is known for as long as a token that was
        /// made before may live, and no more is kept than came within that time.
        #[test]
        fn revoked_is_known_as_long_as_its_tokens_live(
            steps in prop::collection::vec((0_u8..12, 0_u64..90), 1..80),
        ) {
            const KEEP: u64 = 180;
            let mut revoked = Table::new(Duration::from_millis(KEEP));
            let mut came: Vec<(u64, u8)> = Vec::new();
            let mut now = 1_000;
            for (n, ms) in steps {
                now += ms;
                revoked.add(&[n], UnixMs(now));
                if !came.iter().any(|(at, id)| *id == n && at + KEEP >= now) {
                    came.push((now, n));
                }
                for n in 0..12 {
                    let fresh = came.iter().any(|(at, id)| *id == n && at + KEEP >= now);
                    prop_assert_eq!(revoked.has(&[n]), fresh);
                }
                let fresh = came.iter().filter(|(at, _)| at + KEEP >= now).count();
                prop_assert_eq!((revoked.ids.len(), revoked.queue.len()), (fresh, fresh));
            }
        }
    }
}
