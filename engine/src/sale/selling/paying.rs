//! Money at a node's sales: captures, what people and providers say of them later, and
//! reading them.
//!
//! A payment for an order of ours is its desk's; one that names none is nobody's
//! (`../unclaimed.rs`).

use std::future::Future;
use std::sync::Arc;

use super::super::answer::Captured;
use super::super::desk::{Act, Asked, WhereClosed};
use super::super::facts::{self, FactError};
use super::Selling;
use super::asking::Wished;
use crate::domain::ids::{OrderId, PaymentId, SaleId};
use crate::domain::payment::{Payment, PaymentState};
use crate::domain::sale::Phase;

/// A page of payments, in the order of their ids.
#[derive(Debug)]
pub struct PaymentsPage {
    pub payments: Vec<Payment>,
    pub next: Option<PaymentId>,
}

impl Selling {
    /// Money came. Whatever becomes of it is durable when this says so, and the same
    /// transaction comes to the same payment for ever.
    pub async fn capture(&self, payment: Payment) -> Captured {
        let unclaimed = Arc::clone(&self.unclaimed);
        let Some(order) = payment.order else {
            return self.of_unclaimed(unclaimed.capture(payment)).await;
        };
        let payment = Arc::new(payment);
        let closed = self.where_closed(order);
        let act = |reply| Act::Capture {
            payment: Arc::clone(&payment),
            closed,
            reply,
        };
        match self.wish(order, act).await {
            Wished::Heard(Captured::Missing) | Wished::NoDesk => {
                let payment = Arc::unwrap_or_clone(payment);
                self.of_unclaimed(unclaimed.capture(payment)).await
            }
            Wished::Heard(captured) => captured,
            Wished::Silence => Captured::Unknown,
        }
    }

    /// What money for this order comes to if it is closed.
    fn where_closed(&self, order: OrderId) -> WhereClosed {
        let now = self.tools.clock.now();
        match self.sale_of(order).map(|live| live.phase(now)) {
            // Sold out is for the desk to say: the unit that this order gave back may not
            // have been counted yet.
            Some(Phase::Open | Phase::SoldOut) => WhereClosed::FreshUnits,
            Some(Phase::Paused) => WhereClosed::NoUnits("its sale is paused"),
            Some(Phase::Scheduled) => WhereClosed::NoUnits("its sale is not open"),
            Some(Phase::Ended) | None => WhereClosed::NoUnits("its sale is over"),
        }
    }

    /// A person decides about a payment under review.
    pub async fn review(&self, payment: &Payment, accept: bool, note: String) -> Captured {
        let asked = if accept {
            let closed = payment.order.map(|order| self.where_closed(order));
            let closed = closed.unwrap_or(WhereClosed::NoUnits("it names no order"));
            Asked::Accept { note, closed }
        } else {
            Asked::Reject { note }
        };
        self.ask(payment, asked).await
    }

    /// The provider says under which number the money went back.
    pub async fn refunded(&self, payment: &Payment, refund_no: String) -> Captured {
        self.ask(payment, Asked::Refunded { refund_no }).await
    }

    async fn ask(&self, payment: &Payment, asked: Asked) -> Captured {
        let id = payment.id.clone();
        let Some(order) = payment.order else {
            let unclaimed = Arc::clone(&self.unclaimed);
            return self.of_unclaimed(unclaimed.ask(id, asked)).await;
        };
        match self
            .wish(order, |reply| Act::Payment { id, asked, reply })
            .await
        {
            Wished::Heard(captured) => captured,
            Wished::NoDesk => Captured::Missing,
            Wished::Silence => Captured::Unknown,
        }
    }

    /// As long as a desk would be waited for.
    async fn of_unclaimed(&self, asked: impl Future<Output = Captured>) -> Captured {
        let asked = tokio::time::timeout(self.answer_max, asked);
        // Whoever asks again hears what it came to.
        asked.await.unwrap_or(Captured::Unknown)
    }

    /// A payment by its id, of whatever sale, or of none.
    pub fn payment(&self, id: &PaymentId) -> Result<Option<Payment>, FactError> {
        let ledger = &self.tools.ledger;
        if let Some(unclaimed) = facts::load_payment(ledger, facts::NO_SALE, id)? {
            return Ok(Some(unclaimed));
        }
        for sale in self.sales().keys() {
            if let Some(payment) = facts::load_payment(ledger, sale.as_bytes(), id)? {
                return Ok(Some(payment));
            }
        }
        Ok(None)
    }

    /// What was paid for an order, in no order.
    pub fn payments_of(&self, order: OrderId) -> Result<Vec<Payment>, FactError> {
        facts::payments_of(&self.tools.ledger, order)
    }

    /// Payments of a sale, or of none.
    pub fn payments_page(
        &self,
        sale: Option<&SaleId>,
        after: Option<&PaymentId>,
        limit: usize,
    ) -> Result<PaymentsPage, FactError> {
        let group = sale.map_or(facts::NO_SALE, SaleId::as_bytes);
        let after = after.map(PaymentId::as_bytes);
        let ledger = &self.tools.ledger;
        let found = ledger.entities_page(group, facts::PAYMENT, after, limit)?;
        let payments = found
            .iter()
            .map(facts::payment_of)
            .collect::<Result<Vec<_>, _>>()?;
        let next = payments.last().filter(|_| payments.len() == limit);
        let next = next.map(|p| p.id.clone());
        Ok(PaymentsPage { payments, next })
    }

    /// Payments whose money must go back, at most `max` of them.
    pub fn payments_owed(&self, max: usize) -> Result<Vec<Payment>, FactError> {
        let mut owed = Vec::new();
        let sales = self.sales();
        // Group by group: a walk over everything would read every order there is.
        let groups = sales.keys().map(SaleId::as_bytes);
        for group in std::iter::once(facts::NO_SALE).chain(groups) {
            let ledger = &self.tools.ledger;
            for found in ledger.entities(Some(group), Some(facts::PAYMENT), true) {
                if owed.len() >= max {
                    return Ok(owed);
                }
                let payment = facts::payment_of(&found?)?;
                if payment.state == PaymentState::RefundDue {
                    owed.push(payment);
                }
            }
        }
        Ok(owed)
    }
}
