//! Addresses: what counts as one client, and sets of addresses by range.
//!
//! An IPv4 address that comes in IPv6 clothes (`::ffff:192.0.2.1`) is that IPv4
//! address everywhere here. An IPv6 client is its /64: a household gets one whole,
//! so whoever is counted by single addresses is not counted at all.

use std::net::IpAddr;

/// One client, as limits and caps count it: an IPv4 address or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNet(u128);

impl ClientNet {
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // No /64 begins like a mapped address and goes on after its 64th bit.
            IpAddr::V4(v4) => Self(u128::from(v4.to_ipv6_mapped())),
            IpAddr::V6(v6) => Self(u128::from(v6) >> 64 << 64),
        }
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// All addresses that begin with the same bits, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    v6: bool,
    first: u128,
    last: u128,
}

impl IpRange {
    /// `address/bits`, or one address. Bits behind the prefix are an error: whoever
    /// wrote them meant another range.
    pub fn parse(text: &str) -> Result<Self, String> {
        let no_range = || {
            format!(
                "{text:?} is not an address or a range such as 192.0.2.1, 10.0.0.0/8 or \
                 2001:db8::/32"
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let given: IpAddr = address.parse().map_err(|_| no_range())?;
        let ip = given.to_canonical();
        let width = if given.is_ipv6() { 128 } else { 32 };
        let bits = match bits {
            None => width,
            Some(bits) => bits
                .parse::<u8>()
                .ok()
                .filter(|n| *n <= width && n.to_string() == bits)
                .ok_or_else(no_range)?,
        };
        // A prefix of a mapped address has the 96 bits before the IPv4 part in it.
        let clothes = if given.is_ipv6() && ip.is_ipv4() {
            96
        } else {
            0
        };
        let bits = bits.checked_sub(clothes).ok_or_else(no_range)?;
        let (v6, width, at) = match ip {
            IpAddr::V4(v4) => (false, 32, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (true, 128, u128::from(v6)),
        };
        let rest = u128::MAX
            .checked_shr(u32::from(128 - width + bits))
            .unwrap_or(0);
        if at & rest != 0 {
            return Err(format!(
                "{text:?} has bits behind its prefix; write {}/{bits}",
                plain(v6, at & !rest)
            ));
        }
        Ok(Self {
            v6,
            first: at,
            last: at | rest,
        })
    }
}

fn plain(v6: bool, at: u128) -> IpAddr {
    match u32::try_from(at) {
        Ok(v4) if !v6 => IpAddr::V4(v4.into()),
        Ok(_) | Err(_) => IpAddr::V6(at.into()),
    }
}

/// Any number of ranges; asking costs the logarithm of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpSet {
    /// First and last of each, in order, without overlap.
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl IpSet {
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (ranges, at) = match ip.to_canonical() {
            IpAddr::V4(v4) => (&self.v4, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (&self.v6, u128::from(v6)),
        };
        let behind = ranges.partition_point(|(first, _)| *first <= at);
        behind > 0 && at <= ranges[behind - 1].1
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<IpRange> for IpSet {
    fn from_iter<I: IntoIterator<Item = IpRange>>(ranges: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            let list = if range.v6 { &mut v6 } else { &mut v4 };
            list.push((range.first, range.last));
        }
        Self {
            v4: joined(v4),
            v6: joined(v6),
        }
    }
}

fn joined(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            Some(_) | None => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn set(ranges: &[&str]) -> IpSet {
        ranges.iter().map(|r| IpRange::parse(r).expect(r)).collect()
    }

    #[test]
    fn one_client_is_an_ipv4_address_or_an_ipv6_64() {
        let same = |a, b| ClientNet::of(ip(a)) == ClientNet::of(ip(b));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(!same("::1", "0.0.0.1"));
    }

    #[test]
    fn a_set_has_what_its_ranges_have() {
        let set = set(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7",
            "2001:db8::/32",
            "::ffff:198.51.100.0/120",
        ]);
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "::ffff:10.2.3.4",
            "192.0.2.7",
            "198.51.100.200",
            "2001:db8:ffff::",
        ] {
            assert!(set.contains(ip(inside)), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "192.0.2.6",
            "192.0.2.8",
            "198.51.101.0",
            "2001:db9::",
            "::a00:1",
        ] {
            assert!(!set.contains(ip(outside)), "{outside}");
        }
        assert!(IpSet::default().is_empty() && !IpSet::default().contains(ip("10.0.0.1")));
    }

    #[test]
    fn all_of_one_family_is_none_of_the_other() {
        assert!(set(&["0.0.0.0/0"]).contains(ip("255.255.255.255")));
        assert!(!set(&["0.0.0.0/0"]).contains(ip("::1")));
        assert!(set(&["::/0"]).contains(ip("::1")));
        assert!(!set(&["::/0"]).contains(ip("::ffff:10.0.0.1")));
    }

    #[test]
    fn what_is_no_range_is_told_what_to_write() {
        for bad in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "::/129",
            "::1%1",
            "::ffff:10.0.0.0/8",
            "host/8",
            "10.0.0.0/8/8",
        ] {
            let problem = IpRange::parse(bad).expect_err(bad);
            assert!(problem.contains("such as"), "{problem}");
        }
        for (bad, write) in [
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/64", "write 2001:db8::/64"),
            ("::1/0", "write ::/0"),
        ] {
            let problem = IpRange::parse(bad).expect_err(bad);
            assert!(problem.ends_with(write), "{problem}");
        }
    }

    proptest! {
        /// However the ranges overlap, the set answers as each range alone would.
        #[test]
        fn a_set_is_the_union_of_its_ranges(
            ranges in prop::collection::vec((any::<u8>(), 24_u8..=32), 0..20), at in any::<u8>(),
        ) {
            let ranges: Vec<IpRange> = ranges
                .iter()
                .map(|(n, bits)| {
                    let first = u32::from(*n) >> (32 - bits) << (32 - bits);
                    let text = format!("{}/{bits}", std::net::Ipv4Addr::from(first));
                    IpRange::parse(&text).expect("in form")
                })
                .collect();
            let any = ranges.iter().any(|r| (r.first..=r.last).contains(&u128::from(at)));
            let set: IpSet = ranges.into_iter().collect();
            prop_assert_eq!(set.contains(IpAddr::from([0, 0, 0, at])), any);
        }
    }
}
