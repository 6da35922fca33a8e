//! Money for an order that is closed already: fresh units are taken for it as long as the
//! sale runs, units are free and its buyer may have them; else the money goes back.
//!
//! Here the stock is asked first, as for a purchase. Should the engine fall before the
//! ledger has the payment, the hold is adopted as an order whose window has ended, and
//! the provider, who was told nothing, says it again.

use super::super::answer::Captured;
use super::Desk;
use super::change::{Late, apply, capture, first, tell, unread};
use crate::domain::order::{Order, OrderEvent, OrderState, StockMove};
use crate::domain::payment::PaymentState;
use crate::domain::time::UnixMs;
use crate::stock::Verdict;

use super::super::facts::{self, FactError};

impl Desk {
    pub(super) async fn late(&mut self, now: UnixMs, late: Late) {
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
            self.hold_again(now, &order).await
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
    async fn hold_again(&mut self, now: UnixMs, order: &Order) -> Result<Order, String> {
        let units = facts::units_of(&self.parts.sale, order);
        loop {
            let event = OrderEvent::HeldAgain { now };
            let epoch = self.parts.bucket.epoch();
            let Ok(Some((held, moved))) = order.step(event, epoch, now) else {
                return Err("the order was not closed".to_owned());
            };
            let body = facts::order_body(&held);
            let units_max = self.parts.sale.units_per_user;
            let bucket = &mut self.parts.bucket;
            let asked = std::iter::once((&held, &body));
            let verdict = bucket.reserve(now, true, units_max, asked).await;
            let no = match verdict.as_deref() {
                None => {
                    self.rebuild("changed").await;
                    continue;
                }
                Some([Verdict::Held]) => {
                    if self.parts.guard.allows(&units)
                        && self.parts.index.take_again(&held.user, held.units())
                    {
                        let is = Some(held.mark());
                        if let Err(error) = self.parts.guard.follow(moved, &units, None, is) {
                            tracing::error!(%error, order = %held.id, "hold fresh units");
                        }
                        self.publish(&units, moved, false);
                        return Ok(held);
                    }
                    // It set aside what the ledger says is not there.
                    self.rebuild("guard").await;
                    "no units are left"
                }
                Some([Verdict::NotOpen | Verdict::Ended]) => "the sale is over",
                Some([Verdict::OverLimit]) => "the buyer has as many units as a buyer may have",
                Some([Verdict::NotEnough | Verdict::UnknownSku]) => "no units are left",
                Some([Verdict::Replay | Verdict::KeyReused | Verdict::Clash] | [] | [_, _, ..]) => {
                    self.rebuild("guard").await;
                    "the stock could not be asked"
                }
            };
            return Err(format!(
                "the order was closed before the money came, and {no}"
            ));
        }
    }

    /// Units that were taken for a payment which then was not recorded.
    async fn let_go(&mut self, held: &Order) {
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

fn gone(late: Late, error: Option<&FactError>) {
    match error {
        None => drop(late.reply.send(Captured::Missing)),
        Some(error) => unread(error, late.order, late.reply)(false),
    }
}
