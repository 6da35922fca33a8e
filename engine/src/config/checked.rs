//! What the code sees; it can only be built by checking.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::grant::{self, GrantConfig};
use super::limits::{self, BuyerRules};
use super::patience::{self, Patience};
use super::payment::{self, PaymentConfig, ProviderConfig};
use super::raw::{self, RawConfig};
use super::stock::{self, StockConfig};
use super::store::{self, StoreConfig};
use super::{AdminToken, ConfigError, Given, Overrides, Password, folder, listen, origin};
use crate::domain::ip::IpSet;
use crate::domain::sale::{RawSale, Sale};

#[derive(Debug, Clone)]
pub struct Config {
    pub http: HttpConfig,
    pub data_dir: PathBuf,
    pub batch_records_max: usize,
    pub queue_records_max: usize,
    /// Sales pause while the data folder has less free than this; 0: never.
    pub low_water_bytes: u64,
    /// Records that the order store has go when they are older.
    pub retention: Duration,
    pub store: StoreConfig,
    /// Requests between gate and answer, per sale.
    pub under_way_max: u32,
    pub answer_max: Duration,
    pub reconcile_every: Duration,
    pub buyers: BuyerRules,
    pub stock: StockConfig,
    pub payment: PaymentConfig,
    pub grant: GrantConfig,
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
    /// Threads that serve buyers and run the embedded stock.
    pub workers: usize,
    /// Connections of one client at once; trusted proxies are not counted.
    pub connections_per_ip_max: Option<usize>,
    /// Whose word about the client's address counts.
    pub trusted_proxies: IpSet,
    pub patience: Patience,
    pub admin_token: Option<AdminToken>,
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

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

struct Checker<'a> {
    file: &'a str,
}

/// Who said a value, and so who hears what is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The file, or the default, under this key.
    File(&'static str),
    /// This flag or variable.
    Outside(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(name) | Self::Outside(name) => f.write_str(name),
        }
    }
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

    fn blame<T>(&self, source: Source, problem: impl Into<String>) -> Result<T, ConfigError> {
        match source {
            Source::File(key) => self.fail(key, problem),
            Source::Outside(name) => Err(ConfigError::Outside {
                name: name.to_owned(),
                problem: problem.into(),
            }),
        }
    }

    fn address(
        &self,
        key: &'static str,
        text: &str,
        over: Option<&Given<String>>,
    ) -> Result<(Source, SocketAddr), ConfigError> {
        let (source, text) = match over {
            Some(given) => (Source::Outside(given.by), given.value.as_str()),
            None => (Source::File(key), text),
        };
        match listen::parse(text) {
            Ok(address) => Ok((source, address)),
            Err(problem) => self.blame(source, problem),
        }
    }

    fn check(&self, raw: RawConfig, over: &Overrides) -> Result<Config, ConfigError> {
        let public = self.address("http.listen", &raw.http.listen, over.http_listen.as_ref())?;
        let admin = self.address(
            "http.admin_listen",
            &raw.http.admin_listen,
            over.admin_listen.as_ref(),
        )?;
        if listen::one_socket(public.1, admin.1) {
            // A variable or flag that met a valid file is the one to change.
            let ((source, at), (other, other_at)) = match (public.0, admin.0) {
                (Source::Outside(_), Source::File(_)) => (public, admin),
                (Source::File(_) | Source::Outside(_), _) => (admin, public),
            };
            return self.blame(
                source,
                format!("{at} takes the port of {other}, {other_at}; they must differ"),
            );
        }
        for (i, text) in raw.http.origins.iter().enumerate() {
            origin::check(text).or_else(|e| self.fail(format!("http.origins[{i}]"), e))?;
        }
        // A group as large as a batch could never be let into a smaller queue.
        let (batch, queue) = (raw.ledger.batch_records_max, raw.ledger.queue_records_max);
        if queue < batch {
            return self.fail(
                "ledger.queue_records_max",
                format!(
                    "{queue} is less than ledger.batch_records_max, {batch}; a whole batch must \
                     fit into the queue"
                ),
            );
        }
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        let sales = self.sales(&raw.sales)?;
        // A sale begins in one commit: a record for itself and one for each bucket.
        let many = |sale: &Sale| u32::from(sale.buckets) >= batch;
        if let Some(at) = sales.iter().position(many) {
            return self.fail(
                format!("sales[{at}].buckets"),
                format!(
                    "{} is not less than ledger.batch_records_max, {batch}; a sale must fit into \
                     one batch",
                    sales[at].buckets
                ),
            );
        }
        let store = store::check(&raw.store, self.store_password(&raw, over)?)
            .or_else(|(key, problem)| self.fail(format!("store.{key}"), problem))?;
        let payment = self.payment(&raw, public)?;
        let per_ip = raw.http.connections_per_ip_max as usize;
        Ok(Config {
            http: HttpConfig {
                listen: public.1,
                admin_listen: admin.1,
                auth: self.auth(&raw, public)?,
                connections_max: raw.http.connections_max as usize,
                workers: raw.http.workers.map_or_else(processors, |n| n as usize),
                connections_per_ip_max: (per_ip > 0).then_some(per_ip),
                trusted_proxies: self.ips("http.trusted_proxies", &raw.http.trusted_proxies)?,
                patience: patience::check(&raw, &sales)
                    .or_else(|problem| self.fail("http.request_ms", problem))?,
                admin_token: self.admin_token(&raw, over)?,
                origins: raw.http.origins,
            },
            data_dir: self.data_dir(&raw.data.dir, over)?,
            batch_records_max: batch as usize,
            queue_records_max: queue as usize,
            low_water_bytes: u64::from(raw.ledger.low_water_mb) << 20,
            retention: seconds(raw.ledger.retention_hours * 3_600),
            store,
            under_way_max: raw.limits.under_way_max,
            answer_max: Duration::from_millis(u64::from(raw.limits.answer_ms)),
            reconcile_every: seconds(raw.limits.reconcile_seconds),
            buyers: limits::check(&raw.limits)
                .or_else(|(key, problem)| self.fail(format!("limits.{key}"), problem))?,
            stock: stock::check(
                &raw.stock,
                raw.limits.answer_ms,
                over.redis_password
                    .as_ref()
                    .map(|given| given.value.clone()),
            )
            .or_else(|(key, problem)| self.fail(key, problem))?,
            payment,
            grant: grant::check(&raw.grant)
                .or_else(|(key, problem)| self.fail(format!("grant.{key}"), problem))?,
            sales,
        })
    }

    /// The place in a list of addresses is part of the key.
    fn ips(&self, key: &str, texts: &[String]) -> Result<IpSet, ConfigError> {
        limits::ips(texts).or_else(|(at, problem)| self.fail(format!("{key}[{at}]"), problem))
    }

    fn data_dir(&self, dir: &str, over: &Overrides) -> Result<PathBuf, ConfigError> {
        let (source, path) = match &over.data_dir {
            Some(given) => (Source::Outside(given.by), given.value.clone()),
            None => (Source::File("data.dir"), dir.into()),
        };
        folder::check(&path).or_else(|e| self.blame(source, e))?;
        Ok(path)
    }

    fn sales(&self, raw: &[RawSale]) -> Result<Vec<Sale>, ConfigError> {
        let mut sales: Vec<Sale> = Vec::with_capacity(raw.len());
        for (i, raw) in raw.iter().enumerate() {
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
        Ok(sales)
    }

    /// Whoever reaches the mock says what was paid.
    fn payment(
        &self,
        raw: &RawConfig,
        (source, listen): (Source, SocketAddr),
    ) -> Result<PaymentConfig, ConfigError> {
        let checked = payment::check(&raw.payment)
            .or_else(|(key, problem)| self.fail(format!("payment.{key}"), problem))?;
        match &checked.provider {
            ProviderConfig::Mock(_)
                if !listen.ip().is_loopback() && !raw.payment.mock.on_any_address =>
            {
                self.blame(
                    source,
                    format!(
                        "{listen} is not loopback, and payment.provider = \"mock\" lets buyers \
                         say that they paid; set payment.mock.on_any_address = true if that is meant"
                    ),
                )
            }
            ProviderConfig::Mock(_) | ProviderConfig::None => Ok(checked),
        }
    }

    fn auth(
        &self,
        raw: &RawConfig,
        (source, listen): (Source, SocketAddr),
    ) -> Result<AuthMode, ConfigError> {
        match raw.auth.mode.as_str() {
            "demo" => {
                if !listen.ip().is_loopback() && !raw.auth.demo_on_any_address {
                    return self.blame(
                        source,
                        format!(
                            "{listen} is not loopback, and auth.mode = \"demo\" lets anyone be \
                             anyone; set auth.demo_on_any_address = true if that is meant"
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

    fn store_password(
        &self,
        raw: &RawConfig,
        over: &Overrides,
    ) -> Result<Option<Password>, ConfigError> {
        let key = "store.password_file";
        let (source, password) = match (&over.store_password, &raw.store.password_file) {
            (Some(given), _) if !store::takes_password(&raw.store) => {
                let problem = "nobody asks for a password: store.kind is \"sqlite\"";
                return self.blame(Source::Outside(given.by), problem);
            }
            (Some(given), _) => (Source::Outside(given.by), given.value.reveal().to_owned()),
            (None, Some(path)) => (Source::File(key), self.read(key, path)?),
            (None, None) => return Ok(None),
        };
        let password = Password::check(&password);
        password
            .or_else(|problem| self.blame(source, problem))
            .map(Some)
    }

    fn read(&self, key: &str, path: &str) -> Result<String, ConfigError> {
        std::fs::read_to_string(path).or_else(|e| self.fail(key, format!("read {path:?}: {e}")))
    }

    fn admin_token(
        &self,
        raw: &RawConfig,
        over: &Overrides,
    ) -> Result<Option<AdminToken>, ConfigError> {
        let key = "http.admin_token_file";
        let (source, token) = match (&over.admin_token, &raw.http.admin_token_file) {
            (Some(given), _) => (Source::Outside(given.by), given.value.reveal().to_owned()),
            (None, Some(path)) => (Source::File(key), self.read(key, path)?),
            (None, None) => return Ok(None),
        };
        match AdminToken::check(&token) {
            Ok(token) => Ok(Some(token)),
            Err(problem) => self.blame(source, problem),
        }
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
        assert_eq!(
            problem("[http]\nlisen = \"127.0.0.1:1\"\n"),
            "f.toml: http.lisen (line 2): is not known; did you mean `listen`?"
        );
    }

    #[test]
    fn errors_name_file_key_value_and_range() {
        assert_eq!(
            problem("[limits]\nanswer_ms = 1\n"),
            "f.toml: limits.answer_ms (line 2): 1 is out of range; allowed are 100 to 60000"
        );
        assert!(problem("[auth]\nmode = \"jwt\"").contains("allowed are \"header\" and \"demo\""));
        let open = problem("[http]\nlisten = \"0.0.0.0:8080\"\n[auth]\nmode = \"demo\"");
        assert!(
            open.contains("f.toml: http.listen: 0.0.0.0:8080 is not loopback"),
            "{open}"
        );
        assert!(problem("[http]\nadmin_listen = \"127.0.0.1:8080\"").contains("must differ"));
    }

    #[test]
    fn overrides_win_and_secrets_do_not_print() {
        let over = Overrides {
            http_listen: Some(Given {
                by: "--http-listen",
                value: "127.0.0.1:9999".into(),
            }),
            admin_token: Some(Given {
                by: "FLOODGATE_ADMIN_TOKEN",
                value: AdminToken::new("0123456789abcdef"),
            }),
            ..Overrides::default()
        };
        let config =
            Config::parse("f.toml", "[http]\nlisten = \"127.0.0.1:1\"", &over).expect("valid");
        assert_eq!(config.http.listen.port(), 9_999);
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }
}
