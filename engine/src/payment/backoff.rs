//! How long to wait before the next try: twice as long each time, up to a longest; half
//! of it for certain and half by chance, so that many who failed together do not come
//! back together. Pure: the chance comes from a seed, so the same try of the same thing
//! always waits as long.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Before the second try, at the most.
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// Before the next try of `what` after `n_tries` of them (1 and more).
    pub fn wait(&self, n_tries: u32, what: &[u8], seed: u64) -> Duration {
        let doublings = n_tries.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        let draw = xxh3_64_with_seed(what, seed ^ u64::from(n_tries));
        // 53 bits are what a double has.
        let chance = (draw >> 11) as f64 / (1_u64 << 53) as f64;
        whole / 2 + (whole / 2).mul_f64(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
    };

    #[test]
    fn waits_double_up_to_the_longest_and_never_fall_below_half() {
        for (n, whole) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (6, 32),
            (7, 60),
            (8, 60),
            (u32::MAX, 60),
        ] {
            let whole = Duration::from_secs(whole);
            for seed in 0..200 {
                let wait = BACKOFF.wait(n, b"pay_1", seed);
                assert!(whole / 2 <= wait && wait <= whole, "{n}: {wait:?}");
            }
        }
    }

    #[test]
    fn those_who_failed_together_come_back_apart_and_a_seed_repeats_itself() {
        let waits: std::collections::HashSet<_> = (0..100_u32)
            .map(|n| BACKOFF.wait(5, &n.to_be_bytes(), 7))
            .collect();
        assert!(waits.len() > 90);
        assert_eq!(BACKOFF.wait(5, b"a", 7), BACKOFF.wait(5, b"a", 7));
        assert_ne!(BACKOFF.wait(5, b"a", 7), BACKOFF.wait(5, b"a", 8));
    }
}
