//! Payment sessions that buyers have: one for each order and channel, until it ends.
//! Pure; the clock is handed in.
//!
//! The table is bounded. What does not fit any more is forgotten, the one that ends
//! soonest first, and nothing is lost by it: the provider knows its sessions, and gives
//! the same one again. Until somebody asks, the page does not say "payment in progress".

use std::collections::{BTreeSet, HashMap};

use smallvec::SmallVec;

use super::provider::Session;
use crate::domain::ids::{Channel, OrderId};
use crate::domain::time::UnixMs;

/// Some 300 bytes each: 30 MB when full.
pub const SESSIONS_MAX: usize = 100_000;

pub struct Sessions {
    /// An order has a session or two, the newest last.
    by_order: HashMap<OrderId, SmallVec<[(Channel, Session); 1]>>,
    ends: BTreeSet<(UnixMs, OrderId, Channel)>,
    max: usize,
}

impl Sessions {
    pub fn new(max: usize) -> Self {
        Self {
            by_order: HashMap::new(),
            ends: BTreeSet::new(),
            max: max.max(1),
        }
    }

    /// The session that lives, if one does.
    pub fn find(&self, order: OrderId, channel: &Channel, now: UnixMs) -> Option<&Session> {
        let (_, session) = self
            .by_order
            .get(&order)?
            .iter()
            .find(|(of, s)| of == channel && now < s.expires_at)?;
        Some(session)
    }

    /// The newest session of an order that lives, whatever its channel.
    pub fn newest(&self, order: OrderId, now: UnixMs) -> Option<&(Channel, Session)> {
        let sessions = self.by_order.get(&order)?.iter();
        sessions.rev().find(|(_, s)| now < s.expires_at)
    }

    /// Keeps it, unless another one came first: then that one counts.
    pub fn put(
        &mut self,
        order: OrderId,
        channel: Channel,
        session: Session,
        now: UnixMs,
    ) -> Session {
        if let Some(first) = self.find(order, &channel, now) {
            return first.clone();
        }
        self.remove(order, &channel);
        self.drop_ended(now);
        while self.ends.len() >= self.max
            && let Some((_, order, channel)) = self.ends.first().cloned()
        {
            self.remove(order, &channel);
        }
        self.ends
            .insert((session.expires_at, order, channel.clone()));
        let of_order = self.by_order.entry(order).or_default();
        of_order.push((channel, session.clone()));
        session
    }

    /// The order is paid, or closed: nobody needs a session for it.
    pub fn forget(&mut self, order: OrderId) {
        for (channel, session) in self.by_order.remove(&order).unwrap_or_default() {
            self.ends.remove(&(session.expires_at, order, channel));
        }
    }

    fn drop_ended(&mut self, now: UnixMs) {
        while let Some((ends_at, order, channel)) = self.ends.first().cloned()
            && ends_at <= now
        {
            self.remove(order, &channel);
        }
    }

    fn remove(&mut self, order: OrderId, channel: &Channel) {
        let Some(of_order) = self.by_order.get_mut(&order) else {
            return;
        };
        if let Some(at) = of_order.iter().position(|(of, _)| of == channel) {
            let (channel, session) = of_order.remove(at);
            self.ends.remove(&(session.expires_at, order, channel));
        }
        if of_order.is_empty() {
            self.by_order.remove(&order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::testing::order;

    impl Sessions {
        fn len(&self) -> usize {
            self.ends.len()
        }
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name).expect("an id")
    }

    fn session(token: &str, expires_at: u64) -> Session {
        Session {
            token: token.into(),
            pay_url: format!("/pay/{token}"),
            expires_at: UnixMs(expires_at),
        }
    }

    #[test]
    fn an_order_has_one_session_a_channel_until_it_ends() {
        let mut sessions = Sessions::new(10);
        let (card, wallet) = (channel("card"), channel("wallet"));
        let put = |s: &mut Sessions, c: &Channel, token, ends, now| {
            s.put(order(1), c.clone(), session(token, ends), UnixMs(now))
                .token
        };
        assert_eq!(put(&mut sessions, &card, "a", 100, 0), "a");
        assert_eq!(put(&mut sessions, &card, "b", 200, 99), "a", "it lives");
        assert_eq!(put(&mut sessions, &wallet, "c", 150, 99), "c");
        let newest = |s: &Sessions, now| s.newest(order(1), UnixMs(now)).map(|n| n.1.token.clone());
        assert_eq!(newest(&sessions, 99).as_deref(), Some("c"));
        assert_eq!(put(&mut sessions, &card, "d", 300, 100), "d", "it ended");
        assert_eq!(sessions.len(), 2);
        assert_eq!(newest(&sessions, 299).as_deref(), Some("d"));
        assert_eq!(newest(&sessions, 300), None);
        sessions.forget(order(1));
        assert!(sessions.len() == 0 && sessions.by_order.is_empty());
    }

    #[test]
    fn a_full_table_forgets_what_ends_soonest_and_never_grows() {
        let mut sessions = Sessions::new(3);
        for n in 0..100 {
            let ends = 1_000 + u64::from((n * 37) % 100);
            sessions.put(order(n), channel("card"), session("x", ends), UnixMs(0));
            assert!(sessions.len() <= 3 && sessions.by_order.len() == sessions.len());
        }
        let late = |n| {
            sessions
                .find(order(n), &channel("card"), UnixMs(0))
                .is_some()
        };
        // 27 * 37 % 100 = 99 ends last of all.
        assert!(late(99) && late(27) && !late(0));
        let mut sessions = Sessions::new(1_000);
        for n in 0..100 {
            let now = u64::from(n) * 10;
            sessions.put(
                order(n),
                channel("card"),
                session("x", now + 50),
                UnixMs(now),
            );
            assert!(sessions.len() <= 5, "the ended ones are gone");
        }
    }
}
