//! Changes of orders and what belongs to them (cancel, window end, payment, refund):
//! first the ledger, then the stock, so units return only after the closing is durable,
//! and whoever asked hears of it when both have it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use floodgate_ledger::{Draft, Group};
use tokio::sync::oneshot;

use super::super::answer::{Captured, Changed, Licensing};
use super::super::bucket::Move;
use super::super::facts::FactError;
use super::super::tail::Fact;
use super::slate::Slate;
use super::{BATCH_MAX, Desk};
use crate::domain::entitlement::Licensed;
use crate::domain::ids::{DeviceId, EntitlementId, OrderId, PaymentId};
use crate::domain::order::{Order, OrderEvent, OrderState};
use crate::domain::payment::{Payment, PaymentEvent, PaymentState};
use crate::domain::time::UnixMs;
use crate::stock::Row;

/// A paid order that was not granted at once is looked at again after this.
const GRANTED_WITHIN: Duration = Duration::from_secs(2);

/// A group this large takes no more wishes: with what the last one adds it still is below
/// the smallest commit that may be configured (512 records).
const GROUP_RECORDS: usize = 256;

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
    /// Money came. `may_rehold`: a closed order may take fresh units for it.
    Capture {
        payment: Box<Payment>,
        may_rehold: bool,
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

/// What may be asked of a payment that stands in the ledger.
#[derive(Debug, Clone)]
pub enum Asked {
    /// Of one under review: it shall count.
    Accept { note: String },
    /// Of one under review: it shall go back.
    Reject { note: String },
    /// The provider says under which number it sent the money back.
    Refunded { refund_no: String },
}

/// A capture for a closed order that may have fresh units.
pub(super) struct Late {
    pub order: OrderId,
    pub payment: Payment,
    pub reply: oneshot::Sender<Captured>,
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

fn stands(payment: Payment, replayed: bool) -> Captured {
    Captured::Stands {
        payment: Arc::new(payment),
        replayed,
    }
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
        let (mut tells, mut late) = (Vec::new(), Vec::new());
        for Wish { order, act } in wishes {
            if slate.drafts.len() >= GROUP_RECORDS {
                self.commit(slate, std::mem::take(&mut tells)).await;
                slate = self.slate(now);
            }
            match act {
                Act::Step { event, reply } => {
                    let changed = self.step(&mut slate, order, event);
                    tells.push(tell(reply, changed, Changed::Unknown));
                }
                Act::Capture {
                    payment,
                    may_rehold,
                    reply,
                } => {
                    let payment = *payment;
                    match capture(&mut slate, order, &payment, may_rehold) {
                        Ok(Some(said)) => tells.push(tell(Some(reply), said, Captured::Unknown)),
                        Ok(None) => late.push(Late {
                            order,
                            payment,
                            reply,
                        }),
                        Err(error) => tells.push(unread(&error, order, reply)),
                    }
                }
                Act::License {
                    entitlement,
                    device,
                    reply,
                } => {
                    let said = license(&mut slate, &entitlement, &device);
                    tells.push(tell(Some(reply), said, Licensing::Unknown));
                }
                Act::Payment { id, asked, reply } => match ask(&mut slate, &id, asked) {
                    Ok(said) => tells.push(tell(Some(reply), said, Captured::Unknown)),
                    Err(error) => tells.push(unread(&error, order, reply)),
                },
            }
        }
        self.commit(slate, tells).await;
        for one in late {
            self.late(now, one).await;
        }
    }

    fn step(&mut self, slate: &mut Slate, id: OrderId, event: OrderEvent) -> Changed {
        let timed = matches!(event, OrderEvent::WindowEnded { .. });
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
                    Changed::Now(Arc::new(order))
                }
                Err(error) => {
                    tracing::error!(%error, order = %id, "read what an order grants");
                    again(Duration::from_secs(1));
                    slate.spoil();
                    Changed::Unknown
                }
            };
        }
        let Ok(next) = slate.step(&order, event) else {
            return Changed::Illegal(Arc::new(order));
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
        Changed::Now(Arc::new(next))
    }

    /// `false`: nothing of the slate happened.
    pub(super) async fn commit(&mut self, slate: Slate, tells: Vec<Tell>) -> bool {
        let grants = [
            ("granted", slate.n_granted),
            ("repaired", slate.n_repaired),
            ("revoked", slate.revoked.len() as u64),
        ];
        let (drafts, moves, owed) = (slate.drafts, slate.moves, slate.owed);
        for order in slate.ungranted {
            let soon = slate.now.plus(GRANTED_WITHIN);
            self.windows.push(Reverse((soon, order)));
        }
        let mut durable = !slate.is_spoiled;
        let mut in_step = true;
        let kept = if self.parts.bucket.is_second_copy() {
            beside_holds(&drafts)
        } else {
            Vec::new()
        };
        if durable && !drafts.is_empty() {
            fail::fail_point!("change-decided", |_| std::process::abort());
            let group = Group {
                drafts,
                meta: Vec::new(),
            };
            let committed = match self.parts.ledger.append(group).await {
                Ok(receipt) => receipt.await.map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if committed.is_ok() {
                fail::fail_point!("change-durable", |_| std::process::abort());
                // At once, and by the clock as it is now: tokens for these are about.
                for entitlement in &slate.revoked {
                    self.parts.revoked.add(entitlement, self.parts.clock.now());
                }
            }
            match committed {
                // Before a hold goes, and its order with it.
                Ok(committed) if !kept.is_empty() => {
                    in_step = self.parts.bucket.keep(kept, committed.last).await;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "commit changes of orders");
                    durable = false;
                }
            }
        }
        if durable {
            if !moves.is_empty() || !in_step {
                fail::fail_point!("change-kept", |_| std::process::abort());
                self.settle(moves, in_step).await;
                fail::fail_point!("change-settled", |_| std::process::abort());
            }
            for payment in owed {
                self.parts.owed.tell(payment);
            }
            for (result, n) in grants {
                self.parts
                    .metrics
                    .grants
                    .with_label_values(&[result])
                    .inc_by(n);
            }
        } else {
            // Their windows were taken off the list for this.
            let soon = slate.now.plus(Duration::from_millis(100));
            let orders = moves.iter().map(|m| Reverse((soon, m.order.id)));
            self.windows.extend(orders);
        }
        for tell in tells {
            tell(durable);
        }
        durable
    }

    /// Tells the stock of durable changes, then counts them. A bucket that is not in step
    /// is not told: it is made anew, and only once the guard has followed, because that is
    /// what its counters are made from.
    async fn settle(&mut self, moves: Vec<Move>, in_step: bool) {
        let in_step = in_step && self.parts.bucket.settle(&moves).await;
        for m in &moves {
            if let Err(error) = self.parts.guard.follow(m.moved, &m.units, m.was, m.is) {
                tracing::error!(%error, order = %m.order.id, "the mirror cannot follow a durable change");
                continue;
            }
            self.publish(&m.units, m.moved, false);
            if m.was.is_some() && m.is.is_none() {
                self.parts.index.release(&m.order.user, m.order.units());
            }
        }
        if !in_step {
            self.rebuild("settle").await;
        }
    }

    pub(super) fn take_due(&mut self, now: UnixMs, wishes: &mut Vec<Wish>) {
        while wishes.len() < BATCH_MAX
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

/// What no hold carries.
fn beside_holds(drafts: &[Draft]) -> Vec<(Fact, Row)> {
    let beside = drafts.iter().filter_map(|draft| {
        let fact = Fact::of(draft.kind, &draft.id, draft.live)?;
        let row = Row::tail(draft.kind.0, &fact.id, draft.version, &draft.body);
        Some((fact, row))
    });
    beside.collect()
}

pub(super) fn unread(error: &FactError, order: OrderId, reply: oneshot::Sender<Captured>) -> Tell {
    tracing::error!(%error, %order, "read what a payment is for");
    tell(Some(reply), Captured::Unknown, Captured::Unknown)
}

/// What a capture comes to; `None`: its order is closed and may have fresh units.
pub(super) fn capture(
    slate: &mut Slate,
    id: OrderId,
    payment: &Payment,
    may_rehold: bool,
) -> Result<Option<Captured>, FactError> {
    if let Some(known) = slate.known(payment)? {
        return Ok(Some(stands(known, true)));
    }
    let Some(order) = slate.order(id)? else {
        return Ok(Some(Captured::Missing));
    };
    if let Some(why) = mismatch(payment, &order) {
        return Ok(Some(first(slate, payment, PaymentState::Review, &why)));
    }
    let why = match order.state {
        OrderState::PendingPayment { .. } => {
            return apply(slate, &order, payment).map(Some);
        }
        OrderState::Closed { .. } if may_rehold => return Ok(None),
        OrderState::Closed { .. } => "the order was closed before the money came",
        OrderState::Paid | OrderState::Delivered => "the order was paid before",
        OrderState::RefundDue { .. } | OrderState::Refunded { .. } => "the order was refunded",
    };
    Ok(Some(first(slate, payment, PaymentState::RefundDue, why)))
}

fn mismatch(payment: &Payment, order: &Order) -> Option<String> {
    // For the test that proves that somebody looks at the amount.
    fail::fail_point!("payment-any-amount", |_| None);
    payment.mismatch(order)
}

pub(super) fn first(
    slate: &mut Slate,
    payment: &Payment,
    state: PaymentState,
    why: &str,
) -> Captured {
    let payment = Payment {
        state,
        note: why.to_owned(),
        ..payment.clone()
    };
    slate.first(&payment);
    stands(payment, false)
}

/// The order takes the money, and its buyer gets what it grants. Only of an order that
/// waits for its money.
pub(super) fn apply(
    slate: &mut Slate,
    order: &Order,
    payment: &Payment,
) -> Result<Captured, FactError> {
    let paid = match slate.step(order, OrderEvent::PaymentApplied) {
        Ok(paid) => paid,
        Err(error) => {
            return Ok(first(
                slate,
                payment,
                PaymentState::Review,
                &error.to_string(),
            ));
        }
    };
    let said = first(slate, payment, PaymentState::Applied, "");
    granted(slate, &paid)?;
    Ok(said)
}

fn granted(slate: &mut Slate, paid: &Order) -> Result<(), FactError> {
    if is_forgotten() {
        slate.ungranted.push(paid.id);
        return Ok(());
    }
    match slate.grant(paid) {
        Ok(n) => {
            slate.n_granted += n as u64;
            Ok(())
        }
        Err(error) => {
            slate.spoil();
            Err(error)
        }
    }
}

/// Only the test of the repair leaves a paid order without what it grants.
fn is_forgotten() -> bool {
    fail::fail_point!("grant-forgotten", |_| true);
    false
}

fn license(slate: &mut Slate, id: &EntitlementId, device: &DeviceId) -> Licensing {
    let (version, known) = match slate.entitlement(id) {
        Ok(Some(known)) => known,
        Ok(None) => return Licensing::Missing,
        Err(error) => {
            tracing::error!(%error, entitlement = %id, "read an entitlement");
            return Licensing::Unknown;
        }
    };
    let licensed = known.license(device, slate.now);
    let stands = match &licensed {
        Licensed::Added { next, .. } => {
            slate.put_entitlement(version + 1, next.clone());
            next.clone()
        }
        Licensed::Already | Licensed::Full | Licensed::Revoked | Licensed::Expired => known,
    };
    Licensing::Said(Box::new(licensed), Arc::new(stands))
}

fn ask(slate: &mut Slate, id: &PaymentId, asked: Asked) -> Result<Captured, FactError> {
    let Some(payment) = slate.payment(id)? else {
        return Ok(Captured::Missing);
    };
    let (event, note, refund_no) = match asked {
        Asked::Accept { note } => (PaymentEvent::Apply, note, String::new()),
        Asked::Reject { note } => (PaymentEvent::GiveBack, note, String::new()),
        Asked::Refunded { refund_no } => {
            (PaymentEvent::RefundDone, payment.note.clone(), refund_no)
        }
    };
    let next = match payment.step(event) {
        // Whether it counts is for the refund of its order to say.
        Ok(Some(_))
            if event == PaymentEvent::GiveBack && payment.state == PaymentState::Applied =>
        {
            return Ok(Captured::Illegal(Arc::new(payment)));
        }
        Ok(Some(next)) => Payment {
            note,
            refund_no,
            ..next
        },
        Ok(None) => return Ok(stands(payment, true)),
        Err(_) => return Ok(Captured::Illegal(Arc::new(payment))),
    };
    let order = match payment.order {
        Some(order) => slate.order(order)?,
        None => None,
    };
    match (event, order) {
        (PaymentEvent::Apply, Some(order)) => {
            let Ok(paid) = slate.step(&order, OrderEvent::PaymentApplied) else {
                return Ok(Captured::Illegal(Arc::new(payment)));
            };
            slate.put(&next);
            granted(slate, &paid)?;
        }
        (PaymentEvent::Apply, None) => return Ok(Captured::Illegal(Arc::new(payment))),
        (PaymentEvent::RefundDone, Some(order)) => {
            slate.put(&next);
            if let OrderState::RefundDue { .. } = order.state
                && slate
                    .is_paid_back(order.id)
                    .inspect_err(|_| slate.spoil())?
            {
                // Named by the machine for exactly this state.
                let _ = slate.step(&order, OrderEvent::RefundDone);
            }
        }
        (PaymentEvent::RefundDone, None)
        | (PaymentEvent::GiveBack | PaymentEvent::Flag, Some(_) | None) => slate.put(&next),
    }
    Ok(stands(next, false))
}
