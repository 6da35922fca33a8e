//! Payments that name no order of ours. They belong to no desk: they stand under review,
//! in a group of their own, until a person sends them back.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use floodgate_ledger::{Group, Ledger};
use tokio::sync::Mutex;

use super::answer::Captured;
use super::desk::Asked;
use super::facts::{self, FactError};
use super::owed::Owed;
use crate::domain::ids::PaymentId;
use crate::domain::payment::{Payment, PaymentEvent, PaymentState};
use crate::domain::time::Clock;

pub struct Unclaimed {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    owed: Owed,
    /// One is written at a time, so that each sees the ones before it.
    turn: Arc<Mutex<()>>,
}

impl Unclaimed {
    pub fn new(ledger: Ledger, clock: Arc<dyn Clock>, owed: Owed) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            clock,
            owed,
            turn: Arc::default(),
        })
    }

    pub async fn capture(self: Arc<Self>, payment: Payment) -> Captured {
        let unclaimed = Arc::clone(&self);
        self.in_turn(async move { unclaimed.take(payment).await })
            .await
    }

    pub async fn ask(self: Arc<Self>, id: PaymentId, asked: Asked) -> Captured {
        let unclaimed = Arc::clone(&self);
        self.in_turn(async move { unclaimed.answer(&id, asked).await })
            .await
    }

    /// Once begun it goes to its end, whoever waits: what is owed must be told.
    async fn in_turn(&self, asked: impl Future<Output = Captured> + Send + 'static) -> Captured {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let asked = tokio::spawn(async move {
            let captured = asked.await;
            drop(turn);
            captured
        });
        // An error means that the runtime is going down.
        asked.await.unwrap_or(Captured::Unknown)
    }

    async fn take(&self, payment: Payment) -> Captured {
        let (channel, txn) = (&payment.channel, &payment.channel_txn_no);
        match facts::find_payment(&self.ledger, channel, txn) {
            Ok(None) => {}
            Ok(Some(known)) => return stands(known, true),
            Err(error) => return unread(&error),
        }
        let note = match payment.order {
            Some(order) => format!("it names order {order}, which is not here"),
            None if payment.note.is_empty() => "it names no order".to_owned(),
            // Whoever read it could say more.
            None => payment.note.clone(),
        };
        let key = facts::payment_key(channel, txn);
        let payment = Payment {
            order: None,
            state: PaymentState::Review,
            note,
            ..payment
        };
        self.put(payment, vec![key]).await
    }

    async fn answer(&self, id: &PaymentId, asked: Asked) -> Captured {
        let payment = match facts::load_payment(&self.ledger, facts::NO_SALE, id) {
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
                self.put(next, Vec::new()).await
            }
            Ok(None) => stands(payment, true),
            Err(_) => Captured::Illegal(Arc::new(payment)),
        }
    }

    async fn put(&self, payment: Payment, uniques: Vec<Bytes>) -> Captured {
        let mut draft = facts::payment_draft(None, &payment, self.clock.now());
        draft.uniques = uniques;
        let committed = match self.ledger.append(Group::one(draft)).await {
            Ok(receipt) => receipt.await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = committed {
            tracing::error!(error, payment = %payment.id, "commit a payment that names no order");
            return Captured::Unknown;
        }
        if payment.state == PaymentState::RefundDue {
            self.owed.tell(payment.clone());
        }
        stands(payment, false)
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
