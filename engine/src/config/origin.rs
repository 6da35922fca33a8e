//! An origin exactly as a browser sends it: `scheme://host[:port]`, lower case, without
//! the port that the scheme has anyway. Requests are compared with it byte by byte, so
//! an origin that no browser sends would only look as if it were allowed.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is wrong with it, and what to write instead where that is plain.
pub fn check(text: &str) -> Result<(), String> {
    match text {
        "*" => {
            return Err(
                "\"*\" would let every page on the web call in a buyer's name; list each origin"
                    .to_owned(),
            );
        }
        "null" => {
            return Err(
                "\"null\" names nobody: any page can send it from a sandboxed frame; \
                 list each origin"
                    .to_owned(),
            );
        }
        _ => {}
    }
    if is_origin(text) {
        return Ok(());
    }
    let mut problem = format!(
        "{text:?} is not an origin as browsers send it: http or https, a host in lower case, \
         and a port unless it is the usual one, such as https://shop.example"
    );
    if let Some(meant) = meant(text) {
        problem.push_str(&format!("; write {meant:?}"));
    }
    Err(problem)
}

/// The origin behind a slash at the end, capitals or a needless port.
fn meant(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix('/').unwrap_or(&lower);
    let usual = match bare.split_once("://")?.0 {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let bare = bare.strip_suffix(usual).unwrap_or(bare);
    is_origin(bare).then(|| bare.to_owned())
}

fn is_origin(text: &str) -> bool {
    let (rest, usual_port) = match text.split_once("://") {
        Some(("https", rest)) => (rest, "443"),
        Some(("http", rest)) => (rest, "80"),
        Some(_) | None => return false,
    };
    // The colons of an IPv6 address stand inside its brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (rest, None),
    };
    let port_fits = port.is_none_or(|port| {
        port != usual_port
            && port
                .parse::<u16>()
                .is_ok_and(|n| n > 0 && n.to_string() == port)
    });
    port_fits && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        // Browsers write IPv6 in its shortest form and without dots; Rust writes
        // dots into a mapped IPv4 address, so there the form is left alone.
        return inner.parse::<Ipv6Addr>().is_ok_and(|ip| {
            !inner.contains('.')
                && !inner.contains(|c: char| c.is_ascii_uppercase())
                && (ip.to_ipv4_mapped().is_some() || ip.to_string() == inner)
        });
    }
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let fits = |label: &&str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    // A host that ends in a number is an IPv4 address to a browser.
    let numeric = |label: &&str| label.bytes().all(|b| b.is_ascii_digit());
    host.len() <= 253
        && labels.iter().all(fits)
        && (!labels.last().is_some_and(numeric) || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_an_origin() {
        for good in [
            "https://shop.example",
            "http://shop.example:8080",
            "https://xn--bcher-kva.example",
            "http://localhost",
            "http://localhost:443",
            "http://127.0.0.1:3000",
            "https://[::1]:8443",
            "http://[2001:db8::1]",
            "https://1.shop_2.example.",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_browsers_do_not_send_is_none() {
        for bad in [
            "",
            "shop.example",
            "https://",
            "https://:80",
            "ftp://shop.example",
            "https://shop.example:",
            "https://shop.example:0",
            "https://shop.example:08080",
            "https://shop.example:65536",
            "https://shop.example:+1",
            "https://shop.example?x",
            "https://shop.example#x",
            "https://a b.example",
            "https://user@shop.example",
            "https://shop..example",
            "https://bücher.example",
            "https://*.shop.example",
            "http://1.2.3",
            "http://01.2.3.4",
            "http://[::1",
            "http://[0:0::1]",
            "http://[::1%25eth0]",
            "https://SHOP.example:443 x?y#z@",
        ] {
            let problem = check(bad).expect_err(bad);
            assert!(problem.starts_with(&format!("{bad:?} is not an origin")));
            assert!(!problem.contains("; write"), "{problem}");
        }
    }

    #[test]
    fn near_misses_are_told_what_to_write() {
        for (bad, meant) in [
            ("https://shop.example/", "https://shop.example"),
            ("HTTPS://Shop.Example", "https://shop.example"),
            ("https://shop.example:443", "https://shop.example"),
            ("http://shop.example:80/", "http://shop.example"),
        ] {
            let problem = check(bad).expect_err(bad);
            assert!(
                problem.ends_with(&format!("; write {meant:?}")),
                "{problem}"
            );
        }
    }
}
