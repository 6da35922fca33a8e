//! The shop floor: which send is due next, and what follows from an answer.
//!
//! One lock, held for well under a microsecond, never across an await. Sends
//! come from the schedule and from a bounded heap of follow-ups (double clicks,
//! retries, reused keys, cancels, callbacks, refunds); the earlier one goes first. A scheduled send
//! that could not start in time is dropped and counted, never sent late in
//! silence. When the heap is full a buyer gives up, and that is counted too.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::task::Waker;

use crate::answer::{Meaning, Outcome, order_id, status};
use crate::buyer::{self, Next, Patience};
use crate::journal::{Act, Entry, Writer};
use crate::pace::Pace;
use crate::pay::{Bill, Claim};
use crate::plan::{Behaviour, Plan, Variant};
use crate::stats::Stats;
use crate::wire::Order;

/// One send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    /// When it is meant to leave; latency counts from here.
    pub intended_us: u64,
    pub attempt: u32,
    pub step: Step,
    pub n_tries: u32,
    /// When the first try of this step was meant to leave.
    pub since_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Buy,
    /// The second click of a double click.
    Click,
    BuyOther,
    Cancel,
    /// One of the plan's callbacks, and which copy of it.
    Callback {
        no: u8,
        copy: u8,
    },
    Refund,
}

impl Step {
    pub fn act(self) -> Act {
        match self {
            Self::Buy | Self::Click => Act::Buy(Variant::First),
            Self::BuyOther => Act::Buy(Variant::Other),
            Self::Cancel => Act::Cancel,
            Self::Callback { no, .. } => Act::Callback(no),
            Self::Refund => Act::Refund,
        }
    }
}

/// What a send is about, beyond its attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    Nothing,
    /// The order that was won.
    Order(String),
    Bill(Bill),
}

/// What is owed, and whether its money was asked back.
struct Owed {
    bill: Bill,
    refund_asked: bool,
}

pub enum Take {
    Job(Job),
    Wait,
    Finished,
}

/// How a send ended, with what the journal keeps of it.
pub struct End<'a> {
    /// None: it could not be sent.
    pub outcome: Option<Outcome>,
    pub status: u16,
    pub retry_after_s: Option<u32>,
    pub body: &'a [u8],
}

/// Enough of an answer outside the contract to see what it was.
const STRANGE_BYTES_MAX: usize = 300;

pub struct Floor {
    plan: Plan,
    pace: Pace,
    patience: Patience,
    drop_after_us: u64,
    pending_max: usize,
    next: u32,
    next_due_us: u64,
    end: u32,
    pending: BinaryHeap<Reverse<Job>>,
    n_busy: usize,
    idle: VecDeque<(usize, Waker)>,
    parked: Vec<bool>,
    won_ids: HashMap<u32, String>,
    owed: HashMap<u32, Owed>,
    pub stats: Stats,
    pub journal: Writer,
}

impl Floor {
    pub fn new(scenario: &crate::scenario::Scenario, plan: Plan, journal: Writer) -> Self {
        Self {
            plan,
            pace: scenario.pace.clone(),
            patience: scenario.patience,
            drop_after_us: scenario.drop_after.as_micros() as u64,
            pending_max: scenario.pending_max,
            next: 0,
            next_due_us: scenario.pace.due_us(0),
            end: scenario.pace.total() as u32,
            pending: BinaryHeap::new(),
            n_busy: 0,
            idle: VecDeque::new(),
            parked: vec![false; scenario.connections],
            won_ids: HashMap::new(),
            owed: HashMap::new(),
            stats: Stats::default(),
            journal,
        }
    }

    pub fn n_pending(&self) -> usize {
        self.pending.len() + self.n_busy
    }

    pub fn n_started(&self) -> u32 {
        self.next
    }

    /// The next send that is due, if a line is free for it.
    pub fn take(&mut self, now_us: u64) -> Take {
        loop {
            let pending_us = self
                .pending
                .peek()
                .map_or(u64::MAX, |Reverse(job)| job.intended_us);
            let scheduled_us = if self.next < self.end {
                self.next_due_us
            } else {
                u64::MAX
            };
            let due_us = pending_us.min(scheduled_us);
            if due_us == u64::MAX && self.n_busy == 0 {
                self.wake_all();
                return Take::Finished;
            }
            if due_us > now_us {
                return Take::Wait;
            }
            let job = if pending_us <= scheduled_us {
                let Some(Reverse(job)) = self.pending.pop() else {
                    return Take::Wait;
                };
                job
            } else {
                let attempt = self.next;
                self.next += 1;
                self.next_due_us = self.pace.due_us(u64::from(self.next));
                if now_us - due_us > self.drop_after_us {
                    self.stats.dropped(1, now_us);
                    continue;
                }
                self.start(attempt, due_us)
            };
            self.n_busy += 1;
            self.stats.sends += 1;
            self.stats.lateness.record(now_us - job.intended_us);
            self.wake_if_due(now_us);
            return Take::Job(job);
        }
    }

    fn start(&mut self, attempt: u32, due_us: u64) -> Job {
        let job = Job {
            intended_us: due_us,
            attempt,
            step: Step::Buy,
            n_tries: 0,
            since_us: due_us,
        };
        if self.plan.behaviour(attempt) == Behaviour::DoubleClick {
            self.follow(
                attempt,
                Step::Click,
                due_us + 1_000 * self.plan.jitter_ms(attempt, 1, 30),
            );
        }
        job
    }

    /// The buyer's own cut comes once, on the first send.
    pub fn cuts(&self, job: &Job) -> bool {
        job.step == Step::Buy
            && job.n_tries == 0
            && self.plan.behaviour(job.attempt) == Behaviour::CutAndRetry
    }

    /// Books the end of a send and decides what follows.
    pub fn book(&mut self, job: Job, end: &End<'_>, sent_us: u64, now_us: u64) {
        self.n_busy -= 1;
        if let Some(outcome) = end.outcome {
            self.stats.answered(outcome, job.intended_us, now_us);
            let strange = matches!(
                outcome,
                Outcome::Unexpected | Outcome::ServerError | Outcome::Unreadable
            );
            let told = matches!(
                outcome,
                Outcome::Canceled | Outcome::Taken | Outcome::GivenBack
            );
            let evidence = if outcome.meaning() == Meaning::Win || told {
                end.body
            } else if strange {
                &end.body[..end.body.len().min(STRANGE_BYTES_MAX)]
            } else {
                &[]
            };
            self.journal.append(&Entry {
                attempt: job.attempt,
                act: job.step.act(),
                outcome,
                status: end.status,
                sent_us,
                took_us: u32::try_from(now_us - sent_us).unwrap_or(u32::MAX),
                body: evidence,
            });
        } else {
            self.stats.connect_failures += 1;
        }
        let jitter_ms = self
            .plan
            .jitter_ms(job.attempt, 2 + u64::from(job.n_tries), 20);
        let waited_ms = now_us.saturating_sub(job.since_us) / 1_000;
        match buyer::next(
            end.outcome,
            job.n_tries,
            waited_ms,
            end.retry_after_s,
            jitter_ms,
            self.patience_of(job.step),
        ) {
            Next::Settled => self.settled(job, end, now_us),
            Next::Again { after_ms } => {
                let again = Job {
                    intended_us: now_us + after_ms * 1_000,
                    n_tries: job.n_tries + 1,
                    ..job
                };
                self.push(again);
            }
            Next::GiveUp => self.stats.gave_up += 1,
        }
        self.wake_if_due(now_us);
    }

    /// Provider and operator are machines: nothing but an answer satisfies them.
    fn patience_of(&self, step: Step) -> Patience {
        let retry_shed = match step {
            Step::Buy | Step::Click | Step::BuyOther | Step::Cancel => self.patience.retry_shed,
            Step::Callback { .. } | Step::Refund => true,
        };
        Patience {
            retry_shed,
            ..self.patience
        }
    }

    fn settled(&mut self, job: Job, end: &End<'_>, now_us: u64) {
        match job.step {
            Step::Buy => {}
            Step::Cancel => {
                self.won_ids.remove(&job.attempt);
                return;
            }
            Step::Callback { no, .. } => return self.heard(job.attempt, no, end, now_us),
            Step::Click | Step::BuyOther | Step::Refund => return,
        }
        self.stats
            .settled
            .record(now_us.saturating_sub(job.since_us));
        let won = end
            .outcome
            .is_some_and(|outcome| outcome.meaning() == Meaning::Win);
        if won {
            self.pays(job.attempt, end.body, now_us);
        }
        match self.plan.behaviour(job.attempt) {
            Behaviour::ReuseKey => {
                self.follow(
                    job.attempt,
                    Step::BuyOther,
                    now_us + 1_000 * self.plan.jitter_ms(job.attempt, 1, 50),
                );
            }
            Behaviour::Cancel if won => {
                if let Some(id) = order_id(end.body) {
                    self.won_ids.insert(job.attempt, id.to_owned());
                    self.follow(
                        job.attempt,
                        Step::Cancel,
                        now_us + 1_000 * self.plan.jitter_ms(job.attempt, 1, 500),
                    );
                }
            }
            Behaviour::Once
            | Behaviour::DoubleClick
            | Behaviour::CutAndRetry
            | Behaviour::Cancel => {}
        }
    }

    /// Everything that the provider will tell of this winner.
    fn pays(&mut self, attempt: u32, body: &[u8], now_us: u64) {
        let callbacks = self.plan.callbacks(attempt);
        // A win that cannot be read is the audit's business.
        let (false, Ok(order)) = (callbacks.is_empty(), Order::parse(body)) else {
            return;
        };
        let Some(id) = order_id(body) else {
            return;
        };
        let bill = Bill {
            order: id.to_owned(),
            amount_cent: order.amount_cent,
            currency: order.currency,
            won_us: now_us,
        };
        let refund_asked = false;
        self.owed.insert(attempt, Owed { bill, refund_asked });
        for callback in callbacks {
            let first_us = now_us + 1_000 * callback.after_ms;
            for copy in 0..callback.n_copies {
                let no = callback.no;
                let at_us = first_us + 1_000 * self.plan.copy_after_ms(attempt, copy);
                self.follow(attempt, Step::Callback { no, copy }, at_us);
            }
        }
    }

    /// The order took a payment: perhaps an operator will give it back.
    fn heard(&mut self, attempt: u32, no: u8, end: &End<'_>, now_us: u64) {
        let applied = end.outcome == Some(Outcome::Taken) && status(end.body) == Some(b"APPLIED");
        let paid = self.plan.callbacks(attempt);
        let paid = paid.iter().any(|c| c.no == no && c.claim == Claim::Success);
        let (true, Some(refund)) = (applied && paid, self.plan.refund(attempt)) else {
            return;
        };
        let Some(owed) = self.owed.get_mut(&attempt) else {
            return;
        };
        if !std::mem::replace(&mut owed.refund_asked, true) {
            self.follow(attempt, Step::Refund, now_us + 1_000 * refund.after_ms);
        }
    }

    pub fn about(&self, job: &Job) -> About {
        let order = || self.won_ids.get(&job.attempt).cloned().map(About::Order);
        let bill = || self.owed.get(&job.attempt).map(|owed| owed.bill.clone());
        match job.step {
            Step::Buy | Step::Click | Step::BuyOther => None,
            Step::Cancel => order(),
            Step::Callback { .. } | Step::Refund => bill().map(About::Bill),
        }
        .unwrap_or(About::Nothing)
    }

    fn follow(&mut self, attempt: u32, step: Step, at_us: u64) {
        self.push(Job {
            intended_us: at_us,
            attempt,
            step,
            n_tries: 0,
            since_us: at_us,
        });
    }

    fn push(&mut self, job: Job) {
        if self.pending.len() < self.pending_max {
            self.pending.push(Reverse(job));
        } else {
            self.stats.gave_up += 1;
        }
    }

    /// No new buyers; who is inside is served to the end.
    pub fn close(&mut self) {
        self.end = self.next;
    }

    /// Nothing new starts; what waits is given up, what is under way is awaited.
    pub fn stop(&mut self) {
        self.end = self.next;
        self.stats.gave_up += self.pending.len() as u64;
        self.pending.clear();
        if self.n_busy == 0 {
            self.wake_all();
        }
    }

    pub fn park(&mut self, line: usize, waker: &Waker) {
        if !self.parked[line] {
            self.parked[line] = true;
            self.idle.push_back((line, waker.clone()));
        }
    }

    /// Wakes one line; it wakes the next one if more is due.
    pub fn wake_if_due(&mut self, now_us: u64) {
        let pending_us = self
            .pending
            .peek()
            .map_or(u64::MAX, |Reverse(job)| job.intended_us);
        let scheduled_us = if self.next < self.end {
            self.next_due_us
        } else {
            u64::MAX
        };
        let finished = pending_us == u64::MAX && scheduled_us == u64::MAX && self.n_busy == 0;
        if (pending_us.min(scheduled_us) <= now_us || finished)
            && let Some((line, waker)) = self.idle.pop_front()
        {
            self.parked[line] = false;
            waker.wake();
        }
    }

    fn wake_all(&mut self) {
        for (line, waker) in self.idle.drain(..) {
            self.parked[line] = false;
            waker.wake();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
