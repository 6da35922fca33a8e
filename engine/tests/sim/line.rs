//! Speaking to an engine of money: what was said, what was heard, and that it stands.

use std::sync::Arc;

use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::sale::{Captured, Selling};
use floodgate_ledger::{Kind, Ledger};
use parking_lot::Mutex;

use crate::journal::{Journal, Review};
use crate::life::{Engine, Ground};
use crate::world::{World, ms};

const PAYMENT: Kind = Kind(5);
/// Times that a question is asked when nothing fails any more.
const ASKED_MAX: u32 = 20;

/// What whoever deals with money needs to speak to an engine.
#[derive(Clone)]
pub struct Line {
    pub world: Arc<World>,
    pub journal: Arc<Mutex<Journal>>,
    pub selling: Arc<Selling>,
    pub ledger: Ledger,
}

impl Line {
    pub fn new(ground: &Ground, engine: &Engine) -> Self {
        Self {
            world: Arc::clone(&ground.world),
            journal: Arc::clone(&ground.journal),
            selling: Arc::clone(&engine.selling),
            ledger: engine.ledger.clone(),
        }
    }

    /// A provider tells of its money once, and hears something or does not.
    pub async fn tell(&self, at: usize) -> Option<PaymentState> {
        let world = &self.world;
        let mut payment = self.journal.lock().captures[at].payment.clone();
        let sent_at = world.now();
        payment.received_at = UnixMs(sent_at);
        let heard = self.selling.capture(payment).await;
        if world.is_frozen() {
            return None;
        }
        self.in_time(at, sent_at);
        match heard {
            Captured::Stands { payment, replayed } => {
                world.count(name(payment.state, replayed));
                let state = payment.state;
                world.note(format_args!("money {at}: {state:?}, replayed: {replayed}"));
                self.is_durable(&payment);
                self.journal.lock().hear_of(at, &payment, replayed);
                Some(state)
            }
            Captured::Unknown => {
                world.count("heard: capture unknown");
                world.note(format_args!("money {at}: unknown"));
                None
            }
            other @ (Captured::Illegal(_) | Captured::Missing) => {
                world.breaks(format_args!("money {at} heard {other:?}"));
                None
            }
        }
    }

    fn in_time(&self, at: usize, sent_at: u64) {
        let world = &self.world;
        let waited = world.now() - sent_at;
        // One wait for a desk that may not know the order, one for those without a desk.
        let longest = 2 * world.setup.answer_ms + world.stood_still_ms() + 10;
        if waited > longest {
            world.breaks(format_args!(
                "P5 nothing stays stuck: money {at} was answered after {waited} ms, {longest} at most"
            ));
        }
    }

    /// Whatever is said of a payment stands on the disk at this very moment.
    pub fn is_durable(&self, payment: &Payment) {
        let group = match payment.order {
            Some(_) => self.world.setup.sale.id.as_bytes(),
            None => b"*payments",
        };
        let there = self.ledger.entity(group, PAYMENT, payment.id.as_bytes());
        if !matches!(&there, Ok(Some(there)) if there.version >= payment.state.rank()) {
            let (id, state) = (&payment.id, payment.state);
            self.world.breaks(format_args!(
                "P2 won means durable: {id} was told to be {state:?} and is not in the ledger"
            ));
        }
    }

    /// A provider that is not heard says it again.
    pub async fn tell_until_heard(&self, at: usize) -> Option<PaymentState> {
        for _ in 0..ASKED_MAX {
            let state = self.tell(at).await;
            if state.is_some() || self.world.is_broken() {
                return state;
            }
            tokio::time::sleep(ms(500)).await;
        }
        self.world.breaks(format_args!(
            "P5 nothing stays stuck: nobody says what became of money {at}"
        ));
        None
    }

    pub async fn review(&self, review: Review) {
        let Review { payment, accept } = review;
        let world = &self.world;
        let Ok(Some(payment)) = self.selling.payment(&payment) else {
            world.breaks(format_args!(
                "P4 never take back a win: {payment} was told and is missing"
            ));
            return;
        };
        let answer = self.selling.review(&payment, accept, "so be it".into());
        let answer = answer.await;
        if world.is_frozen() {
            return;
        }
        match answer {
            Captured::Stands { payment, .. } => {
                world.count("heard: reviewed");
                self.is_durable(&payment);
            }
            Captured::Illegal(_) => world.count("heard: review not allowed"),
            Captured::Unknown => world.count("heard: review unknown"),
            Captured::Missing => world.breaks(format_args!("{} is missing", payment.id)),
        }
    }
}

fn name(state: PaymentState, replayed: bool) -> &'static str {
    match (state, replayed) {
        (_, true) => "heard: captured before",
        (PaymentState::Applied, false) => "heard: applied",
        (PaymentState::RefundDue, false) => "heard: refund due",
        (PaymentState::Refunded, false) => "heard: refunded",
        (PaymentState::Review, false) => "heard: review",
        (PaymentState::Captured, false) => "heard: captured",
    }
}
