//! Refill: units go from buckets that have some to the one whose buyers wait.
//!
//! One refill at a time, in the order in which desks asked. Each transfer has an
//! id of its own; the source gives, the ledger knows, and only then the target
//! takes, so a crash may delay units and neither makes nor loses any.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};

use super::desk::{Command, Give};
use super::guard::Units;
use super::live::SkuStock;
use crate::domain::ids::BucketNo;
use crate::stock::Silence;

/// The first in this bucket's line lacks units. What it lacks is asked when its journey
/// begins: others take from the bucket until then.
#[derive(Debug)]
pub struct Wanted {
    pub bucket: BucketNo,
}

/// What a journey came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    All,
    /// No bucket can give more.
    TooFew,
    /// A bucket that might give more, or the one that waits, does not answer now.
    Silent,
}

pub struct Refiller {
    desks: Vec<mpsc::Sender<Command>>,
    silences: Vec<Silence>,
    stock: Arc<Vec<SkuStock>>,
    /// Two runs of the engine must not give the same transfer id.
    run: u64,
    n: u64,
}

impl Refiller {
    pub fn new(
        desks: Vec<mpsc::Sender<Command>>,
        silences: Vec<Silence>,
        stock: Arc<Vec<SkuStock>>,
        run: u64,
    ) -> Self {
        Self {
            desks,
            silences,
            stock,
            run,
            n: 0,
        }
    }

    /// Ends when the desks are gone.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Wanted>) {
        while let Some(wanted) = inbox.recv().await {
            let lacks = self.lacks(wanted.bucket).await;
            let mut fetched = lacks.as_ref().map_or(Fetched::Silent, |_| Fetched::All);
            for (sku, n) in lacks.iter().flatten() {
                if fetched == Fetched::All {
                    fetched = self.gather(wanted.bucket, *sku, *n).await;
                }
            }
            let answer = Command::Refilled { fetched };
            if self.desk(wanted.bucket).send(answer).await.is_err() {
                return;
            }
        }
    }

    /// What the first of its line lacks now. `None`: the desk does not answer.
    async fn lacks(&self, bucket: BucketNo) -> Option<Units> {
        let mut silence = self.silences[usize::from(bucket.0)].clone();
        if silence.is_now() {
            return None;
        }
        let (reply, lacks) = oneshot::channel();
        let asked = async {
            self.desk(bucket)
                .send(Command::Lacks { reply })
                .await
                .ok()?;
            lacks.await.ok()
        };
        tokio::select! {
            lacks = asked => lacks,
            () = silence.begins() => None,
        }
    }

    fn desk(&self, bucket: BucketNo) -> &mpsc::Sender<Command> {
        &self.desks[usize::from(bucket.0)]
    }

    /// From as many buckets as it takes, the fullest first; looks again for as long
    /// as that finds something, since units come back meanwhile.
    async fn gather(&mut self, to: BucketNo, sku: usize, wanted: u32) -> Fetched {
        let mut short = wanted;
        loop {
            let before = short;
            let mut silent = false;
            for from in self.sources(to, sku) {
                match self.transfer(from, to, sku, short).await {
                    Some(units) => short = short.saturating_sub(units),
                    None => silent = true,
                }
                if short == 0 {
                    return Fetched::All;
                }
            }
            if short == before {
                return if silent {
                    Fetched::Silent
                } else {
                    Fetched::TooFew
                };
            }
        }
    }

    fn sources(&self, to: BucketNo, sku: usize) -> Vec<BucketNo> {
        let free =
            |b: &BucketNo| self.stock[sku].by_bucket[usize::from(b.0)].load(Ordering::Relaxed);
        let mut all: Vec<BucketNo> = (0..self.desks.len())
            .map(|b| BucketNo(u16::try_from(b).expect("a sale has at most 4,096 buckets")))
            .filter(|b| *b != to && free(b) > 0)
            .collect();
        all.sort_by_key(|b| Reverse(free(b)));
        all
    }

    /// How many units arrived. `None`: one of the two does not answer. What is under way
    /// then goes on by itself and arrives when it can; others are served meanwhile.
    async fn transfer(
        &mut self,
        from: BucketNo,
        to: BucketNo,
        sku: usize,
        wanted: u32,
    ) -> Option<u32> {
        let [mut source, mut target] =
            [from, to].map(|bucket| self.silences[usize::from(bucket.0)].clone());
        if source.is_now() || target.is_now() {
            return None;
        }
        self.n += 1;
        let id = format!("{:x}-{:x}", self.run, self.n);
        let (reply, given) = oneshot::channel();
        let give = Command::Give(Give {
            id: id.clone(),
            to,
            sku,
            wanted,
            reply,
        });
        let [giver, taker] = [from, to].map(|bucket| self.desk(bucket).clone());
        let journey = tokio::spawn(async move {
            // A desk that is gone gives nothing.
            giver.send(give).await.ok()?;
            let given = given.await.ok()??;
            let (reply, taken) = oneshot::channel();
            let take = Command::Take {
                id,
                sku,
                given,
                reply,
            };
            taker.send(take).await.ok()?;
            taken.await.ok().map(|()| given.units)
        });
        tokio::select! {
            arrived = journey => Some(arrived.ok().flatten().unwrap_or(0)),
            () = source.begins() => None,
            () = target.begins() => None,
        }
    }
}
