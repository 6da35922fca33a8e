//! How late are unpaid orders closed? From the pay window that ends first at each
//! desk, looked at when somebody asks: a desk that hangs cannot hide behind the last
//! figure that it had time to tell.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::time::UnixMs;

/// No window is open.
const NONE: u64 = u64::MAX;

/// The end of the pay window that ends first, as its desk last said.
#[derive(Debug)]
pub struct FirstWindow(AtomicU64);

impl FirstWindow {
    pub fn tell(&self, until: Option<UnixMs>) {
        self.0.store(until.map_or(NONE, |u| u.0), Ordering::Relaxed);
    }
}

/// Those of all desks there are.
#[derive(Debug, Clone, Default)]
pub struct Windows(Arc<Mutex<Vec<Weak<FirstWindow>>>>);

impl Windows {
    /// One more desk; it leaves when the handle is dropped.
    pub fn desk(&self) -> Arc<FirstWindow> {
        let first = Arc::new(FirstWindow(AtomicU64::new(NONE)));
        let mut desks = self.0.lock();
        desks.retain(|desk| desk.strong_count() > 0);
        desks.push(Arc::downgrade(&first));
        first
    }

    /// For how long the window that ended first should have been closed.
    pub fn overdue(&self, now: UnixMs) -> Duration {
        let desks = self.0.lock();
        let first = desks.iter().filter_map(Weak::upgrade);
        let first = first.map(|desk| desk.0.load(Ordering::Relaxed)).min();
        now.since(UnixMs(first.unwrap_or(NONE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_desk_that_is_latest_counts_until_it_has_closed_or_gone() {
        let windows = Windows::default();
        let ms = |now| windows.overdue(UnixMs(now)).as_millis();
        assert_eq!(ms(5_000), 0, "no desk");
        let (one, two) = (windows.desk(), windows.desk());
        assert_eq!(ms(5_000), 0, "no window");
        one.tell(Some(UnixMs(3_000)));
        two.tell(Some(UnixMs(2_000)));
        assert_eq!(ms(1_999), 0, "all are open");
        assert_eq!(ms(3_500), 1_500);
        two.tell(Some(UnixMs(9_000)));
        assert_eq!(ms(3_500), 500);
        one.tell(None);
        assert_eq!(ms(3_500), 0, "nothing is due");
        assert_eq!(ms(9_100), 100);
        drop(two);
        assert_eq!(ms(9_100), 0, "a closed sale has no windows");
        assert_eq!(windows.desk().0.load(Ordering::Relaxed), NONE);
        assert_eq!(windows.0.lock().len(), 2);
    }
}
