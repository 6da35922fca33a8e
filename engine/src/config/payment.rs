//! How buyers pay: the table `[payment]` as the code sees it.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::ids::Channel;
use crate::domain::sign::{SECRETS_MAX, Secret, Secrets};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPayment {
    pub provider: Option<String>,
    /// None: not said, and so the default.
    pub channels: Option<Vec<String>>,
    pub secrets_file: Option<String>,
    pub mock: RawMock,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMock {
    pub delay_ms: u32,
    pub repeat: u32,
    pub reorder: bool,
    pub fail: bool,
    pub lie_cent: u32,
    pub prepays_fail: u32,
    pub refunds_fail: u32,
    pub on_any_address: bool,
}

impl Default for RawMock {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            repeat: 1,
            reorder: false,
            fail: false,
            lie_cent: 0,
            prepays_fail: 0,
            refunds_fail: 0,
            on_any_address: false,
        }
    }
}

/// What `shape.rs` allows, for a plan that comes with a request as well.
pub mod allowed {
    use std::ops::RangeInclusive;

    pub const DELAY_MS: RangeInclusive<u64> = 0..=600_000;
    pub const REPEAT: RangeInclusive<u64> = 1..=10;
    pub const LIE_CENT: RangeInclusive<u64> = 0..=1_000_000;
    pub const PREPAYS_FAIL: RangeInclusive<u64> = 0..=1_000_000;
    pub const REFUNDS_FAIL: RangeInclusive<u64> = 0..=1_000_000;
}

#[derive(Debug, Clone)]
pub struct PaymentConfig {
    pub provider: ProviderConfig,
    /// Those a buyer may choose from, in the order of the file.
    pub channels: Vec<Channel>,
    /// Who signs callbacks; none: a secret of the engine's own.
    pub secrets: Option<Secrets>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderConfig {
    /// Nobody opens payment sessions or gives money back; callbacks count all the same.
    None,
    /// The built-in one, which moves no money.
    Mock(MockConfig),
}

/// What the mock does when a buyer pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockConfig {
    /// From the buyer's press to the first callback.
    pub delay: Duration,
    /// How often each callback is sent.
    pub repeat: u32,
    /// An attempt that failed before is told after the one that succeeded.
    pub reorder: bool,
    /// The attempt comes to nothing.
    pub fail: bool,
    /// So much more than the order costs is told.
    pub lie_cent: u32,
    /// So many calls for a session fail before the first one is heard.
    pub prepays_fail: u32,
    /// So many calls for a refund fail before the first one is heard.
    pub refunds_fail: u32,
}

const CHANNELS_MAX: usize = 16;
const CHANNELS: [&str; 2] = ["card", "wallet"];

/// What is wrong comes with its key.
pub(super) fn check(raw: &RawPayment) -> Result<PaymentConfig, (String, String)> {
    let provider = match raw.provider.as_deref().unwrap_or("none") {
        "mock" => ProviderConfig::Mock(mock(&raw.mock)),
        "none" if raw.mock != RawMock::default() => {
            let problem = "is for payment.provider = \"mock\" alone";
            return Err(("mock".into(), problem.into()));
        }
        "none" => ProviderConfig::None,
        other => {
            let problem = format!("{other:?} is not known; allowed are \"none\" and \"mock\"");
            return Err(("provider".into(), problem));
        }
    };
    Ok(PaymentConfig {
        provider,
        channels: channels(raw.channels.as_deref())?,
        secrets: raw
            .secrets_file
            .as_deref()
            .map(|path| secrets(path).map_err(|problem| ("secrets_file".into(), problem)))
            .transpose()?,
    })
}

fn mock(raw: &RawMock) -> MockConfig {
    MockConfig {
        delay: Duration::from_millis(raw.delay_ms.into()),
        repeat: raw.repeat,
        reorder: raw.reorder,
        fail: raw.fail,
        lie_cent: raw.lie_cent,
        prepays_fail: raw.prepays_fail,
        refunds_fail: raw.refunds_fail,
    }
}

fn channels(given: Option<&[String]>) -> Result<Vec<Channel>, (String, String)> {
    let Some(given) = given else {
        let known = CHANNELS.map(|name| Channel::parse(name).expect("our own names are ids"));
        return Ok(known.to_vec());
    };
    if given.is_empty() || given.len() > CHANNELS_MAX {
        let problem = format!("{} channels; allowed are 1 to {CHANNELS_MAX}", given.len());
        return Err(("channels".into(), problem));
    }
    let mut channels = Vec::with_capacity(given.len());
    for (at, text) in given.iter().enumerate() {
        let key = || format!("channels[{at}]");
        let channel = Channel::parse(text).map_err(|e| (key(), format!("{text:?} {e}")))?;
        if channels.contains(&channel) {
            return Err((key(), format!("{text:?} stands there twice")));
        }
        channels.push(channel);
    }
    Ok(channels)
}

/// One secret a line, the newest first; empty lines and those that begin with `#` are
/// for people.
fn secrets(path: &str) -> Result<Secrets, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {path:?}: {e}"))?;
    let mut secrets = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The error has no part of the line in it.
        let secret = Secret::parse(line)
            .map_err(|problem| format!("{path:?}, line {}: {problem}", at + 1))?;
        secrets.push(secret);
    }
    let found = secrets.len();
    Secrets::new(secrets)
        .ok_or_else(|| format!("{path:?} holds {found} secrets; allowed are 1 to {SECRETS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn checked(toml: &str) -> Result<PaymentConfig, String> {
        let raw: RawPayment = toml::from_str(toml).expect("TOML");
        check(&raw).map_err(|(key, problem)| format!("{key}: {problem}"))
    }

    fn of_file(text: &str) -> Result<PaymentConfig, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secrets");
        std::fs::write(&path, text).expect("a file");
        checked(&format!("secrets_file = {path:?}"))
    }

    #[test]
    fn nothing_said_is_no_provider_and_two_channels() {
        let config = checked("").expect("valid");
        assert_eq!(config.provider, ProviderConfig::None);
        let names: Vec<_> = config.channels.iter().map(Channel::as_str).collect();
        assert_eq!(names, CHANNELS);
        assert_eq!(config.secrets, None);
        let ProviderConfig::Mock(mock) = checked("provider = \"mock\"").expect("valid").provider
        else {
            panic!("it was asked for");
        };
        assert_eq!(
            (mock.repeat, mock.delay, mock.fail),
            (1, Duration::ZERO, false)
        );
    }

    #[test]
    fn what_cannot_be_is_told_with_its_key() {
        for (toml, said) in [
            (
                "provider = \"stripe\"",
                "provider: \"stripe\" is not known; allowed are",
            ),
            (
                "mock.fail = true",
                "mock: is for payment.provider = \"mock\" alone",
            ),
            ("channels = []", "channels: 0 channels; allowed are 1 to 16"),
            (
                "channels = [\"a b\"]",
                "channels[0]: \"a b\" has a character",
            ),
            (
                "channels = [\"a\", \"a\"]",
                "channels[1]: \"a\" stands there twice",
            ),
            (
                "secrets_file = \"/nowhere\"",
                "secrets_file: read \"/nowhere\"",
            ),
        ] {
            let problem = checked(toml).expect_err(toml);
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn secrets_stand_one_a_line_and_are_never_repeated() {
        let second = Secret::from_key([7; 32]);
        let text = format!("# since May\n{SECRET}\r\n\n{}\n", second.reveal());
        let config = of_file(&text).expect("valid");
        let both = vec![Secret::parse(SECRET).expect("valid"), second];
        assert_eq!(config.secrets, Secrets::new(both));
        assert!(!format!("{config:?}").contains("MfKQ9r8"));
        for (text, said) in [
            ("", "holds 0 secrets; allowed are 1 to 8"),
            ("# none\n", "holds 0 secrets"),
            (
                &format!("{SECRET}\nhunter2hunter2\n"),
                "line 2: does not begin with whsec_",
            ),
            (&format!("{SECRET}\n").repeat(9), "holds 9 secrets"),
        ] {
            let problem = of_file(text).expect_err(said);
            assert!(
                problem.contains(said) && !problem.contains("hunter2"),
                "{problem}"
            );
            assert!(!problem.contains("MfKQ9r8"), "{problem}");
        }
    }
}
