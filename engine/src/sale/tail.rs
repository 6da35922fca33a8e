//! What stands in a bucket's tail: facts that the ledger has, no hold carries, and the
//! order store may not have yet. Until it does, the tail is their second copy.
//!
//! Which fact went in with which record, and which the store has by now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use floodgate_ledger::{Kind, Ledger, ReadError, Record, Seq};

use super::facts::{self, FactError};
use crate::domain::codec;
use crate::domain::ids::{BucketNo, OrderId, SaleId};

/// How far the order store has this ledger durably; whoever carries it there says so.
#[derive(Debug, Clone, Default)]
pub struct Stored(Arc<AtomicU64>);

impl Stored {
    pub fn set(&self, through: Seq) {
        self.0.store(through.0, Ordering::Release);
    }

    pub fn get(&self) -> Seq {
        Seq(self.0.load(Ordering::Acquire))
    }
}

/// An entity of the ledger, by its kind and id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    pub kind: Kind,
    pub id: String,
}

impl Fact {
    /// `None`: of this kind nothing stands in a tail, or a hold carries it.
    pub fn of(kind: Kind, id: &[u8], live: bool) -> Option<Self> {
        let text = || std::str::from_utf8(id).ok().map(ToOwned::to_owned);
        let id = match kind {
            facts::ORDER if !live => OrderId::from_bytes(id)?.to_string(),
            facts::PAYMENT | facts::ENTITLEMENT => text()?,
            _ => return None,
        };
        Some(Self { kind, id })
    }

    /// The entity's id in the ledger.
    pub fn entity_id(&self) -> Option<Vec<u8>> {
        if self.kind == facts::ORDER {
            OrderId::parse(&self.id).map(|id| id.as_bytes().to_vec())
        } else {
            Some(self.id.as_bytes().to_vec())
        }
    }
}

#[derive(Debug, Default)]
pub struct Tail {
    newest: HashMap<Fact, Seq>,
    oldest_first: VecDeque<(Seq, Fact)>,
}

impl Tail {
    pub fn put(&mut self, fact: Fact, seq: Seq) {
        self.newest.insert(fact.clone(), seq);
        self.oldest_first.push_back((seq, fact));
    }

    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.newest.keys()
    }

    /// Facts that need no second copy here any more, at most so many.
    pub fn take(&mut self, stored: Seq, max: usize) -> Vec<Fact> {
        let mut gone = Vec::new();
        while gone.len() < max
            && let Some((seq, _)) = self.oldest_first.front()
            && *seq <= stored
        {
            let Some((seq, fact)) = self.oldest_first.pop_front() else {
                break;
            };
            // A newer version of it may still be on its way.
            if self.newest.get(&fact) == Some(&seq) {
                self.newest.remove(&fact);
                gone.push(fact);
            }
        }
        gone
    }
}

/// Records that a start reads at a time.
const PAGE: usize = 4_096;
const PAGE_BYTES: usize = 4 << 20;

/// The tails of all buckets, as a start finds them in the ledger.
#[derive(Debug, Default)]
pub struct Tails(HashMap<(Bytes, BucketNo), Tail>);

impl Tails {
    /// From the records that the order store does not have yet.
    pub fn read(ledger: &Ledger, stored: Seq) -> Result<Self, FactError> {
        let mut tails = Self::default();
        let mut from = stored.next();
        loop {
            let records = match ledger.tail(from, PAGE, PAGE_BYTES) {
                Ok(records) => records,
                // The store was put back to before the oldest record: it is refilled from
                // snapshots, and until then it is the one that is lost.
                Err(ReadError::Trimmed { .. }) => return Ok(tails),
                Err(error) => return Err(error.into()),
            };
            let Some(last) = records.last() else {
                return Ok(tails);
            };
            from = last.seq.next();
            for record in records {
                let Some(fact) = Fact::of(record.kind, &record.id, record.live) else {
                    continue;
                };
                if let Some(order) = order_of(&record)? {
                    let place = (record.group.clone(), order.bucket());
                    tails.0.entry(place).or_default().put(fact, record.seq);
                }
            }
        }
    }

    pub fn of(&mut self, sale: &SaleId, bucket: BucketNo) -> Tail {
        let place = (Bytes::copy_from_slice(sale.as_bytes()), bucket);
        self.0.remove(&place).unwrap_or_default()
    }
}

/// The order that a fact belongs to, and with it its bucket.
fn order_of(record: &Record) -> Result<Option<OrderId>, FactError> {
    let body = |source| FactError::Body {
        seq: record.seq.0,
        source,
    };
    Ok(match record.kind {
        facts::ORDER => OrderId::from_bytes(&record.id),
        facts::PAYMENT => codec::decode_payment(&record.body).map_err(body)?.order,
        facts::ENTITLEMENT => Some(codec::decode_entitlement(&record.body).map_err(body)?.order),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(id: &str) -> Fact {
        Fact::of(facts::PAYMENT, id.as_bytes(), true).expect("payments stand in the tail")
    }

    #[test]
    fn a_fact_stands_until_the_store_has_its_newest_version() {
        let mut tail = Tail::default();
        tail.put(fact("a"), Seq(3));
        tail.put(fact("b"), Seq(4));
        tail.put(fact("a"), Seq(6));
        assert_eq!(tail.take(Seq(2), 9), []);
        assert_eq!(tail.take(Seq(5), 9), [fact("b")]);
        assert_eq!(tail.facts().collect::<Vec<_>>(), [&fact("a")]);
        assert_eq!(tail.take(Seq(6), 0), []);
        assert_eq!(tail.take(Seq(6), 1), [fact("a")]);
        assert_eq!(tail.facts().count(), 0);
    }

    #[test]
    fn orders_stand_there_once_they_are_closed() {
        let id = OrderId::from_bytes(&[0x81; 16]);
        let text = id.map(|id| id.to_string());
        let closed = Fact::of(facts::ORDER, &[0x81; 16], false);
        assert_eq!(closed.as_ref().map(|f| f.id.clone()), text);
        if let Some(closed) = closed {
            assert_eq!(closed.entity_id(), Some(vec![0x81; 16]));
        }
        assert_eq!(Fact::of(facts::ORDER, &[0x81; 16], true), None);
        assert_eq!(Fact::of(facts::SALE, b"tea", false), None);
    }
}
