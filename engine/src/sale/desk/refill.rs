//! The line of those whose units stand in other buckets (buyers, and money that came late),
//! and the desk's side of a transfer as its source or its target.
//!
//! Units that are credited belong to the first of the line: whoever wants the
//! same SKUs stands behind. A bucket with a line gives all the same: journeys are one at a
//! time, and the one for its own first is still to come (decision 0029).

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;

use floodgate_ledger::{Group, Seq};
use tokio::sync::oneshot;

use super::super::answer::Refusal;
use super::super::facts;
use super::super::guard::Units;
use super::super::refill::{Fetched, Wanted};
use super::change::Late;
use super::late::Turn;
use super::{BATCH_MAX, Buyer, Desk};
use crate::domain::allotment::Transfer;
use crate::domain::ids::{BucketNo, OrderId};
use crate::domain::time::UnixMs;
use crate::stock::Side;

/// Asks a bucket for free units of one SKU.
#[derive(Debug)]
pub struct Give {
    pub id: String,
    pub to: BucketNo,
    pub sku: usize,
    pub wanted: u32,
    /// What left the bucket, durably; none, if nothing did.
    pub reply: oneshot::Sender<Option<Given>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Given {
    pub units: u32,
    /// The record that moved the allotment.
    pub seq: Seq,
}

/// Captures that may stand in a line; a provider tells of more once more. Of buyers no
/// more come than the gate lets through.
const LATE_MAX: usize = 1_024;

enum Waiting {
    Buyer(Box<Buyer>),
    Late { late: Late, units: Units },
}

impl Waiting {
    fn order(&self) -> OrderId {
        match self {
            Self::Buyer(buyer) => buyer.order.id,
            Self::Late { late, .. } => late.order,
        }
    }

    fn units(&self) -> &Units {
        match self {
            Self::Buyer(buyer) => &buyer.ask.units,
            Self::Late { units, .. } => units,
        }
    }
}

#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    n_late: usize,
    /// For whom the refiller is on its way.
    asked_for: Option<OrderId>,
}

impl Line {
    pub(super) fn wants(&self, sku: usize) -> bool {
        self.waiting
            .iter()
            .any(|w| w.units().iter().any(|(wanted, _)| *wanted == sku))
    }

    pub(super) fn wants_any(&self, units: &Units) -> bool {
        !self.waiting.is_empty() && units.iter().any(|(sku, _)| self.wants(*sku))
    }

    pub(super) fn push(&mut self, buyer: Buyer) {
        self.waiting.push_back(Waiting::Buyer(Box::new(buyer)));
    }

    /// One too many drops, and is told again by whoever took the money.
    pub(super) fn push_late(&mut self, late: Late, units: Units) {
        if self.n_late < LATE_MAX {
            self.n_late += 1;
            self.waiting.push_back(Waiting::Late { late, units });
        }
    }

    /// All money that waits for these orders.
    fn take_late(&mut self, orders: &HashSet<OrderId>) -> Vec<Late> {
        if self.n_late == 0 || orders.is_empty() {
            return Vec::new();
        }
        let (ours, others) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w| matches!(w, Waiting::Late { late, .. } if orders.contains(&late.order)));
        self.waiting = others;
        let ours: VecDeque<Waiting> = ours;
        self.n_late -= ours.len();
        let late = |waiting| match waiting {
            Waiting::Late { late, .. } => Some(late),
            Waiting::Buyer(_) => None,
        };
        ours.into_iter().filter_map(late).collect()
    }

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.n_late -= usize::from(matches!(first, Waiting::Late { .. }));
        Some(first)
    }
}

impl Desk {
    /// Whether the units may stand in other buckets.
    pub(super) fn may_refill(&self, units: &Units) -> bool {
        self.parts.refill.is_some()
            && units.iter().all(|(sku, n)| {
                self.parts.stock[*sku].available.load(Ordering::Relaxed) >= i64::from(*n)
            })
    }

    /// Whoever waited for units that came: from a refill, or back from other orders.
    pub(super) async fn serve_line(&mut self, now: UnixMs, refilled: Option<Fetched>) {
        let (mut buyers, mut lates) = (Vec::new(), VecDeque::new());
        for ready in self.ready() {
            match ready {
                Waiting::Buyer(buyer) => {
                    self.come(now, &mut lates).await;
                    buyers.push(*buyer);
                    // One journey may bring units for more than a call or a commit carries.
                    if buyers.len() >= BATCH_MAX {
                        self.sell(now, std::mem::take(&mut buyers)).await;
                    }
                }
                Waiting::Late { late, .. } => {
                    // In the order in which they came.
                    if !buyers.is_empty() {
                        self.sell(now, std::mem::take(&mut buyers)).await;
                    }
                    lates.push_back((late, Turn::Come));
                }
            }
        }
        self.come(now, &mut lates).await;
        if !buyers.is_empty() {
            self.sell(now, buyers).await;
        }
        if let Some(fetched) = refilled {
            match fetched {
                Fetched::All => {}
                Fetched::TooFew => match self.give_up() {
                    Some(Waiting::Buyer(first)) => self.refuse(*first, Refusal::NotEnough),
                    Some(Waiting::Late { late, .. }) => {
                        self.late(now, VecDeque::from([(late, Turn::Over)])).await;
                    }
                    None => {}
                },
                // Nobody knows that there are none: the claim drops, and the buyer hears
                // "not ready" and comes again.
                Fetched::Silent => drop(self.give_up()),
            }
            self.refill_came();
        }
        self.send_refiller();
    }

    /// Money for which units came.
    async fn come(&mut self, now: UnixMs, lates: &mut VecDeque<(Late, Turn)>) {
        let lates = std::mem::take(lates);
        let orders: HashSet<OrderId> = lates.iter().map(|(late, _)| late.order).collect();
        self.late(now, lates).await;
        // Told again, or paid twice: needs no units any more, and would go on asking for
        // them.
        let again = self.line.take_late(&orders).into_iter();
        let again = again.map(|late| (late, Turn::First)).collect();
        self.late(now, again).await;
    }

    /// Takes from the line whom the bucket can serve now, first come first served.
    fn ready(&mut self) -> Vec<Waiting> {
        let mut ready = Vec::new();
        if self.line.waiting.is_empty() {
            return ready;
        }
        let mut guard = self.parts.guard.clone();
        while let Some(first) = self.line.waiting.front()
            && guard.short(first.units()).is_empty()
        {
            guard.hold(first.units(), 0);
            ready.extend(self.line.pop());
        }
        ready
    }

    /// The refiller came back without enough: the first of the line hears no.
    fn give_up(&mut self) -> Option<Waiting> {
        let asked_for = self.line.asked_for?;
        let first = self.line.waiting.front()?;
        if first.order() == asked_for && !self.parts.guard.short(first.units()).is_empty() {
            return self.line.pop();
        }
        None
    }

    fn refill_came(&mut self) {
        self.line.asked_for = None;
    }

    /// Sends the refiller for the first of the line, if it is not on its way.
    fn send_refiller(&mut self) {
        let (Some(refill), Some(first), None) = (
            &self.parts.refill,
            self.line.waiting.front(),
            self.line.asked_for,
        ) else {
            return;
        };
        let wanted = Wanted {
            bucket: self.parts.bucket.no(),
        };
        // It has a place for each desk, and a desk asks once at a time.
        if refill.try_send(wanted).is_ok() {
            self.line.asked_for = Some(first.order());
        }
    }

    /// A journey for the first of the line begins.
    pub(super) fn lacks(&mut self) -> Units {
        let Some(first) = self.line.waiting.front() else {
            return Units::default();
        };
        self.line.asked_for = Some(first.order());
        self.parts.guard.short(first.units())
    }

    /// As the source: out of the bucket, then into the ledger, which moves the
    /// allotment; only then may the target have them.
    pub(super) async fn give(&mut self, now: UnixMs, give: Give) {
        let given = self.try_give(now, &give).await;
        // The refiller is gone only when the sale is.
        let _ = give.reply.send(given);
    }

    async fn try_give(&mut self, now: UnixMs, give: &Give) -> Option<Given> {
        let free = self.parts.guard.lines[give.sku].available();
        // Half of what is here, if more is wanted often: fewer journeys.
        let units = u64::from(give.wanted).max(free / 2).min(free);
        let Ok(units @ 1..) = u32::try_from(units) else {
            return None;
        };
        let sku = self.parts.sale.skus[give.sku].id.clone();
        while self
            .parts
            .bucket
            .shift(&give.id, Side::Debit, &sku, units)
            .await
            != Some(true)
        {
            // The host has less than the ledger's facts say, or it changed.
            self.rebuild("transfer").await;
        }
        fail::fail_point!("transfer-debited", |_| std::process::abort());
        self.parts.guard.lines[give.sku].allotted -= u64::from(units);
        self.show_free(give.sku);
        let transfer = Transfer {
            from: self.parts.bucket.no(),
            to: give.to,
            lines: vec![(sku, units)],
        };
        let draft = facts::transfer_draft(&self.parts.sale.id, &give.id, &transfer, now);
        let group = Group {
            drafts: vec![draft],
            meta: Vec::new(),
        };
        let committed = match self.parts.ledger.append(group).await {
            Ok(receipt) => receipt.await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let seq = match committed {
            Ok(committed) => committed.last,
            Err(error) => {
                // The ledger is shut; whether the units moved, the next start knows.
                tracing::error!(error, transfer = give.id, "commit a transfer");
                return None;
            }
        };
        fail::fail_point!("transfer-recorded", |_| std::process::abort());
        Some(Given { units, seq })
    }

    /// As the target: the ledger has moved them already, so they are this bucket's
    /// whatever the host says; a rebuild brings them too.
    pub(super) async fn take(&mut self, id: &str, sku: usize, given: Given) {
        let Given { units, seq } = given;
        self.parts.bucket.take(seq);
        self.parts.guard.lines[sku].allotted += u64::from(units);
        let name = self.parts.sale.skus[sku].id.clone();
        if self
            .parts
            .bucket
            .shift(id, Side::Credit, &name, units)
            .await
            != Some(true)
        {
            self.rebuild("transfer").await;
        }
        self.show_free(sku);
    }
}
