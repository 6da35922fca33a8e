//! Money at a node's sales: captures, what people and providers say of them later, and
//! reading them.
//!
//! A payment for an order of ours is its desk's. One that names none belongs to nobody:
//! it stands under review, in a group of its own, until a person decides.

use std::sync::Arc;

use floodgate_ledger::Group;

use super::answer::{Captured, Licensing};
use super::desk::{Act, Asked};
use super::facts::{self, FactError};
use super::selling::{NotCommitted, Selling, Wished};
use crate::domain::entitlement::Entitlement;
use crate::domain::ids::{DeviceId, EntitlementId, OrderId, PaymentId, SaleId, UserId};
use crate::domain::payment::{Payment, PaymentEvent, PaymentState};
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
        let Some(order) = payment.order else {
            return self.stray(payment).await;
        };
        let now = self.tools.clock.now();
        let open = self
            .sale_of(order)
            .is_some_and(|live| live.phase(now) == Phase::Open);
        let act = |reply| Act::Capture {
            payment: Box::new(payment.clone()),
            may_rehold: open,
            reply,
        };
        match self.wish(order, act).await {
            Wished::Heard(Captured::Missing) | Wished::NoDesk => self.stray(payment).await,
            Wished::Heard(captured) => captured,
            Wished::Silence => Captured::Unknown,
        }
    }

    /// A person decides about a payment under review.
    pub async fn review(&self, payment: &Payment, accept: bool, note: String) -> Captured {
        let asked = if accept {
            Asked::Accept { note }
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
        let Some(order) = payment.order else {
            return self.ask_stray(&payment.id, asked).await;
        };
        let id = payment.id.clone();
        match self
            .wish(order, |reply| Act::Payment { id, asked, reply })
            .await
        {
            Wished::Heard(captured) => captured,
            Wished::NoDesk => Captured::Missing,
            Wished::Silence => Captured::Unknown,
        }
    }

    async fn stray(&self, payment: Payment) -> Captured {
        let _one = self.strays.lock().await;
        let (channel, txn) = (&payment.channel, &payment.channel_txn_no);
        match facts::find_payment(&self.tools.ledger, channel, txn) {
            Ok(None) => {}
            Ok(Some(known)) => return stands(known, true),
            Err(error) => return unread(&error),
        }
        let note = payment.order.map_or_else(
            || "it names no order".to_owned(),
            |order| format!("it names order {order}, which is not here"),
        );
        let key = facts::payment_key(channel, txn);
        let payment = Payment {
            order: None,
            state: PaymentState::Review,
            note,
            ..payment
        };
        self.put_stray(payment, vec![key]).await
    }

    async fn ask_stray(&self, id: &PaymentId, asked: Asked) -> Captured {
        let _one = self.strays.lock().await;
        let payment = match self.payment_in(facts::NO_SALE, id) {
            Ok(Some(payment)) => payment,
            Ok(None) => return Captured::Missing,
            Err(error) => return unread(&error),
        };
        let (event, note, refund_no) = match asked {
            // There is no order that could take it.
            Asked::Accept { .. } => return Captured::Illegal(Arc::new(payment)),
            Asked::Reject { note } => (PaymentEvent::GiveBack, note, String::new()),
            Asked::Refunded { refund_no } => {
                (PaymentEvent::RefundDone, payment.note.clone(), refund_no)
            }
        };
        match payment.step(event) {
            Ok(Some(next)) => {
                let next = Payment {
                    note,
                    refund_no,
                    ..next
                };
                self.put_stray(next, Vec::new()).await
            }
            Ok(None) => stands(payment, true),
            Err(_) => Captured::Illegal(Arc::new(payment)),
        }
    }

    async fn put_stray(&self, payment: Payment, uniques: Vec<bytes::Bytes>) -> Captured {
        let mut draft = facts::payment_draft(None, &payment, self.tools.clock.now());
        draft.uniques = uniques;
        match self.commit(Group::one(draft)).await {
            Ok(()) => {
                if payment.state == PaymentState::RefundDue {
                    self.tools.owed.tell(payment.clone());
                }
                stands(payment, false)
            }
            Err(NotCommitted::Refused(why) | NotCommitted::Unconfirmed(why)) => {
                tracing::error!(why, payment = %payment.id, "commit a payment that names no order");
                Captured::Unknown
            }
        }
    }

    /// A device wants a licence under an entitlement of this order.
    pub async fn license(
        &self,
        order: OrderId,
        entitlement: EntitlementId,
        device: DeviceId,
    ) -> Licensing {
        let act = |reply| Act::License {
            entitlement,
            device,
            reply,
        };
        match self.wish(order, act).await {
            Wished::Heard(said) => said,
            Wished::NoDesk => Licensing::Missing,
            Wished::Silence => Licensing::Unknown,
        }
    }

    /// What a buyer is entitled to, at most so much of it.
    pub fn entitlements_of(
        &self,
        user: &UserId,
        limit: usize,
    ) -> Result<Vec<Entitlement>, FactError> {
        let ledger = &self.tools.ledger;
        let mut own = Vec::new();
        for found in ledger.by_owner(user.as_bytes(), facts::ENTITLEMENT, None, limit)? {
            let snapshot = ledger.entity(&found.group, facts::ENTITLEMENT, &found.id)?;
            if let Some(snapshot) = snapshot {
                own.push(facts::entitlement_of(&snapshot)?);
            }
        }
        Ok(own)
    }

    fn payment_in(&self, group: &[u8], id: &PaymentId) -> Result<Option<Payment>, FactError> {
        let ledger = &self.tools.ledger;
        ledger
            .entity(group, facts::PAYMENT, id.as_bytes())?
            .as_ref()
            .map(facts::payment_of)
            .transpose()
    }

    /// A payment by its id, of whatever sale, or of none.
    pub fn payment(&self, id: &PaymentId) -> Result<Option<Payment>, FactError> {
        if let Some(stray) = self.payment_in(facts::NO_SALE, id)? {
            return Ok(Some(stray));
        }
        for sale in self.sales().keys() {
            if let Some(payment) = self.payment_in(sale.as_bytes(), id)? {
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

    /// Every payment whose money must go back.
    pub fn payments_owed(&self) -> Result<Vec<Payment>, FactError> {
        let mut owed = Vec::new();
        let sales = self.sales();
        // Group by group: a walk over everything would read every order there is.
        let groups = sales.keys().map(SaleId::as_bytes);
        for group in std::iter::once(facts::NO_SALE).chain(groups) {
            let ledger = &self.tools.ledger;
            for found in ledger.entities(Some(group), Some(facts::PAYMENT), true) {
                let payment = facts::payment_of(&found?)?;
                if payment.state == PaymentState::RefundDue {
                    owed.push(payment);
                }
            }
        }
        Ok(owed)
    }
}

fn stands(payment: Payment, replayed: bool) -> Captured {
    Captured::Stands {
        payment: Arc::new(payment),
        replayed,
    }
}

fn unread(error: &FactError) -> Captured {
    tracing::error!(%error, "read a payment");
    Captured::Unknown
}
