//! Changes on their way to the disk. The desk goes on meanwhile: buyers do not wait for
//! the disk of others' changes, and one fsync carries what several turns decided.
//!
//! Nobody decides about an order or a payment that is under way: such a wish is put off
//! until its flight has landed, so that every decision still is from ledger facts alone.
//! Flights land in the order they left.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use floodgate_ledger::{CommitError, Committed, Draft, Group, Receipt};

use super::super::bucket::Move;
use super::super::tail::Fact;
use super::Desk;
use super::change::{Act, Tell, Wish};
use super::slate::Slate;
use crate::domain::ids::{OrderId, PaymentId};
use crate::stock::Row;

/// A paid order that was not granted at once is looked at again after this.
const GRANTED_WITHIN: Duration = Duration::from_secs(2);

/// A change that did not become durable is tried again after this, if time asks for it.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// More would only make those who wait for the disk wait longer.
const FLIGHTS_MAX: usize = 4;

/// With more wishes put off the desk waits for the disk, and whoever has another waits in
/// the desk's channel, which has a bound of its own.
const PUT_OFF_MAX: usize = 512;

/// What the ledger was handed, and what follows once it is durable.
pub(super) struct Flight {
    receipt: Receipt,
    rest: Rest,
}

struct Rest {
    slate: Slate,
    /// What no hold carries, where the stock is the second copy.
    kept: Vec<(Fact, Row)>,
    tells: Vec<Tell>,
}

#[derive(Default)]
pub(super) struct Flights {
    under_way: VecDeque<Flight>,
    orders: HashSet<OrderId>,
    payments: HashSet<PaymentId>,
    /// Wishes about what is under way.
    pub put_off: Vec<Wish>,
}

impl Flights {
    pub fn is_full(&self) -> bool {
        self.under_way.len() >= FLIGHTS_MAX
    }

    /// Some of what time brings is under way.
    pub fn is_closing(&self) -> bool {
        self.under_way.iter().any(|f| f.rest.slate.is_timed)
    }

    /// Wishes were put off for flights that have landed since.
    pub fn is_owing(&self) -> bool {
        self.under_way.is_empty() && !self.put_off.is_empty()
    }

    pub fn is_crowded(&self) -> bool {
        self.put_off.len() > PUT_OFF_MAX
    }

    pub fn concern(&self, wish: &Wish) -> bool {
        fail::fail_point!("flight-concerns-nobody", |_| false);
        let payment = match &wish.act {
            Act::Capture { payment, .. } => Some(&payment.id),
            Act::Payment { id, .. } => Some(id),
            Act::Step { .. } | Act::License { .. } => None,
        };
        self.orders.contains(&wish.order) || payment.is_some_and(|id| self.payments.contains(id))
    }

    fn leave(&mut self, flight: Flight) {
        let slate = &flight.rest.slate;
        self.orders.extend(&slate.touched);
        self.payments.extend(slate.payments().cloned());
        self.under_way.push_back(flight);
    }

    /// Pends while nothing is under way. Dropped halfway, it has taken nothing.
    pub async fn first_receipt(&mut self) -> Landed {
        match self.under_way.front_mut() {
            Some(flight) => Landed((&mut flight.receipt).await),
            None => std::future::pending().await,
        }
    }

    fn first(&mut self) -> Option<Rest> {
        let Flight { rest, .. } = self.under_way.pop_front()?;
        for order in &rest.slate.touched {
            self.orders.remove(order);
        }
        for payment in rest.slate.payments() {
            self.payments.remove(payment);
        }
        Some(rest)
    }
}

/// What became of the first flight. It must be given to [`Desk::land`].
#[must_use]
pub(super) struct Landed(Result<Committed, CommitError>);

impl Desk {
    /// Hands to the ledger what was decided. Whoever asked hears of it when it is durable,
    /// the stock has it, and the order's second copy stands.
    pub(super) async fn send_off(&mut self, mut slate: Slate, tells: Vec<Tell>) {
        for order in std::mem::take(&mut slate.ungranted) {
            let soon = slate.now.plus(GRANTED_WITHIN);
            self.windows.push(Reverse((soon, order)));
        }
        let drafts = std::mem::take(&mut slate.drafts);
        let kept = if self.parts.bucket.is_second_copy() {
            beside_holds(&drafts)
        } else {
            Vec::new()
        };
        let rest = Rest { slate, kept, tells };
        if rest.slate.is_spoiled {
            self.call_off(rest);
            return;
        }
        if drafts.is_empty() {
            self.arrive(rest);
            return;
        }
        if self.flights.is_full() {
            self.land_first().await;
        }
        fail::fail_point!("change-decided", |_| std::process::abort());
        let group = Group {
            drafts,
            meta: Vec::new(),
        };
        match self.parts.ledger.append(group).await {
            Ok(receipt) => self.flights.leave(Flight { receipt, rest }),
            Err(error) => {
                tracing::error!(%error, "hand changes of orders to the ledger");
                self.call_off(rest);
            }
        }
    }

    /// Everything that is under way, and `slate` with it. `false`: nothing of the slate
    /// happened.
    pub(super) async fn commit(&mut self, slate: Slate, tells: Vec<Tell>) -> bool {
        // What is told below is then told of this one and of no other.
        self.land_all().await;
        let is_nothing = slate.drafts.is_empty();
        let is_spoiled = slate.is_spoiled;
        self.send_off(slate, tells).await;
        let durable = self.land_all().await;
        !is_spoiled && (is_nothing || durable)
    }

    /// Whether the last of them is durable; `false` too if none was under way.
    pub(super) async fn land_all(&mut self) -> bool {
        let mut durable = false;
        while !self.flights.under_way.is_empty() {
            durable = self.land_first().await;
        }
        durable
    }

    async fn land_first(&mut self) -> bool {
        let landed = self.flights.first_receipt().await;
        self.land(landed).await
    }

    /// The stock hears of the first flight, then whoever asked. `false`: it is not durable.
    pub(super) async fn land(&mut self, Landed(committed): Landed) -> bool {
        let Some(mut rest) = self.flights.first() else {
            return false;
        };
        let committed = match self.durable(&rest, committed) {
            Some(committed) => committed,
            None => {
                self.call_off(rest);
                return false;
            }
        };
        // Before a hold goes, and its order with it.
        let kept = std::mem::take(&mut rest.kept);
        let in_step = kept.is_empty() || self.parts.bucket.keep(kept, committed.last).await;
        let moves = std::mem::take(&mut rest.slate.moves);
        if !moves.is_empty() || !in_step {
            fail::fail_point!("change-kept", |_| std::process::abort());
            // A bucket that is not in step is not told: it is made anew.
            let in_step = in_step && self.parts.bucket.settle(&moves).await;
            self.count(&moves);
            if !in_step {
                self.rebuild("settle").await;
            }
            fail::fail_point!("change-settled", |_| std::process::abort());
        }
        self.arrive(rest);
        true
    }

    fn durable(&self, rest: &Rest, committed: Result<Committed, CommitError>) -> Option<Committed> {
        let committed = committed
            .inspect_err(|error| tracing::error!(%error, "commit changes of orders"))
            .ok()?;
        fail::fail_point!("change-durable", |_| std::process::abort());
        // At once, and by the clock as it is now: tokens for these are about.
        for entitlement in &rest.slate.revoked {
            self.parts.revoked.add(entitlement, self.parts.clock.now());
        }
        Some(committed)
    }

    /// Guard and counters follow what is durable; a bucket is made anew from them.
    fn count(&mut self, moves: &[Move]) {
        for m in moves {
            if let Err(error) = self.parts.guard.follow(m.moved, &m.units, m.was, m.is) {
                tracing::error!(%error, order = %m.order.id, "the mirror cannot follow a durable change");
                continue;
            }
            self.publish(&m.units, m.moved, false);
            if m.was.is_some() && m.is.is_none() {
                self.parts.index.release(&m.order.user, m.order.units());
            }
        }
    }

    /// Brings the bucket back from the ledger under the next epoch. Only this
    /// bucket waits; what was handed to the ledger is awaited first, so that the
    /// ledger has all there is to know, and the guard has counted it.
    pub(super) async fn rebuild(&mut self, cause: &'static str) {
        self.teller.settle().await;
        let mut arriving = Vec::new();
        while !self.flights.under_way.is_empty() && !rebuilt_on_purpose() {
            let Landed(committed) = self.flights.first_receipt().await;
            let Some(mut rest) = self.flights.first() else {
                break;
            };
            let Some(committed) = self.durable(&rest, committed) else {
                self.call_off(rest);
                continue;
            };
            let kept = std::mem::take(&mut rest.kept);
            self.parts.bucket.note(kept, committed.last);
            let moves = std::mem::take(&mut rest.slate.moves);
            self.count(&moves);
            arriving.push(rest);
        }
        self.parts
            .metrics
            .rebuilds
            .with_label_values(&[cause])
            .inc();
        tracing::warn!(sale = %self.parts.sale.id, cause, "rebuild a bucket from the ledger");
        self.parts
            .bucket
            .rebuild(&self.parts.sale, &self.parts.guard)
            .await;
        for rest in arriving {
            self.arrive(rest);
        }
    }

    fn arrive(&self, Rest { slate, tells, .. }: Rest) {
        for payment in slate.owed {
            self.parts.owed.tell(Arc::unwrap_or_clone(payment));
        }
        for (result, n) in [
            ("granted", slate.n_granted),
            ("repaired", slate.n_repaired),
            ("revoked", slate.revoked.len() as u64),
        ] {
            let grants = &self.parts.metrics.grants;
            grants.with_label_values(&[result]).inc_by(n);
        }
        for tell in tells {
            tell(true);
        }
    }

    fn call_off(&mut self, Rest { slate, tells, .. }: Rest) {
        // Their windows were taken off the list for this.
        let soon = slate.now.plus(AGAIN_AFTER);
        let orders = slate.moves.iter().map(|m| Reverse((soon, m.order.id)));
        self.windows.extend(orders);
        for tell in tells {
            tell(false);
        }
    }
}

/// Only the test that proves that a bucket is made anew after all have landed.
fn rebuilt_on_purpose() -> bool {
    fail::fail_point!("rebuild-before-landing", |_| true);
    false
}

/// What no hold carries.
fn beside_holds(drafts: &[Draft]) -> Vec<(Fact, Row)> {
    let beside = drafts.iter().filter_map(|draft| {
        let fact = Fact::of(draft.kind, &draft.id, draft.live)?;
        let row = Row::tail(draft.kind.0, &fact.id, draft.version, &draft.body);
        Some((fact, row))
    });
    beside.collect()
}
