//! Configuration: raw as the file says it, then checked as the code sees it.
//! Whoever wrote a value that cannot be is told: the file and key, the variable,
//! or the flag; then the value, and what is allowed.
//!
//! No stage reads a file or the environment; each is handed what it needs.

mod checked;
mod folder;
mod grant;
mod limits;
mod listen;
mod origin;
mod outside;
mod patience;
mod payment;
mod raw;
mod secret;
mod shape;
mod stock;
mod store;

pub use checked::{AuthMode, Config, HttpConfig};
pub use grant::{GrantConfig, TOKEN_LIFE_MAX, TokenKey, TokenKeys, UrlTemplate};
pub use limits::{BuyerRules, Names, Rate};
pub use outside::{Given, Overrides};
pub use patience::Patience;
pub use payment::{MockConfig, PaymentConfig, ProviderConfig, allowed as mock_allowed};
pub use secret::{AdminToken, Password};
pub use stock::{RedisConfig, RedisLimits, RedisServer, RedisTls, StockConfig};
pub use store::{PostgresConfig, Roots, StoreConfig, Tls};

/// Names who said it (file and key, variable, or flag), the value and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
    #[error("{file}: {key}: {problem}")]
    Value {
        file: String,
        key: String,
        problem: String,
    },
    /// `name` is a variable or a flag; the file has no part in it.
    #[error("{name}: {problem}")]
    Outside { name: String, problem: String },
}

/// The name that was probably meant.
fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
