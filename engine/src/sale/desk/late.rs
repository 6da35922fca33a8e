//! Money for an order that is closed already: fresh units are taken for it as long as the
//! sale runs, units are free and its buyer may have them; else the money goes back, or, if
//! a person accepted what was under review, stays there.
//!
//! Units that stand in other buckets are fetched, in the line of those who buy.
//!
//! Here the stock is asked first, as for a purchase. Should the engine fall before the
//! ledger has the payment, the hold is adopted as an order that is pending in its old
//! window, and the provider, who was told nothing, says it again.
//!
//! When a provider comes back after an hour, thousands come at once: one call to the stock
//! and one commit carry many of them, or buyers would wait behind an fsync for each.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::answer::Captured;
use super::super::facts::FactError;
use super::Desk;
use super::change::{Asked, GROUP_RECORDS, Late, LateMoney, Tell, WhereClosed, tell, unread};
use super::money::{accept, apply, ask, came_late, capture, first};
use super::slate::Slate;
use crate::domain::ids::OrderId;
use crate::domain::order::{Order, OrderEvent, OrderState, StockMove};
use crate::domain::payment::{Payment, PaymentState};
use crate::domain::time::UnixMs;
use crate::stock::Verdict;

use super::super::facts;
use super::super::guard::Units;

/// How often a capture was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    First,
    /// It stood in line, and units came.
    Come,
    /// It stood in line, and no bucket can give enough.
    Over,
}

impl LateMoney {
    /// Nobody has decided about it since.
    fn is_open(&self, slate: &Slate) -> bool {
        match self {
            Self::Told(payment) => matches!(slate.known(payment), Ok(None)),
            Self::Accepted { id, .. } => {
                let is_review = |known: &Payment| known.state == PaymentState::Review;
                matches!(slate.payment(id), Ok(Some(known)) if is_review(&known))
            }
        }
    }

    /// What it comes to where it needs no fresh units.
    fn settled(&self, slate: &mut Slate, order: OrderId) -> Result<Captured, FactError> {
        const NOT_NOW: WhereClosed = WhereClosed::NoUnits("it was decided about meanwhile");
        match self {
            Self::Told(payment) => {
                let said = capture(slate, order, payment, NOT_NOW)?;
                Ok(said.unwrap_or(Captured::Missing))
            }
            Self::Accepted { id, note } => {
                let (note, closed) = (note.clone(), NOT_NOW);
                let said = ask(slate, id, &Asked::Accept { note, closed })?;
                Ok(said.unwrap_or(Captured::Missing))
            }
        }
    }

    /// The order, which has fresh units, takes it.
    fn take(&self, slate: &mut Slate, held: &Arc<Order>) -> Result<Captured, FactError> {
        match self {
            Self::Told(payment) => apply(slate, held, payment),
            Self::Accepted { id, note } => match slate.payment(id) {
                Ok(Some(payment)) => accept(slate, held, payment, note),
                missing => {
                    // Units that nobody pays for are let go.
                    slate.spoil();
                    missing.map(|_| Captured::Missing)
                }
            },
        }
    }

    /// There are no units for it.
    fn goes_without(&self, slate: &mut Slate, why: &str) -> Result<Captured, FactError> {
        match self {
            Self::Told(payment) => {
                let why = came_late(why);
                Ok(first(slate, payment, PaymentState::RefundDue, &why))
            }
            Self::Accepted { id, .. } => Ok(match slate.payment(id)? {
                Some(payment) => Captured::Illegal(payment),
                None => Captured::Missing,
            }),
        }
    }
}

/// Money whose order is closed, and about which nobody has decided yet.
struct Renewal {
    late: Late,
    turn: Turn,
    order: Arc<Order>,
    units: Units,
}

impl Renewal {
    /// What it adds to a commit at most: payment, order twice, and what each item grants.
    fn n_records(&self) -> usize {
        3 + self.units.len()
    }
}

/// What the stock said, and the mirror to it.
enum Said {
    Held(Arc<Order>),
    /// There are none for it, for this reason.
    No(&'static str),
    /// They may stand in other buckets.
    Elsewhere,
    /// The bucket says what the ledger's facts forbid.
    Disputed,
}

impl Desk {
    /// In the order in which they came.
    pub(super) async fn late(&mut self, now: UnixMs, mut lates: VecDeque<(Late, Turn)>) {
        if !lates.is_empty() && !late_on_purpose() {
            // Others of the same turn: an order that is late may have been paid by them, or
            // its money decided about.
            self.land_all().await;
        }
        while !lates.is_empty() {
            let mut slate = self.slate(now);
            let mut tells = Vec::new();
            let asked = self.next_group(&mut lates, &mut slate, &mut tells);
            if !tells.is_empty() {
                self.commit(slate, tells).await;
            }
            self.ask_again(now, asked).await;
        }
    }

    /// Takes those that one call and one commit can carry. Others of the same turn are
    /// durable by now, so an order may have been paid: that is decided here.
    fn next_group(
        &mut self,
        lates: &mut VecDeque<(Late, Turn)>,
        slate: &mut Slate,
        tells: &mut Vec<Tell>,
    ) -> Vec<Renewal> {
        let mut asked: Vec<Renewal> = Vec::new();
        let mut n_records = 0;
        while let Some((late, turn)) = lates.pop_front() {
            let is_same =
                |a: &Renewal| a.late.order == late.order || a.late.money.id() == late.money.id();
            // The money of a closed order decides what its next money is.
            if n_records + slate.drafts.len() >= GROUP_RECORDS || asked.iter().any(is_same) {
                lates.push_front((late, turn));
                break;
            }
            let order = match slate.order(late.order) {
                Ok(Some(order)) => order,
                Ok(None) => {
                    tells.push(tell(Some(late.reply), Captured::Missing, Captured::Missing));
                    continue;
                }
                Err(error) => {
                    tells.push(unread(&error, late.order, late.reply));
                    continue;
                }
            };
            if !matches!(order.state, OrderState::Closed { .. }) || !late.money.is_open(slate) {
                match late.money.settled(slate, late.order) {
                    Ok(said) => tells.push(tell(Some(late.reply), said, Captured::Unknown)),
                    Err(error) => tells.push(unread(&error, late.order, late.reply)),
                }
                continue;
            }
            let units = facts::units_of(&self.parts.sale, &order);
            // Whoever stands there already has what comes.
            if turn == Turn::First && self.line.wants_any(&units) {
                self.line.push_late(late, units);
                continue;
            }
            let one = Renewal {
                late,
                turn,
                order,
                units,
            };
            n_records += one.n_records();
            asked.push(one);
        }
        asked
    }

    /// Fresh units for as many as may have them, and money back for the others.
    async fn ask_again(&mut self, now: UnixMs, mut asked: Vec<Renewal>) {
        while !asked.is_empty() {
            let held = self.stepped(now, &asked);
            let bodies: Vec<_> = held.iter().map(facts::order_body).collect();
            let units_max = self.parts.sale.units_per_user;
            let requests = held.iter().zip(&bodies);
            let bucket = &mut self.parts.bucket;
            let Some(verdicts) = bucket.reserve(now, true, units_max, requests).await else {
                self.rebuild("late").await;
                continue;
            };
            let mut slate = self.slate(now);
            let (mut tells, mut taken, mut disputed) = (Vec::new(), Vec::new(), Vec::new());
            for ((one, held), verdict) in asked.into_iter().zip(held).zip(verdicts) {
                let Renewal { late, units, .. } = &one;
                let said = match self.said(&one, held, verdict) {
                    Said::Disputed => {
                        disputed.push(one);
                        continue;
                    }
                    Said::Elsewhere => {
                        let units = units.clone();
                        self.line.push_late(one.late, units);
                        continue;
                    }
                    Said::Held(held) => {
                        let said = late.money.take(&mut slate, &held);
                        taken.push((held, units.clone()));
                        said.unwrap_or_else(|error| {
                            tracing::error!(%error, order = %late.order, "read what an order grants");
                            Captured::Unknown
                        })
                    }
                    Said::No(why) => {
                        late.money
                            .goes_without(&mut slate, why)
                            .unwrap_or_else(|error| {
                                tracing::error!(%error, order = %late.order, "read a payment");
                                Captured::Unknown
                            })
                    }
                };
                tells.push(tell(Some(one.late.reply), said, Captured::Unknown));
            }
            if !tells.is_empty() && !self.commit(slate, tells).await && !taken.is_empty() {
                self.let_go(&taken).await;
            }
            asked = disputed;
            if !asked.is_empty() {
                // As in `sell` it is made anew and asked again.
                self.rebuild("late").await;
            }
        }
    }

    /// The orders as they will be if units are free. The buyer's receipt shows the window
    /// that there was.
    fn stepped(&self, now: UnixMs, asked: &[Renewal]) -> Vec<Order> {
        let epoch = self.parts.bucket.epoch();
        let stepped = |one: &Renewal| {
            let until = one.order.pay_deadline;
            let event = OrderEvent::HeldAgain { until };
            let stepped = one.order.step(event, epoch, now);
            let (held, _) = stepped.ok().flatten().expect("a closed order can be held");
            held
        };
        asked.iter().map(stepped).collect()
    }

    fn said(&mut self, one: &Renewal, held: Order, verdict: Verdict) -> Said {
        let is_short = !self.parts.guard.short(&one.units).is_empty();
        match verdict {
            Verdict::Held if self.takes(&held, &one.units) => Said::Held(Arc::new(held)),
            Verdict::NotOpen | Verdict::Ended => Said::No("the sale is over"),
            Verdict::OverLimit => Said::No("the buyer has as many units as a buyer may have"),
            Verdict::NotEnough
                if is_short && one.turn != Turn::Over && self.may_refill(&one.units) =>
            {
                Said::Elsewhere
            }
            Verdict::NotEnough if is_short => Said::No("no units are left"),
            Verdict::Held
            | Verdict::NotEnough
            | Verdict::UnknownSku
            | Verdict::Replay
            | Verdict::KeyReused => Said::Disputed,
        }
    }

    /// Counts fresh units that the stock has set aside, if the ledger's facts allow them.
    fn takes(&mut self, held: &Order, units: &Units) -> bool {
        if !self.parts.guard.allows(units) && !allowed_on_purpose()
            || !self.parts.index.take_again(&held.user, held.units())
        {
            return false;
        }
        let (moved, is) = (StockMove::Rehold, Some(held.mark()));
        if let Err(error) = self.parts.guard.follow(moved, units, None, is) {
            tracing::error!(%error, order = %held.id, "hold fresh units");
        }
        self.publish(units, moved, false);
        true
    }

    /// Units that were taken for payments which then were not recorded.
    async fn let_go(&mut self, taken: &[(Arc<Order>, Units)]) {
        fail::fail_point!("late-not-let-go", |_| ());
        for (held, units) in taken {
            let guard = &mut self.parts.guard;
            let followed = guard.follow(StockMove::Close, units, Some(held.mark()), None);
            if let Err(error) = followed {
                tracing::error!(%error, order = %held.id, "the mirror cannot let units go");
            }
            self.publish(units, StockMove::Close, false);
            self.parts.index.release(&held.user, held.units());
        }
        self.rebuild("late").await;
    }
}

/// Only the test that proves that units are held again after all have landed.
fn late_on_purpose() -> bool {
    fail::fail_point!("late-before-landing", |_| true);
    false
}

/// Only the test that proves that the guard is asked here as well.
fn allowed_on_purpose() -> bool {
    fail::fail_point!("late-no-guard", |_| true);
    false
}
