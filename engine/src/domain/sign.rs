//! Signatures of webhooks: Standard Webhooks, symmetric (`v1`), both directions.
//!
//! A message is good when one of its `v1` entries is the HMAC-SHA256, under one of our
//! secrets, of `id.timestamp.body`, and its timestamp is near enough to `now`. That the
//! same message comes twice is not noticed here: whoever takes it must not mind.
//!
//! What is wrong is named so that an honest sender finds the fault. It says nothing of
//! the right signature, nor how near a wrong one came: comparing takes the same time
//! wherever two texts differ, and all secrets are tried in any case.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use super::time::UnixMs;

/// How far a sender's clock, and a message's way, may be from ours.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// Entries of one header that are looked at: a sender rotates through two or three
/// secrets, and a header full of guesses must not cost more than that.
pub const ENTRIES_MAX: usize = 16;
/// Secrets that are accepted at the same time.
pub const SECRETS_MAX: usize = 8;

const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const ID_BYTES_MAX: usize = 256;
/// Seconds up to the year 9999 have eleven digits.
const TIMESTAMP_DIGITS_MAX: usize = 11;
const SCHEME: &[u8] = b"v1,";

/// A secret that both sides know; it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why a text is no secret, without the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("does not begin with {PREFIX}; allowed is {PREFIX} and the key in base64")]
    Prefix,
    #[error("is not base64 behind {PREFIX}; allowed is {PREFIX} and the key in base64")]
    Base64,
    #[error("has a key of {0} bytes; allowed are 24 to 64")]
    Length(usize),
}

impl Secret {
    /// `whsec_` and the key in base64, as providers show it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let key = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let key = STANDARD.decode(key).map_err(|_| SecretError::Base64)?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(SecretError::Length(key.len()));
        }
        Ok(Self(key))
    }

    /// One of our own making.
    pub fn from_key(key: [u8; 32]) -> Self {
        Self(key.to_vec())
    }

    /// The text that [`Secret::parse`] reads: for its file, and for nobody else.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    fn mac(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        STANDARD.encode(mac.finalize().into_bytes())
    }

    /// The value of `webhook-signature` for this message.
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mac = self.mac(id.as_bytes(), seconds.to_string().as_bytes(), body);
        format!("v1,{mac}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The secrets that are accepted, the newest first: at least one, so that nothing is
/// ever accepted unsigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// `None` without a secret, and with more than [`SECRETS_MAX`].
    pub fn new(secrets: Vec<Secret>) -> Option<Self> {
        (1..=SECRETS_MAX)
            .contains(&secrets.len())
            .then_some(Self(secrets))
    }

    /// The one to sign with.
    pub fn newest(&self) -> &Secret {
        &self.0[0]
    }
}

/// What a message brings besides its body, as it came off the wire.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signed<'a> {
    /// `webhook-id`
    pub id: Option<&'a [u8]>,
    /// `webhook-timestamp`
    pub timestamp: Option<&'a [u8]>,
    /// `webhook-signature`
    pub signature: Option<&'a [u8]>,
}

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the header {0} is missing")]
    Missing(&'static str),
    #[error(
        "webhook-id is not usable; allowed are 1 to {ID_BYTES_MAX} visible ASCII characters \
         without a full stop"
    )]
    Id,
    #[error("webhook-timestamp is not a whole number of seconds since 1970")]
    Timestamp,
    #[error(
        "webhook-timestamp is more than {} s in the past; sign each attempt anew, and look at \
         both clocks", TOLERANCE.as_secs()
    )]
    Old,
    #[error(
        "webhook-timestamp is more than {} s in the future; look at both clocks",
        TOLERANCE.as_secs()
    )]
    Future,
    #[error("webhook-signature has no entry v1,<base64>")]
    NoEntry,
    #[error("webhook-signature has more than {ENTRIES_MAX} entries")]
    Entries,
    #[error("no entry of webhook-signature is right for this id, timestamp and body")]
    Mismatch,
}

impl SignatureError {
    /// A closed set of words, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Id | Self::Timestamp | Self::NoEntry | Self::Entries => "malformed",
            Self::Old => "old",
            Self::Future => "future",
            Self::Mismatch => "mismatch",
        }
    }
}

/// Whether somebody who knows one of these secrets sent this, and lately.
pub fn verify(
    secrets: &Secrets,
    signed: Signed<'_>,
    body: &[u8],
    now: UnixMs,
) -> Result<(), SignatureError> {
    let given = |part: Option<&'_ [u8]>, name| match part {
        Some(text) if !text.is_empty() => Ok(()),
        Some(_) | None => Err(SignatureError::Missing(name)),
    };
    given(signed.id, "webhook-id")?;
    given(signed.timestamp, "webhook-timestamp")?;
    given(signed.signature, "webhook-signature")?;
    let (id, timestamp, signature) = (
        signed.id.unwrap_or_default(),
        signed.timestamp.unwrap_or_default(),
        signed.signature.unwrap_or_default(),
    );
    // A full stop in the id could move bytes from one part into the next.
    let id_fits = id.len() <= ID_BYTES_MAX && id.iter().all(|b| b.is_ascii_graphic() && *b != b'.');
    if !id_fits {
        return Err(SignatureError::Id);
    }
    in_time(timestamp, now)?;

    let mut entries = 0;
    let mut right = Choice::from(0);
    let mut known = 0;
    let macs: Vec<String> = secrets
        .0
        .iter()
        .map(|secret| secret.mac(id, timestamp, body))
        .collect();
    for entry in signature.split(|b| *b == b' ').filter(|e| !e.is_empty()) {
        entries += 1;
        if entries > ENTRIES_MAX {
            return Err(SignatureError::Entries);
        }
        // Entries of other versions are for those who understand them.
        let Some(given) = entry.strip_prefix(SCHEME) else {
            continue;
        };
        known += 1;
        for mac in &macs {
            right |= mac.as_bytes().ct_eq(given);
        }
    }
    match (bool::from(right), known) {
        (true, _) => Ok(()),
        (false, 0) => Err(SignatureError::NoEntry),
        (false, _) => Err(SignatureError::Mismatch),
    }
}

fn in_time(timestamp: &[u8], now: UnixMs) -> Result<(), SignatureError> {
    let digits =
        timestamp.len() <= TIMESTAMP_DIGITS_MAX && timestamp.iter().all(u8::is_ascii_digit);
    let seconds = std::str::from_utf8(timestamp)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse::<u64>().ok())
        .ok_or(SignatureError::Timestamp)?;
    let now = now.0 / 1_000;
    if seconds.saturating_add(TOLERANCE.as_secs()) < now {
        return Err(SignatureError::Old);
    }
    if seconds > now.saturating_add(TOLERANCE.as_secs()) {
        return Err(SignatureError::Future);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the specification, which its libraries test themselves with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECONDS: u64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secrets(texts: &[&str]) -> Secrets {
        let parsed = texts.iter().map(|text| Secret::parse(text).expect("valid"));
        Secrets::new(parsed.collect()).expect("a few")
    }

    fn told(
        id: &[u8],
        timestamp: &[u8],
        signature: &[u8],
        body: &[u8],
        now: u64,
    ) -> Result<(), SignatureError> {
        let signed = Signed {
            id: Some(id),
            timestamp: Some(timestamp),
            signature: Some(signature),
        };
        verify(&secrets(&[SECRET]), signed, body, UnixMs(now * 1_000))
    }

    fn signature(text: &str) -> Result<(), SignatureError> {
        let timestamp = SECONDS.to_string();
        told(
            ID.as_bytes(),
            timestamp.as_bytes(),
            text.as_bytes(),
            BODY.as_bytes(),
            SECONDS,
        )
    }

    #[test]
    fn the_published_vector_is_made_and_believed() {
        let secret = Secret::parse(SECRET).expect("valid");
        assert_eq!(secret.sign(ID, SECONDS, BODY.as_bytes()), SIGNATURE);
        assert_eq!(signature(SIGNATURE), Ok(()));
    }

    #[test]
    fn every_flipped_byte_of_every_part_is_noticed() {
        let timestamp = SECONDS.to_string();
        let parts = [ID, &timestamp, SIGNATURE, BODY].map(str::as_bytes);
        let now = SECONDS;
        for (which, part) in parts.iter().enumerate() {
            for at in 0..part.len() {
                for bit in 0..8 {
                    let mut flipped = part.to_vec();
                    flipped[at] ^= 1 << bit;
                    let mut sent = parts;
                    sent[which] = &flipped;
                    let [id, timestamp, signature, body] = sent;
                    let heard = told(id, timestamp, signature, body, now);
                    assert!(heard.is_err(), "part {which}, byte {at}, bit {bit}");
                }
            }
            // A byte less and a byte more.
            for other in [
                &part[1..],
                &part[..part.len() - 1],
                &[part, &b"0"[..]].concat(),
            ] {
                let mut sent = parts;
                sent[which] = other;
                let [id, timestamp, signature, body] = sent;
                assert!(
                    told(id, timestamp, signature, body, now).is_err(),
                    "part {which}"
                );
            }
        }
    }

    #[test]
    fn a_timestamp_counts_for_five_minutes_on_either_side() {
        let at = |now| {
            let timestamp = SECONDS.to_string();
            told(
                ID.as_bytes(),
                timestamp.as_bytes(),
                SIGNATURE.as_bytes(),
                BODY.as_bytes(),
                now,
            )
        };
        assert_eq!(at(SECONDS + 300), Ok(()));
        assert_eq!(at(SECONDS - 300), Ok(()));
        assert_eq!(at(SECONDS + 301), Err(SignatureError::Old));
        assert_eq!(at(SECONDS - 301), Err(SignatureError::Future));
        for odd in [
            "+1614265330",
            "1614265330.5",
            "0x10",
            "99999999999999999999",
            "-1",
            "1 ",
        ] {
            let heard = told(
                ID.as_bytes(),
                odd.as_bytes(),
                SIGNATURE.as_bytes(),
                BODY.as_bytes(),
                SECONDS,
            );
            assert_eq!(heard, Err(SignatureError::Timestamp), "{odd}");
        }
    }

    #[test]
    fn one_right_entry_under_any_accepted_secret_is_enough() {
        let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let by_other = Secret::parse(other)
            .expect("valid")
            .sign(ID, SECONDS, BODY.as_bytes());
        assert_eq!(signature(&by_other), Err(SignatureError::Mismatch));
        assert_eq!(signature(&format!("{by_other} {SIGNATURE}")), Ok(()));
        assert_eq!(signature(&format!("v2,what v1a,ever {SIGNATURE}")), Ok(()));
        let timestamp = SECONDS.to_string();
        let signed = Signed {
            id: Some(ID.as_bytes()),
            timestamp: Some(timestamp.as_bytes()),
            signature: Some(by_other.as_bytes()),
        };
        let now = UnixMs(SECONDS * 1_000);
        for accepted in [&[SECRET, other][..], &[other, SECRET]] {
            let heard = verify(&secrets(accepted), signed, BODY.as_bytes(), now);
            assert_eq!(heard, Ok(()));
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let timestamp = SECONDS.to_string();
        let whole = Signed {
            id: Some(ID.as_bytes()),
            timestamp: Some(timestamp.as_bytes()),
            signature: Some(SIGNATURE.as_bytes()),
        };
        let now = UnixMs(SECONDS * 1_000);
        for (signed, missing) in [
            (Signed { id: None, ..whole }, "webhook-id"),
            (
                Signed {
                    id: Some(b""),
                    ..whole
                },
                "webhook-id",
            ),
            (
                Signed {
                    timestamp: None,
                    ..whole
                },
                "webhook-timestamp",
            ),
            (
                Signed {
                    signature: None,
                    ..whole
                },
                "webhook-signature",
            ),
        ] {
            let heard = verify(&secrets(&[SECRET]), signed, BODY.as_bytes(), now);
            assert_eq!(heard, Err(SignatureError::Missing(missing)));
        }
        assert_eq!(signature("v1a,x v2,y"), Err(SignatureError::NoEntry));
        assert_eq!(signature("v1"), Err(SignatureError::NoEntry));
        assert_eq!(signature("v1,"), Err(SignatureError::Mismatch));
        let many = "v1,x ".repeat(ENTRIES_MAX) + SIGNATURE;
        assert_eq!(signature(&many), Err(SignatureError::Entries));
        let long = "x".repeat(ID_BYTES_MAX + 1);
        for id in ["a.b", "a b", &long] {
            let heard = told(
                id.as_bytes(),
                timestamp.as_bytes(),
                SIGNATURE.as_bytes(),
                BODY.as_bytes(),
                SECONDS,
            );
            assert_eq!(heard, Err(SignatureError::Id), "{id}");
        }
    }

    #[test]
    fn a_secret_is_read_back_and_never_printed() {
        let secret = Secret::from_key([7; 32]);
        assert_eq!(Secret::parse(&secret.reveal()), Ok(secret.clone()));
        assert_eq!(format!("{:?}", secrets(&[SECRET])), "Secrets([***])");
        for (text, error) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", SecretError::Base64),
            ("whsec_not base64", SecretError::Base64),
            ("whsec_", SecretError::Length(0)),
            ("whsec_c2hvcnQ=", SecretError::Length(5)),
        ] {
            assert_eq!(Secret::parse(text), Err(error), "{text}");
            assert!(!error.to_string().contains("c2hvcnQ"));
        }
        assert_eq!(Secrets::new(Vec::new()), None);
        let many = vec![Secret::from_key([1; 32]); SECRETS_MAX + 1];
        assert_eq!(Secrets::new(many), None);
    }
}
