//! Workers: one thread each, with a runtime of its own, for buyers and their stock.
//!
//! A connection stays with one worker, and so do a bucket of the embedded host
//! and its desk: what they do for each other on one worker wakes no thread. What
//! may take long (admin calls, audits, the reconciler) runs elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// At the end a worker has this long for what it is in the middle of.
const GRACE: Duration = Duration::from_secs(1);

pub struct Workers {
    /// Taken when the workers end.
    runtimes: Mutex<Vec<Runtime>>,
    handles: Vec<Handle>,
    next: AtomicUsize,
}

impl Workers {
    pub fn start(count: usize) -> Result<Self, String> {
        let runtimes = (0..count.max(1))
            .map(|no| {
                Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name(format!("worker-{no}"))
                    .enable_all()
                    .build()
                    .map_err(|e| format!("start a worker: {e}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            handles: runtimes.iter().map(|r| r.handle().clone()).collect(),
            runtimes: Mutex::new(runtimes),
            next: AtomicUsize::new(0),
        })
    }

    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// Worker `no`, counted round and round.
    pub fn get(&self, no: usize) -> &Handle {
        &self.handles[no % self.handles.len()]
    }

    /// Tells how long a worker was busy so far, on average over all of them. It outlives
    /// the workers.
    pub fn busy(&self) -> impl Fn() -> Duration + Send + use<> {
        let metrics: Vec<_> = self.handles.iter().map(Handle::metrics).collect();
        move || {
            let total: Duration = metrics
                .iter()
                .map(|m| m.worker_total_busy_duration(0))
                .sum();
            total / u32::try_from(metrics.len()).unwrap_or(u32::MAX)
        }
    }

    /// Whose turn it is.
    pub fn next(&self) -> &Handle {
        self.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Workers {
    /// Returns when their threads are gone, or hang: a process that ends beside a thread
    /// that is ending may fall over what the thread still cleans up. Not for a task.
    pub fn end(&self) {
        for runtime in std::mem::take(&mut *self.runtimes.lock()) {
            runtime.shutdown_timeout(GRACE);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for runtime in self.runtimes.get_mut().drain(..) {
            // The last one to let go may be a task of a worker, which must not
            // wait for itself.
            if Handle::try_current().is_ok() {
                runtime.shutdown_background();
            } else {
                runtime.shutdown_timeout(GRACE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_busy_workers_are_is_told_on_average() {
        let workers = Workers::start(2).expect("two workers");
        let busy = workers.busy();
        let worked = Duration::from_millis(20);
        let task = workers.get(1).spawn(async move {
            let began = std::time::Instant::now();
            while began.elapsed() < worked {}
        });
        workers.get(0).block_on(task).expect("it ends");
        // What a worker did is booked when it looks for more.
        while busy() < worked / 2 {
            std::thread::yield_now();
        }
        drop(workers);
        assert!(busy() >= worked / 2, "still told at the end");
    }
}
