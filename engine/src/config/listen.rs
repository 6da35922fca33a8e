//! Addresses to listen on, and whether two of them can be had at once.

use std::net::{IpAddr, SocketAddr};

pub fn parse(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an IP address and port such as 127.0.0.1:8080 or [::1]:8080")
    })
}

/// Whether the second of two binds would find its port taken. The address of all
/// interfaces has every address of its family, and that of IPv6 has IPv4's as well.
pub fn one_socket(a: SocketAddr, b: SocketAddr) -> bool {
    let (x, y) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers =
        |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (x == y || covers(x, y) || covers(y, x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_collide_as_sockets_do() {
        let one = |a: &str, b: &str| {
            let parse = |text: &str| text.parse().expect("an address");
            one_socket(parse(a), parse(b))
        };
        for (a, b) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
        ] {
            assert!(one(a, b) && one(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("0.0.0.0:1", "[::1]:1"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert!(!one(a, b) && !one(b, a), "{a} {b}");
        }
    }
}
