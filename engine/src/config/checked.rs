//! What the code sees; it can only be built by checking.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::raw::{self, RawConfig};
use crate::domain::sale::Sale;

/// What flags or the environment say; they win over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub http_listen: Option<String>,
    pub admin_listen: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub admin_token: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub http: HttpConfig,
    pub data_dir: PathBuf,
    pub shards: usize,
    pub batch_records_max: usize,
    pub queue_records_max: usize,
    /// Requests between gate and answer, per sale.
    pub under_way_max: u32,
    pub answer_max: Duration,
    pub reconcile_every: Duration,
    pub sales: Vec<Sale>,
}

#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub auth: AuthMode,
    /// Origins that a page may call from; exact, as browsers send them.
    pub origins: Vec<String>,
    pub connections_max: usize,
    pub admin_token: Option<AdminToken>,
}

/// A secret: it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthMode {
    /// A gateway at one of these addresses says who the buyer is.
    Header { trusted_peers: Vec<IpAddr> },
    /// Anyone may be anyone.
    Demo,
}

impl Config {
    /// `file` is only for messages.
    pub fn parse(file: &str, text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let raw = raw::parse(file, text)?;
        Checker { file }.check(raw, overrides)
    }
}

struct Checker<'a> {
    file: &'a str,
}

impl Checker<'_> {
    fn fail<T>(
        &self,
        key: impl Into<String>,
        problem: impl Into<String>,
    ) -> Result<T, ConfigError> {
        Err(ConfigError::Value {
            file: self.file.to_owned(),
            key: key.into(),
            problem: problem.into(),
        })
    }

    fn range(&self, key: &str, value: u32, low: u32, high: u32) -> Result<u32, ConfigError> {
        if value < low || value > high {
            return self.fail(
                key,
                format!("{value} is out of range; allowed are {low} to {high}"),
            );
        }
        Ok(value)
    }

    fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        text.parse().or_else(|_| {
            self.fail(
                key,
                format!("{text:?} is not an address and port such as 127.0.0.1:8080"),
            )
        })
    }

    fn check(&self, raw: RawConfig, over: &Overrides) -> Result<Config, ConfigError> {
        let listen = self.address(
            "http.listen",
            over.http_listen.as_ref().unwrap_or(&raw.http.listen),
        )?;
        let admin_listen = self.address(
            "http.admin_listen",
            over.admin_listen.as_ref().unwrap_or(&raw.http.admin_listen),
        )?;
        if listen == admin_listen && listen.port() != 0 {
            return self.fail(
                "http.admin_listen",
                format!("{admin_listen} is http.listen too; they must differ"),
            );
        }
        for (i, origin) in raw.http.origins.iter().enumerate() {
            let host = origin
                .strip_prefix("https://")
                .or_else(|| origin.strip_prefix("http://"));
            if host.is_none_or(|h| h.is_empty() || h.contains('/')) {
                return self.fail(
                    format!("http.origins[{i}]"),
                    format!("{origin:?} is not an origin such as https://shop.example"),
                );
            }
        }
        let mut sales: Vec<Sale> = Vec::new();
        for (i, raw) in raw.sales.iter().enumerate() {
            let sale = raw
                .check()
                .or_else(|e| self.fail(format!("sales[{i}].{}", e.field), e.problem))?;
            if sales.iter().any(|s| s.id == sale.id) {
                return self.fail(
                    format!("sales[{i}].id"),
                    format!("the sale {} stands there twice", sale.id),
                );
            }
            sales.push(sale);
        }
        let ms = |n: u32| Duration::from_millis(u64::from(n));
        Ok(Config {
            http: HttpConfig {
                listen,
                admin_listen,
                auth: self.auth(&raw, listen)?,
                origins: raw.http.origins.clone(),
                connections_max: self.range(
                    "http.connections_max",
                    raw.http.connections_max,
                    1,
                    1_000_000,
                )? as usize,
                admin_token: self.admin_token(&raw, over)?,
            },
            data_dir: over
                .data_dir
                .clone()
                .unwrap_or_else(|| raw.data.dir.clone().into()),
            shards: self.range("stock.shards", raw.stock.shards, 1, 256)? as usize,
            batch_records_max: self.range(
                "ledger.batch_records_max",
                raw.ledger.batch_records_max,
                512,
                65_536,
            )? as usize,
            queue_records_max: self.range(
                "ledger.queue_records_max",
                raw.ledger.queue_records_max,
                1_024,
                1_048_576,
            )? as usize,
            under_way_max: self.range(
                "limits.under_way_max",
                raw.limits.under_way_max,
                1,
                1_000_000,
            )?,
            answer_max: ms(self.range("limits.answer_ms", raw.limits.answer_ms, 100, 60_000)?),
            reconcile_every: ms(1_000
                * self.range(
                    "limits.reconcile_seconds",
                    raw.limits.reconcile_seconds,
                    1,
                    3_600,
                )?),
            sales,
        })
    }

    fn auth(&self, raw: &RawConfig, listen: SocketAddr) -> Result<AuthMode, ConfigError> {
        match raw.auth.mode.as_str() {
            "demo" => {
                if !listen.ip().is_loopback() && !raw.auth.demo_on_any_address {
                    return self.fail(
                        "auth.mode",
                        format!(
                            "\"demo\" lets anyone be anyone, and {listen} is not loopback; \
                                 set auth.demo_on_any_address = true if that is meant"
                        ),
                    );
                }
                Ok(AuthMode::Demo)
            }
            "header" => {
                let mut trusted_peers = Vec::new();
                for (i, peer) in raw.auth.trusted_peers.iter().enumerate() {
                    trusted_peers.push(peer.parse().or_else(|_| {
                        self.fail(
                            format!("auth.trusted_peers[{i}]"),
                            format!("{peer:?} is not an IP address"),
                        )
                    })?);
                }
                Ok(AuthMode::Header { trusted_peers })
            }
            other => self.fail(
                "auth.mode",
                format!("{other:?} is not known; allowed are \"header\" and \"demo\""),
            ),
        }
    }

    fn admin_token(
        &self,
        raw: &RawConfig,
        over: &Overrides,
    ) -> Result<Option<AdminToken>, ConfigError> {
        let token = match (&over.admin_token, &raw.http.admin_token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .or_else(|e| self.fail("http.admin_token_file", format!("read {path}: {e}")))?,
            (None, None) => return Ok(None),
        };
        let token = token.trim();
        if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return self.fail(
                "admin token",
                "allowed are 16 or more printable ASCII characters without spaces",
            );
        }
        Ok(Some(AdminToken::new(token)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Config::parse("f.toml", text, &Overrides::default())
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn an_empty_file_is_a_safe_engine() {
        let config =
            Config::parse("f.toml", "", &Overrides::default()).expect("defaults are valid");
        assert!(
            config.http.listen.ip().is_loopback() && config.http.admin_listen.ip().is_loopback()
        );
        assert!(matches!(config.http.auth, AuthMode::Header { .. }));
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        let text = problem("[http]\nlisen = \"127.0.0.1:1\"\n");
        assert!(
            text.contains("unknown field `lisen`") && text.contains("did you mean `listen`?"),
            "{text}"
        );
        assert!(text.contains("line 2"), "{text}");
    }

    #[test]
    fn errors_name_file_key_value_and_range() {
        assert_eq!(
            problem("[limits]\nanswer_ms = 1\n"),
            "f.toml: limits.answer_ms: 1 is out of range; allowed are 100 to 60000"
        );
        assert!(problem("[auth]\nmode = \"jwt\"").contains("allowed are \"header\" and \"demo\""));
        let open = problem("[http]\nlisten = \"0.0.0.0:8080\"\n[auth]\nmode = \"demo\"");
        assert!(open.contains("not loopback"), "{open}");
        assert!(problem("[http]\nadmin_listen = \"127.0.0.1:8080\"").contains("must differ"));
    }

    #[test]
    fn overrides_win_and_secrets_do_not_print() {
        let over = Overrides {
            http_listen: Some("127.0.0.1:9999".into()),
            admin_token: Some("0123456789abcdef".into()),
            ..Overrides::default()
        };
        let config =
            Config::parse("f.toml", "[http]\nlisten = \"127.0.0.1:1\"", &over).expect("valid");
        assert_eq!(config.http.listen.port(), 9_999);
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }
}
