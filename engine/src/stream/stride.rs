//! How many records go into a batch: as many as the store takes in time. Pure.
//!
//! A store that needs too long for a batch is "away", and would be again for the same
//! batch, for ever. So a batch that found it away is followed by one of half its size,
//! and one that was taken by one of twice its size. A size that failed where a smaller
//! one was taken is not tried again at once: else every other batch would be in vain.

/// So many batches in a row are taken before the size that failed is tried again.
const TAKEN_MIN: u32 = 16;

pub(super) struct Stride {
    /// Of a store that is well.
    usual: usize,
    now: usize,
    /// `now` goes no further for the moment.
    ceiling: usize,
    /// What the store was last asked to take.
    asked: usize,
    /// In a row.
    n_taken: u32,
}

impl Stride {
    pub fn new(usual: usize) -> Self {
        Self {
            usual,
            now: usual,
            ceiling: usual,
            asked: 0,
            n_taken: 0,
        }
    }

    /// How many records the next batch may have.
    pub fn now(&self) -> usize {
        self.now
    }

    pub fn is_short(&self) -> bool {
        self.now < self.usual
    }

    pub fn ask(&mut self, n: usize) {
        self.asked = n;
    }

    /// The store took what it was asked.
    pub fn taken(&mut self) {
        self.grow();
        if self.now == self.ceiling && self.n_taken >= TAKEN_MIN {
            self.ceiling = self.ceiling.saturating_mul(2).min(self.usual);
            self.n_taken = 0;
        }
    }

    /// As `taken`, for work that begins anew when the store is away: beyond what failed
    /// once it would never end.
    pub fn grow(&mut self) {
        self.n_taken = self.n_taken.saturating_add(1);
        self.now = self.now.saturating_mul(2).min(self.ceiling);
    }

    /// The store was away when asked. For one record alone that says nothing of size.
    pub fn away(&mut self) {
        if self.asked > 1 {
            let half = self.asked / 2;
            self.now = self.now.min(half);
            if self.n_taken > 0 {
                self.ceiling = self.now;
            }
            self.n_taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Puts `n` records into a store that takes so many at a time; how often it was away.
    fn carry(stride: &mut Stride, mut n: usize, takes: usize) -> usize {
        let mut n_away = 0;
        while n > 0 {
            let batch = stride.now().min(n);
            assert!(batch > 0);
            stride.ask(batch);
            if batch <= takes {
                n -= batch;
                stride.taken();
            } else {
                n_away += 1;
                stride.away();
            }
        }
        n_away
    }

    #[test]
    fn a_slow_store_is_seldom_asked_in_vain() {
        let mut stride = Stride::new(1_000);
        // 1,000, 500, 250 and 125 are too many; 62 are taken, and 125 tried once more.
        assert_eq!(carry(&mut stride, 16 * 62, 100), 4 + 1);
        assert!(stride.is_short());
        // Then every seventeenth is one too many.
        let n_away = carry(&mut stride, 100 * 62, 100);
        assert!((5..=8).contains(&n_away), "{n_away}");
    }

    #[test]
    fn a_store_that_is_well_again_gets_whole_batches_soon() {
        let mut stride = Stride::new(1_000);
        for _ in 0..20 {
            stride.ask(stride.now());
            stride.away();
        }
        assert_eq!(stride.now(), 1);
        // Nothing was taken in between, so nothing is known to be too much.
        for _ in 0..10 {
            stride.taken();
        }
        assert!(!stride.is_short());
        // Here something is: sixteen batches of 62, and of each size up to 992.
        carry(&mut stride, 10_000, 100);
        carry(&mut stride, 40_000, 1_000);
        assert!(!stride.is_short(), "{}", stride.now());
    }

    #[test]
    fn one_record_that_found_nobody_says_nothing_of_size() {
        let mut stride = Stride::new(1_000);
        for _ in 0..3 {
            stride.ask(1);
            stride.away();
            assert!(!stride.is_short());
            stride.taken();
        }
    }

    #[test]
    fn what_begins_anew_ends() {
        let mut stride = Stride::new(1_000);
        let mut n_runs = 0;
        let is_through = |stride: &mut Stride| {
            let mut n = 100_000;
            while n > 0 {
                let batch = stride.now().min(n);
                stride.ask(batch);
                if batch > 30 {
                    stride.away();
                    return false;
                }
                n -= batch;
                stride.grow();
            }
            true
        };
        while !is_through(&mut stride) {
            n_runs += 1;
            assert!(n_runs < 10);
        }
    }

    proptest! {
        #[test]
        fn every_store_that_takes_one_gets_everything(
            usual in 1..2_000_usize,
            takes in proptest::collection::vec(1..2_000_usize, 1..20),
        ) {
            let mut stride = Stride::new(usual);
            for takes in takes {
                carry(&mut stride, 3_000, takes);
                prop_assert!((1..=usual).contains(&stride.now()));
            }
        }
    }
}
