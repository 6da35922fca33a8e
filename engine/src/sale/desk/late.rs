//! Money for an order that is closed already: fresh units are taken for it as long as the
//! sale runs, units are free and its buyer may have them; else the money goes back.
//!
//! Units that stand in other buckets are fetched, in the line of those who buy.
//!
//! Here the stock is asked first, as for a purchase. Should the engine fall before the
//! ledger has the payment, the hold is adopted as an order that is pending in its old
//! window, and the provider, who was told nothing, says it again.

use std::sync::Arc;

use super::super::answer::Captured;
use super::Desk;
use super::change::{Late, tell, unread};
use super::money::{apply, capture, first};
use crate::domain::order::{Order, OrderEvent, OrderState, StockMove};
use crate::domain::payment::PaymentState;
use crate::domain::time::UnixMs;
use crate::stock::Verdict;

use super::super::facts::{self, FactError};
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

/// Why an order has no fresh units.
enum No {
    /// They may stand in other buckets.
    Elsewhere,
    For(String),
}

impl Desk {
    pub(super) async fn late(&mut self, now: UnixMs, late: Late, turn: Turn) {
        let mut slate = self.slate(now);
        // Others of the same turn are durable by now: the order may have been paid.
        let order = match slate.order(late.order) {
            Ok(Some(order)) => order,
            Ok(None) => return gone(late, None),
            Err(error) => return gone(late, Some(&error)),
        };
        let held = if matches!(order.state, OrderState::Closed { .. })
            && matches!(slate.known(&late.payment), Ok(None))
        {
            self.hold_again(now, &order, turn).await
        } else {
            match capture(&mut slate, late.order, &late.payment, false) {
                Ok(Some(said)) => {
                    let tell = tell(Some(late.reply), said, Captured::Unknown);
                    self.commit(slate, vec![tell]).await;
                }
                Ok(None) => gone(late, None),
                Err(error) => gone(late, Some(&error)),
            }
            return;
        };
        let held = match held {
            Ok(held) => Ok(held),
            Err(No::For(why)) => Err(why),
            Err(No::Elsewhere) => {
                let units = facts::units_of(&self.parts.sale, &order);
                return self.line.push_late(late, units);
            }
        };
        // The epoch may have been raised while units were asked for.
        let mut slate = self.slate(now);
        let said = match &held {
            Ok(held) => apply(&mut slate, held, &late.payment).unwrap_or_else(|error| {
                tracing::error!(%error, order = %late.order, "read what an order grants");
                Captured::Unknown
            }),
            Err(why) => first(&mut slate, &late.payment, PaymentState::RefundDue, why),
        };
        let tell = tell(Some(late.reply), said, Captured::Unknown);
        let durable = self.commit(slate, vec![tell]).await;
        if let (Ok(held), false) = (held, durable) {
            self.let_go(&held).await;
        }
    }

    /// The order with fresh units, or why it has none.
    async fn hold_again(
        &mut self,
        now: UnixMs,
        order: &Order,
        turn: Turn,
    ) -> Result<Arc<Order>, No> {
        let units = facts::units_of(&self.parts.sale, order);
        // Whoever stands there already has what comes.
        if turn == Turn::First && self.line.wants_any(&units) {
            return Err(No::Elsewhere);
        }
        loop {
            // The buyer's receipt shows the window that there was.
            let until = order.pay_deadline;
            let event = OrderEvent::HeldAgain { until };
            let epoch = self.parts.bucket.epoch();
            let Ok(Some((held, moved))) = order.step(event, epoch, now) else {
                return Err(No::For("the order was not closed".to_owned()));
            };
            let body = facts::order_body(&held);
            let units_max = self.parts.sale.units_per_user;
            let asked = std::iter::once((&held, &body));
            let bucket = &mut self.parts.bucket;
            let verdicts = bucket.reserve(now, true, units_max, asked).await;
            let no = match verdicts.as_deref() {
                Some([Verdict::Held]) if self.takes(&held, &units, moved) => {
                    return Ok(Arc::new(held));
                }
                Some([Verdict::NotOpen | Verdict::Ended]) => "the sale is over",
                Some([Verdict::OverLimit]) => "the buyer has as many units as a buyer may have",
                Some([Verdict::NotEnough])
                    if turn != Turn::Over
                        && !self.parts.guard.short(&units).is_empty()
                        && self.may_refill(&units) =>
                {
                    return Err(No::Elsewhere);
                }
                Some([Verdict::NotEnough]) if !self.parts.guard.short(&units).is_empty() => {
                    "no units are left"
                }
                // The bucket changed, or says what the ledger's facts forbid: as in `sell`
                // it is made anew and asked again.
                Some(
                    [
                        Verdict::Held
                        | Verdict::NotEnough
                        | Verdict::UnknownSku
                        | Verdict::Replay
                        | Verdict::KeyReused,
                    ]
                    | []
                    | [_, _, ..],
                )
                | None => {
                    self.rebuild("late").await;
                    continue;
                }
            };
            return Err(No::For(format!(
                "the order was closed before the money came, and {no}"
            )));
        }
    }

    /// Counts fresh units that the stock has set aside, if the ledger's facts allow them.
    fn takes(&mut self, held: &Order, units: &Units, moved: StockMove) -> bool {
        if !self.parts.guard.allows(units) && !allowed_on_purpose()
            || !self.parts.index.take_again(&held.user, held.units())
        {
            return false;
        }
        let is = Some(held.mark());
        if let Err(error) = self.parts.guard.follow(moved, units, None, is) {
            tracing::error!(%error, order = %held.id, "hold fresh units");
        }
        self.publish(units, moved, false);
        true
    }

    /// Units that were taken for a payment which then was not recorded.
    async fn let_go(&mut self, held: &Order) {
        fail::fail_point!("late-not-let-go", |_| ());
        let units = facts::units_of(&self.parts.sale, held);
        let followed = self
            .parts
            .guard
            .follow(StockMove::Close, &units, Some(held.mark()), None);
        if let Err(error) = followed {
            tracing::error!(%error, order = %held.id, "the mirror cannot let units go");
        }
        self.publish(&units, StockMove::Close, false);
        self.parts.index.release(&held.user, held.units());
        self.rebuild("late").await;
    }
}

/// Only the test that proves that the guard is asked here as well.
fn allowed_on_purpose() -> bool {
    fail::fail_point!("late-no-guard", |_| true);
    false
}

fn gone(late: Late, error: Option<&FactError>) {
    match error {
        None => drop(late.reply.send(Captured::Missing)),
        Some(error) => unread(error, late.order, late.reply)(false),
    }
}
