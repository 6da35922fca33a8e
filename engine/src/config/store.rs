//! Where orders are kept for the order system: the table `[store]` as the code sees it.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Password;
use super::raw::RawStore;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// One file in the data folder.
    Sqlite,
    Postgres(PostgresConfig),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// A name, an address, or the folder of a socket.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Password>,
    pub tls: Tls,
    /// For a line to stand: TCP, TLS and log-in together.
    pub connect_max: Duration,
    /// For one batch, or one look at the mark.
    pub statement_max: Duration,
}

/// As PostgreSQL's own `sslmode` calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    Disable,
    /// Nobody listens in, but whoever answers is believed.
    Require,
    /// The server shows a certificate of these roots for the name it was called by.
    VerifyFull(Roots),
}

#[derive(Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those that this machine trusts.
    OfTheSystem,
    Given(Vec<CertificateDer<'static>>),
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OfTheSystem => f.write_str("of the system"),
            Self::Given(roots) => write!(f, "{} certificates", roots.len()),
        }
    }
}

/// PostgreSQL cuts longer names off in silence, and means another one then.
const NAME_BYTES_MAX: usize = 63;

/// The key at fault, and what is wrong with it.
type Wrong = (&'static str, String);

/// Whether there is anybody who could be told a password.
pub(super) fn takes_password(raw: &RawStore) -> bool {
    raw.kind.as_deref() == Some("postgres")
}

pub(super) fn check(raw: &RawStore, password: Option<Password>) -> Result<StoreConfig, Wrong> {
    match raw.kind.as_deref().unwrap_or("sqlite") {
        "sqlite" => match first_of_postgres(raw) {
            None => Ok(StoreConfig::Sqlite),
            Some(key) => Err((key, "is for store.kind = \"postgres\" alone".to_owned())),
        },
        "postgres" => Ok(StoreConfig::Postgres(postgres(raw, password)?)),
        other => Err((
            "kind",
            format!("{other:?} is not known; allowed are \"sqlite\" and \"postgres\""),
        )),
    }
}

/// The first key that was given and that a file on this machine has no use for.
fn first_of_postgres(raw: &RawStore) -> Option<&'static str> {
    let given = [
        ("host", raw.host.is_some()),
        ("port", raw.port.is_some()),
        ("database", raw.database.is_some()),
        ("user", raw.user.is_some()),
        ("password_file", raw.password_file.is_some()),
        ("sslmode", raw.sslmode.is_some()),
        ("ca_file", raw.ca_file.is_some()),
        ("connect_ms", raw.connect_ms.is_some()),
        ("statement_ms", raw.statement_ms.is_some()),
    ];
    given.into_iter().find_map(|(key, is)| is.then_some(key))
}

fn postgres(raw: &RawStore, password: Option<Password>) -> Result<PostgresConfig, Wrong> {
    let host = raw.host.as_deref().unwrap_or("127.0.0.1");
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err((
            "host",
            format!("{host:?} is neither a name, nor an address, nor the folder of a socket"),
        ));
    }
    if host.contains("://") {
        return Err((
            "host",
            "is a URL; write its parts as host, port, database and user".to_owned(),
        ));
    }
    let ms = |given: Option<u32>, default| Duration::from_millis(given.unwrap_or(default).into());
    Ok(PostgresConfig {
        tls: tls(raw, host)?,
        host: host.to_owned(),
        port: raw.port.unwrap_or(5_432),
        database: name("database", raw.database.as_deref())?,
        user: name("user", raw.user.as_deref())?,
        password,
        connect_max: ms(raw.connect_ms, 5_000),
        statement_max: ms(raw.statement_ms, 10_000),
    })
}

fn name(key: &'static str, given: Option<&str>) -> Result<String, Wrong> {
    let name = given.unwrap_or("floodgate");
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err((
            key,
            format!("{name:?} is no name of PostgreSQL; allowed are 1 to {NAME_BYTES_MAX} bytes"),
        ));
    }
    Ok(name.to_owned())
}

fn tls(raw: &RawStore, host: &str) -> Result<Tls, Wrong> {
    let socket = Path::new(host).is_absolute();
    let mode = match (raw.sslmode.as_deref(), socket) {
        (Some(mode), _) => mode,
        (None, true) => "disable",
        (None, false) => "verify-full",
    };
    if socket && mode != "disable" {
        return Err((
            "sslmode",
            format!("{mode:?}, but {host:?} is a socket of this machine; it speaks no TLS"),
        ));
    }
    let roots = match raw.ca_file.as_deref() {
        Some(_) if mode != "verify-full" => {
            return Err((
                "ca_file",
                format!("with store.sslmode = {mode:?} nobody looks at certificates"),
            ));
        }
        Some(path) => Roots::Given(certificates(path).map_err(|why| ("ca_file", why))?),
        None => Roots::OfTheSystem,
    };
    match mode {
        "disable" => Ok(Tls::Disable),
        "require" => Ok(Tls::Require),
        "verify-full" => Ok(Tls::VerifyFull(roots)),
        other => Err((
            "sslmode",
            format!(
                "{other:?} is not known; allowed are \"disable\", \"require\" and \"verify-full\""
            ),
        )),
    }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|e| format!("read {path:?}: {e}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{path:?} holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{path:?} is not PEM: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(toml: &str) -> Result<StoreConfig, Wrong> {
        check(&toml::from_str(toml).expect(toml), None)
    }

    fn postgres(more: &str) -> Result<PostgresConfig, Wrong> {
        match checked(&format!("kind = \"postgres\"\n{more}"))? {
            StoreConfig::Postgres(config) => Ok(config),
            StoreConfig::Sqlite => panic!("{more}"),
        }
    }

    #[test]
    fn nothing_said_is_a_file_and_a_distant_server_is_verified() {
        assert_eq!(checked(""), Ok(StoreConfig::Sqlite));
        assert_eq!(checked("kind = \"sqlite\""), Ok(StoreConfig::Sqlite));
        let config = postgres("host = \"db.example\"").expect("valid");
        assert_eq!(config.tls, Tls::VerifyFull(Roots::OfTheSystem));
        assert_eq!(config.port, 5_432);
        assert_eq!(
            (config.database.as_str(), config.user.as_str()),
            ("floodgate", "floodgate")
        );
        let socket = postgres("host = \"/run/postgresql\"").expect("valid");
        assert_eq!(socket.tls, Tls::Disable);
    }

    #[test]
    fn what_cannot_be_is_told_with_its_key() {
        let wrong = |more: &str| postgres(more).expect_err(more).0;
        assert_eq!(wrong("host = \"\""), "host");
        assert_eq!(wrong("host = \"postgres://me@db/orders\""), "host");
        assert_eq!(wrong("user = \"\""), "user");
        assert_eq!(
            wrong(&format!("database = \"{}\"", "x".repeat(64))),
            "database"
        );
        assert_eq!(wrong("sslmode = \"prefer\""), "sslmode");
        assert_eq!(wrong("host = \"/run\"\nsslmode = \"require\""), "sslmode");
        assert_eq!(wrong("sslmode = \"require\"\nca_file = \"x\""), "ca_file");
        assert_eq!(wrong("ca_file = \"/nowhere/at/all\""), "ca_file");
        assert_eq!(wrong("ca_file = \"/dev/null\""), "ca_file");
        let of_the_other = checked("user = \"me\"").expect_err("a file has no users");
        assert_eq!(of_the_other.0, "user");
        assert_eq!(checked("kind = \"mysql\"").expect_err("unknown").0, "kind");
    }
}
