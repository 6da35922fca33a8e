//! Makes order ids that never repeat, whatever the clock does.
//!
//! The milliseconds in an id are max(clock, floor). The floor is leased ahead in
//! the ledger's meta: no id is given beyond what the ledger durably knows to be
//! taken, so a restart begins above everything that was ever given.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::ids::{BucketNo, NodeNo, OrderId, OrderIdParts, SaleNo};
use crate::domain::time::UnixMs;

/// How far ahead the floor is leased. A restart may start ids this far in the
/// future; they are names, not times, so that costs nothing.
pub const LEASE_MS: u64 = 5_000;

/// What all desks of a node share.
#[derive(Debug)]
pub struct IdLease {
    floor: u64,
    ceiling: AtomicU64,
}

impl IdLease {
    /// `floor`: above every id given before; `ceiling`: durably leased.
    pub fn new(floor: u64, ceiling: u64) -> Self {
        Self {
            floor,
            ceiling: AtomicU64::new(ceiling),
        }
    }

    /// The lease that should be made durable next, if it is time to.
    pub fn wanted(&self, now: UnixMs) -> Option<u64> {
        let want = now.0.max(self.floor) + LEASE_MS;
        (want > self.ceiling.load(Ordering::Acquire) + LEASE_MS / 2).then_some(want)
    }

    /// Call once the ledger has it.
    pub fn extend(&self, ceiling: u64) {
        self.ceiling.fetch_max(ceiling, Ordering::AcqRel);
    }
}

/// One desk's maker of ids.
#[derive(Debug)]
pub struct OrderIds {
    sale: SaleNo,
    bucket: BucketNo,
    node: NodeNo,
    last_ms: u64,
    counter: u16,
    /// Makes ids hard to guess; no secret hangs on it.
    random: fastrand::Rng,
}

impl OrderIds {
    pub fn new(sale: SaleNo, bucket: BucketNo, node: NodeNo, seed: u64) -> Self {
        Self {
            sale,
            bucket,
            node,
            last_ms: 0,
            counter: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// `None` when the lease is used up: the ledger is behind, the buyer may retry.
    pub fn next(&mut self, lease: &IdLease, now: UnixMs) -> Option<OrderId> {
        let mut ms = now.0.max(lease.floor).max(self.last_ms);
        let mut counter = 0;
        if ms == self.last_ms {
            match self.counter.checked_add(1) {
                Some(next) => counter = next,
                None => ms += 1,
            }
        }
        if ms > lease.ceiling.load(Ordering::Acquire) {
            return None;
        }
        // Only now: an id that was not given must not free the counters of those that
        // were, or they come again once the clock has stepped back.
        (self.last_ms, self.counter) = (ms, counter);
        Some(OrderId::from_parts(OrderIdParts {
            ms,
            bucket: self.bucket,
            sale: self.sale,
            node: self.node,
            counter: self.counter,
            random: self.random.u32(..1 << 20),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn ids() -> OrderIds {
        OrderIds::new(SaleNo(1), BucketNo(2), NodeNo(3), 7)
    }

    #[test]
    fn ids_do_not_repeat_when_the_clock_steps_back() {
        let lease = IdLease::new(0, 1_000_000);
        let (mut ids, mut seen) = (ids(), HashSet::new());
        for now in [5_000, 5_000, 1_000, 5_001, 4_000] {
            for _ in 0..70_000 {
                assert!(seen.insert(ids.next(&lease, UnixMs(now)).expect("leased")));
            }
        }
    }

    /// What makes an id its own; the random bits are only there against guessing.
    fn name(id: OrderId) -> (u64, u16) {
        (id.parts().ms, id.parts().counter)
    }

    #[test]
    fn ids_do_not_repeat_when_a_leap_past_the_lease_is_taken_back() {
        let lease = IdLease::new(0, 10);
        let (mut ids, mut seen) = (ids(), HashSet::new());
        for now in [10, 10, 11, 10, 10, 9] {
            let given = ids.next(&lease, UnixMs(now)).map(name);
            assert_eq!(given.is_none(), now == 11, "nothing beyond the lease");
            assert!(given.is_none_or(|id| seen.insert(id)), "{given:?} again");
        }
    }

    #[test]
    fn ids_do_not_repeat_when_a_full_millisecond_is_the_last_of_the_lease() {
        let lease = IdLease::new(0, 10);
        let (mut ids, mut seen) = (ids(), HashSet::new());
        for _ in 0..70_000 {
            let given = ids.next(&lease, UnixMs(10)).map(name);
            assert!(given.is_none_or(|id| seen.insert(id)), "{given:?} again");
        }
        assert_eq!(seen.len(), 1 << 16);
    }

    #[test]
    fn a_restart_starts_above_the_lease() {
        let before = ids()
            .next(&IdLease::new(0, 10_000), UnixMs(10_000))
            .expect("leased");
        let lease = IdLease::new(10_001, 20_000);
        let after = ids().next(&lease, UnixMs(3)).expect("leased");
        assert!(after > before);
    }

    #[test]
    fn nothing_is_given_beyond_the_lease() {
        let lease = IdLease::new(0, 10);
        assert!(ids().next(&lease, UnixMs(11)).is_none());
        assert_eq!(lease.wanted(UnixMs(11)), Some(11 + LEASE_MS));
        lease.extend(11 + LEASE_MS);
        assert!(ids().next(&lease, UnixMs(11)).is_some());
        assert_eq!(lease.wanted(UnixMs(12)), None);
    }
}
