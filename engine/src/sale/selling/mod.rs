//! The sales of a node, as the doors know them.
//!
//! Here stands what they share and what costs nothing to ask. What is done with a sale has
//! files of its own, each an `impl` of [`Selling`]. Nothing here decides about stock: what
//! a bucket's units come to is its desk's to say, and what was said is the ledger's to keep.

mod asking;
mod buying;
mod granting;
mod operating;
mod paying;
mod reading;
mod running;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use floodgate_ledger::Ledger;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

pub use self::buying::{Bought, Purchase};
pub use self::operating::{Created, Switched};
pub use self::reading::{OrdersPage, OwnOrders};
pub use self::running::SellingParts;
use super::live::LiveSale;
use super::recovery::Tools;
use super::revoked::Revoked;
use super::unclaimed::Unclaimed;
use crate::admission::{Limits, Shed};
use crate::domain::ids::{OrderId, SaleId};
use crate::domain::time::Clock;

type SalesById = HashMap<SaleId, Arc<LiveSale>>;

pub struct Selling {
    sales: ArcSwap<SalesById>,
    tools: Tools,
    answer_max: Duration,
    limits: Limits,
    /// From where the limits count time.
    started: Instant,
    disk_low: AtomicBool,
    /// One sale is created at a time. The highest number that a sale was ever given: one
    /// whose creation was not confirmed may have it all the same.
    creating: Mutex<u16>,
    /// One sale is switched at a time, and none of them waits for a creation.
    switching: Mutex<()>,
    unclaimed: Arc<Unclaimed>,
    /// Why a task that sells ended, if one did.
    fallen: watch::Sender<Option<String>>,
}

impl Selling {
    /// What is only known when somebody asks for it.
    pub fn refresh_metrics(&self) {
        let now = self.tools.clock.now();
        self.tools.metrics.show_release_lag(now);
        self.tools
            .metrics
            .clock_skew
            .set(self.clock_skew_ms() as f64 / 1e3);
        for (id, live) in self.sales.load().iter() {
            let silent = self.tools.metrics.silent.with_label_values(&[id.as_str()]);
            silent.set(i64::try_from(live.n_silent()).unwrap_or(i64::MAX));
        }
    }

    /// How far the machine's clock is ahead of the one that deadlines go by.
    pub fn clock_skew_ms(&self) -> i64 {
        let clock = &self.tools.clock;
        clock.wall().0.cast_signed() - clock.now().0.cast_signed()
    }

    /// While it is so no new order begins in any sale; everything else goes on.
    pub fn set_disk_low(&self, low: bool) {
        self.disk_low.store(low, Ordering::Relaxed);
    }

    pub fn is_disk_low(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed)
    }

    pub fn sales(&self) -> Arc<SalesById> {
        self.sales.load_full()
    }

    pub fn sale(&self, id: &str) -> Option<Arc<LiveSale>> {
        let id = SaleId::parse(id).ok()?;
        self.sales.load().get(&id).cloned()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.tools.ledger
    }

    /// What was revoked since the start; whoever checks tokens looks there.
    pub fn revoked(&self) -> &Arc<Revoked> {
        &self.tools.revoked
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.tools.clock
    }

    fn sale_of(&self, id: OrderId) -> Option<Arc<LiveSale>> {
        let number = id.parts().sale;
        self.sales
            .load()
            .values()
            .find(|s| s.number() == number)
            .cloned()
    }

    fn counted(&self, shed: Shed) -> Shed {
        let counter = &self.tools.metrics.shed;
        counter.with_label_values(&[shed.reason()]).inc();
        shed
    }
}
