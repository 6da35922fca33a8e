//! Tokens: what a player or a downloader shows instead of logging in.
//!
//! A token says: until then, this user may play (or download) this work on this device,
//! because of this entitlement. Whoever holds it can read that, and nobody without a key
//! can write it. There is one algorithm, HMAC-SHA256, and no field that could name
//! another. A token for playing is none for downloading.
//!
//! ```text
//! base64url( 1, kind, expires_at: 8, run: 8, 4 x (length, id), HMAC-SHA256: 32 )
//! ```
//! Numbers are big-endian; the ids are entitlement, user, device, work; the HMAC is over
//! all that stands before it. No clock of its own: `now` is handed in.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::{TOKEN_LIFE_MAX, TokenKey, TokenKeys};
use crate::domain::ids::{DeviceId, EntitlementId, ID_BYTES_MAX, UserId, WorkId};
use crate::domain::time::UnixMs;

const VERSION: u8 = 1;
const IDS_AT: usize = 18;
const MAC_BYTES: usize = 32;
const BYTES_MIN: usize = IDS_AT + 4 * 2 + MAC_BYTES;
const BYTES_MAX: usize = IDS_AT + 4 * (1 + ID_BYTES_MAX) + MAC_BYTES;
/// Longest token, in characters.
pub const TEXT_MAX: usize = (BYTES_MAX * 4).div_ceil(3);

/// A token that ends later than any may was made under another clock. Engines that share
/// their keys may differ by this.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Play,
    Download,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Play, Self::Download];

    pub fn name(self) -> &'static str {
        match self {
            Self::Play => "play",
            Self::Download => "download",
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Play => 1,
            Self::Download => 2,
        }
    }
}

/// What a token is to say.
#[derive(Debug, Clone, Copy)]
pub struct Claims<'a> {
    pub kind: Kind,
    pub entitlement: &'a EntitlementId,
    pub user: &'a UserId,
    pub device: &'a DeviceId,
    pub work: &'a WorkId,
    pub expires_at: UnixMs,
    /// The run of the engine that makes it.
    pub run: u64,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not one of this engine's")]
    Forged,
    #[error("the token is for something else")]
    Kind,
    #[error("the token has expired; ask for a new one")]
    Expired,
    #[error("the token is from the future; ask for a new one")]
    Early,
}

/// A token that was believed. It lies on the stack: to check one allocates nothing.
#[derive(Debug, Clone)]
pub struct Token {
    bytes: [u8; BYTES_MAX],
    /// Where each id begins and ends.
    ids: [(usize, usize); 4],
    pub expires_at: UnixMs,
    pub run: u64,
}

impl Token {
    fn id(&self, which: usize) -> &str {
        let (from, to) = self.ids[which];
        // Signed by us, from texts.
        std::str::from_utf8(&self.bytes[from..to]).unwrap_or_default()
    }

    pub fn entitlement(&self) -> &str {
        self.id(0)
    }

    pub fn user(&self) -> &str {
        self.id(1)
    }

    pub fn device(&self) -> &str {
        self.id(2)
    }

    pub fn work(&self) -> &str {
        self.id(3)
    }
}

/// The keys that are believed; the first one signs.
#[derive(Clone)]
pub struct Keys {
    first: Hmac<Sha256>,
    others: Vec<Hmac<Sha256>>,
}

impl Keys {
    pub fn new(keys: &TokenKeys) -> Self {
        let keyed = |key: &TokenKey| {
            Hmac::new_from_slice(key.bytes()).expect("HMAC takes keys of any length")
        };
        Self {
            first: keyed(&keys.newest),
            others: keys.others.iter().map(keyed).collect(),
        }
    }

    pub fn sign(&self, claims: &Claims<'_>) -> String {
        let mut bytes = Vec::with_capacity(BYTES_MAX);
        bytes.extend([VERSION, claims.kind.byte()]);
        bytes.extend(claims.expires_at.0.to_be_bytes());
        bytes.extend(claims.run.to_be_bytes());
        for id in [
            claims.entitlement.as_bytes(),
            claims.user.as_bytes(),
            claims.device.as_bytes(),
            claims.work.as_bytes(),
        ] {
            // Ids have 64 bytes at most.
            bytes.push(id.len() as u8);
            bytes.extend(id);
        }
        let mut mac = self.first.clone();
        mac.update(&bytes);
        bytes.extend(mac.finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Nothing of a token counts before its signature does.
    pub fn read(&self, kind: Kind, text: &[u8], now: UnixMs) -> Result<Token, TokenError> {
        if text.len() > TEXT_MAX {
            return Err(TokenError::Forged);
        }
        let mut bytes = [0_u8; BYTES_MAX];
        let length = URL_SAFE_NO_PAD
            .decode_slice(text, &mut bytes)
            .map_err(|_| TokenError::Forged)?;
        if length < BYTES_MIN {
            return Err(TokenError::Forged);
        }
        let (said, mac) = bytes[..length].split_at(length - MAC_BYTES);
        if !self.signed(said, mac) {
            return Err(TokenError::Forged);
        }
        let end = said.len();
        let number = |at: usize| {
            let mut eight = [0_u8; 8];
            eight.copy_from_slice(&said[at..at + 8]);
            u64::from_be_bytes(eight)
        };
        let (expires_at, run) = (UnixMs(number(2)), number(10));
        if said[0] != VERSION {
            return Err(TokenError::Forged);
        }
        if said[1] != kind.byte() {
            return Err(TokenError::Kind);
        }
        let ids = ids(said, end).ok_or(TokenError::Forged)?;
        if expires_at <= now {
            return Err(TokenError::Expired);
        }
        if expires_at > now.plus(TOKEN_LIFE_MAX).plus(SKEW_MAX) {
            return Err(TokenError::Early);
        }
        Ok(Token {
            bytes,
            ids,
            expires_at,
            run,
        })
    }

    /// Compares in constant time.
    fn signed(&self, said: &[u8], mac: &[u8]) -> bool {
        std::iter::once(&self.first).chain(&self.others).any(|key| {
            let mut right = key.clone();
            right.update(said);
            right.verify_slice(mac).is_ok()
        })
    }
}

/// Four ids, and nothing behind them.
fn ids(said: &[u8], end: usize) -> Option<[(usize, usize); 4]> {
    let mut at = IDS_AT;
    let mut ids = [(0, 0); 4];
    for id in &mut ids {
        let length = usize::from(*said.get(at)?);
        *id = (at + 1, at + 1 + length);
        at = id.1;
        if length == 0 || length > ID_BYTES_MAX || at > end {
            return None;
        }
    }
    (at == end).then_some(ids)
}

#[cfg(test)]
mod tests;
