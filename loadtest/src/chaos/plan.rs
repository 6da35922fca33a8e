//! What goes wrong, and when: drawn from a seed, so that a bad day can be had again.
//! Pure.
//!
//! Kinds are dealt like cards: each comes once before any comes twice.

use super::proxy::Way;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SIGKILL, and it starts with nothing.
    RedisEmpty,
    /// SIGKILL, and it starts with what it had some time ago.
    RedisOlder,
    /// Every server at once, with all that they kept on disk.
    RedisErased,
    /// Its replica, which lags, takes its place; the next time it takes it back.
    RedisFailover,
    /// An operator's slip, on one server.
    FlushAll,
    ScriptFlush,
    /// The keys of one bucket are gone, the others are there.
    BucketLost,
    /// SIGSTOP, later SIGCONT.
    RedisFrozen,
    /// A stranger's script that does not end.
    RedisBusy,
    /// No memory for anything new.
    RedisFull,
    LinesCut,
    LinesClosed,
    LinesSlow,
    /// Calls arrive, replies do not.
    RepliesLost,
    /// Calls leave and never arrive.
    CallsLost,
    /// The connection ends amid a call.
    CallCutShort,
    /// The connection ends amid a reply.
    ReplyCutShort,
    HalfClosed,
    /// The network brings calls several times, the copies late.
    CallsRepeated,
    EngineKilled,
    EngineFrozen,
    /// Its disk is gone, and `floodgate recover` makes another one.
    LedgerLost,
    /// The same with a copy of the disk from before.
    LedgerOlder,
    /// SIGKILL to all of it; it starts again after a while.
    StoreKilled,
    StoreFrozen,
    StoreClosed,
    /// The connection ends amid a reply: perhaps the one to COMMIT.
    StoreCutShort,
    /// An operator's slip: every table is gone.
    StoreErased,
    /// A backup is put back.
    StoreOlder,
    /// It refuses the orders of some buyers, until an operator mends it and replays them.
    RowsRefused,
}

impl Kind {
    /// In the order in which they are shown.
    const ALWAYS: [Self; 22] = [
        Self::RedisEmpty,
        Self::RedisOlder,
        Self::RedisErased,
        Self::FlushAll,
        Self::ScriptFlush,
        Self::BucketLost,
        Self::RedisFrozen,
        Self::RedisBusy,
        Self::RedisFull,
        Self::LinesCut,
        Self::LinesClosed,
        Self::LinesSlow,
        Self::RepliesLost,
        Self::CallsLost,
        Self::CallCutShort,
        Self::ReplyCutShort,
        Self::HalfClosed,
        Self::CallsRepeated,
        Self::EngineKilled,
        Self::EngineFrozen,
        Self::LedgerLost,
        Self::LedgerOlder,
    ];
    /// For an order store that is a server.
    const OF_STORES: [Self; 7] = [
        Self::StoreKilled,
        Self::StoreFrozen,
        Self::StoreClosed,
        Self::StoreCutShort,
        Self::StoreErased,
        Self::StoreOlder,
        Self::RowsRefused,
    ];

    pub fn all(setting: Setting) -> impl Iterator<Item = Self> {
        let stores = setting.with_store.then_some(Self::OF_STORES);
        let clusters = (setting.servers > 1).then_some(Self::RedisFailover);
        let some = stores.into_iter().flatten().chain(clusters);
        Self::ALWAYS.into_iter().chain(some)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::RedisEmpty => "redis-empty",
            Self::RedisOlder => "redis-older",
            Self::RedisErased => "redis-erased",
            Self::RedisFailover => "redis-failover",
            Self::FlushAll => "flush-all",
            Self::ScriptFlush => "script-flush",
            Self::BucketLost => "bucket-lost",
            Self::RedisFrozen => "redis-frozen",
            Self::RedisBusy => "redis-busy",
            Self::RedisFull => "redis-full",
            Self::LinesCut => "lines-cut",
            Self::LinesClosed => "lines-closed",
            Self::LinesSlow => "lines-slow",
            Self::RepliesLost => "replies-lost",
            Self::CallsLost => "calls-lost",
            Self::CallCutShort => "call-cut-short",
            Self::ReplyCutShort => "reply-cut-short",
            Self::HalfClosed => "half-closed",
            Self::CallsRepeated => "calls-repeated",
            Self::EngineKilled => "engine-killed",
            Self::EngineFrozen => "engine-frozen",
            Self::LedgerLost => "ledger-lost",
            Self::LedgerOlder => "ledger-older",
            Self::StoreKilled => "store-killed",
            Self::StoreFrozen => "store-frozen",
            Self::StoreClosed => "store-closed",
            Self::StoreCutShort => "store-cut-short",
            Self::StoreErased => "store-erased",
            Self::StoreOlder => "store-older",
            Self::RowsRefused => "rows-refused",
        }
    }

    /// The ledger goes: what it alone knows would be lost with it.
    pub fn needs_other_copy(self) -> bool {
        matches!(self, Self::LedgerLost | Self::LedgerOlder)
    }

    /// The engine ends, and takes its counters with it.
    pub fn ends_engine(self) -> bool {
        self == Self::EngineKilled || self.needs_other_copy()
    }
}

/// A fault and all that chance has a say in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// Which of the servers, where there are several.
    pub server: usize,
    /// How long it lasts, if it lasts.
    pub ms: u64,
    /// How much passes before a cut.
    pub bytes: u64,
    pub way: Way,
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub servers: usize,
    /// Whether the order store is a server.
    pub with_store: bool,
    /// Longest time that anything stands still.
    pub ms_max: u64,
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 0 to one less than `below`.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }

    fn shuffle<T>(&mut self, cards: &mut [T]) {
        for last in (1..cards.len()).rev() {
            cards.swap(last, self.roll(last as u64 + 1) as usize);
        }
    }
}

const FROZEN_MS_MIN: u64 = 300;
/// A batch of calls has a few kilobytes, a reply some hundred bytes.
const BYTES_MAX: u64 = 4_000;

/// The faults of a seed, without an end.
pub fn faults(seed: u64, setting: Setting) -> impl Iterator<Item = Fault> {
    let mut dice = Dice::new(seed);
    let mut cards: Vec<Kind> = Vec::new();
    std::iter::from_fn(move || {
        if cards.is_empty() {
            cards.extend(Kind::all(setting));
            dice.shuffle(&mut cards);
        }
        let range = setting.ms_max.saturating_sub(FROZEN_MS_MIN);
        Some(Fault {
            kind: cards.pop()?,
            server: dice.roll(setting.servers as u64) as usize,
            ms: FROZEN_MS_MIN + dice.roll(range + 1),
            bytes: 1 + dice.roll(BYTES_MAX),
            way: match dice.roll(2) {
                0 => Way::Up,
                _odd => Way::Down,
            },
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SETTING: Setting = Setting {
        servers: 3,
        with_store: true,
        ms_max: 5_000,
    };

    #[test]
    fn a_seed_tells_the_same_day_and_another_one_another() {
        let day = |seed| faults(seed, SETTING).take(100).collect::<Vec<_>>();
        assert_eq!(day(7), day(7));
        assert_ne!(day(7), day(8));
    }

    #[test]
    fn every_kind_comes_once_before_any_comes_twice() {
        for (with_store, servers) in [(false, 1), (true, 1), (true, 3)] {
            let setting = Setting {
                with_store,
                servers,
                ..SETTING
            };
            let n_kinds = Kind::all(setting).count();
            let day: Vec<_> = faults(1, setting)
                .map(|fault| fault.kind)
                .take(90)
                .collect();
            for round in day.chunks(n_kinds) {
                assert_eq!(round.iter().collect::<HashSet<_>>().len(), round.len());
            }
        }
    }

    #[test]
    fn nothing_lasts_longer_than_it_may_and_every_server_has_its_turn() {
        let day: Vec<_> = faults(1, SETTING).take(1_000).collect();
        assert!(day.iter().all(|f| (FROZEN_MS_MIN..=5_000).contains(&f.ms)));
        let servers: HashSet<_> = day.iter().map(|fault| fault.server).collect();
        assert_eq!(servers, HashSet::from([0, 1, 2]));
    }
}
