//! The numbers that a desk shows to those who only look (`live.rs`): buyers are refused by
//! them, refills sent. The guard, not these, decides.

use std::sync::atomic::{AtomicI64, Ordering};

use super::super::guard::Units;
use super::Desk;
use crate::domain::order::StockMove;

impl Desk {
    /// Units of one order changed their place, or a new one holds them.
    pub(super) fn publish(&self, units: &Units, moved: StockMove, new_hold: bool) {
        for (sku, n) in units {
            self.show_free(*sku);
            let stock = &self.parts.stock[*sku];
            let n = i64::from(*n);
            let add = |counter: &AtomicI64, by: i64| {
                counter.fetch_add(by, Ordering::Relaxed);
            };
            if new_hold {
                add(&stock.available, -n);
                add(&stock.held, n);
                continue;
            }
            match moved {
                StockMove::None => {}
                StockMove::Pay => {
                    add(&stock.held, -n);
                    add(&stock.sold, n);
                }
                StockMove::Close => {
                    add(&stock.held, -n);
                    add(&stock.available, n);
                }
                StockMove::Rehold => {
                    add(&stock.available, -n);
                    add(&stock.held, n);
                }
                StockMove::Restock => {
                    add(&stock.sold, -n);
                    add(&stock.available, n);
                }
                StockMove::Withdraw => {
                    add(&stock.sold, -n);
                    add(&stock.withdrawn, n);
                }
            }
        }
    }

    pub(super) fn show_free(&self, sku: usize) {
        let free = self.parts.guard.lines[sku].available();
        let bucket = usize::from(self.parts.bucket.no().0);
        self.parts.stock[sku].by_bucket[bucket].store(free, Ordering::Relaxed);
    }
}
