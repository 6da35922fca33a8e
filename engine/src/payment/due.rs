//! Which refund is tried when. Pure; the clock is handed in.
//!
//! A payment stays here until its refund is durable: one that fails comes back after
//! its backoff, however often. The list is bounded, the ledger is not: what does not
//! fit is remembered as "there is more", and read again when there is room.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::backoff::Backoff;
use crate::domain::ids::PaymentId;
use crate::domain::payment::Payment;

struct Waiting {
    payment: Payment,
    n_tries: u32,
    /// None: it is being tried.
    at: Option<Instant>,
}

pub struct Due {
    by_id: HashMap<PaymentId, Waiting>,
    at: BTreeSet<(Instant, PaymentId)>,
    max: usize,
    more: bool,
    backoff: Backoff,
    seed: u64,
}

impl Due {
    pub fn new(max: usize, backoff: Backoff, seed: u64) -> Self {
        Self {
            by_id: HashMap::new(),
            at: BTreeSet::new(),
            max: max.max(1),
            more: false,
            backoff,
            seed,
        }
    }

    /// Payments that are known to be due, those being tried included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Due from now on; one that is here already stays where it is.
    pub fn add(&mut self, payment: Payment, now: Instant) {
        if self.by_id.contains_key(&payment.id) {
            return;
        }
        if self.by_id.len() >= self.max {
            self.more = true;
            return;
        }
        self.at.insert((now, payment.id.clone()));
        let waiting = Waiting {
            n_tries: 0,
            at: Some(now),
            payment,
        };
        self.by_id.insert(waiting.payment.id.clone(), waiting);
    }

    /// The next one whose time has come; it is being tried from here on.
    pub fn take(&mut self, now: Instant) -> Option<Payment> {
        let (at, id) = self.at.first()?.clone();
        if now < at {
            return None;
        }
        self.at.remove(&(at, id.clone()));
        let waiting = self.by_id.get_mut(&id)?;
        waiting.at = None;
        waiting.n_tries = waiting.n_tries.saturating_add(1);
        Some(waiting.payment.clone())
    }

    /// When the next one's time comes.
    pub fn next_at(&self) -> Option<Instant> {
        self.at.first().map(|(at, _)| *at)
    }

    /// It was not asked about at all: this try does not count.
    pub fn put_off(&mut self, id: &PaymentId, until: Instant) {
        self.wait(id, |waiting, _, _| {
            waiting.n_tries = waiting.n_tries.saturating_sub(1);
            until
        });
    }

    /// It is still due.
    pub fn again(&mut self, id: &PaymentId, now: Instant) {
        self.wait(id, |waiting, backoff, seed| {
            now + backoff.wait(waiting.n_tries, id.as_bytes(), seed)
        });
    }

    fn wait(&mut self, id: &PaymentId, until: impl FnOnce(&mut Waiting, Backoff, u64) -> Instant) {
        let Some(waiting) = self.by_id.get_mut(id).filter(|w| w.at.is_none()) else {
            return;
        };
        let at = until(waiting, self.backoff, self.seed);
        waiting.at = Some(at);
        self.at.insert((at, id.clone()));
    }

    /// The money is back, and that is durable.
    pub fn done(&mut self, id: &PaymentId) {
        if let Some(waiting) = self.by_id.remove(id)
            && let Some(at) = waiting.at
        {
            self.at.remove(&(at, id.clone()));
        }
    }

    /// The ledger has more, and there is room to read it: so until the next one that
    /// does not fit.
    pub fn wants_more(&mut self) -> bool {
        self.more && self.by_id.len() <= self.max / 2 && std::mem::take(&mut self.more)
    }

    /// Somebody could not say what is due: it must be read.
    pub fn missed(&mut self) {
        self.more = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::payment::testing::payment;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(2),
        longest: Duration::from_secs(60),
    };

    #[test]
    fn a_payment_comes_back_until_it_is_done_each_time_later() {
        let (mut due, start) = (Due::new(10, BACKOFF, 7), Instant::now());
        due.add(payment("t1"), start);
        due.add(payment("t1"), start);
        assert_eq!(due.len(), 1);
        let mut now = start;
        for n in 1_u32..30 {
            let taken = due.take(now).expect("its time has come");
            assert_eq!(due.take(now), None, "it is being tried");
            due.add(payment("t1"), now);
            assert_eq!((due.take(now), due.len()), (None, 1), "and known");
            due.again(&taken.id, now);
            let next = due.next_at().expect("it comes back");
            let whole = Duration::from_secs(2_u64.pow(n.min(6)).min(60));
            assert!(next - now >= whole / 2 && next - now <= whole, "try {n}");
            assert_eq!(due.take(next - Duration::from_millis(1)), None);
            now = next;
        }
        let taken = due.take(now).expect("due");
        due.done(&taken.id);
        assert!(due.len() == 0 && due.next_at().is_none());
    }

    #[test]
    fn a_try_that_did_not_happen_does_not_count() {
        let (mut due, now) = (Due::new(10, BACKOFF, 7), Instant::now());
        due.add(payment("t1"), now);
        for n in 0..20 {
            let now = now + Duration::from_secs(n);
            let taken = due.take(now).expect("due");
            due.put_off(&taken.id, now + Duration::from_secs(1));
        }
        let now = now + Duration::from_secs(20);
        let taken = due.take(now).expect("due");
        due.again(&taken.id, now);
        assert!(due.next_at().expect("waits") <= now + BACKOFF.first);
    }

    #[test]
    fn what_does_not_fit_is_read_again_when_there_is_room() {
        let (mut due, now) = (Due::new(4, BACKOFF, 7), Instant::now());
        let all: Vec<_> = (0..6).map(|n| payment(&format!("t{n}"))).collect();
        all.iter().for_each(|p| due.add(p.clone(), now));
        assert_eq!(due.len(), 4);
        let mut done = Vec::new();
        while let Some(taken) = due.take(now) {
            due.done(&taken.id);
            done.push(taken.id.clone());
            if due.wants_more() {
                let left = all.iter().filter(|p| !done.contains(&p.id));
                left.for_each(|p| due.add(p.clone(), now));
            }
        }
        assert_eq!(done.len(), 6, "nothing is dropped");
        assert!(!due.wants_more());
    }
}
