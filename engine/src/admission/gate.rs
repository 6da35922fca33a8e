//! The gate of one sale: token bucket, a bounded line, and room at the desks.
//!
//! Full means a fast, honest no with the time after which asking again makes
//! sense; nobody waits longer than `wait_max`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::bucket::{Pass, TokenBucket};

#[derive(Debug, Clone, Copy)]
pub struct GateLimits {
    pub rate: u32,
    pub burst: u32,
    /// Requests that may wait for a token at once.
    pub queue_max: u32,
    pub wait_max: Duration,
    /// Requests between gate and answer at once.
    pub under_way_max: u32,
}

/// Proof of admission, and the place at the desks that goes with it.
#[derive(Debug)]
pub struct Admitted<T> {
    call: T,
    _place: OwnedSemaphorePermit,
}

impl<T> Admitted<T> {
    /// For the desk: the call, and its place to be given back with the answer.
    pub fn into_parts(self) -> (T, OwnedSemaphorePermit) {
        (self.call, self._place)
    }
}

/// Turned away before stock was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// No token within the longest wait.
    Throttled { retry_after: Duration },
    /// As many wait as may wait.
    QueueFull { retry_after: Duration },
    /// The desks have as much as they can take.
    Busy { retry_after: Duration },
}

impl Shed {
    /// Every label in metrics.
    pub const REASONS: [&'static str; 3] = ["throttled", "queue_full", "busy"];

    pub fn retry_after(self) -> Duration {
        match self {
            Self::Throttled { retry_after }
            | Self::QueueFull { retry_after }
            | Self::Busy { retry_after } => retry_after,
        }
    }

    /// The label in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Throttled { .. } => "throttled",
            Self::QueueFull { .. } => "queue_full",
            Self::Busy { .. } => "busy",
        }
    }
}

#[derive(Debug)]
pub struct Gate {
    started: Instant,
    bucket: Mutex<TokenBucket>,
    line: Arc<Semaphore>,
    places: Arc<Semaphore>,
    limits: GateLimits,
}

impl Gate {
    pub fn new(limits: GateLimits) -> Self {
        Self {
            started: Instant::now(),
            bucket: Mutex::new(TokenBucket::new(limits.rate, limits.burst)),
            line: Arc::new(Semaphore::new(limits.queue_max as usize)),
            places: Arc::new(Semaphore::new(limits.under_way_max as usize)),
            limits,
        }
    }

    /// Requests waiting for a token now.
    pub fn n_waiting(&self) -> usize {
        self.limits.queue_max as usize - self.line.available_permits()
    }

    pub async fn admit<T>(&self, call: T) -> Result<Admitted<T>, Shed> {
        // The place first: a token spent on a request that finds no place is lost.
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Shed::Busy {
                retry_after: Duration::from_secs(1),
            });
        };
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let in_line = self.line.try_acquire();
        let wait_max = if in_line.is_ok() {
            self.limits.wait_max
        } else {
            Duration::ZERO
        };
        let pass = self.bucket.lock().take(now, wait_max);
        match pass {
            Pass::Now => {}
            Pass::After(wait) => tokio::time::sleep(wait).await,
            Pass::TooLong(retry_after) if in_line.is_ok() => {
                return Err(Shed::Throttled { retry_after });
            }
            Pass::TooLong(retry_after) => return Err(Shed::QueueFull { retry_after }),
        }
        Ok(Admitted {
            call,
            _place: place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> GateLimits {
        GateLimits {
            rate: 10,
            burst: 1,
            queue_max: 2,
            wait_max: Duration::from_secs(5),
            under_way_max: 100,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_in_line_then_says_no() {
        let gate = Arc::new(Gate::new(limits()));
        let start = Instant::now();
        assert!(gate.admit(()).await.is_ok());
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move { gate.admit(()).await.map(|_| start.elapsed()) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(gate.n_waiting(), 2);
        assert!(matches!(gate.admit(()).await, Err(Shed::QueueFull { .. })));
        let mut after = Vec::new();
        for task in waiting {
            after.push(task.await.expect("no panic").expect("admitted").as_millis());
        }
        assert!(after[0] >= 100 && after[1] >= 200, "{after:?}");
        assert_eq!(gate.n_waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back_with_the_answer() {
        let gate = Gate::new(GateLimits {
            under_way_max: 1,
            rate: 1_000,
            burst: 1_000,
            ..limits()
        });
        let first = gate.admit(()).await.expect("room");
        assert!(matches!(gate.admit(()).await, Err(Shed::Busy { .. })));
        drop(first);
        assert!(gate.admit(()).await.is_ok());
    }
}
