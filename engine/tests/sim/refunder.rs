//! Whoever sends back what is owed, and loses confirmations.

use floodgate_engine::domain::payment::Payment;
use floodgate_engine::sale::{Captured, Due, OwedList};

use crate::line::Line;
use crate::world::ms;

impl Line {
    /// Sends back what is owed, for as long as the engine lives. What is only known to
    /// the ledger is looked up at the start, and when the list says so.
    pub async fn send_back(self, mut list: OwedList) {
        loop {
            match self.selling.payments_owed(usize::MAX) {
                Ok(owed) => {
                    for payment in owed {
                        self.give_back(&payment).await;
                    }
                }
                Err(error) => self.world.breaks(format_args!("payments owed: {error}")),
            }
            loop {
                match list.next().await {
                    Some(Due::Payment(payment)) => self.give_back(&payment).await,
                    Some(Due::LookInTheLedger) => break,
                    None => return,
                }
            }
        }
    }

    async fn give_back(&self, payment: &Payment) {
        let world = &self.world;
        let refund_no = format!("r-{}", payment.channel_txn_no);
        loop {
            tokio::time::sleep(ms(world.draw(|rng| rng.u64(1..80)))).await;
            let sent = (payment.id.clone(), refund_no.clone());
            self.journal.lock().sent_back.extend([sent]);
            world.note(format_args!("{} is sent back", payment.id));
            if world.happens(|r| r.reply_lost) {
                world.count("fault: the confirmation of a refund was lost");
                continue;
            }
            match self.selling.refunded(payment, refund_no.clone()).await {
                _ if world.is_frozen() => return,
                Captured::Stands { payment, .. } => {
                    world.count("heard: refund confirmed");
                    self.is_durable(&payment);
                    return;
                }
                Captured::Unknown => {}
                other @ (Captured::Illegal(_) | Captured::Missing) => {
                    let id = &payment.id;
                    world.breaks(format_args!("{id} was sent back and heard {other:?}"));
                    return;
                }
            }
        }
    }
}
