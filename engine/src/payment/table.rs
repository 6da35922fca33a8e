//! Sessions as the mock keeps them: by token, bounded, each until it ends. Pure.

use std::collections::{BTreeSet, HashMap};

use super::provider::{Ask, Session};
use crate::domain::ids::{Channel, OrderId};
use crate::domain::time::UnixMs;

struct Entry {
    ask: Ask,
    session: Session,
    n_presses: u32,
}

pub struct Table {
    by_token: HashMap<String, Entry>,
    by_order: HashMap<(OrderId, Channel), String>,
    ends: BTreeSet<(UnixMs, String)>,
    max: usize,
}

impl Table {
    pub fn new(max: usize) -> Self {
        Self {
            by_token: HashMap::new(),
            by_order: HashMap::new(),
            ends: BTreeSet::new(),
            max: max.max(1),
        }
    }

    /// The session of this order and channel that lives; else `make` makes one. `None`
    /// when the table is full of sessions that live.
    pub fn open(
        &mut self,
        ask: &Ask,
        now: UnixMs,
        make: impl FnOnce() -> Session,
    ) -> Option<Session> {
        while let Some((ends_at, token)) = self.ends.first().cloned()
            && ends_at <= now
        {
            self.ends.remove(&(ends_at, token.clone()));
            if let Some(entry) = self.by_token.remove(&token) {
                self.by_order.remove(&(entry.ask.order, entry.ask.channel));
            }
        }
        let key = (ask.order, ask.channel.clone());
        if let Some(entry) = self.by_order.get(&key).and_then(|t| self.by_token.get(t)) {
            return Some(entry.session.clone());
        }
        if self.by_token.len() >= self.max {
            return None;
        }
        let session = make();
        self.ends
            .insert((session.expires_at, session.token.clone()));
        self.by_order.insert(key, session.token.clone());
        self.by_token.insert(
            session.token.clone(),
            Entry {
                ask: ask.clone(),
                session: session.clone(),
                n_presses: 0,
            },
        );
        Some(session)
    }

    pub fn find(&self, token: &str, now: UnixMs) -> Option<&Ask> {
        let entry = self.by_token.get(token)?;
        (now < entry.session.expires_at).then_some(&entry.ask)
    }

    /// What is being paid, and how many buttons were pressed before.
    pub fn press(&mut self, token: &str, now: UnixMs) -> Option<(Ask, u32)> {
        let entry = self.by_token.get_mut(token)?;
        if entry.session.expires_at <= now {
            return None;
        }
        let n = entry.n_presses;
        entry.n_presses = n.saturating_add(1);
        Some((entry.ask.clone(), n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::testing;

    fn open(table: &mut Table, n: u16, channel: &str, until: u64, now: u64) -> Option<String> {
        let ask = testing::ask(n, channel, UnixMs(until));
        let session = table.open(&ask, UnixMs(now), || Session {
            token: format!("{n}-{channel}-{now}"),
            pay_url: String::new(),
            expires_at: UnixMs(until),
        });
        session.map(|s| s.token)
    }

    #[test]
    fn the_same_order_and_channel_have_one_session_until_it_ends() {
        let mut table = Table::new(10);
        let first = open(&mut table, 1, "card", 100, 0).expect("room");
        assert_eq!(open(&mut table, 1, "card", 100, 99), Some(first.clone()));
        assert_ne!(open(&mut table, 1, "wallet", 100, 99), Some(first.clone()));
        assert_ne!(open(&mut table, 2, "card", 100, 99), Some(first.clone()));
        assert_eq!(table.press(&first, UnixMs(99)).map(|p| p.1), Some(0));
        assert_eq!(table.press(&first, UnixMs(99)).map(|p| p.1), Some(1));
        assert!(table.find(&first, UnixMs(99)).is_some());
        assert!(table.find(&first, UnixMs(100)).is_none());
        assert!(table.press(&first, UnixMs(100)).is_none());
        assert_eq!(
            open(&mut table, 1, "card", 200, 100).as_deref(),
            Some("1-card-100")
        );
    }

    #[test]
    fn a_full_table_takes_nobody_until_somebody_ends() {
        let mut table = Table::new(2);
        assert!(open(&mut table, 1, "card", 100, 0).is_some());
        assert!(open(&mut table, 2, "card", 200, 0).is_some());
        assert_eq!(open(&mut table, 3, "card", 200, 99), None);
        assert!(open(&mut table, 3, "card", 200, 100).is_some());
        assert_eq!((table.by_token.len(), table.by_order.len()), (2, 2));
    }
}
