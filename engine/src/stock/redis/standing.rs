//! What stands in Redis, read and not changed.

use bytes::Bytes;
use fred::types::Value;
use fred::util::redis_keyslot;

use super::answer;
use super::{HOPS_MAX, RedisHost, sent_about};
use crate::stock::call::Owner;
use crate::stock::host::{BucketRef, HostError, Reply};
use crate::stock::standing::{Holds, Meta, OrderField, Tail, TailEntry, UsedKeys};

/// Fields that one look at a bucket's holds goes over, or so.
const PAGE: &str = "512";
/// Keys that one look for buckets goes over, or so.
const KEYS: &str = "5000";

/// In a place to look next: among the orders that have fields of their own. A cursor of
/// Redis is below the number of a hash's slots, and has no use for this bit.
const OWN_FIELDS: u64 = 1 << 63;

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
        let mut primary = self.at(redis_keyslot(meta.as_bytes()))?;
        let mut asking = false;
        for _ in 0..HOPS_MAX {
            let line = &primary.lines[bucket.place(primary.lines.len())];
            match line.ask(word, args.clone(), asking).await {
                Ok(value) => return answer::reply(value),
                Err(trouble) => (primary, asking) = self.follow(trouble, line).await?,
            }
        }
        Err(sent_about())
    }

    /// `None`: there is no such bucket.
    pub(super) async fn read_meta(&self, bucket: &BucketRef) -> Result<Option<Meta>, HostError> {
        let [meta, ..] = bucket.keys();
        let fields =
            ["epoch", "n", "building", "ledger", "seq", "sale"].map(Value::from_static_str);
        let args = [Value::from(meta)].into_iter().chain(fields).collect();
        let of_another_form = |why: String| {
            HostError::Script(format!(
                "{} is not what an engine wrote ({why}); delete it when nobody can say what \
                 it was, and what only this bucket knew is lost",
                bucket.keys()[0]
            ))
        };
        let values = match self.ask(bucket, "HMGET", args).await {
            Ok(Reply::Array(values)) => values,
            Ok(_) => return Err(odd("no fields")),
            Err(HostError::Script(why)) => return Err(of_another_form(why)),
            Err(error) => return Err(error),
        };
        if values.first() == Some(&Reply::Nil) {
            return Ok(None);
        }
        let [epoch, n, building, ledger, seq, sale] = &values[..] else {
            return Err(odd("another number of fields than was asked for"));
        };
        let meta = || {
            Some(Meta {
                epoch: number(epoch)?,
                n: number(n)?,
                is_building: text(building)? != "0",
                ledger: Owner::ledger_of(text(ledger)?).to_owned(),
                seq: number(seq)?,
                sale: match sale {
                    Reply::Bytes(bytes) => bytes.clone(),
                    // Of a bucket that an older engine made.
                    Reply::Nil => Bytes::new(),
                    Reply::Int(_) | Reply::Array(_) => return None,
                },
            })
        };
        meta()
            .map(Some)
            .ok_or_else(|| of_another_form("a field is missing, or no number".to_owned()))
    }

    pub(super) async fn read_holds(&self, bucket: &BucketRef, at: u64) -> Result<Holds, HostError> {
        let (orders, next) = self.read_orders(bucket, at).await?;
        let holds = orders
            .into_iter()
            .filter_map(|order| Some((order.used.order, order.hold?)));
        Ok(Holds {
            holds: holds.collect(),
            next,
        })
    }

    pub(super) async fn read_used_keys(
        &self,
        bucket: &BucketRef,
        at: u64,
    ) -> Result<UsedKeys, HostError> {
        let (orders, next) = self.read_orders(bucket, at).await?;
        Ok(UsedKeys {
            keys: orders.into_iter().map(|order| order.used).collect(),
            next,
        })
    }

    /// First those that stand with their users, for one that closes meanwhile moves from
    /// there to a field of its own and not back.
    async fn read_orders(
        &self,
        bucket: &BucketRef,
        at: u64,
    ) -> Result<(Vec<OrderField>, Option<u64>), HostError> {
        let [_, _, orders, users, ..] = bucket.keys();
        let own = at & OWN_FIELDS != 0;
        let hash = if own { orders } else { users };
        let (pairs, next) = self.pairs(bucket, hash, at & !OWN_FIELDS).await?;
        let mut found = Vec::with_capacity(pairs.len());
        for (field, value) in &pairs {
            let Reply::Bytes(value) = value else {
                return Err(odd("an order of another form"));
            };
            let order = text(field).and_then(|field| match own {
                true => OrderField::parse(field, value).map(Some),
                false => OrderField::parse_with_user(field, value),
            });
            found.extend(order.ok_or_else(|| odd("an order of another form"))?);
        }
        let next = match (next, own) {
            (Some(next), true) => Some(next | OWN_FIELDS),
            (None, false) => Some(OWN_FIELDS),
            (next, _) => next,
        };
        Ok((found, next))
    }

    pub(super) async fn read_tail(&self, bucket: &BucketRef, at: u64) -> Result<Tail, HostError> {
        let [.., tail] = bucket.keys();
        let (pairs, next) = self.pairs(bucket, tail, at).await?;
        let entry = |(field, value): (Reply, Reply)| {
            let Reply::Bytes(value) = &value else {
                return None;
            };
            TailEntry::parse(text(&field)?, value)
        };
        let entries = pairs
            .into_iter()
            .map(|pair| entry(pair).ok_or_else(|| odd("an entry of its tail of another form")));
        Ok(Tail {
            entries: entries.collect::<Result<_, _>>()?,
            next,
        })
    }

    /// Some fields of a hash, without the one that keeps it from being empty: a buyer may
    /// be called like that one.
    async fn pairs(
        &self,
        bucket: &BucketRef,
        hash: String,
        at: u64,
    ) -> Result<(Vec<(Reply, Reply)>, Option<u64>), HostError> {
        let args = vec![
            Value::from(hash),
            Value::from(at.to_string()),
            Value::from_static_str("COUNT"),
            Value::from_static_str(PAGE),
        ];
        let Reply::Array(reply) = self.ask(bucket, "HSCAN", args).await? else {
            return Err(odd("no hash"));
        };
        let [next, Reply::Array(fields)] = &reply[..] else {
            return Err(odd("a hash of another form"));
        };
        let next: u64 = number(next).ok_or_else(|| odd("no cursor"))?;
        let pairs = fields
            .chunks_exact(2)
            .filter(|pair| (text(&pair[0]), text(&pair[1])) != (Some("_"), Some("0")))
            .map(|pair| (pair[0].clone(), pair[1].clone()));
        Ok((pairs.collect(), (next != 0).then_some(next)))
    }

    /// In a cluster each server is asked for its own.
    pub(super) async fn read_buckets(&self) -> Result<Vec<BucketRef>, HostError> {
        let map = self.map.load_full();
        let mut found = Vec::new();
        for primary in map.primaries.values() {
            let mut at = "0".to_owned();
            loop {
                let args = [at.as_str(), "MATCH", "{fg:*}:meta", "COUNT", KEYS];
                let args = args.map(|word| Value::from(word.to_owned())).into();
                let reply = answer::reply(primary.lines[0].ask("SCAN", args, false).await?)?;
                let Reply::Array(reply) = reply else {
                    return Err(odd("no keys"));
                };
                let [next, Reply::Array(keys)] = &reply[..] else {
                    return Err(odd("keys of another form"));
                };
                // Whatever else begins like ours is not a bucket.
                found.extend(keys.iter().filter_map(|k| BucketRef::of_meta_key(text(k)?)));
                at = text(next).ok_or_else(|| odd("no cursor"))?.to_owned();
                if at == "0" {
                    break;
                }
            }
        }
        // A scan may name a key twice.
        found.sort_by(|a, b| (&a.sale, a.bucket).cmp(&(&b.sale, b.bucket)));
        found.dedup();
        Ok(found)
    }
}
