//! The clock of a running engine.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::{Clock, UnixMs};

/// Wall time at the start, monotonic from there: a clock that jumps while the
/// engine runs closes no pay window early.
struct SystemClock {
    started: Instant,
    started_ms: u64,
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        let run = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        UnixMs(self.started_ms.saturating_add(run))
    }

    fn wall(&self) -> UnixMs {
        wall()
    }
}

fn wall() -> UnixMs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock {
        started: Instant::now(),
        started_ms: wall().0,
    })
}
