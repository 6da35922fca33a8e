//! Who is asking. The answer is a user id that was checked, or a 401.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName};

use super::respond::{Code, Problem};
use crate::config::AuthMode;
use crate::domain::ids::UserId;

const USER_ID: HeaderName = HeaderName::from_static("x-user-id");

pub fn user(mode: &AuthMode, peer: IpAddr, headers: &HeaderMap) -> Result<UserId, Problem> {
    match mode {
        AuthMode::Demo => {}
        AuthMode::Header { trusted_peers } if trusted_peers.contains(&peer) => {}
        AuthMode::Header { .. } => {
            return Err(Problem::new(
                Code::Unauthenticated,
                "X-User-Id counts only from the configured gateway addresses",
            ));
        }
    }
    let mut values = headers.get_all(USER_ID).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Problem::new(
            Code::Unauthenticated,
            "the X-User-Id header is missing",
        )),
        (Some(_), Some(_)) => Err(Problem::new(
            Code::Unauthenticated,
            "the X-User-Id header stands there twice",
        )),
        (Some(value), None) => UserId::parse_bytes(value.as_bytes())
            .map_err(|e| Problem::new(Code::Unauthenticated, format!("X-User-Id {e}"))),
    }
}

/// Compares in constant time, so that the time of a "no" says nothing of the token.
pub fn bearer_matches(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|v| v.as_bytes().split_at_checked(b"bearer ".len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map_or(&[][..], |(_, token)| token);
    // Equal digests mean equal tokens, and digests of a guess say nothing about
    // how near it came.
    use sha2::{Digest, Sha256};
    let (given, token) = (Sha256::digest(given), Sha256::digest(token.as_bytes()));
    given
        .iter()
        .zip(&token)
        .fold(0_u8, |differ, (a, b)| differ | (a ^ b))
        == 0
}
