//! Payments whose money must go back, on their way to whoever sends it.
//!
//! Bounded, and nothing is lost at the bound: what did not fit is found in the ledger,
//! where it stood before it was told here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::domain::payment::Payment;

/// On their way at once; a refund takes a provider far longer than this takes us.
const ON_THE_WAY_MAX: usize = 4_096;

#[derive(Debug, Clone)]
pub struct Owed {
    tell: mpsc::Sender<Payment>,
    missed: Arc<AtomicBool>,
}

/// The other end.
#[derive(Debug)]
pub struct OwedList {
    heard: mpsc::Receiver<Payment>,
    missed: Arc<AtomicBool>,
}

/// What whoever pays back should do next.
#[derive(Debug)]
pub enum Due {
    Payment(Payment),
    /// Some did not fit: the ledger has all of them.
    LookInTheLedger,
}

impl Owed {
    pub fn channel() -> (Self, OwedList) {
        let (tell, heard) = mpsc::channel(ON_THE_WAY_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let list = OwedList {
            heard,
            missed: Arc::clone(&missed),
        };
        (Self { tell, missed }, list)
    }

    pub fn tell(&self, payment: Payment) {
        if let Err(full) = self.tell.try_send(payment) {
            self.missed.store(true, Ordering::Release);
            // The list may have been emptied in between, before anybody could see that
            // something was missed: then this wakes it. If it is still full, it wakes.
            let (TrySendError::Full(payment) | TrySendError::Closed(payment)) = full;
            let _ = self.tell.try_send(payment);
        }
    }
}

impl OwedList {
    /// `None`: nobody is left who could owe something. Safe to drop midway.
    pub async fn next(&mut self) -> Option<Due> {
        // What did not fit came when the list was full, so the list wakes us first.
        let payment = self.heard.recv().await?;
        if self.missed.swap(false, Ordering::AcqRel) {
            // All that stands in the list is in the ledger as well.
            while self.heard.try_recv().is_ok() {}
            return Some(Due::LookInTheLedger);
        }
        Some(Due::Payment(payment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Channel, ChannelTxnNo};
    use crate::domain::money::{Cents, Currency};
    use crate::domain::payment::PaymentState;
    use crate::domain::time::UnixMs;

    fn payment(n: usize) -> Payment {
        let channel = Channel::parse("card").expect("an id");
        let channel_txn_no = ChannelTxnNo::parse(&format!("t{n}")).expect("an id");
        Payment {
            id: Payment::id_of(&channel, &channel_txn_no),
            order: None,
            channel,
            channel_txn_no,
            amount: Cents(1),
            currency: Currency::parse("EUR").expect("a currency"),
            state: PaymentState::RefundDue,
            paid_at: UnixMs(1),
            received_at: UnixMs(2),
            note: String::new(),
            refund_no: String::new(),
            raw: None,
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_sends_one_to_the_ledger() {
        let (owed, mut list) = Owed::channel();
        owed.tell(payment(0));
        assert!(matches!(list.next().await, Some(Due::Payment(p)) if p == payment(0)));
        for n in 0..=ON_THE_WAY_MAX {
            owed.tell(payment(n));
        }
        assert!(matches!(list.next().await, Some(Due::LookInTheLedger)));
        owed.tell(payment(7));
        assert!(matches!(list.next().await, Some(Due::Payment(p)) if p == payment(7)));
        drop(owed);
        assert!(list.next().await.is_none());
    }
}
