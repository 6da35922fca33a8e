//! When each key is replenished: a table that never grows.
//!
//! A key lives in one of the 15 places of its set, which its hash names. Whoever is
//! replenished is the same as one who was never here, so that place is free: keys
//! expire by themselves, without a sweep. When all 15 are in use, a key that is not
//! among them is let through and not remembered: the sale's own gate still stands in
//! the way, while a buyer sent home because strangers filled a table would be a loss
//! that anybody could cause. Such a passage is counted.
//!
//! Keys are kept as hashes of 128 bits under a secret seed: 48 of them name the set
//! and 64 the key, so that two buyers share a place about once in 2^80 pairs.

use governor::nanos::Nanos;
use governor::state::StateStore;
use parking_lot::Mutex;
use prometheus::IntCounter;

/// With half of all places in use a set is full once in 200; with a quarter, once in a
/// million. With its lock a set is four lines of cache, which come together.
const PLACES: usize = 15;

/// All zero is a free place: replenished since the beginning of time.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    key: u64,
    /// When the next request would come at exactly the rate, in nanoseconds.
    next_at: u64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set(Mutex<[Place; PLACES]>);

#[derive(Debug)]
pub struct Table {
    sets: Box<[Set]>,
    /// Of the one rate that this table serves.
    interval: u64,
    overflows: IntCounter,
}

impl Table {
    /// For at most `keys_max` keys, rounded up to whole sets.
    pub fn new(keys_max: usize, interval: u64, overflows: IntCounter) -> Self {
        let n_sets = keys_max.div_ceil(PLACES).max(1);
        Self {
            sets: (0..n_sets).map(|_| Set::default()).collect(),
            interval,
            overflows,
        }
    }

    fn set(&self, hash: u128) -> &Mutex<[Place; PLACES]> {
        // The upper 48 bits, spread over the sets without a division.
        let spread = (hash >> 80) * self.sets.len() as u128;
        &self.sets[(spread >> 48) as usize].0
    }
}

impl StateStore for Table {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, hash: &u128, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let key = *hash as u64;
        let mut set = self.set(*hash).lock();
        let found = set.iter_mut().find(|p| p.key == key && p.next_at != 0);
        if let Some(place) = found {
            let (answer, next_at) = decide(Some(place.next_at.into()))?;
            place.next_at = next_at.as_u64();
            return Ok(answer);
        }
        let (answer, next_at) = decide(None)?;
        let next_at = next_at.as_u64();
        // A key without a past comes exactly now, and its next request an interval later.
        let now = next_at.saturating_sub(self.interval);
        match set.iter_mut().find(|p| p.next_at <= now) {
            Some(free) => *free = Place { key, next_at },
            None => self.overflows.inc(),
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 1_000;

    fn table(keys_max: usize) -> Table {
        let overflows = IntCounter::new("o", "o").expect("a name");
        Table::new(keys_max, INTERVAL, overflows)
    }

    /// As the limiter does it with a burst of one: whether the key may pass at `now`.
    fn ask(table: &Table, key: u128, now: u64) -> bool {
        let decide = |next_at: Option<Nanos>| match next_at {
            Some(next_at) if now < next_at.as_u64() => Err(()),
            Some(_) | None => Ok(((), (now + INTERVAL).into())),
        };
        table.measure_and_replace(&key, decide).is_ok()
    }

    #[test]
    fn a_full_table_takes_the_place_of_who_is_replenished() {
        let table = table(PLACES);
        assert!((1..=15).all(|key| ask(&table, key, key as u64)));
        // Key 1 is replenished at 1,001 and nobody else is.
        assert!(ask(&table, 16, 1_001));
        assert!(!ask(&table, 16, 1_001), "it is remembered");
        assert!((2..=15).all(|key| !ask(&table, key, 1_001)), "so are these");
        assert_eq!(table.overflows.get(), 0);
        assert!(ask(&table, 1, 1_002), "in the place of 2");
        assert!(!ask(&table, 1, 1_003));
    }

    #[test]
    fn who_finds_no_place_passes_and_is_counted() {
        let table = table(PLACES);
        assert!((1..=15).all(|key| ask(&table, key, 500)));
        for n in 1..=3 {
            assert!(ask(&table, 16, 501));
            assert_eq!(table.overflows.get(), n);
        }
        assert!(
            (1..=15).all(|key| !ask(&table, key, 501)),
            "nobody is forgotten"
        );
        // All of them are replenished: there is room for 15 others.
        assert!((16..=30).all(|key| ask(&table, key, 1_500)));
        assert!((16..=30).all(|key| !ask(&table, key, 1_501)));
    }

    #[test]
    fn keys_spread_over_all_sets() {
        let table = table(100 * PLACES);
        assert_eq!(
            (table.sets.len(), size_of_val(&*table.sets)),
            (100, 100 * 256)
        );
        for n in 0_u32..750 {
            let key = xxhash_rust::xxh3::xxh3_128(&n.to_be_bytes());
            assert!(ask(&table, key, 1));
        }
        let used = |set: &Set| set.0.lock().iter().filter(|p| p.next_at > 0).count();
        let n_used: usize = table.sets.iter().map(used).sum();
        assert_eq!(n_used as u64 + table.overflows.get(), 750);
        assert!(table.sets.iter().filter(|s| used(s) == 0).count() < 3);
        assert!(table.overflows.get() < 8, "{}", table.overflows.get());
    }
}
