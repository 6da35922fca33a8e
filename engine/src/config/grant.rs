//! What players and devices get: the table `[grant]` as the code sees it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawGrant {
    pub key_file: Option<String>,
    pub play_seconds: u32,
    pub download_seconds: u32,
    pub play_url: String,
    pub download_url: String,
}

impl Default for RawGrant {
    fn default() -> Self {
        Self {
            key_file: None,
            play_seconds: 180,
            download_seconds: 60,
            play_url: "/play/{workId}".into(),
            download_url: "/download/{workId}".into(),
        }
    }
}

/// How long tokens may be good for.
pub mod allowed {
    use super::RangeInclusive;

    pub const PLAY_SECONDS: RangeInclusive<u64> = 10..=180;
    pub const DOWNLOAD_SECONDS: RangeInclusive<u64> = 10..=180;
}

/// Longest life of any token, whatever is configured.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantConfig {
    /// None: one of the engine's own making, in its data folder.
    pub keys: Option<TokenKeys>,
    pub play_life: Duration,
    pub download_life: Duration,
    pub play_url: UrlTemplate,
    pub download_url: UrlTemplate,
}

/// Keys that are accepted at the same time, the newest first.
const KEYS_MAX: usize = 8;

/// What tokens are signed with; it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 hex digits, as [`TokenKey::reveal`] writes them. What is wrong is said without
    /// the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digit = |b: &u8| char::from(*b).to_digit(16);
        let digits: Option<Vec<u32>> = text.as_bytes().iter().map(digit).collect();
        let mut key = [0_u8; 32];
        match digits {
            Some(digits) if digits.len() == 64 => {
                for (to, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
                    // Two digits of four bits.
                    *to = (pair[0] << 4 | pair[1]) as u8;
                }
                Ok(Self(key))
            }
            Some(_) | None => Err(format!(
                "a key has {} bytes; allowed are 64 hex digits, as `openssl rand -hex 32` \
                 draws them",
                text.len()
            )),
        }
    }

    pub fn reveal(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The keys that are accepted; never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeys {
    /// The one that signs.
    pub newest: TokenKey,
    pub others: Vec<TokenKey>,
}

/// Where a work lies: a URL, or a path on whatever host the page knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    before: String,
    after: String,
}

const PLACE: &str = "{workId}";

impl UrlTemplate {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |problem: &str| {
            Err(format!(
                "{text:?} {problem}; allowed is a URL with {PLACE} once in it, such as \
                 https://cdn.example/{PLACE}, or a path such as /play/{PLACE}"
            ))
        };
        let begins = ["https://", "http://", "/"];
        if !begins.iter().any(|b| text.starts_with(b)) {
            return wrong("begins neither with https:// or http:// nor with a slash");
        }
        // Anything else would have to be escaped, and a token behind a # reaches nobody.
        let plain = |b: u8| b.is_ascii_graphic() && !b"#\"<>\\^`|".contains(&b);
        if text.len() > 1_000 || !text.bytes().all(plain) {
            return wrong("is too long or has a character that a URL cannot have here");
        }
        match text.split_once(PLACE) {
            Some((before, after)) if !format!("{before}{after}").contains(['{', '}']) => Ok(Self {
                before: before.to_owned(),
                after: after.to_owned(),
            }),
            Some(_) | None => wrong("does not name the work once"),
        }
    }

    /// Neither a work's id nor a token has a character that a URL would escape.
    pub fn fill(&self, work: &str, token: &str) -> String {
        let Self { before, after } = self;
        let mark = if before.contains('?') || after.contains('?') {
            '&'
        } else {
            '?'
        };
        format!("{before}{work}{after}{mark}token={token}")
    }
}

/// What is wrong comes with its key.
pub fn check(raw: &RawGrant) -> Result<GrantConfig, (&'static str, String)> {
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    let keys = match &raw.key_file {
        Some(path) => Some(keys(path).map_err(|e| ("key_file", e))?),
        None => None,
    };
    Ok(GrantConfig {
        keys,
        play_life: seconds(raw.play_seconds),
        download_life: seconds(raw.download_seconds),
        play_url: UrlTemplate::parse(&raw.play_url).map_err(|e| ("play_url", e))?,
        download_url: UrlTemplate::parse(&raw.download_url).map_err(|e| ("download_url", e))?,
    })
}

/// One a line, the newest first; empty lines and those that begin with # are skipped.
fn keys(path: &str) -> Result<TokenKeys, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {path:?}: {e}"))?;
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = TokenKey::parse(line).map_err(|e| format!("{path:?}, line {}: {e}", at + 1))?;
        keys.push(key);
    }
    match keys.split_first() {
        Some((newest, others)) if keys.len() <= KEYS_MAX => Ok(TokenKeys {
            newest: newest.clone(),
            others: others.to_vec(),
        }),
        Some(_) | None => Err(format!(
            "{path:?} holds {} keys; allowed are 1 to {KEYS_MAX}",
            keys.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    fn checked(toml: &str) -> Result<GrantConfig, String> {
        let raw: RawGrant = toml::from_str(toml).expect("TOML");
        check(&raw).map_err(|(key, problem)| format!("{key}: {problem}"))
    }

    #[test]
    fn nothing_said_is_a_player_on_the_same_host() {
        let config = checked("").expect("valid");
        assert_eq!(config.keys, None);
        assert_eq!(config.play_life, TOKEN_LIFE_MAX);
        assert_eq!(config.download_life, Duration::from_secs(60));
        assert_eq!(config.play_url.fill("w", "t"), "/play/w?token=t");
        let ends = [allowed::PLAY_SECONDS, allowed::DOWNLOAD_SECONDS].map(|r| *r.end());
        assert_eq!(ends, [TOKEN_LIFE_MAX.as_secs(); 2]);
    }

    #[test]
    fn a_template_names_the_work_once() {
        let fill = |text: &str| UrlTemplate::parse(text).map(|t| t.fill("w-1", "TOK"));
        assert_eq!(
            fill("https://cdn.example/{workId}/main.m3u8").as_deref(),
            Ok("https://cdn.example/w-1/main.m3u8?token=TOK")
        );
        assert_eq!(
            fill("/get?w={workId}").as_deref(),
            Ok("/get?w=w-1&token=TOK")
        );
        for bad in [
            "",
            "cdn.example/{workId}",
            "javascript:{workId}",
            "https://cdn.example/",
            "https://cdn.example/{work}",
            "https://cdn.example/{workId}/{workId}",
            "https://cdn.example/{workId}#x",
            "https://cdn.example/a b/{workId}",
            "https://cdn.example/{workId}\r\n",
        ] {
            let problem = fill(bad).expect_err(bad);
            assert!(
                problem.contains("allowed is a URL with {workId}"),
                "{problem}"
            );
        }
    }

    #[test]
    fn keys_stand_one_a_line_and_are_never_repeated() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let of = |text: &str| {
            std::fs::write(&path, text).expect("a file");
            checked(&format!("key_file = {path:?}"))
        };
        let second = TokenKey::new([7; 32]);
        let config = of(&format!("# since May\n{KEY}\r\n\n{}\n", second.reveal())).expect("valid");
        assert!(!format!("{config:?}").contains("0011"));
        let keys = config.keys.expect("two");
        assert_eq!(keys.newest.reveal(), KEY.to_lowercase());
        assert_eq!(keys.others, [second]);
        for (text, said) in [
            (String::new(), "holds 0 keys; allowed are 1 to 8"),
            (format!("{KEY}\nhunter2\n"), "line 2: a key has 7 bytes"),
            (format!("{}g", &KEY[..63]), "allowed are 64 hex digits"),
            (format!("{KEY}\n").repeat(9), "holds 9 keys"),
        ] {
            let problem = of(&text).expect_err(said);
            assert!(problem.contains(said), "{problem}");
            assert!(!problem.contains("hunter2") && !problem.contains("0011"));
        }
        let missing = checked("key_file = \"/nowhere/keys\"").expect_err("no file");
        assert!(
            missing.contains("key_file: read \"/nowhere/keys\""),
            "{missing}"
        );
    }
}
