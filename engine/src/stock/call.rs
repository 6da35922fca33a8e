//! The call protocol: (epoch, n, acked) in front of every call.
//!
//! One call a bucket is under way at a time. While its outcome is unknown the
//! identical bytes are sent again; n is never used for another composition. So a
//! host that lost, repeated or delayed something is found out by its own meta.
//!
//! A bucket that another engine took is not called again, whatever for: it is told to
//! whoever ends this engine, and the call under way has no end.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::host::{Args, BucketRef, HostError, Reply, Script, StockHost};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The bucket is not what we last saw: rebuild it under a new epoch.
    #[error("the bucket changed under us: {0}")]
    Changed(String),
    #[error("the stock host was stopped")]
    Stopped,
    /// The reply does not have the shape the scripts promise.
    #[error("the reply of {script:?} is malformed: {what}")]
    Malformed { script: Script, what: &'static str },
}

/// First and longest wait before an unanswered call is sent again.
const RESEND_MIN: Duration = Duration::from_millis(5);
const RESEND_MAX: Duration = Duration::from_millis(500);
/// A call that has no answer for so long is more than a lost connection: whoever comes
/// now is better told to come again than kept waiting.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// Whether a bucket's stock has not answered for a while; for who might need it.
#[derive(Debug, Clone)]
pub struct Silence(watch::Receiver<bool>);

impl Silence {
    pub fn is_now(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it begins, or is already.
    pub async fn begins(&mut self) {
        if self.0.wait_for(|silent| *silent).await.is_err() {
            // A caller that is gone calls nobody.
            std::future::pending().await
        }
    }
}

/// Whose calls they are. Two engines may have one ledger, when its folder was copied, but
/// they draw their runs by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub ledger: String,
    pub run: u64,
}

impl Owner {
    /// The ledger of whoever a bucket names as its owner. Older engines were named by
    /// their ledger alone.
    pub fn ledger_of(owner: &str) -> &str {
        owner.split_once('/').map_or(owner, |(ledger, _)| ledger)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.ledger, self.run)
    }
}

pub struct BucketCaller {
    host: Arc<dyn StockHost>,
    bucket: BucketRef,
    epoch: u32,
    n: u64,
    acked: u64,
    owner: String,
    /// What the bucket is told about the ledger, as a witness.
    durable_seq: u64,
    silent: watch::Sender<bool>,
    /// Told when the bucket is another engine's.
    lost: watch::Sender<Option<String>>,
}

impl BucketCaller {
    /// For a bucket that is about to be (re)built under `epoch`.
    pub fn new(
        host: Arc<dyn StockHost>,
        bucket: BucketRef,
        epoch: u32,
        owner: &Owner,
        lost: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            host,
            bucket,
            epoch,
            n: 0,
            acked: 0,
            owner: owner.to_string(),
            durable_seq: 0,
            silent: watch::Sender::new(false),
            lost,
        }
    }

    pub fn silence(&self) -> Silence {
        Silence(self.silent.subscribe())
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn bucket(&self) -> &BucketRef {
        &self.bucket
    }

    /// What the ledger has durably; travels with the next call.
    pub fn witness(&mut self, durable_seq: u64) {
        self.durable_seq = durable_seq;
    }

    /// Begins a new epoch; the first call must be the rebuild's.
    pub fn raise(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.n = 0;
        self.acked = 0;
    }

    /// What a hold carries of the order: all of it, or on a host that is no second
    /// copy nothing.
    pub fn carried<'a>(&self, blob: &'a [u8]) -> &'a [u8] {
        if self.is_second_copy() { blob } else { b"" }
    }

    pub fn is_second_copy(&self) -> bool {
        self.host.is_second_copy()
    }

    pub async fn make_room(&self, orders: usize) {
        if let Err(error) = self.host.make_room(&self.bucket, orders).await {
            // What has no room now grows later: slower, not wrong.
            tracing::warn!(%error, bucket = ?self.bucket, "make room");
        }
    }

    /// Runs a script until it is answered. Returns what follows the protocol's
    /// own two values in the reply.
    pub async fn call(
        &mut self,
        script: Script,
        fill: impl FnOnce(&mut Args),
    ) -> Result<Vec<Reply>, CallError> {
        self.n += 1;
        let mut args = Args::default();
        args.push_number(u64::from(self.epoch));
        args.push_number(self.n);
        args.push_number(self.acked);
        args.push(&self.owner);
        args.push_number(self.durable_seq);
        fill(&mut args);
        let reply = self.answered(script, &Arc::new(args)).await;
        let reply = match reply {
            Ok(reply) => reply,
            // Its first writes may stand and its last ones not: only the ledger knows
            // what should be there.
            Err(HostError::Script(what)) => return Err(CallError::Changed(what)),
            Err(HostError::Stopped | HostError::Unknown(_)) => return Err(CallError::Stopped),
        };
        let Reply::Array(mut values) = reply else {
            return Err(CallError::Malformed {
                script,
                what: "not an array",
            });
        };
        match values.first() {
            Some(Reply::Int(0)) if values.get(1) == Some(&Reply::Int(self.n.cast_signed())) => {
                self.acked = self.n;
                values.drain(..2);
                Ok(values)
            }
            Some(Reply::Int(1)) => Err(CallError::Changed(format!(
                "a later call than {} was answered: {values:?}",
                self.n
            ))),
            Some(Reply::Int(2)) => Err(CallError::Changed(format!(
                "we are at epoch {}, call {}; the bucket says {values:?}",
                self.epoch, self.n
            ))),
            Some(Reply::Int(3)) => match self.is_lost(&values).await {},
            Some(Reply::Int(_) | Reply::Bytes(_) | Reply::Array(_) | Reply::Nil) | None => {
                Err(CallError::Malformed {
                    script,
                    what: "no protocol status",
                })
            }
        }
    }

    async fn is_lost(&self, says: &[Reply]) -> Infallible {
        let why = format!(
            "bucket {} of sale {} is another engine's by now: we are at epoch {}, call {}; it says \
             {says:?}. One engine sells from a stock host, and this one must not",
            self.bucket.bucket.0, self.bucket.sale, self.epoch, self.n
        );
        tracing::error!(why, "a bucket was taken");
        self.lost.send_replace(Some(why));
        std::future::pending().await
    }

    /// Sends the identical call until it has an outcome. The bucket waits for as long as
    /// that takes; nobody else does.
    async fn answered(&self, script: Script, args: &Arc<Args>) -> Result<Reply, HostError> {
        let sent_at = Instant::now();
        let (mut wait, mut copies) = (RESEND_MIN, 1_u32);
        loop {
            let what = match self.host.run(&self.bucket, script, args).await {
                Err(HostError::Unknown(what)) => what,
                outcome => {
                    if copies > 1 {
                        let after = sent_at.elapsed();
                        tracing::info!(bucket = ?self.bucket, ?script, n = self.n, copies, ?after, "a call found its outcome");
                    }
                    self.silent.send_if_modified(std::mem::take);
                    return outcome;
                }
            };
            // One line for each outage, not for each copy.
            if copies == 1 {
                tracing::warn!(bucket = ?self.bucket, ?script, n = self.n, what, "the outcome of a call is not known; the identical call is sent until it is");
            }
            if sent_at.elapsed() >= SILENT_AFTER {
                self.silent
                    .send_if_modified(|silent| !std::mem::replace(silent, true));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RESEND_MAX);
            copies += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::domain::ids::{BucketNo, SaleId};
    use crate::stock::host::HostFuture;

    /// Gives no answer to so many calls, and remembers each.
    struct Deaf {
        times: usize,
        heard: Mutex<Vec<Vec<u8>>>,
    }

    impl StockHost for Deaf {
        fn run<'a>(&'a self, _: &'a BucketRef, _: Script, args: &'a Arc<Args>) -> HostFuture<'a> {
            let mut heard = self.heard.lock();
            heard.push(args.iter().collect::<Vec<_>>().join(&b' '));
            let answer = if heard.len() > self.times {
                Ok(Reply::Array(vec![Reply::Int(0), Reply::Int(1)]))
            } else {
                Err(HostError::Unknown("lost".to_owned()))
            };
            Box::pin(std::future::ready(answer))
        }

        fn make_room<'a>(&'a self, _: &'a BucketRef, _: usize) -> HostFuture<'a, ()> {
            Box::pin(std::future::ready(Ok(())))
        }

        fn is_second_copy(&self) -> bool {
            true
        }

        fn home(&self, _: &BucketRef) -> Option<tokio::runtime::Handle> {
            None
        }
    }

    fn owner() -> Owner {
        Owner {
            ledger: "l".to_owned(),
            run: 10,
        }
    }

    #[test]
    fn an_owners_ledger_is_found_in_its_name() {
        assert_eq!(owner().to_string(), "l/000000000000000a");
        assert_eq!(Owner::ledger_of(&owner().to_string()), "l");
        assert_eq!(Owner::ledger_of("l"), "l", "of an older engine");
    }

    fn caller(times: usize) -> (Arc<Deaf>, BucketCaller) {
        let host = Arc::new(Deaf {
            times,
            heard: Mutex::default(),
        });
        let bucket = BucketRef {
            sale: SaleId::parse("tea").expect("an id"),
            bucket: BucketNo(0),
        };
        let shared: Arc<dyn StockHost> = Arc::clone(&host) as _;
        let (lost, _) = watch::channel(None);
        (host, BucketCaller::new(shared, bucket, 1, &owner(), lost))
    }

    #[tokio::test(start_paused = true)]
    async fn the_identical_call_is_sent_until_it_is_answered() {
        let (host, mut caller) = caller(40);
        let sent_at = Instant::now();
        caller.rebuild_end(7).await.expect("answered in the end");
        let heard = host.heard.lock();
        assert_eq!(
            *heard,
            vec![b"1 1 0 l/000000000000000a 0 end 7".to_vec(); 41]
        );
        // It waits longer each time, and never so long that an answer would be missed.
        let waited = sent_at.elapsed();
        assert!(
            waited > RESEND_MAX * 30 && waited <= RESEND_MAX * 40,
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_silent_from_half_a_second_on_until_it_is_answered() {
        let (_, mut quick) = caller(4);
        let silence = quick.silence();
        let mut begins = silence.clone();
        quick.rebuild_end(0).await.expect("answered");
        let never = tokio::time::timeout(Duration::from_secs(9), begins.begins()).await;
        assert!(
            never.is_err() && !silence.is_now(),
            "a lost reply is no silence"
        );

        let (_, mut slow) = caller(40);
        let (silence, sent_at) = (slow.silence(), Instant::now());
        let mut begins = silence.clone();
        let begun = tokio::spawn(async move {
            begins.begins().await;
            sent_at.elapsed()
        });
        slow.rebuild_end(0).await.expect("answered");
        let begun = begun.await.expect("no panic");
        assert!(
            (SILENT_AFTER..2 * SILENT_AFTER).contains(&begun),
            "{begun:?}"
        );
        assert!(!silence.is_now());
    }
}
