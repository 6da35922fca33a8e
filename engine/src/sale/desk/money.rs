//! What money does to an order, and a device to an entitlement: decided on the slate,
//! from ledger facts alone, before any of it is durable.

use std::sync::Arc;

use super::super::answer::{Captured, Licensing};
use super::super::facts::FactError;
use super::change::Asked;
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
        // What paid it stood in no copy that a recovery had; here it is again.
        OrderState::Paid | OrderState::Delivered if slate.is_unproven(id)? => {
            return Ok(Some(first(slate, payment, PaymentState::Applied, "")));
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

pub(super) fn ask(slate: &mut Slate, id: &PaymentId, asked: Asked) -> Result<Captured, FactError> {
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
            return Ok(Captured::Illegal(payment));
        }
        Ok(Some(next)) => Arc::new(Payment {
            note,
            refund_no,
            ..next
        }),
        Ok(None) => return Ok(stands(payment, true)),
        Err(_) => return Ok(Captured::Illegal(payment)),
    };
    let order = match payment.order {
        Some(order) => slate.order(order)?,
        None => None,
    };
    match (event, order) {
        (PaymentEvent::Apply, Some(order)) => {
            let Ok(paid) = slate.step(&order, OrderEvent::PaymentApplied) else {
                return Ok(Captured::Illegal(payment));
            };
            slate.put(Arc::clone(&next));
            granted(slate, &paid)?;
        }
        (PaymentEvent::Apply, None) => return Ok(Captured::Illegal(payment)),
        (PaymentEvent::RefundDone, Some(order)) => {
            slate.put(Arc::clone(&next));
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
        | (PaymentEvent::GiveBack | PaymentEvent::Flag, Some(_) | None) => {
            slate.put(Arc::clone(&next))
        }
    }
    Ok(stands(next, false))
}
