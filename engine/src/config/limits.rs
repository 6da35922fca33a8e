//! Who may ask how often, and for whom that does not count: the table `[limits]`
//! as the code sees it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::raw::RawLimits;
use crate::domain::ids::UserId;
use crate::domain::ip::{IpRange, IpSet};

/// `rate` requests in `seconds`, and `burst` of them at once after a quiet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRate {
    pub rate: u32,
    #[serde(default = "one")]
    pub seconds: u32,
    pub burst: u32,
}

fn one() -> u32 {
    1
}

/// How often one user, device or address may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// One more request may come after this long.
    pub interval: Duration,
    pub burst: NonZeroU32,
}

impl Rate {
    /// As the file says it; a number below its range counts as the lowest one.
    pub fn of(raw: RawRate) -> Self {
        let interval = Duration::from_secs(u64::from(raw.seconds.max(1))) / raw.rate.max(1);
        Self {
            interval: interval.max(Duration::from_nanos(1)),
            burst: NonZeroU32::new(raw.burst).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// Users and addresses by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub users: HashSet<UserId>,
    pub ips: IpSet,
}

impl Names {
    pub fn has(&self, user: &UserId, ip: IpAddr) -> bool {
        (!self.users.is_empty() && self.users.contains(user))
            || (!self.ips.is_empty() && self.ips.contains(ip))
    }
}

/// Every rule about single buyers; the default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuyerRules {
    pub per_user: Option<Rate>,
    pub per_device: Option<Rate>,
    pub per_ip: Option<Rate>,
    /// Licences that may be asked for: with `kick_oldest` each can be a new record.
    pub licenses_per_user: Option<Rate>,
    /// Users, devices and addresses remembered at once, for each limit.
    pub keys_max: usize,
    /// These buy nothing, whatever else they are.
    pub deny: Names,
    /// For these no rate counts.
    pub allow: Names,
}

/// What is wrong comes with its key.
pub fn check(raw: &RawLimits) -> Result<BuyerRules, (String, String)> {
    let names = |what: &str, by_user: &[String], by_ip: &[String]| {
        let keyed = |list: &'static str| {
            let what = what.to_owned();
            move |(at, problem)| (format!("{what}_{list}[{at}]"), problem)
        };
        Ok::<_, (String, String)>(Names {
            users: users(by_user).map_err(keyed("users"))?,
            ips: ips(by_ip).map_err(keyed("ips"))?,
        })
    };
    Ok(BuyerRules {
        per_user: raw.per_user.map(Rate::of),
        per_device: raw.per_device.map(Rate::of),
        per_ip: raw.per_ip.map(Rate::of),
        licenses_per_user: Some(Rate::of(raw.licenses_per_user)),
        keys_max: raw.keys_max as usize,
        deny: names("deny", &raw.deny_users, &raw.deny_ips)?,
        allow: names("allow", &raw.allow_users, &raw.allow_ips)?,
    })
}

/// The texts of a list, or the place and the problem of the first bad one.
fn users(texts: &[String]) -> Result<HashSet<UserId>, (usize, String)> {
    let parse = |(at, text): (usize, &String)| {
        UserId::parse(text).map_err(|e| (at, format!("{text:?} {e}")))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// As [`users`], of addresses and ranges.
pub fn ips(texts: &[String]) -> Result<IpSet, (usize, String)> {
    let parse = |(at, text): (usize, &String)| IpRange::parse(text).map_err(|e| (at, e));
    texts.iter().enumerate().map(parse).collect()
}
