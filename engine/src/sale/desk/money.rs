//! What money does to an order, and a device to an entitlement: decided on the slate,
//! from ledger facts alone, before any of it is durable.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::answer::{Captured, Licensing};
use super::super::facts::FactError;
use super::change::{Asked, WhereClosed};
use super::slate::Slate;
use crate::domain::entitlement::Licensed;
use crate::domain::ids::{DeviceId, EntitlementId, OrderId, PaymentId};
use crate::domain::order::{Order, OrderEvent, OrderState};
use crate::domain::payment::{Payment, PaymentEvent, PaymentState};

fn stands(payment: Arc<Payment>, replayed: bool) -> Captured {
    Captured::Stands { payment, replayed }
}

/// What a capture comes to; `None`: its order is closed and may have fresh units.
pub(super) fn capture(
    slate: &mut Slate,
    id: OrderId,
    payment: &Payment,
    closed: WhereClosed,
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
    let why: Cow<'_, str> = match order.state {
        OrderState::PendingPayment { .. } => {
            return apply(slate, &order, payment).map(Some);
        }
        // What paid it stood in no copy that a recovery had; here it is again.
        OrderState::Paid | OrderState::Delivered if slate.is_unproven(id)? => {
            return Ok(Some(first(slate, payment, PaymentState::Applied, "")));
        }
        OrderState::Closed { .. } => match closed {
            WhereClosed::FreshUnits => return Ok(None),
            WhereClosed::NoUnits(why) => came_late(why).into(),
        },
        OrderState::Paid | OrderState::Delivered => "the order was paid before".into(),
        OrderState::RefundDue { .. } | OrderState::Refunded { .. } => {
            "the order was refunded".into()
        }
    };
    Ok(Some(first(slate, payment, PaymentState::RefundDue, &why)))
}

/// Why money for a closed order goes back.
pub(super) fn came_late(why: &str) -> String {
    format!("the order was closed before the money came, and {why}")
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
    let payment = Arc::new(Payment {
        state,
        note: why.to_owned(),
        ..payment.clone()
    });
    slate.first(Arc::clone(&payment));
    stands(payment, false)
}

/// The order takes the money, and its buyer gets what it grants. Only of an order that
/// waits for its money.
pub(super) fn apply(
    slate: &mut Slate,
    order: &Arc<Order>,
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

/// A person lets it count: the order takes it, if it waits for money.
pub(super) fn accept(
    slate: &mut Slate,
    order: &Arc<Order>,
    payment: Arc<Payment>,
    note: &str,
) -> Result<Captured, FactError> {
    let Ok(Some(next)) = payment.step(PaymentEvent::Apply) else {
        return Ok(Captured::Illegal(payment));
    };
    let Ok(paid) = slate.step(order, OrderEvent::PaymentApplied) else {
        return Ok(Captured::Illegal(payment));
    };
    let note = note.to_owned();
    let next = Arc::new(Payment { note, ..next });
    slate.put(Arc::clone(&next));
    granted(slate, &paid)?;
    Ok(stands(next, false))
}

fn granted(slate: &mut Slate, paid: &Arc<Order>) -> Result<(), FactError> {
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

pub(super) fn license(slate: &mut Slate, id: &EntitlementId, device: &DeviceId) -> Licensing {
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

/// `None`: the order is closed and may have fresh units for what was accepted.
pub(super) fn ask(
    slate: &mut Slate,
    id: &PaymentId,
    asked: &Asked,
) -> Result<Option<Captured>, FactError> {
    let Some(payment) = slate.payment(id)? else {
        return Ok(Some(Captured::Missing));
    };
    let order = match payment.order {
        Some(order) => slate.order(order)?,
        None => None,
    };
    let (event, note, refund_no) = match asked {
        Asked::Accept { note, closed } => {
            let is_review = payment.state == PaymentState::Review;
            return match order {
                _ if payment.state == PaymentState::Applied => Ok(Some(stands(payment, true))),
                Some(order)
                    if is_review
                        && matches!(order.state, OrderState::Closed { .. })
                        && *closed == WhereClosed::FreshUnits =>
                {
                    Ok(None)
                }
                Some(order) if is_review => accept(slate, &order, payment, note).map(Some),
                Some(_) | None => Ok(Some(Captured::Illegal(payment))),
            };
        }
        Asked::Reject { note } => (PaymentEvent::GiveBack, note.clone(), String::new()),
        Asked::Refunded { refund_no } => (
            PaymentEvent::RefundDone,
            payment.note.clone(),
            refund_no.clone(),
        ),
    };
    let next = match payment.step(event) {
        // Whether it counts is for the refund of its order to say.
        Ok(Some(_))
            if event == PaymentEvent::GiveBack && payment.state == PaymentState::Applied =>
        {
            return Ok(Some(Captured::Illegal(payment)));
        }
        Ok(Some(next)) => Arc::new(Payment {
            note,
            refund_no,
            ..next
        }),
        Ok(None) => return Ok(Some(stands(payment, true))),
        Err(_) => return Ok(Some(Captured::Illegal(payment))),
    };
    slate.put(Arc::clone(&next));
    if let (PaymentEvent::RefundDone, Some(order)) = (event, order)
        && let OrderState::RefundDue { .. } = order.state
        && slate
            .is_paid_back(order.id)
            .inspect_err(|_| slate.spoil())?
    {
        // Named by the machine for exactly this state.
        let _ = slate.step(&order, OrderEvent::RefundDone);
    }
    Ok(Some(stands(next, false)))
}
