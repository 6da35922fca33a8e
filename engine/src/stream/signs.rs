//! The signs of a rush: what came to the ledger, and how busy those were who serve buyers.

use std::time::{Duration, Instant};

use floodgate_ledger::{Ledger, Seq};

use super::pace::Worked;

/// How long those who serve buyers were busy so far, on average over all of them.
pub type Busy = Box<dyn Fn() -> Duration + Send>;

pub(super) struct Signs {
    pub ledger: Ledger,
    pub busy: Busy,
}

/// Where a piece of work began.
pub(super) struct Began {
    at: Instant,
    tip: Seq,
    busy: Duration,
}

impl Signs {
    pub fn begin(&self) -> Began {
        Began {
            at: Instant::now(),
            tip: self.ledger.tip().seq,
            busy: (self.busy)(),
        }
    }

    pub fn since(&self, began: &Began) -> Worked {
        Worked {
            took: began.at.elapsed(),
            n_new: self.ledger.tip().seq.0 - began.tip.0,
            busy: (self.busy)().saturating_sub(began.busy),
        }
    }
}
