//! What buyers, providers and operators sent and what they heard, in order. The checker
//! knows no more of them, and they know no more of the engine.

use std::collections::BTreeMap;

use floodgate_engine::domain::ids::{IdemKey, OrderId, PaymentId, UserId};
use floodgate_engine::domain::order::OrderEvent;
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::sale::{Refusal, Units};

/// A place in the order of everything that was sent or heard.
pub type Moment = u64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Won { order: OrderId, new: bool },
    Refused(Refusal),
    Shed,
    InProgress,
    Unknown,
    NotReady,
    NoRoom,
}

impl Heard {
    /// Whether it leaves nothing open about this key and body.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Won { .. } | Self::Refused(_) => true,
            Self::Shed | Self::InProgress | Self::Unknown | Self::NotReady | Self::NoRoom => false,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Won { new: true, .. } => "heard: won",
            Self::Won { new: false, .. } => "heard: won before",
            Self::Refused(Refusal::NotOpen) => "heard: not open",
            Self::Refused(Refusal::Paused) => "heard: paused",
            Self::Refused(Refusal::Ended) => "heard: ended",
            Self::Refused(Refusal::NotEnough) => "heard: not enough",
            Self::Refused(Refusal::OverLimit) => "heard: over the limit",
            Self::Refused(Refusal::KeyReused) => "heard: key reused",
            Self::Shed => "heard: shed",
            Self::InProgress => "heard: in progress",
            Self::Unknown => "heard: outcome unknown",
            Self::NotReady => "heard: not ready",
            Self::NoRoom => "heard: no room",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    pub user: UserId,
    pub key: IdemKey,
    pub units: Units,
    pub sent: Moment,
    pub sent_ms: u64,
    pub heard: Option<(Moment, Heard)>,
    /// Nobody waits for the answer any more: the buyer left, or the engine died.
    pub over: bool,
}

#[derive(Debug, Clone)]
pub struct Change {
    pub order: OrderId,
    pub event: OrderEvent,
}

/// Money that a provider took, as it tells of it: again and again until it is heard.
#[derive(Debug, Clone)]
pub struct Capture {
    pub payment: Payment,
    pub is_answered: bool,
}

/// What a provider was told of one transaction.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The furthest that it was said to be.
    pub state: PaymentState,
    /// How often it was said to be new.
    pub n_new: u32,
}

/// What a person decided about a payment under review.
#[derive(Debug, Clone)]
pub struct Review {
    pub payment: PaymentId,
    pub accept: bool,
}

#[derive(Debug, Default)]
pub struct Journal {
    moment: Moment,
    pub requests: Vec<Request>,
    pub changes: Vec<Change>,
    pub captures: Vec<Capture>,
    pub answered: BTreeMap<PaymentId, Answered>,
    pub reviews: Vec<Review>,
    /// Payments that a provider sent back, under which number.
    pub sent_back: BTreeMap<PaymentId, String>,
    /// Orders that somebody was told of, in that order.
    pub known: Vec<(UserId, OrderId)>,
    pub paused: bool,
    pub ended: bool,
    /// Selling stopped for lack of disk at some time.
    pub no_room: bool,
}

impl Journal {
    pub fn moment(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    pub fn send(&mut self, user: UserId, key: IdemKey, units: Units, now: u64) -> usize {
        let sent = self.moment();
        self.requests.push(Request {
            user,
            key,
            units,
            sent,
            sent_ms: now,
            heard: None,
            over: false,
        });
        self.requests.len() - 1
    }

    pub fn hear(&mut self, request: usize, heard: Heard) {
        let at = self.moment();
        if let Heard::Won { order, .. } = heard {
            let user = self.requests[request].user.clone();
            if !self.known.contains(&(user.clone(), order)) {
                self.known.push((user, order));
            }
        }
        self.requests[request].heard = Some((at, heard));
        self.requests[request].over = true;
    }

    /// A provider hears where its payment stands.
    pub fn hear_of(&mut self, capture: usize, payment: &Payment, replayed: bool) {
        self.captures[capture].is_answered = true;
        let answered = self.answered.entry(payment.id.clone());
        let answered = answered.or_insert(Answered {
            state: payment.state,
            n_new: 0,
        });
        if answered.state.rank() < payment.state.rank() {
            answered.state = payment.state;
        }
        answered.n_new += u32::from(!replayed);
    }

    /// Whether a provider ever named this order.
    pub fn is_captured(&self, order: OrderId) -> bool {
        let mut captures = self.captures.iter();
        captures.any(|capture| capture.payment.order == Some(order))
    }

    pub fn open(&self) -> impl Iterator<Item = usize> {
        let requests = self.requests.iter().enumerate();
        requests.filter(|(_, r)| !r.over).map(|(at, _)| at)
    }

    /// The last word on each key and body that left something open.
    pub fn undecided(&self) -> Vec<usize> {
        let same = |one: &Request, other: &Request| {
            one.user == other.user && one.key == other.key && one.units == other.units
        };
        let is_last = |at: usize| {
            let mut later = self.requests[at + 1..].iter();
            !later.any(|other| same(&self.requests[at], other))
        };
        let is_open = |at: usize| {
            let heard = &self.requests[at].heard;
            !heard.as_ref().is_some_and(|(_, heard)| heard.is_definite())
        };
        let all = 0..self.requests.len();
        all.filter(|at| is_open(*at) && is_last(*at)).collect()
    }
}
