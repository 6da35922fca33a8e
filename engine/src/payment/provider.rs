//! The seam: what the engine asks of whoever moves the money.
//!
//! Both calls may be repeated, and are, whenever an answer was lost. A provider must
//! therefore know them again: a session by order and channel, a refund by payment id.
//! What buyers paid comes by callback and not through here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerLimits};
use crate::domain::ids::{Channel, OrderId};
use crate::domain::money::{Cents, Currency};
use crate::domain::payment::Payment;
use crate::domain::time::UnixMs;

/// What a buyer is going to pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub order: OrderId,
    pub channel: Channel,
    pub amount: Cents,
    pub currency: Currency,
    /// The order closes then; a session that lasts longer helps nobody.
    pub until: UnixMs,
    /// Where the buyer goes afterwards.
    pub return_url: Option<String>,
}

/// A place where a buyer can pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub token: String,
    pub pay_url: String,
    pub expires_at: UnixMs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refund {
    /// The money went back, under this number of the provider's.
    Refunded { refund_no: String },
    /// It is on its way; ask again.
    Pending,
    /// It will not go back like this: somebody has to look.
    Refused { why: String },
}

/// No answer, or none that can be read: nobody knows what came of it. Ask again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProviderError(pub String);

pub type Answered<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

pub trait Provider: Send + Sync {
    /// Asked again for the same order and channel while a session lives, the same one.
    fn prepay<'a>(&'a self, ask: &'a Ask) -> Answered<'a, Session>;

    /// Gives the whole payment back, once for each payment id.
    fn refund<'a>(&'a self, payment: &'a Payment) -> Answered<'a, Refund>;
}

/// Why a provider gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It was not asked: it failed too often lately.
    Resting {
        wait: Duration,
    },
    Failed {
        why: String,
    },
}

/// A provider behind its circuit breakers, with a limit of time for each call. There is
/// one for each thing it does: a provider that gives no money back takes some all the
/// same, and a list of refunds that fail must not keep buyers from paying.
pub struct Guarded {
    provider: Arc<dyn Provider>,
    prepays: Mutex<Breaker>,
    refunds: Mutex<Breaker>,
    answer_max: Duration,
}

impl Guarded {
    pub fn new(provider: Arc<dyn Provider>, limits: BreakerLimits, answer_max: Duration) -> Self {
        Self {
            provider,
            prepays: Mutex::new(Breaker::new(limits)),
            refunds: Mutex::new(Breaker::new(limits)),
            answer_max,
        }
    }

    /// Whether it would be asked for a session now; if not, when.
    pub fn look_to_prepay(&self) -> Result<(), Duration> {
        self.prepays.lock().look(Instant::now())
    }

    /// Whether it would be asked for a refund now; if not, when.
    pub fn look_to_refund(&self) -> Result<(), Duration> {
        self.refunds.lock().look(Instant::now())
    }

    pub async fn prepay(&self, ask: &Ask) -> Result<Session, Trouble> {
        let answer = self.provider.prepay(ask);
        self.call("prepay", &self.prepays, answer).await
    }

    pub async fn refund(&self, payment: &Payment) -> Result<Refund, Trouble> {
        let answer = self.provider.refund(payment);
        self.call("refund", &self.refunds, answer).await
    }

    async fn call<T>(
        &self,
        what: &'static str,
        breaker: &Mutex<Breaker>,
        answer: Answered<'_, T>,
    ) -> Result<T, Trouble> {
        // A future does nothing before it is polled, so a refusal here costs no call.
        if let Err(wait) = breaker.lock().ask(Instant::now()) {
            return Err(Trouble::Resting { wait });
        }
        let why = match tokio::time::timeout(self.answer_max, answer).await {
            Ok(Ok(answer)) => {
                breaker.lock().succeeded();
                return Ok(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", self.answer_max.as_millis()),
        };
        if breaker.lock().failed(Instant::now()) {
            tracing::warn!(
                what,
                why,
                "the payment provider fails; it is left alone for a while"
            );
        }
        Err(Trouble::Failed { why })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::payment::testing;

    /// Hangs, then fails as often as it is told, then answers.
    struct Moody {
        fails: u32,
        calls: AtomicU32,
    }

    impl Provider for Moody {
        fn prepay<'a>(&'a self, ask: &'a Ask) -> Answered<'a, Session> {
            Box::pin(async move {
                match self.calls.fetch_add(1, Ordering::Relaxed) {
                    0 => std::future::pending().await,
                    n if n <= self.fails => Err(ProviderError("502".into())),
                    n => Ok(Session {
                        token: n.to_string(),
                        pay_url: String::new(),
                        expires_at: ask.until,
                    }),
                }
            })
        }

        fn refund<'a>(&'a self, _: &'a Payment) -> Answered<'a, Refund> {
            Box::pin(async { Ok(Refund::Pending) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_fails_is_not_asked_until_it_had_its_rest() {
        let moody = Arc::new(Moody {
            fails: 5,
            calls: AtomicU32::new(0),
        });
        let provider: Arc<dyn Provider> = Arc::clone(&moody) as Arc<dyn Provider>;
        let guarded = Guarded::new(provider, BreakerLimits::default(), Duration::from_secs(10));
        let ask = testing::ask(1, "card", UnixMs(1));
        let started = Instant::now();
        let hung = guarded.prepay(&ask).await;
        let why = "no answer within 10000 ms".to_owned();
        assert_eq!(hung, Err(Trouble::Failed { why }));
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        for _ in 0..4 {
            let why = "502".to_owned();
            assert_eq!(guarded.prepay(&ask).await, Err(Trouble::Failed { why }));
        }
        let wait = Duration::from_secs(5);
        assert_eq!(guarded.look_to_prepay(), Err(wait));
        assert_eq!(guarded.prepay(&ask).await, Err(Trouble::Resting { wait }));
        assert_eq!(moody.calls.load(Ordering::Relaxed), 5, "it was not asked");
        tokio::time::sleep(wait).await;
        assert!(guarded.prepay(&ask).await.is_err(), "the one that may go");
        assert_eq!(guarded.look_to_prepay(), Err(wait), "and closed again");
        tokio::time::sleep(wait).await;
        assert_eq!(guarded.prepay(&ask).await.map(|s| s.token), Ok("6".into()));
        assert_eq!(guarded.look_to_prepay(), Ok(()));
    }

    /// Takes money and gives none back.
    struct Stingy;

    impl Provider for Stingy {
        fn prepay<'a>(&'a self, ask: &'a Ask) -> Answered<'a, Session> {
            let session = Session {
                token: "t".into(),
                pay_url: String::new(),
                expires_at: ask.until,
            };
            Box::pin(async { Ok(session) })
        }

        fn refund<'a>(&'a self, _: &'a Payment) -> Answered<'a, Refund> {
            Box::pin(async { Err(ProviderError("503".into())) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refunds_that_fail_keep_nobody_from_paying() {
        let rest = Duration::from_secs(5);
        let limits = BreakerLimits::default();
        let guarded = Guarded::new(Arc::new(Stingy), limits, Duration::from_secs(10));
        let (ask, due) = (testing::ask(1, "card", UnixMs(1)), testing::payment("t1"));
        for _ in 0..limits.failures_max {
            assert!(guarded.refund(&due).await.is_err());
        }
        assert_eq!(guarded.look_to_refund(), Err(rest));
        assert_eq!(guarded.look_to_prepay(), Ok(()));
        assert!(guarded.prepay(&ask).await.is_ok());
        assert_eq!(
            guarded.look_to_refund(),
            Err(rest),
            "nor does that mend them"
        );
    }
}
