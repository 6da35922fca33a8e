//! The guard: a bucket's counters from ledger facts alone.
//!
//! It is also the mirror of what the stock host must say about the bucket after
//! each call. The host cannot talk it out of anything: an order that the guard
//! refuses means that the host is wrong.

use crate::domain::order::StockMove;

/// Units of one SKU in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    pub allotted: u64,
    pub held: u64,
    pub sold: u64,
    pub withdrawn: u64,
}

impl Line {
    pub fn available(&self) -> u64 {
        self.allotted
            .saturating_sub(self.held + self.sold + self.withdrawn)
    }
}

/// SKU numbers are positions in the sale's sorted list.
pub type Units = smallvec::SmallVec<[(usize, u32); 1]>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    pub lines: Vec<Line>,
    /// Sum of the marks of live orders, modulo 2^40.
    pub digest: u64,
    pub n_live: u64,
}

pub const DIGEST_MASK: u64 = 0xFF_FFFF_FFFF;

/// A move that the bucket's own counters cannot make: one of ours is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{moved:?} of {units} units of SKU number {sku}: the bucket has {line:?}")]
pub struct Broken {
    pub moved: StockMove,
    pub sku: usize,
    pub units: u32,
    pub line: Line,
}

impl Guard {
    pub fn new(n_skus: usize) -> Self {
        Self {
            lines: vec![Line::default(); n_skus],
            digest: 0,
            n_live: 0,
        }
    }

    /// Whether the allotment allows these units.
    pub fn allows(&self, units: &Units) -> bool {
        if broken_on_purpose() {
            return true;
        }
        units
            .iter()
            .all(|(sku, n)| self.lines[*sku].available() >= u64::from(*n))
    }

    /// What the bucket lacks of these units.
    pub fn short(&self, units: &Units) -> Units {
        units
            .iter()
            .filter_map(|(sku, n)| {
                let free = self.lines[*sku].available();
                let short = u64::from(*n).saturating_sub(free);
                u32::try_from(short)
                    .ok()
                    .filter(|n| *n > 0)
                    .map(|n| (*sku, n))
            })
            .collect()
    }

    /// Counts a new live order. Call only after [`Self::allows`].
    pub fn hold(&mut self, units: &Units, mark: u64) {
        for (sku, n) in units {
            self.lines[*sku].held += u64::from(*n);
        }
        self.digest = (self.digest + mark) & DIGEST_MASK;
        self.n_live += 1;
    }

    /// From the ledger, at start.
    pub fn restore(&mut self, units: &Units, held: bool, mark: u64) {
        for (sku, n) in units {
            let line = &mut self.lines[*sku];
            *(if held { &mut line.held } else { &mut line.sold }) += u64::from(*n);
        }
        self.digest = (self.digest + mark) & DIGEST_MASK;
        self.n_live += 1;
    }

    /// From the ledger, at start: units of a refund that are not for sale again.
    pub fn withdraw(&mut self, units: &Units) {
        for (sku, n) in units {
            self.lines[*sku].withdrawn += u64::from(*n);
        }
    }

    /// Follows a durable step of an order: `was` and `is` are its marks before
    /// and after, none where the order was, or is, not live.
    pub fn follow(
        &mut self,
        moved: StockMove,
        units: &Units,
        was: Option<u64>,
        is: Option<u64>,
    ) -> Result<(), Broken> {
        for (sku, n) in units {
            let line = self.lines[*sku];
            let enough = match moved {
                StockMove::None => true,
                StockMove::Pay | StockMove::Close => line.held >= u64::from(*n),
                StockMove::Rehold => line.available() >= u64::from(*n),
                StockMove::Restock | StockMove::Withdraw => line.sold >= u64::from(*n),
            };
            if !enough {
                return Err(Broken {
                    moved,
                    sku: *sku,
                    units: *n,
                    line,
                });
            }
        }
        for (sku, n) in units {
            let n = u64::from(*n);
            let line = &mut self.lines[*sku];
            match moved {
                StockMove::None => {}
                StockMove::Pay => {
                    line.held -= n;
                    line.sold += n;
                }
                StockMove::Close => line.held -= n,
                StockMove::Rehold => line.held += n,
                StockMove::Restock => line.sold -= n,
                StockMove::Withdraw => {
                    line.sold -= n;
                    line.withdrawn += n;
                }
            }
        }
        self.digest =
            (self.digest + is.unwrap_or(0) + DIGEST_MASK + 1 - was.unwrap_or(0)) & DIGEST_MASK;
        self.n_live = self.n_live + u64::from(is.is_some()) - u64::from(was.is_some());
        Ok(())
    }
}

/// The test that proves the audit notices oversell takes this check away.
fn broken_on_purpose() -> bool {
    fail::fail_point!("guard-allows-all", |_| true);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn the_last_unit_is_allowed_and_no_more() {
        let mut guard = Guard::new(1);
        guard.lines[0].allotted = 2;
        assert!(guard.allows(&smallvec![(0, 2)]));
        guard.hold(&smallvec![(0, 2)], 5);
        assert!(!guard.allows(&smallvec![(0, 1)]));
        guard
            .follow(StockMove::Close, &smallvec![(0, 2)], Some(5), None)
            .expect("was held");
        assert_eq!((guard.digest, guard.n_live), (0, 0));
        assert!(guard.allows(&smallvec![(0, 2)]));
    }

    #[test]
    fn a_move_that_cannot_be_is_refused_whole() {
        let mut guard = Guard::new(2);
        guard.lines[0].allotted = 1;
        guard.lines[1].allotted = 1;
        guard.hold(&smallvec![(0, 1)], 5);
        let before = guard.clone();
        assert!(
            guard
                .follow(StockMove::Pay, &smallvec![(0, 1), (1, 1)], Some(5), Some(6))
                .is_err()
        );
        assert_eq!(guard, before);
    }
}
