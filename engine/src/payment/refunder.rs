//! Refunds: every payment that must go back is asked of the provider until it did, and
//! that is durable.
//!
//! One task owns the list. It is filled from the ledger at the start and by the desks
//! that make a payment due; word that did not fit is not lost, the ledger is read again
//! instead. A payment leaves the list when its refund is durable and in no other
//! way, so a provider that fails, refuses or forgets costs time and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::desk::RefundDesk;
use super::due::Due;
use super::metrics::{PaymentMetrics, RefundResult};
use super::provider::{Guarded, Refund, Trouble};
use crate::domain::ids::PaymentId;
use crate::domain::payment::Payment;
use crate::sale::{Due as Owing, OwedList};

#[derive(Debug, Clone, Copy)]
pub struct RefunderConfig {
    /// Calls to the provider at once.
    pub at_once: usize,
    /// Payments in memory; the others wait in the ledger.
    pub due_max: usize,
    pub backoff: Backoff,
    pub seed: u64,
}

impl Default for RefunderConfig {
    fn default() -> Self {
        Self {
            at_once: 8,
            due_max: 65_536,
            backoff: Backoff {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(600),
            },
            seed: 0,
        }
    }
}

/// What became of one try.
enum Tried {
    Done,
    /// Still due.
    Again,
    /// The provider was not asked.
    Resting,
}

pub struct Refunder {
    desk: Arc<dyn RefundDesk>,
    /// None: nobody is there who could give money back. The list is kept and shown.
    provider: Option<Arc<Guarded>>,
    metrics: PaymentMetrics,
    config: RefunderConfig,
    owed: OwedList,
}

impl Refunder {
    pub fn new(
        desk: Arc<dyn RefundDesk>,
        owed: OwedList,
        provider: Option<Arc<Guarded>>,
        metrics: PaymentMetrics,
        config: RefunderConfig,
    ) -> Self {
        Self {
            desk,
            provider,
            metrics,
            config,
            owed,
        }
    }

    /// For ever. Whoever drops it breaks off the tries under way: the provider knows them
    /// again at the next start.
    pub async fn run(mut self) {
        let mut due = Due::new(self.config.due_max, self.config.backoff, self.config.seed);
        let mut trying = JoinSet::new();
        let mut whose: HashMap<Id, PaymentId> = HashMap::new();
        // The first look at the ledger.
        due.missed();
        let mut look_at = Instant::now();
        loop {
            if Instant::now() >= look_at && due.wants_more() && !self.read(&mut due).await {
                due.missed();
                look_at = Instant::now() + self.config.backoff.first;
            }
            let next_at = self.start(&mut due, &mut trying, &mut whose);
            let n_due = i64::try_from(due.len()).unwrap_or(i64::MAX);
            self.metrics.refunds_due.set(n_due);
            let wake_at = [next_at, Some(look_at).filter(|at| *at > Instant::now())];
            tokio::select! {
                Some(tried) = trying.join_next_with_id() => self.settle(tried, &mut due, &mut whose),
                Some(told) = self.owed.next() => match told {
                    Owing::Payment(payment) => due.add(payment, Instant::now()),
                    Owing::LookInTheLedger => due.missed(),
                },
                () = until(wake_at.into_iter().flatten().min()) => {}
            }
        }
    }

    async fn read(&self, due: &mut Due) -> bool {
        let desk = Arc::clone(&self.desk);
        // One more than fit: so what does not is noticed, and nothing is read for nothing.
        let max = self.config.due_max.saturating_add(1);
        let read = tokio::task::spawn_blocking(move || desk.due(max)).await;
        let payments = match read {
            Ok(Ok(payments)) => payments,
            Ok(Err(error)) => {
                tracing::error!(%error, "read which refunds are due");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "read which refunds are due");
                return false;
            }
        };
        let now = Instant::now();
        for payment in payments {
            due.add(payment, now);
        }
        true
    }

    /// As many as may be tried at once; says when the next one wants to be.
    fn start(
        &self,
        due: &mut Due,
        trying: &mut JoinSet<(PaymentId, Tried)>,
        whose: &mut HashMap<Id, PaymentId>,
    ) -> Option<Instant> {
        let provider = self.provider.as_ref()?;
        let now = Instant::now();
        while trying.len() < self.config.at_once {
            if let Err(wait) = provider.look_to_refund() {
                return due.next_at().map(|at| at.max(now + wait));
            }
            let Some(payment) = due.take(now) else {
                return due.next_at();
            };
            let id = payment.id.clone();
            let (desk, provider) = (Arc::clone(&self.desk), Arc::clone(provider));
            let metrics = self.metrics.clone();
            let task = trying.spawn(async move {
                let tried = give_back(&*desk, &provider, &metrics, &payment).await;
                (payment.id, tried)
            });
            whose.insert(task.id(), id);
        }
        // Whoever ends makes room.
        None
    }

    fn settle(
        &self,
        tried: Result<(Id, (PaymentId, Tried)), JoinError>,
        due: &mut Due,
        whose: &mut HashMap<Id, PaymentId>,
    ) {
        let now = Instant::now();
        match tried {
            Ok((task, (id, tried))) => {
                whose.remove(&task);
                match tried {
                    Tried::Done => due.done(&id),
                    Tried::Again => due.again(&id, now),
                    // Nobody is taken from the list before the provider may be asked.
                    Tried::Resting => due.put_off(&id, now),
                }
            }
            Err(error) => {
                tracing::error!(%error, "a refund");
                if let Some(id) = whose.remove(&error.id()) {
                    due.again(&id, now);
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn give_back(
    desk: &dyn RefundDesk,
    provider: &Guarded,
    metrics: &PaymentMetrics,
    payment: &Payment,
) -> Tried {
    let refund_no = match provider.refund(payment).await {
        Ok(Refund::Refunded { refund_no }) => {
            metrics.refund_call(RefundResult::Refunded);
            refund_no
        }
        Ok(Refund::Pending) => {
            metrics.refund_call(RefundResult::Pending);
            return Tried::Again;
        }
        Ok(Refund::Refused { why }) => {
            metrics.refund_call(RefundResult::Refused);
            tracing::error!(payment = %payment.id, why, "the provider refuses a refund");
            return Tried::Again;
        }
        Err(Trouble::Resting { .. }) => return Tried::Resting,
        Err(Trouble::Failed { why }) => {
            metrics.refund_call(RefundResult::Failed);
            tracing::warn!(payment = %payment.id, why, "a refund failed; it is tried again");
            return Tried::Again;
        }
    };
    match desk.refunded(payment, refund_no).await {
        Ok(()) => Tried::Done,
        Err(error) => {
            tracing::error!(payment = %payment.id, %error, "note a refund; it is tried again");
            Tried::Again
        }
    }
}

#[cfg(test)]
mod tests;
