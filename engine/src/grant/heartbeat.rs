//! Which heartbeats count: each session's go up in number, and what comes twice or late
//! changes nothing.
//!
//! The table never grows past its bound: it has two halves, and when the newer one is
//! full the older is emptied and takes its place. So a session is forgotten only after
//! as many others as half the table holds were heard since its last word; its next
//! heartbeat then counts, whatever its number, and that is all the harm.

use std::collections::HashMap;

type Half = HashMap<u128, u64, foldhash::fast::RandomState>;

#[derive(Debug)]
pub struct Heartbeats {
    /// Session → the last number that counted; a session stands in one half only.
    newer: Half,
    older: Half,
    half_max: usize,
}

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Counted,
    /// It came before, or a later one did: `last` stands.
    Duplicate {
        last: u64,
    },
}

impl Heartbeats {
    /// For at most `sessions_max` sessions.
    pub fn new(sessions_max: usize) -> Self {
        Self {
            newer: Half::default(),
            older: Half::default(),
            half_max: (sessions_max / 2).max(1),
        }
    }

    pub fn beat(&mut self, session: u128, sequence: u64) -> Beat {
        let last = match self.newer.get(&session) {
            Some(last) => Some(*last),
            None => self.older.remove(&session),
        };
        let beat = match last {
            Some(last) if sequence <= last => Beat::Duplicate { last },
            Some(_) | None => Beat::Counted,
        };
        let stands = last.map_or(sequence, |last| last.max(sequence));
        if self.newer.len() >= self.half_max && !self.newer.contains_key(&session) {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
        }
        self.newer.insert(session, stands);
        beat
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_go_up_and_repeats_change_nothing() {
        let mut table = Heartbeats::new(100);
        assert_eq!(table.beat(1, 0), Beat::Counted);
        assert_eq!(table.beat(1, 0), Beat::Duplicate { last: 0 });
        assert_eq!(table.beat(1, 5), Beat::Counted);
        assert_eq!(table.beat(1, 4), Beat::Duplicate { last: 5 });
        assert_eq!(table.beat(2, 4), Beat::Counted, "another session");
        assert_eq!(table.beat(1, u64::MAX), Beat::Counted);
        assert_eq!(table.beat(1, 6), Beat::Duplicate { last: u64::MAX });
    }

    proptest! {
        /// Never more sessions than the bound; and whoever spoke among the last sessions
        /// of half a table is remembered exactly.
        #[test]
        fn the_table_is_bounded_and_remembers_who_spoke_lately(
            half in 1_usize..8,
            beats in prop::collection::vec((0_u128..20, 0_u64..6), 0..200),
        ) {
            let mut table = Heartbeats::new(2 * half);
            let mut heard: Vec<(u128, u64)> = Vec::new();
            for (session, sequence) in beats {
                let mut others = std::collections::BTreeSet::new();
                let mut last = None;
                for (who, n) in heard.iter().rev() {
                    if *who == session {
                        last = Some(*n);
                        break;
                    }
                    others.insert(*who);
                }
                let beat = table.beat(session, sequence);
                prop_assert!(table.len() <= 2 * half);
                let expected = match last {
                    Some(last) if sequence <= last => Beat::Duplicate { last },
                    Some(_) | None => Beat::Counted,
                };
                if others.len() < half {
                    prop_assert_eq!(beat, expected);
                }
                let stands = match beat {
                    Beat::Counted => sequence,
                    Beat::Duplicate { last } => last,
                };
                heard.push((session, stands));
            }
        }
    }
}
