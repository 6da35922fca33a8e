//! The teller: tells winners, and only after the fsync that covers them.
//!
//! It follows its desk's receipts in order, so the desk can go on with the next
//! batch while the disk works, and a whole batch wakes at once.

use std::future::Future;
use std::sync::Arc;

use floodgate_ledger::Receipt;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::answer::Answer;
use super::index::Claim;
use super::metrics::SaleMetrics;
use crate::domain::order::Order;

/// Batches between desk and disk; the desk waits when there are more, and gathers.
const BATCHES_MAX: usize = 8;

#[derive(Debug)]
pub struct Winner {
    pub claim: Claim,
    pub order: Arc<Order>,
    pub reply: oneshot::Sender<Answer>,
    pub place: OwnedSemaphorePermit,
}

impl Winner {
    fn won(self) -> Answer {
        let answer = Answer::Won(self.order);
        // The key first: a buyer who hears "won" may ask again at once.
        self.claim.won(&answer);
        drop(self.place);
        // A buyer who left finds the order under the same key.
        let _ = self.reply.send(answer.clone());
        answer
    }

    /// The ledger closed under us: whether the order stands, only the next start knows.
    pub fn unknown(self) {
        self.claim.abandon();
        let _ = self.reply.send(Answer::Unknown);
    }
}

enum Slip {
    Batch {
        receipt: Receipt,
        winners: Vec<Winner>,
        handed_at: Instant,
    },
    Settled(oneshot::Sender<()>),
}

pub struct Teller {
    slips: mpsc::Sender<Slip>,
}

impl Teller {
    /// The teller, and its work, which runs best where those wait who are told.
    pub fn new(metrics: SaleMetrics) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (slips, inbox) = mpsc::channel(BATCHES_MAX);
        (Self { slips }, run(inbox, metrics))
    }

    pub async fn tell(&self, receipt: Receipt, winners: Vec<Winner>) {
        let slip = Slip::Batch {
            receipt,
            winners,
            handed_at: Instant::now(),
        };
        if let Err(mpsc::error::SendError(Slip::Batch { winners, .. })) =
            self.slips.send(slip).await
        {
            // Only when the runtime is going down.
            winners.into_iter().for_each(Winner::unknown);
        }
    }

    /// Returns once everything handed over so far is durable and told.
    pub async fn settle(&self) {
        let (done, wait) = oneshot::channel();
        if self.slips.send(Slip::Settled(done)).await.is_ok() {
            // An error means that the runtime is going down.
            let _ = wait.await;
        }
    }
}

async fn run(mut inbox: mpsc::Receiver<Slip>, metrics: SaleMetrics) {
    while let Some(slip) = inbox.recv().await {
        match slip {
            Slip::Batch {
                receipt,
                winners,
                handed_at,
            } => match receipt.await {
                Ok(_) => {
                    fail::fail_point!("win-durable", |_| std::process::abort());
                    metrics
                        .commit_seconds
                        .observe(handed_at.elapsed().as_secs_f64());
                    metrics.won.inc_by(winners.len() as u64);
                    for winner in winners {
                        winner.won();
                    }
                }
                Err(error) => {
                    tracing::error!(%error, n = winners.len(), "orders without a commit");
                    winners.into_iter().for_each(Winner::unknown);
                }
            },
            Slip::Settled(done) => {
                let _ = done.send(());
            }
        }
    }
}
