//! The call protocol: (epoch, n, acked) in front of every call.
//!
//! One call a bucket is under way at a time. While its outcome is unknown the
//! identical bytes are sent again; n is never used for another composition. So a
//! host that lost, repeated or delayed something is found out by its own meta.

use std::sync::Arc;
use std::time::Duration;

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

pub struct BucketCaller {
    host: Arc<dyn StockHost>,
    bucket: BucketRef,
    epoch: u32,
    n: u64,
    acked: u64,
    /// What the bucket is told about the ledger, as a witness.
    ledger_id: String,
    durable_seq: u64,
}

impl BucketCaller {
    /// For a bucket that is about to be (re)built under `epoch`.
    pub fn new(host: Arc<dyn StockHost>, bucket: BucketRef, epoch: u32, ledger_id: String) -> Self {
        Self {
            host,
            bucket,
            epoch,
            n: 0,
            acked: 0,
            ledger_id,
            durable_seq: 0,
        }
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
        if self.host.is_second_copy() {
            blob
        } else {
            b""
        }
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
        args.push(&self.ledger_id);
        args.push_number(self.durable_seq);
        fill(&mut args);
        let args = Arc::new(args);
        let mut wait = RESEND_MIN;
        let reply = loop {
            match self.host.run(&self.bucket, script, &args).await {
                Ok(reply) => break reply,
                Err(HostError::Stopped) => return Err(CallError::Stopped),
                // Its first writes may stand and its last ones not: only the
                // ledger knows what should be there.
                Err(HostError::Script(what)) => return Err(CallError::Changed(what)),
                Err(HostError::Unknown(what)) => {
                    tracing::warn!(bucket = ?self.bucket, ?script, n = self.n, what, "send the identical call again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RESEND_MAX);
                }
            }
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
            Some(Reply::Int(_) | Reply::Bytes(_) | Reply::Array(_) | Reply::Nil) | None => {
                Err(CallError::Malformed {
                    script,
                    what: "no protocol status",
                })
            }
        }
    }
}
