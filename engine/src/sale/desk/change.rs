//! Changes of orders and what belongs to them (cancel, window end, payment, refund):
//! first the ledger, then the stock, so units return only after the closing is durable,
//! and whoever asked hears of it when both have it (`flight.rs`).

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::answer::{Captured, Changed, Licensing};
use super::super::facts::FactError;
use super::Desk;
use super::late::Turn;
use super::money::{ask, capture, license};
use super::slate::Slate;
use crate::domain::ids::{DeviceId, EntitlementId, OrderId, PaymentId};
use crate::domain::order::{OrderEvent, OrderState};
use crate::domain::payment::Payment;
use crate::domain::time::UnixMs;

/// A group this large takes no more wishes: with what the last one adds it still is below
/// the smallest commit that may be configured (512 records).
pub(super) const GROUP_RECORDS: usize = 256;

/// Windows that end in one turn, and none until those are durable: closing costs as much as
/// buying, and buyers come first. At 2.5 ms for a turn and its fsync a desk closes fifty
/// thousand a second; at 20 ms six thousand.
const DUE_MAX: usize = 128;

/// Something that somebody wants to happen to an order.
#[derive(Debug)]
pub struct Wish {
    pub order: OrderId,
    pub act: Act,
}

#[derive(Debug)]
pub enum Act {
    /// Nobody hears of those that time brings.
    Step {
        event: OrderEvent,
        reply: Option<oneshot::Sender<Changed>>,
    },
    /// Money came.
    Capture {
        payment: Arc<Payment>,
        closed: WhereClosed,
        reply: oneshot::Sender<Captured>,
    },
    /// A device wants a licence under an entitlement of this order.
    License {
        entitlement: EntitlementId,
        device: DeviceId,
        reply: oneshot::Sender<Licensing>,
    },
    /// Something is asked of a payment of this order.
    Payment {
        id: PaymentId,
        asked: Asked,
        reply: oneshot::Sender<Captured>,
    },
}

/// What becomes of money whose order is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhereClosed {
    /// Fresh units are taken for it, where there are some.
    FreshUnits,
    /// There are none for it, for this reason.
    NoUnits(&'static str),
}

/// What may be asked of a payment that stands in the ledger.
#[derive(Debug, Clone)]
pub enum Asked {
    /// Of one under review: it shall count.
    Accept { note: String, closed: WhereClosed },
    /// Of one under review: it shall go back.
    Reject { note: String },
    /// The provider says under which number it sent the money back.
    Refunded { refund_no: String },
}

impl Asked {
    fn into_note(self) -> String {
        match self {
            Self::Accept { note, .. } | Self::Reject { note } => note,
            Self::Refunded { .. } => String::new(),
        }
    }
}

/// Money for a closed order that may have fresh units.
pub(super) struct Late {
    pub order: OrderId,
    pub money: LateMoney,
    pub reply: oneshot::Sender<Captured>,
}

pub(super) enum LateMoney {
    /// Told by its provider, and nobody knows of it yet.
    Told(Arc<Payment>),
    /// Under review in the ledger; a person lets it count.
    Accepted { id: PaymentId, note: String },
}

impl LateMoney {
    pub fn id(&self) -> &PaymentId {
        match self {
            Self::Told(payment) => &payment.id,
            Self::Accepted { id, .. } => id,
        }
    }
}

/// What is said to whoever asked, once it is known whether it is durable.
pub(super) type Tell = Box<dyn FnOnce(bool) + Send>;

pub(super) fn tell<T: Send + 'static>(
    reply: Option<oneshot::Sender<T>>,
    answer: T,
    unknown: T,
) -> Tell {
    Box::new(move |durable| {
        if let Some(reply) = reply {
            // Whoever asked may have gone; the change stands all the same.
            let _ = reply.send(if durable { answer } else { unknown });
        }
    })
}

impl Desk {
    pub(super) fn slate(&self, now: UnixMs) -> Slate {
        let parts = &self.parts;
        Slate::new(
            parts.ledger.clone(),
            Arc::clone(&parts.sale),
            parts.bucket.epoch(),
            now,
        )
    }

    /// Everything that must happen to orders: durable first, then in the stock.
    pub(super) async fn change(&mut self, now: UnixMs, wishes: Vec<Wish>) {
        let mut slate = self.slate(now);
        let (mut tells, mut late) = (Vec::new(), VecDeque::new());
        for wish in wishes {
            if slate.drafts.len() >= GROUP_RECORDS {
                self.send_off(slate, std::mem::take(&mut tells)).await;
                slate = self.slate(now);
            }
            if self.flights.concern(&wish) {
                self.flights.put_off.push(wish);
                continue;
            }
            let Wish { order, act } = wish;
            slate.touched.insert(order);
            match act {
                Act::Step { event, reply } => {
                    let changed = self.step(&mut slate, order, event);
                    tells.push(tell(reply, changed, Changed::Unknown));
                }
                Act::Capture {
                    payment,
                    closed,
                    reply,
                } => match capture(&mut slate, order, &payment, closed) {
                    Ok(Some(said)) => tells.push(tell(Some(reply), said, Captured::Unknown)),
                    Ok(None) => {
                        let money = LateMoney::Told(payment);
                        late.push_back((
                            Late {
                                order,
                                money,
                                reply,
                            },
                            Turn::First,
                        ));
                    }
                    Err(error) => tells.push(unread(&error, order, reply)),
                },
                Act::License {
                    entitlement,
                    device,
                    reply,
                } => {
                    let said = license(&mut slate, &entitlement, &device);
                    tells.push(tell(Some(reply), said, Licensing::Unknown));
                }
                Act::Payment { id, asked, reply } => match ask(&mut slate, &id, &asked) {
                    Ok(Some(said)) => tells.push(tell(Some(reply), said, Captured::Unknown)),
                    Ok(None) => {
                        let note = asked.into_note();
                        let money = LateMoney::Accepted { id, note };
                        late.push_back((
                            Late {
                                order,
                                money,
                                reply,
                            },
                            Turn::First,
                        ));
                    }
                    Err(error) => tells.push(unread(&error, order, reply)),
                },
            }
        }
        self.send_off(slate, tells).await;
        if self.flights.is_crowded() {
            self.land_all().await;
        }
        self.late(now, late).await;
    }

    fn step(&mut self, slate: &mut Slate, id: OrderId, event: OrderEvent) -> Changed {
        let timed = matches!(event, OrderEvent::WindowEnded { .. });
        slate.is_timed |= timed;
        let now = slate.now;
        let mut again = |wait: Duration| {
            if timed {
                self.windows.push(Reverse((now.plus(wait), id)));
            }
        };
        let order = match slate.order(id) {
            Ok(Some(order)) => order,
            Ok(None) => {
                // Its own commit may still be on the way to the disk.
                again(Duration::from_millis(100));
                return Changed::Missing(id);
            }
            Err(error) => {
                tracing::error!(%error, order = %id, "read an order");
                again(Duration::from_secs(1));
                return Changed::Unknown;
            }
        };
        if timed && order.state == OrderState::Paid {
            // Nobody waits for the money of this one; what is owed is what it grants.
            return match slate.grant(&order) {
                Ok(n) => {
                    slate.n_repaired += n as u64;
                    let replayed = false;
                    Changed::Stands { order, replayed }
                }
                Err(error) => {
                    tracing::error!(%error, order = %id, "read what an order grants");
                    again(Duration::from_secs(1));
                    slate.spoil();
                    Changed::Unknown
                }
            };
        }
        if let OrderEvent::RefundAsked { .. } = event
            && order.state.is_sold()
        {
            // There is nothing to send back, so it would be due for ever.
            match slate.is_unproven(id) {
                Ok(false) => {}
                Ok(true) => return Changed::Unproven(order),
                Err(error) => {
                    tracing::error!(%error, order = %id, "read what paid an order");
                    return Changed::Unknown;
                }
            }
        }
        let Ok(next) = slate.step(&order, event) else {
            return Changed::Illegal(order);
        };
        if let (OrderState::PendingPayment { until, .. }, true) = (next.state, timed) {
            self.windows.push(Reverse((until, id)));
        }
        if let OrderEvent::RefundAsked { .. } = event
            && next.version != order.version
            && let Err(error) = slate.give_back(&next, "the order is refunded")
        {
            tracing::error!(%error, order = %id, "read what belongs to an order");
            slate.spoil();
            return Changed::Unknown;
        }
        Changed::Stands {
            replayed: next.version == order.version,
            order: next,
        }
    }

    pub(super) fn take_due(&mut self, now: UnixMs, wishes: &mut Vec<Wish>) {
        if self.flights.is_closing() {
            return;
        }
        // However many ask: buyers wait for these units.
        let most = wishes.len() + DUE_MAX;
        while wishes.len() < most
            && let Some(Reverse((until, id))) = self.windows.peek().copied()
            && until <= now
        {
            self.windows.pop();
            let event = OrderEvent::WindowEnded { now };
            let act = Act::Step { event, reply: None };
            wishes.push(Wish { order: id, act });
        }
    }
}

pub(super) fn unread(error: &FactError, order: OrderId, reply: oneshot::Sender<Captured>) -> Tell {
    tracing::error!(%error, %order, "read what a payment is for");
    tell(Some(reply), Captured::Unknown, Captured::Unknown)
}
