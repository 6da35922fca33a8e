//! Where the stock stands: the table `[stock]` as the code sees it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::secret::Password;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStock {
    pub host: Option<String>,
    pub redis: RawRedis,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRedis {
    pub urls: Vec<String>,
    pub cluster: bool,
    pub tls_ca_file: Option<String>,
    pub user: Option<String>,
    pub password_file: Option<String>,
    pub connect_ms: u32,
    pub call_ms: u32,
    pub silent_ms: u32,
}

impl Default for RawRedis {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            cluster: false,
            tls_ca_file: None,
            user: None,
            password_file: None,
            connect_ms: 1_000,
            call_ms: 1_000,
            silent_ms: 2_000,
        }
    }
}

/// Which host runs the stock scripts.
#[derive(Debug, Clone, Default)]
pub enum StockConfig {
    /// In this process; rebuilt from the ledger at each start.
    #[default]
    Embedded,
    Redis(RedisConfig),
}

#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// The server, or those of a cluster that are asked for the others.
    pub servers: Vec<RedisServer>,
    pub cluster: bool,
    pub tls: Option<RedisTls>,
    /// None: the server's `default` user.
    pub user: Option<String>,
    pub password: Option<Password>,
    pub limits: RedisLimits,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisServer {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[derive(Debug, Clone)]
pub struct RedisTls {
    /// Certificates in PEM that servers are checked against; none: the system's.
    pub ca: Option<Vec<u8>>,
}

/// How long the engine waits for a server before it does something about it.
#[derive(Debug, Clone, Copy)]
pub struct RedisLimits {
    /// For a connection, and once more for its first words.
    pub connect: Duration,
    /// For a reply; then the call's outcome is unknown and it is sent again.
    pub call: Duration,
    /// For any word at all while calls wait; then the connection is given up.
    pub silent: Duration,
}

impl Default for RedisLimits {
    fn default() -> Self {
        let raw = RawRedis::default();
        let ms = |n: u32| Duration::from_millis(u64::from(n));
        Self {
            connect: ms(raw.connect_ms),
            call: ms(raw.call_ms),
            silent: ms(raw.silent_ms),
        }
    }
}

/// What is wrong comes with its key. `password` is what the environment says, which
/// wins over the file.
pub fn check(
    raw: &RawStock,
    answer_ms: u32,
    password: Option<Password>,
) -> Result<StockConfig, (String, String)> {
    match raw.host.as_deref() {
        None | Some("embedded") => Ok(StockConfig::Embedded),
        Some("redis") => redis(&raw.redis, answer_ms, password)
            .map(StockConfig::Redis)
            .map_err(|(key, problem)| (format!("stock.redis.{key}"), problem)),
        Some(other) => Err((
            "stock.host".to_owned(),
            format!("{other:?} is not known; allowed are \"embedded\" and \"redis\""),
        )),
    }
}

fn redis(
    raw: &RawRedis,
    answer_ms: u32,
    password: Option<Password>,
) -> Result<RedisConfig, (String, String)> {
    let fail = |key: &str, problem: String| Err((key.to_owned(), problem));
    let mut servers = Vec::new();
    let mut tls = None;
    for (i, text) in raw.urls.iter().enumerate() {
        let key = format!("urls[{i}]");
        let (is_tls, server) = url(text).map_err(|problem| (key.clone(), problem))?;
        if tls.is_some_and(|first| first != is_tls) {
            return fail(
                &key,
                format!("{text:?} and the first URL must both be redis:// or both rediss://"),
            );
        }
        tls = Some(is_tls);
        servers.push(server);
    }
    let Some(tls) = tls else {
        return fail(
            "urls",
            "names no server; write [\"redis://127.0.0.1:6379\"], or rediss:// for TLS".to_owned(),
        );
    };
    if servers.len() > 1 && !raw.cluster {
        return fail(
            "urls",
            "names several servers; one is allowed unless stock.redis.cluster = true".to_owned(),
        );
    }
    if raw.tls_ca_file.is_some() && !tls {
        return fail(
            "tls_ca_file",
            "is for TLS, and the URLs begin with redis://; write rediss://".to_owned(),
        );
    }
    let password = match (password, &raw.password_file) {
        (Some(given), _) => Some(given),
        (None, Some(path)) => Some(
            read(path)
                .and_then(|text| Password::check(&String::from_utf8_lossy(&text)))
                .map_err(|problem| ("password_file".to_owned(), problem))?,
        ),
        (None, None) => None,
    };
    if raw.user.is_some() && password.is_none() {
        return fail(
            "user",
            "has no password; name its file in stock.redis.password_file, or set \
             FLOODGATE_REDIS_PASSWORD"
                .to_owned(),
        );
    }
    if raw.call_ms >= answer_ms {
        return fail(
            "call_ms",
            format!(
                "{} is not less than limits.answer_ms, {answer_ms}; buyers would hear \"unknown\" \
                 before the call is sent again",
                raw.call_ms
            ),
        );
    }
    if raw.silent_ms < raw.call_ms {
        return fail(
            "silent_ms",
            format!(
                "{} is less than stock.redis.call_ms, {}; a server would be given up before a \
                 call to it is",
                raw.silent_ms, raw.call_ms
            ),
        );
    }
    let ms = |n: u32| Duration::from_millis(u64::from(n));
    Ok(RedisConfig {
        servers,
        cluster: raw.cluster,
        tls: match (tls, &raw.tls_ca_file) {
            (false, _) => None,
            (true, None) => Some(RedisTls { ca: None }),
            (true, Some(path)) => Some(RedisTls {
                ca: Some(
                    certificates(path).map_err(|problem| ("tls_ca_file".to_owned(), problem))?,
                ),
            }),
        },
        user: raw.user.clone(),
        password,
        limits: RedisLimits {
            connect: ms(raw.connect_ms),
            call: ms(raw.call_ms),
            silent: ms(raw.silent_ms),
        },
    })
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(Path::new(path)).map_err(|e| format!("read {path:?}: {e}"))
}

fn certificates(path: &str) -> Result<Vec<u8>, String> {
    let pem = read(path)?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    if pem.windows(begin.len()).any(|part| part == begin) {
        Ok(pem)
    } else {
        Err(format!("{path:?} holds no certificate in PEM"))
    }
}

/// `redis://host[:port]`, or `rediss://` for TLS; Valkey's own names mean the same.
fn url(text: &str) -> Result<(bool, RedisServer), String> {
    let (tls, rest) = match text.split_once("://") {
        Some(("redis" | "valkey", rest)) => (false, rest),
        Some(("rediss" | "valkeys", rest)) => (true, rest),
        Some(_) | None => {
            return Err(format!(
                "{text:?} is not a URL of a server; allowed are redis://host:port and, for TLS, \
                 rediss://host:port"
            ));
        }
    };
    if rest.contains('@') {
        // Not repeated in the message: it may hold a password.
        return Err(
            "the URL holds a user or a password; name them in stock.redis.user and \
             stock.redis.password_file"
                .to_owned(),
        );
    }
    let at = rest.strip_suffix('/').unwrap_or(rest);
    // The colons of an IPv6 address stand inside its brackets.
    let (host, port) = match at.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok()),
        Some(_) | None => (at, Some(6_379)),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
    match port {
        Some(port @ 1..) if is_host => Ok((
            tls,
            RedisServer {
                host: host.to_owned(),
                port,
            },
        )),
        Some(_) | None => Err(format!(
            "{text:?} is not a host and a port from 1 to 65535, such as redis://127.0.0.1:6379; \
             a database cannot be chosen"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(toml: &str) -> Result<RedisConfig, String> {
        let raw: RawStock = toml::from_str(toml).expect("TOML");
        match check(&raw, 5_000, None) {
            Ok(StockConfig::Redis(config)) => Ok(config),
            Ok(StockConfig::Embedded) => Err("embedded".to_owned()),
            Err((key, problem)) => Err(format!("{key}: {problem}")),
        }
    }

    fn server(text: &str) -> String {
        match url(text) {
            Ok((tls, server)) => format!("{tls} {server}"),
            Err(problem) => problem,
        }
    }

    #[test]
    fn urls_name_a_host_a_port_and_whether_to_use_tls() {
        assert_eq!(server("redis://127.0.0.1:6379"), "false 127.0.0.1:6379");
        assert_eq!(server("rediss://cache.example"), "true cache.example:6379");
        assert_eq!(server("valkey://[::1]:7000/"), "false [::1]:7000");
        for bad in [
            "127.0.0.1:6379",
            "http://x:1",
            "redis://",
            "redis://x:0",
            "redis://x:70000",
            "redis://x:1/2",
            "redis://a b:1",
        ] {
            assert!(server(bad).contains(&format!("{bad:?} is not")), "{bad}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let said = server("redis://floodgate:hunter2@127.0.0.1:6379");
        assert!(said.contains("password_file") && !said.contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_is_told_with_its_key() {
        assert!(matches!(told("").err().as_deref(), Some("embedded")));
        for (toml, said) in [
            (
                "host = \"memcached\"",
                "stock.host: \"memcached\" is not known",
            ),
            ("host = \"redis\"", "stock.redis.urls: names no server"),
            (
                "host = \"redis\"\nredis.urls = [\"redis://a\", \"redis://b\"]",
                "one is allowed unless stock.redis.cluster = true",
            ),
            (
                "host = \"redis\"\nredis.cluster = true\nredis.urls = [\"redis://a\", \"rediss://b\"]",
                "stock.redis.urls[1]: \"rediss://b\" and the first URL",
            ),
            (
                "host = \"redis\"\nredis.urls = [\"redis://a\"]\nredis.tls_ca_file = \"x\"",
                "stock.redis.tls_ca_file: is for TLS",
            ),
            (
                "host = \"redis\"\nredis.urls = [\"redis://a\"]\nredis.user = \"x\"",
                "stock.redis.user: has no password",
            ),
            (
                "host = \"redis\"\nredis.urls = [\"redis://a\"]\nredis.call_ms = 5000",
                "stock.redis.call_ms: 5000 is not less than limits.answer_ms, 5000",
            ),
            (
                "host = \"redis\"\nredis.urls = [\"redis://a\"]\nredis.silent_ms = 999",
                "stock.redis.silent_ms: 999 is less than stock.redis.call_ms, 1000",
            ),
            (
                "host = \"redis\"\nredis.urls = [\"redis://a\"]\nredis.password_file = \"/nowhere\"",
                "stock.redis.password_file: read \"/nowhere\"",
            ),
        ] {
            let problem = told(toml).expect_err(toml);
            assert!(problem.contains(said), "{problem}");
        }
        assert!(told("host = \"redis\"\nredis.urls = [\"redis://a\"]").is_ok());
    }
}
