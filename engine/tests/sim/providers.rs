//! Money: providers who tell of it until they are heard, and operators who decide about it.

use std::time::Duration;

use floodgate_engine::domain::ids::{
    BucketNo, Channel, ChannelTxnNo, NodeNo, OrderId, OrderIdParts, SaleNo,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::domain::time::UnixMs;
use tokio::time::timeout;

use crate::journal::{Capture, Review};
use crate::life::{Engine, Ground, PATIENCE_MS};
use crate::line::Line;
use crate::world::ms;

impl Ground {
    /// Somebody pays, again or in error; or an operator decides about money.
    pub fn money(&mut self, engine: &Engine) {
        match self.rng.u8(..8) {
            0..4 => self.pay(engine),
            4..6 => self.say_again(engine),
            _ => self.review(engine),
        }
    }

    fn known(&mut self) -> Option<OrderId> {
        let journal = self.journal.lock();
        let n = journal.known.len();
        (n > 0).then(|| journal.known[self.rng.usize(..n)].1)
    }

    fn pay(&mut self, engine: &Engine) {
        let Some(order) = self.known() else { return };
        let Some(mut payment) = self.bill(engine, order) else {
            return;
        };
        match self.rng.u8(..16) {
            0 => payment.amount = Cents(payment.amount.0 + 1),
            1 => payment.currency = Currency::parse("USD").expect("a currency"),
            2 => payment.order = Some(self.unknown_order()),
            3 => payment.order = None,
            _ => {}
        }
        // A channel that stalls brings the same thing several times at once.
        let n = if self.rng.u8(..4) == 0 { 3 } else { 1 };
        let at = self.captured(payment.clone());
        for _ in 0..n {
            self.tell(engine, at);
        }
        // And one that is mad names another order for it.
        if self.rng.u8(..6) == 0
            && let Some(other) = self.known()
            && let Some(bill) = self.bill(engine, other)
        {
            let payment = Payment {
                order: bill.order,
                amount: bill.amount,
                ..payment
            };
            let at = self.captured(payment);
            self.tell(engine, at);
        }
    }

    /// What a provider sends when somebody pays for this order, in a new transaction.
    pub fn bill(&self, engine: &Engine, id: OrderId) -> Option<Payment> {
        let (user, _) = {
            let journal = self.journal.lock();
            journal
                .known
                .iter()
                .find(|(_, known)| *known == id)?
                .clone()
        };
        let order = engine.selling.order(&user, id).ok().flatten();
        let Some(order) = order else {
            self.world.breaks(format_args!(
                "P4 never take back a win: {id} was told and is missing"
            ));
            return None;
        };
        let n = self.journal.lock().captures.len();
        let channel = Channel::parse(["card", "wallet"][n % 2]).expect("an id");
        let channel_txn_no = ChannelTxnNo::parse(&format!("t{n}")).expect("an id");
        Some(Payment {
            id: Payment::id_of(&channel, &channel_txn_no),
            order: Some(id),
            channel,
            channel_txn_no,
            amount: order.pay_amount(),
            currency: order.currency,
            state: PaymentState::Captured,
            paid_at: UnixMs(self.world.now()),
            received_at: UnixMs(0),
            note: String::new(),
            refund_no: String::new(),
            raw: None,
        })
    }

    /// Of this sale or of another, and nobody ever heard of it.
    fn unknown_order(&mut self) -> OrderId {
        OrderId::from_parts(OrderIdParts {
            ms: 1,
            bucket: BucketNo(self.rng.u16(..4)),
            sale: SaleNo(self.rng.u16(..3)),
            node: NodeNo(0),
            counter: 0,
            random: 1,
        })
    }

    pub fn captured(&self, payment: Payment) -> usize {
        let mut journal = self.journal.lock();
        let at = journal.captures.len();
        let (order, amount) = (payment.order, payment.amount.0);
        let txn = &payment.channel_txn_no;
        self.world
            .note(format_args!("money {at}: {txn}, {amount} for {order:?}"));
        journal.captures.push(Capture {
            payment,
            is_answered: false,
        });
        at
    }

    fn tell(&mut self, engine: &Engine, at: usize) {
        let (line, patience) = (Line::new(self, engine), self.patience());
        tokio::spawn(async move { timeout(patience, line.tell(at)).await });
    }

    /// For how long somebody listens who may hang up.
    fn patience(&mut self) -> Duration {
        if self.world.happens(|r| r.hang_up) {
            self.world.count("fault: a provider or an operator hung up");
            return ms(self.rng.u64(1..60));
        }
        ms(PATIENCE_MS)
    }

    /// What was not answered comes again, and so does what was.
    fn say_again(&mut self, engine: &Engine) {
        let at = {
            let journal = self.journal.lock();
            let all = journal.captures.iter().enumerate();
            let open: Vec<usize> = all
                .filter(|(_, capture)| !capture.is_answered)
                .map(|(at, _)| at)
                .collect();
            let n = journal.captures.len();
            match open.is_empty() || self.rng.u8(..3) == 0 {
                true if n == 0 => return,
                true => self.rng.usize(..n),
                false => open[self.rng.usize(..open.len())],
            }
        };
        self.world.note(format_args!("money {at}: once more"));
        self.tell(engine, at);
    }

    fn review(&mut self, engine: &Engine) {
        let under_review: Vec<_> = {
            let journal = self.journal.lock();
            let all = journal.answered.iter();
            all.filter(|(_, answered)| answered.state == PaymentState::Review)
                .map(|(id, _)| id.clone())
                .collect()
        };
        if under_review.is_empty() {
            return self.pay(engine);
        }
        let review = Review {
            payment: under_review[self.rng.usize(..under_review.len())].clone(),
            accept: self.rng.bool(),
        };
        self.world.note(format_args!("{review:?}"));
        self.journal.lock().reviews.push(review.clone());
        let (line, patience) = (Line::new(self, engine), self.patience());
        tokio::spawn(async move { timeout(patience, line.review(review)).await });
    }
}
