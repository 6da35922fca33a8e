//! What stands in a bucket, read and not changed: for whoever compares it with what the
//! ledger knows.

use fred::types::Value;
use fred::util::redis_keyslot;

use super::RedisHost;
use super::answer;
use crate::domain::ids::OrderId;
use crate::stock::codec::Hold;
use crate::stock::host::{BucketRef, HostError, Reply};

/// Fields that one look at a bucket's holds goes over, or so.
const PAGE: &str = "512";

/// What a bucket says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub epoch: u32,
    pub n: u64,
    /// Its rebuild was not finished.
    pub is_building: bool,
    /// The ledger that last called it, and how far that was durable by then.
    pub ledger: String,
    pub seq: u64,
}

/// Some of a bucket's holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holds {
    pub holds: Vec<(OrderId, Hold)>,
    /// Where to look next; `None`: that was all.
    pub next: Option<u64>,
}

fn odd(what: &str) -> HostError {
    HostError::Script(format!("the bucket holds {what}"))
}

fn text(value: &Reply) -> Option<&str> {
    match value {
        Reply::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        Reply::Int(_) | Reply::Array(_) | Reply::Nil => None,
    }
}

fn number<T: std::str::FromStr>(value: &Reply) -> Option<T> {
    text(value)?.parse().ok()
}

impl RedisHost {
    async fn ask(
        &self,
        bucket: &BucketRef,
        word: &'static str,
        args: Vec<Value>,
    ) -> Result<Reply, HostError> {
        let [meta, ..] = bucket.keys();
        let primary = self.at(redis_keyslot(meta.as_bytes()))?;
        let line = &primary.lines[bucket.place(primary.lines.len())];
        answer::reply(line.ask(word, args).await?)
    }

    /// `None`: there is no such bucket.
    pub async fn meta(&self, bucket: &BucketRef) -> Result<Option<Meta>, HostError> {
        let [meta, ..] = bucket.keys();
        let fields = ["epoch", "n", "building", "ledger", "seq"].map(Value::from_static_str);
        let args = [Value::from(meta)].into_iter().chain(fields).collect();
        let Reply::Array(values) = self.ask(bucket, "HMGET", args).await? else {
            return Err(odd("no fields"));
        };
        if values.first() == Some(&Reply::Nil) {
            return Ok(None);
        }
        let [epoch, n, building, ledger, seq] = &values[..] else {
            return Err(odd("another number of fields than was asked for"));
        };
        let meta = || {
            Some(Meta {
                epoch: number(epoch)?,
                n: number(n)?,
                is_building: text(building)? != "0",
                ledger: text(ledger)?.to_owned(),
                seq: number(seq)?,
            })
        };
        meta()
            .map(Some)
            .ok_or_else(|| odd("a meta of another form"))
    }

    /// From `at`, 0 at first. A hold that is there all the time comes at least once, and
    /// maybe twice; one that comes or goes meanwhile may or may not.
    pub async fn holds(&self, bucket: &BucketRef, at: u64) -> Result<Holds, HostError> {
        let [_, _, holds, ..] = bucket.keys();
        let args = vec![
            Value::from(holds),
            Value::from(at.to_string()),
            Value::from_static_str("COUNT"),
            Value::from_static_str(PAGE),
        ];
        let Reply::Array(reply) = self.ask(bucket, "HSCAN", args).await? else {
            return Err(odd("no holds"));
        };
        let [next, Reply::Array(fields)] = &reply[..] else {
            return Err(odd("holds of another form"));
        };
        let next: u64 = number(next).ok_or_else(|| odd("no cursor"))?;
        let pairs = fields
            .chunks_exact(2)
            .filter(|pair| text(&pair[0]) != Some("_"));
        let hold = |pair: &[Reply]| {
            let id = OrderId::parse(text(&pair[0])?)?;
            let Reply::Bytes(value) = &pair[1] else {
                return None;
            };
            Some((id, Hold::parse(value)?))
        };
        Ok(Holds {
            holds: pairs
                .map(|pair| hold(pair).ok_or_else(|| odd("a hold of another form")))
                .collect::<Result<_, _>>()?,
            next: (next != 0).then_some(next),
        })
    }
}
