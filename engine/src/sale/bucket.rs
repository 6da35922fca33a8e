//! A bucket as its desk sees it: calls that keep the protocol. How it comes back
//! from the ledger stands in `rebuild.rs`.

use std::sync::Arc;

use bytes::Bytes;
use floodgate_ledger::{Ledger, Seq};

use super::guard::{Guard, Line, Units};
use super::tail::{Fact, Stored, Tail};
use crate::domain::ids::{BucketNo, SkuId};
use crate::domain::order::{Order, StockMove, Version};
use crate::domain::sale::Sale;
use crate::domain::time::UnixMs;
use crate::stock::{
    AuditReply, BucketCaller, CallError, HoldRequest, Row, SettleMove, SettleRequest, Settled,
    Side, Silence, TailEntry, Verdict,
};

/// More leave the tail than come, until it is as short as it can be.
const GONE_MAX: usize = 2_048;

/// A durable step of an order, on its way to the stock.
#[derive(Debug)]
pub struct Move {
    pub order: Arc<Order>,
    pub units: Units,
    pub from: Version,
    /// Marks before and after; none where the order was, or is, not live.
    pub was: Option<u64>,
    pub is: Option<u64>,
    pub moved: StockMove,
    pub body: Bytes,
}

/// What the host said and what the ledger's facts say, at one place in the
/// bucket's call order: they must be equal.
#[derive(Debug, Clone)]
pub struct BucketAudit {
    pub bucket: BucketNo,
    pub epoch: u32,
    pub host: AuditReply,
    pub facts: Vec<Line>,
    pub digest: u64,
    pub n_live: u64,
}

impl BucketAudit {
    /// Units that host and ledger facts count differently, per SKU.
    pub fn drift(&self) -> Vec<u64> {
        self.host
            .skus
            .iter()
            .zip(&self.facts)
            .map(|(h, f)| {
                h.allotted.abs_diff(f.allotted)
                    + h.available.abs_diff(f.available())
                    + h.held.abs_diff(f.held)
                    + h.sold.abs_diff(f.sold)
                    + h.withdrawn.abs_diff(f.withdrawn)
            })
            .collect()
    }

    pub fn is_equal(&self) -> bool {
        self.drift().iter().all(|d| *d == 0)
            && self.digest == self.host.digest
            && self.n_live == self.host.n_live
    }
}

pub struct Bucket {
    pub(super) caller: BucketCaller,
    pub(super) ledger: Ledger,
    /// The sale's record, for a host that is the second copy of what was sold.
    pub(super) record: Bytes,
    /// Transfers to this bucket are in the guard up to here. One that is durable and
    /// on its way stands in the ledger before it does.
    pub(super) taken: Seq,
    pub(super) tail: Tail,
    stored: Stored,
}

impl Bucket {
    pub fn new(
        caller: BucketCaller,
        ledger: Ledger,
        record: Bytes,
        tail: Tail,
        stored: Stored,
    ) -> Self {
        let taken = ledger.tip().seq;
        Self {
            caller,
            ledger,
            record,
            taken,
            tail,
            stored,
        }
    }

    pub fn is_second_copy(&self) -> bool {
        self.caller.is_second_copy()
    }

    /// Facts that are durable at `seq` get their second copy, and those that the order
    /// store has by now lose theirs. `false`: the bucket must be rebuilt, which puts
    /// them there as well.
    pub async fn keep(&mut self, facts: Vec<(Fact, Row)>, seq: Seq) -> bool {
        let rows = self.note(facts, seq);
        let gone = self.tail.take(self.stored.get(), GONE_MAX);
        let gone: Vec<String> = gone
            .iter()
            .map(|fact| TailEntry::field(fact.kind.0, &fact.id))
            .collect();
        self.caller.witness(self.ledger.tip().seq.0);
        let answer = self.caller.keep(&rows, &gone).await;
        self.heard(answer).is_some()
    }

    /// Facts that a rebuild puts beside the holds; their rows, for a bucket that is in step.
    pub fn note(&mut self, facts: Vec<(Fact, Row)>, seq: Seq) -> Vec<Row> {
        let mut rows = Vec::with_capacity(facts.len());
        for (fact, row) in facts {
            self.tail.put(fact, seq);
            rows.push(row);
        }
        rows
    }

    /// The guard counts the transfer that was recorded here.
    pub fn take(&mut self, seq: Seq) {
        self.taken = seq;
    }

    pub fn epoch(&self) -> u32 {
        self.caller.epoch()
    }

    pub fn silence(&self) -> Silence {
        self.caller.silence()
    }

    pub fn no(&self) -> BucketNo {
        self.caller.bucket().bucket
    }

    /// `None`: the bucket must be rebuilt before it is asked again. `again`: for orders
    /// that closed before their payment came.
    pub async fn reserve(
        &mut self,
        now: UnixMs,
        again: bool,
        units_max: u32,
        orders: impl Iterator<Item = (&Order, &Bytes)>,
    ) -> Option<Vec<Verdict>> {
        let requests: Vec<HoldRequest<'_>> = orders
            .map(|(order, body)| HoldRequest {
                order,
                blob: self.caller.carried(body),
            })
            .collect();
        self.caller.witness(self.ledger.tip().seq.0);
        let answer = self.caller.reserve(now, again, units_max, &requests).await;
        self.heard(answer)
    }

    /// `false`: the bucket must be rebuilt.
    pub async fn settle(&mut self, moves: &[Move]) -> bool {
        let requests: Vec<SettleRequest<'_>> = moves
            .iter()
            .filter(|m| m.was.is_some())
            .map(|m| SettleRequest {
                order: &m.order,
                from: m.from,
                moved: match m.moved {
                    StockMove::None | StockMove::Rehold => SettleMove::None,
                    StockMove::Pay => SettleMove::Pay,
                    StockMove::Close => SettleMove::Close,
                    StockMove::Restock => SettleMove::Restock,
                    StockMove::Withdraw => SettleMove::Withdraw,
                },
                blob: self.caller.carried(&m.body),
            })
            .collect();
        if requests.is_empty() {
            return true;
        }
        self.caller.witness(self.ledger.tip().seq.0);
        let answer = self.caller.settle(&requests).await;
        self.heard(answer)
            .is_some_and(|all| all.iter().all(|s| *s == Settled::Done))
    }

    /// One side of a transfer. `Some(false)`: the source has fewer units free;
    /// `None`: the bucket must be rebuilt.
    pub async fn shift(&mut self, id: &str, side: Side, sku: &SkuId, units: u32) -> Option<bool> {
        self.caller.witness(self.ledger.tip().seq.0);
        let answer = self.caller.move_units(id, side, sku, units).await;
        self.heard(answer)
    }

    pub async fn audit(&mut self, sale: &Sale, guard: &Guard) -> Option<BucketAudit> {
        let skus: Vec<_> = sale.skus.iter().map(|s| &s.id).collect();
        let answer = self.caller.audit(&skus).await;
        let host = self.heard(answer)?;
        Some(BucketAudit {
            bucket: self.no(),
            epoch: self.epoch(),
            host,
            facts: guard.lines.clone(),
            digest: guard.digest,
            n_live: guard.n_live,
        })
    }

    fn heard<T>(&self, answer: Result<T, CallError>) -> Option<T> {
        answer
            .inspect_err(|error| tracing::warn!(%error, bucket = ?self.caller.bucket(), "a call to the stock failed"))
            .ok()
    }
}
