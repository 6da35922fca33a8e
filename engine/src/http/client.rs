//! Whose request it is: the address that limits and lists go by.
//!
//! Without a trusted proxy it is the peer. A trusted peer is asked for whom it
//! speaks: `X-Forwarded-For` is read from its end, where the last proxy wrote, up to
//! the first address that is no trusted proxy. What stands before that was written
//! by somebody nobody trusts. `Forwarded` (RFC 7239) is not read: two headers that
//! disagree would be one too many.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::HeaderName;

use crate::domain::ip::IpSet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub fn address(peer: IpAddr, headers: &HeaderMap, trusted: &IpSet) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contains(client) {
        return client;
    }
    // Several lines are one list (RFC 9110, 5.3).
    let lines = headers.get_all(FORWARDED_FOR).iter();
    let lines: smallvec::SmallVec<[&[u8]; 4]> = lines.map(|l| l.as_bytes()).collect();
    let hops = lines.iter().rev().flat_map(|l| l.rsplit(|b| *b == b','));
    for hop in hops {
        // A proxy that writes no address tells of nobody: the request is its own.
        let Some(ip) = hop_address(hop) else {
            return client;
        };
        client = ip;
        if !trusted.contains(ip) {
            return client;
        }
    }
    client
}

/// An address, which some proxies write with a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_ascii();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let ip = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()))?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ip::IpRange;

    fn client(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"];
        let trusted = trusted.map(|r| IpRange::parse(r).expect(r));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().expect("header text"));
        }
        let peer = peer.parse().expect("an address");
        address(peer, &headers, &trusted.into_iter().collect()).to_string()
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        assert_eq!(client("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("::ffff:192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_list_is_read_from_its_end_to_the_first_stranger() {
        let cases: [(&[&str], &str); 6] = [
            (&["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            (&["203.0.113.9", "198.51.100.1,10.0.0.2"], "198.51.100.1"),
            (&["198.51.100.1", "10.0.0.2", "10.0.0.3"], "198.51.100.1"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["1.1.1.1, ::ffff:198.51.100.1"], "198.51.100.1"),
            (&["203.0.113.9, 2001:db9::7, 2001:db8::1"], "2001:db9::7"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client("10.0.0.1", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_who_wrote_it() {
        for bad in [
            "unknown",
            "",
            " ",
            "1.2.3",
            "_hidden",
            "1.2.3.4:x",
            "[::1",
            "1.2.3.4/8",
        ] {
            let line = format!("203.0.113.9, {bad}, 10.0.0.2");
            assert_eq!(client("10.0.0.1", &[&line]), "10.0.0.2", "{bad:?}");
        }
        assert_eq!(client("10.0.0.1", &["203.0.113.9,"]), "10.0.0.1");
    }

    #[test]
    fn a_port_behind_the_address_is_left_out() {
        for hop in ["198.51.100.1:443", "  198.51.100.1\t"] {
            assert_eq!(client("10.0.0.1", &[hop]), "198.51.100.1");
        }
        for hop in ["[2001:db9::7]:443", "[2001:db9::7]", "2001:db9::7"] {
            assert_eq!(client("10.0.0.1", &[hop]), "2001:db9::7");
        }
    }
}
