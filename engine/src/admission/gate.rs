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
use super::limits::{Cleared, Limit};

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
    /// This user, device or address asks too often.
    Limited { limit: Limit, retry_after: Duration },
    /// This user or address is on the list of those who may not.
    Denied,
    /// Whoever stood in line when the engine was told to stop.
    Stopping,
}

impl Shed {
    /// Every label in metrics.
    pub const REASONS: [&'static str; 9] = [
        "throttled",
        "queue_full",
        "busy",
        "user_limit",
        "device_limit",
        "ip_limit",
        "license_limit",
        "denied",
        "stopping",
    ];

    /// The label in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Throttled { .. } => "throttled",
            Self::QueueFull { .. } => "queue_full",
            Self::Busy { .. } => "busy",
            Self::Limited { limit, .. } => match limit {
                Limit::User => "user_limit",
                Limit::Device => "device_limit",
                Limit::Ip => "ip_limit",
                Limit::Licenses => "license_limit",
            },
            Self::Denied => "denied",
            Self::Stopping => "stopping",
        }
    }
}

#[derive(Debug)]
pub struct Gate {
    started: Instant,
    bucket: Mutex<TokenBucket>,
    line: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Has no permits; closed when the engine stops.
    stopping: Semaphore,
    limits: GateLimits,
}

impl Gate {
    pub fn new(limits: GateLimits) -> Self {
        Self {
            started: Instant::now(),
            bucket: Mutex::new(TokenBucket::new(limits.rate, limits.burst)),
            line: Arc::new(Semaphore::new(limits.queue_max as usize)),
            places: Arc::new(Semaphore::new(limits.under_way_max as usize)),
            stopping: Semaphore::new(0),
            limits,
        }
    }

    /// Requests waiting for a token now.
    pub fn n_waiting(&self) -> usize {
        self.limits.queue_max as usize - self.line.available_permits()
    }

    /// Sends home who stands in line, and whoever would have to wait from here on.
    pub fn stop(&self) {
        self.stopping.close();
    }

    pub async fn admit<T>(&self, call: Cleared<T>) -> Result<Admitted<T>, Shed> {
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
            Pass::After(wait) => {
                let at = now.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
                let waiting = Waiting { gate: self, at };
                tokio::select! {
                    () = tokio::time::sleep(wait) => std::mem::forget(waiting),
                    // Without permits it resolves only when it is closed.
                    _ = self.stopping.acquire() => return Err(Shed::Stopping),
                }
            }
            Pass::TooLong(retry_after) if in_line.is_ok() => {
                return Err(Shed::Throttled { retry_after });
            }
            Pass::TooLong(retry_after) => return Err(Shed::QueueFull { retry_after }),
        }
        Ok(Admitted {
            call: call.into_inner(),
            _place: place,
        })
    }
}

/// Somebody in line. Dropped, they left it, and their token is the next one's.
struct Waiting<'a> {
    gate: &'a Gate,
    at: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.bucket.lock().give_back(self.at);
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

    fn buyer() -> Cleared<()> {
        super::super::limits::cleared(())
    }

    #[tokio::test(start_paused = true)]
    async fn waits_in_line_then_says_no() {
        let gate = Arc::new(Gate::new(limits()));
        let start = Instant::now();
        assert!(gate.admit(buyer()).await.is_ok());
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move { gate.admit(buyer()).await.map(|_| start.elapsed()) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(gate.n_waiting(), 2);
        assert!(matches!(
            gate.admit(buyer()).await,
            Err(Shed::QueueFull { .. })
        ));
        let mut after = Vec::new();
        for task in waiting {
            after.push(task.await.expect("no panic").expect("admitted").as_millis());
        }
        assert!(after[0] >= 100 && after[1] >= 200, "{after:?}");
        assert_eq!(gate.n_waiting(), 0);
    }

    /// People who hang up must not keep those away who stay.
    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_line_takes_no_token_along() {
        let gate = Gate::new(limits());
        assert!(gate.admit(buyer()).await.is_ok());
        for _ in 0..1_000 {
            let leaves = tokio::time::timeout(Duration::from_millis(1), gate.admit(buyer()));
            assert!(leaves.await.is_err(), "nobody is let in before their time");
            if gate.started.elapsed() > Duration::from_millis(90) {
                break;
            }
        }
        assert_eq!(gate.n_waiting(), 0);
        assert!(gate.admit(buyer()).await.is_ok());
        assert_eq!(gate.started.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back_with_the_answer() {
        let gate = Gate::new(GateLimits {
            under_way_max: 1,
            rate: 1_000,
            burst: 1_000,
            ..limits()
        });
        let first = gate.admit(buyer()).await.expect("room");
        assert!(matches!(gate.admit(buyer()).await, Err(Shed::Busy { .. })));
        drop(first);
        assert!(gate.admit(buyer()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_in_line_at_the_end_is_sent_home() {
        let gate = Arc::new(Gate::new(limits()));
        assert!(gate.admit(buyer()).await.is_ok());
        let start = Instant::now();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(buyer()).await.map(drop) }
        });
        tokio::task::yield_now().await;
        gate.stop();
        assert_eq!(waiting.await.expect("no panic"), Err(Shed::Stopping));
        assert_eq!(gate.admit(buyer()).await.map(drop), Err(Shed::Stopping));
        assert!(start.elapsed().is_zero(), "nobody waited");
    }
}
