//! How often one user, one device, one address may ask; who is turned away by name,
//! and who passes by name. Purchases are limited, and wishes for licences, each alone.
//!
//! The narrowest limit is asked first: a user who asks too often uses up nothing of
//! what the neighbours behind the same address have. The arithmetic is governor's
//! (the generic cell rate algorithm), the memory is a [`Table`], and the time is
//! handed in.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::gate::Shed;
use super::metrics::AdmissionMetrics;
use super::table::Table;
use crate::config::{BuyerRules, Names, Rate};
use crate::domain::ids::{DeviceId, UserId};
use crate::domain::ip::ClientNet;

/// What a limit counts, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    User,
    Device,
    Ip,
    /// Not purchases: wishes of one user that a device may have a licence.
    Licenses,
}

impl Limit {
    pub const ALL: [Self; 4] = [Self::User, Self::Device, Self::Ip, Self::Licenses];
    const OF_PURCHASES: [Self; 3] = [Self::User, Self::Device, Self::Ip];

    /// The label in metrics, and the name of the policy in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Device => "device",
            Self::Ip => "ip",
            Self::Licenses => "licenses",
        }
    }
}

/// Who asks, as far as limits care.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub user: &'a UserId,
    pub device: Option<&'a DeviceId>,
    pub ip: IpAddr,
}

/// What one limit leaves the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub requests: u32,
    /// One more may come after this long at the latest.
    pub more_after: Duration,
}

/// How the asker stands with each limit that was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing([Option<Left>; Limit::ALL.len()]);

impl Standing {
    pub fn left(&self, limit: Limit) -> Option<Left> {
        self.0[limit as usize]
    }
}

/// A call whose buyer is within every limit; only [`Limits::clear`] can make one.
#[derive(Debug)]
pub struct Cleared<T>(T);

impl<T> Cleared<T> {
    /// Another call of the same buyer.
    pub fn map<U>(self, call: impl FnOnce(T) -> U) -> Cleared<U> {
        Cleared(call(self.0))
    }

    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

/// The time of the request at hand. Two at once may see each other's: they differ
/// by what a request takes, and no limit is that fine.
#[derive(Debug, Clone, Default)]
struct HandedIn(Arc<AtomicU64>);

impl Clock for HandedIn {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[derive(Debug)]
struct Limiter {
    governor: RateLimiter<u128, Table, HandedIn, StateInformationMiddleware>,
    interval: Duration,
}

impl Limiter {
    /// What is left after this request, or how long to wait for the next one.
    fn ask(&self, key: u128, now: Nanos) -> Result<Left, Duration> {
        match self.governor.check_key(&key) {
            Ok(state) => Ok(Left {
                requests: state.remaining_burst_capacity(),
                more_after: self.interval,
            }),
            Err(until) => Err(until.wait_time_from(now)),
        }
    }
}

#[derive(Debug)]
pub struct Limits {
    clock: HandedIn,
    limiters: [Option<Limiter>; Limit::ALL.len()],
    deny: Names,
    allow: Names,
    /// Nobody outside can make two keys meet.
    seed: u64,
}

impl Limits {
    pub fn new(rules: &BuyerRules, seed: u64, metrics: &AdmissionMetrics) -> Self {
        let clock = HandedIn::default();
        let limiter = |limit: Limit, rate: Rate| {
            let interval = u64::try_from(rate.interval.as_nanos()).unwrap_or(u64::MAX);
            let table = Table::new(rules.keys_max, interval, metrics.overflows(limit));
            let quota = Quota::with_period(rate.interval)?.allow_burst(rate.burst);
            Some(Limiter {
                governor: RateLimiter::new(quota, table, clock.clone()),
                interval: rate.interval,
            })
        };
        Self {
            limiters: Limit::ALL.map(|limit| limiter(limit, rules.rate(limit)?)),
            clock: clock.clone(),
            deny: rules.deny.clone(),
            allow: rules.allow.clone(),
            seed,
        }
    }

    /// `now` runs from any fixed start. What was spent on one limit is spent, also
    /// when the next one says no.
    pub fn clear<T>(
        &self,
        call: T,
        asker: &Asker<'_>,
        now: Duration,
    ) -> (Standing, Result<Cleared<T>, Shed>) {
        if self.deny.has(asker.user, asker.ip) {
            return (Standing::default(), Err(Shed::Denied));
        }
        let (standing, asked) = self.ask(&Limit::OF_PURCHASES, asker, now);
        (standing, asked.map(|()| Cleared(call)))
    }

    /// As [`Self::clear`], of a licence. Who may not buy may use what was bought before.
    pub fn license(&self, asker: &Asker<'_>, now: Duration) -> (Standing, Result<(), Shed>) {
        self.ask(&[Limit::Licenses], asker, now)
    }

    fn ask(
        &self,
        limits: &[Limit],
        asker: &Asker<'_>,
        now: Duration,
    ) -> (Standing, Result<(), Shed>) {
        let mut standing = Standing::default();
        if self.allow.has(asker.user, asker.ip) {
            return (standing, Ok(()));
        }
        let now = Nanos::from(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        self.clock.0.store(now.as_u64(), Ordering::Relaxed);
        for &limit in limits {
            let Some(limiter) = &self.limiters[limit as usize] else {
                continue;
            };
            let Some(key) = self.key(limit, asker) else {
                continue;
            };
            let left = limiter.ask(key, now);
            standing.0[limit as usize] = Some(left.unwrap_or_else(|wait| Left {
                requests: 0,
                more_after: wait,
            }));
            if let Err(retry_after) = left {
                return (standing, Err(Shed::Limited { limit, retry_after }));
            }
        }
        (standing, Ok(()))
    }

    fn key(&self, limit: Limit, asker: &Asker<'_>) -> Option<u128> {
        let hash = |bytes: &[u8]| xxh3_128_with_seed(bytes, self.seed);
        match limit {
            Limit::User | Limit::Licenses => Some(hash(asker.user.as_bytes())),
            Limit::Device => asker.device.map(|device| hash(device.as_bytes())),
            Limit::Ip => Some(hash(&ClientNet::of(asker.ip).to_bytes())),
        }
    }
}

impl BuyerRules {
    pub fn rate(&self, limit: Limit) -> Option<Rate> {
        match limit {
            Limit::User => self.per_user,
            Limit::Device => self.per_device,
            Limit::Ip => self.per_ip,
            Limit::Licenses => self.licenses_per_user,
        }
    }
}

#[cfg(test)]
pub(super) fn cleared<T>(call: T) -> Cleared<T> {
    Cleared(call)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::Names;
    use crate::domain::ip::IpRange;
    use proptest::prelude::*;

    fn rate(interval_ms: u64, burst: u32) -> Option<Rate> {
        Some(Rate {
            interval: Duration::from_millis(interval_ms),
            burst: NonZeroU32::new(burst).expect("not zero"),
        })
    }

    fn limits(rules: BuyerRules) -> Limits {
        let metrics = AdmissionMetrics::register(&prometheus::Registry::new()).expect("metrics");
        let rules = BuyerRules {
            keys_max: 1_024,
            ..rules
        };
        Limits::new(&rules, 7, &metrics)
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect(name)
    }

    /// `ana phone 192.0.2.1`, or `-` for no device; what came of it at `ms`.
    fn ask(limits: &Limits, who: &str, ms: u64) -> (Standing, Option<Shed>) {
        let mut words = who.split(' ');
        let mut word = || words.next().expect("three words");
        let (name, device, ip) = (word(), word(), word());
        let device = (device != "-").then(|| DeviceId::parse(device).expect("a device"));
        let asker = Asker {
            user: &user(name),
            device: device.as_ref(),
            ip: ip.parse().expect("an address"),
        };
        let (standing, cleared) = limits.clear((), &asker, Duration::from_millis(ms));
        (standing, cleared.err())
    }

    fn limited(limit: Limit, ms: u64) -> Option<Shed> {
        let retry_after = Duration::from_millis(ms);
        Some(Shed::Limited { limit, retry_after })
    }

    #[test]
    fn a_burst_then_the_rate_for_each_user_alone() {
        let limits = limits(BuyerRules {
            per_user: rate(100, 2),
            ..BuyerRules::default()
        });
        let left = |standing: Standing| standing.left(Limit::User).expect("asked").requests;
        let (standing, shed) = ask(&limits, "ana - 192.0.2.1", 0);
        assert_eq!((left(standing), shed), (1, None));
        let (standing, shed) = ask(&limits, "ana - 192.0.2.1", 0);
        assert_eq!((left(standing), shed), (0, None));
        let (standing, shed) = ask(&limits, "ana - 192.0.2.1", 30);
        assert_eq!((left(standing), shed), (0, limited(Limit::User, 70)));
        assert_eq!(standing.left(Limit::Ip), None, "nobody asked");
        assert_eq!(ask(&limits, "bob - 192.0.2.1", 30).1, None);
        assert_eq!(ask(&limits, "ana - 192.0.2.1", 100).1, None);
        assert_eq!(
            ask(&limits, "ana - 192.0.2.1", 100).1,
            limited(Limit::User, 100)
        );
        // After a quiet time the burst is whole again, and not more.
        let burst = (0..9).filter(|_| ask(&limits, "ana - 192.0.2.1", 60_000).1.is_none());
        assert_eq!(burst.count(), 2);
    }

    #[test]
    fn the_narrowest_limit_speaks_first_and_spares_the_others() {
        let limits = limits(BuyerRules {
            per_user: rate(1_000, 1),
            per_device: rate(1_000, 2),
            per_ip: rate(1_000, 3),
            ..BuyerRules::default()
        });
        assert_eq!(ask(&limits, "ana phone 192.0.2.1", 0).1, None);
        for _ in 0..9 {
            let shed = ask(&limits, "ana phone 192.0.2.1", 0).1;
            assert_eq!(shed, limited(Limit::User, 1_000));
        }
        assert_eq!(ask(&limits, "bob phone 192.0.2.1", 0).1, None);
        let shed = ask(&limits, "cid phone 192.0.2.1", 0).1;
        assert_eq!(shed, limited(Limit::Device, 1_000));
        assert_eq!(
            ask(&limits, "dan - 192.0.2.1", 0).1,
            None,
            "no device, no limit"
        );
        let shed = ask(&limits, "eve pad 192.0.2.1", 0).1;
        assert_eq!(shed, limited(Limit::Ip, 1_000));
        assert_eq!(ask(&limits, "fay pad 192.0.2.2", 0).1, None);
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_address_is_ipv4() {
        let limits = limits(BuyerRules {
            per_ip: rate(1_000, 1),
            ..BuyerRules::default()
        });
        assert_eq!(ask(&limits, "a - 2001:db8::1", 0).1, None);
        assert!(ask(&limits, "b - 2001:db8::ffff:2", 0).1.is_some());
        assert_eq!(ask(&limits, "c - 2001:db8:0:1::1", 0).1, None);
        assert_eq!(ask(&limits, "d - 192.0.2.1", 0).1, None);
        assert!(ask(&limits, "e - ::ffff:192.0.2.1", 0).1.is_some());
    }

    #[test]
    fn the_denied_buy_nothing_and_the_allowed_have_no_rate() {
        let names = |user_name: &str, range: &str| Names {
            users: [user(user_name)].into(),
            ips: [IpRange::parse(range).expect(range)].into_iter().collect(),
        };
        let limits = limits(BuyerRules {
            per_user: rate(1_000, 1),
            deny: names("mallory", "198.51.100.0/24"),
            allow: names("office", "10.0.0.0/8"),
            ..BuyerRules::default()
        });
        let denied = Some(Shed::Denied);
        assert_eq!(ask(&limits, "mallory - 192.0.2.1", 0).1, denied);
        assert_eq!(ask(&limits, "ana - 198.51.100.9", 0).1, denied);
        assert_eq!(
            ask(&limits, "mallory - 10.0.0.1", 0).1,
            denied,
            "a no is stronger"
        );
        for _ in 0..9 {
            assert_eq!(
                ask(&limits, "office - 192.0.2.1", 0),
                (Standing::default(), None)
            );
            assert_eq!(ask(&limits, "ana - 10.9.9.9", 0).1, None);
        }
        assert_eq!(
            ask(&limits, "ana - 192.0.2.1", 0).1,
            None,
            "nothing was spent"
        );
        assert!(ask(&limits, "ana - 192.0.2.1", 0).1.is_some());
    }

    #[test]
    fn licences_are_a_limit_of_their_own() {
        let names = |name: &str| Names {
            users: [user(name)].into(),
            ips: [].into_iter().collect(),
        };
        let limits = limits(BuyerRules {
            per_user: rate(1_000, 1),
            licenses_per_user: rate(1_000, 2),
            deny: names("mallory"),
            allow: names("office"),
            ..BuyerRules::default()
        });
        let license = |name: &str, ms| {
            let asker = Asker {
                user: &user(name),
                device: None,
                ip: [192, 0, 2, 1].into(),
            };
            let (standing, cleared) = limits.license(&asker, Duration::from_millis(ms));
            assert_eq!(standing.left(Limit::User), None, "it is no purchase");
            let left = standing.left(Limit::Licenses).map(|left| left.requests);
            (left, cleared.err())
        };
        assert_eq!(license("ana", 0), (Some(1), None));
        assert_eq!(license("ana", 0), (Some(0), None));
        let no = (Some(0), limited(Limit::Licenses, 600));
        assert_eq!(license("ana", 400), no);
        assert_eq!(license("bob", 400), (Some(1), None));
        assert_eq!(license("ana", 1_000), (Some(0), None));
        // Licences and purchases spend nothing of each other.
        let (standing, shed) = ask(&limits, "ana - 192.0.2.1", 1_000);
        assert_eq!((standing.left(Limit::Licenses), shed), (None, None));
        // Who may not buy may play, and for whom no rate counts none counts here.
        assert_eq!(license("mallory", 1_000), (Some(1), None));
        for _ in 0..9 {
            assert_eq!(license("office", 1_000), (None, None));
        }
    }

    proptest! {
        /// Wherever one looks: no more than the burst and what the time between
        /// brings; and whoever waits as long as told is let in.
        #[test]
        fn never_more_than_rate_and_burst_and_waiting_helps(
            interval in 1_u64..500, burst in 1_u32..20,
            gaps in prop::collection::vec(0_u64..600, 1..100),
        ) {
            let limits = limits(BuyerRules { per_user: rate(interval, burst), ..BuyerRules::default() });
            let (mut now, mut passed) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                match ask(&limits, "ana - 192.0.2.1", now).1 {
                    None => passed.push(now),
                    Some(Shed::Limited { retry_after, .. }) => {
                        let ms = u64::try_from(retry_after.as_millis()).expect("short");
                        prop_assert!(ms > 0 && ms <= interval);
                        now += ms;
                        prop_assert_eq!(ask(&limits, "ana - 192.0.2.1", now).1, None);
                        passed.push(now);
                    }
                    Some(other) => prop_assert!(false, "{:?}", other),
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (n, to) in passed[i..].iter().enumerate() {
                    prop_assert!((n as u64) < u64::from(burst) + (to - from) / interval + 1);
                }
            }
        }
    }
}
