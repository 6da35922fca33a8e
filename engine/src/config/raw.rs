//! The TOML file, field by field, with the defaults. Unknown keys are refused.
//!
//! A number here is within its range: `shape.rs` has seen it first.

use serde::Deserialize;

use super::grant::RawGrant;
use super::limits::RawRate;
use super::payment::RawPayment;
use super::stock::RawStock;
use super::{ConfigError, shape};
use crate::domain::sale::RawSale;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    pub http: RawHttp,
    pub auth: RawAuth,
    pub data: RawData,
    pub ledger: RawLedger,
    pub store: RawStore,
    pub limits: RawLimits,
    pub stock: RawStock,
    pub payment: RawPayment,
    pub grant: RawGrant,
    pub sales: Vec<RawSale>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {
    pub listen: String,
    pub admin_listen: String,
    pub origins: Vec<String>,
    pub connections_max: u32,
    /// None: one for each processor.
    pub workers: Option<u32>,
    /// 0: as many as there are.
    pub connections_per_ip_max: u32,
    pub trusted_proxies: Vec<String>,
    pub idle_ms: u32,
    pub header_ms: u32,
    pub body_ms: u32,
    pub request_ms: u32,
    pub write_ms: u32,
    pub admin_token_file: Option<String>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            admin_listen: "127.0.0.1:8081".into(),
            origins: Vec::new(),
            connections_max: 15_000,
            workers: None,
            connections_per_ip_max: 0,
            trusted_proxies: Vec::new(),
            idle_ms: 15_000,
            header_ms: 10_000,
            body_ms: 5_000,
            request_ms: 120_000,
            write_ms: 15_000,
            admin_token_file: None,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAuth {
    pub mode: String,
    pub trusted_peers: Vec<String>,
    pub demo_on_any_address: bool,
}

impl Default for RawAuth {
    fn default() -> Self {
        Self {
            mode: "header".into(),
            trusted_peers: vec!["127.0.0.1".into()],
            demo_on_any_address: false,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawData {
    pub dir: String,
}

impl Default for RawData {
    fn default() -> Self {
        Self {
            dir: "./data".into(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLedger {
    pub batch_records_max: u32,
    pub queue_records_max: u32,
    /// 0: off.
    pub low_water_mb: u32,
    /// Should be longer than the order store goes between two backups.
    pub retention_hours: u32,
}

impl Default for RawLedger {
    fn default() -> Self {
        Self {
            batch_records_max: 4_096,
            queue_records_max: 16_384,
            low_water_mb: 512,
            retention_hours: 24,
        }
    }
}

/// None: not said, and so the default of its kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStore {
    pub kind: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub database: Option<String>,
    pub user: Option<String>,
    pub password_file: Option<String>,
    pub sslmode: Option<String>,
    pub ca_file: Option<String>,
    pub connect_ms: Option<u32>,
    pub statement_ms: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    pub under_way_max: u32,
    pub answer_ms: u32,
    pub reconcile_seconds: u32,
    pub per_user: Option<RawRate>,
    pub per_device: Option<RawRate>,
    pub per_ip: Option<RawRate>,
    pub licenses_per_user: RawRate,
    pub keys_max: u32,
    pub deny_users: Vec<String>,
    pub deny_ips: Vec<String>,
    pub allow_users: Vec<String>,
    pub allow_ips: Vec<String>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            under_way_max: 16_384,
            answer_ms: 5_000,
            reconcile_seconds: 5,
            per_user: None,
            per_device: None,
            per_ip: None,
            // People add a device now and then, a page that goes wrong adds one a click.
            licenses_per_user: RawRate {
                rate: 1,
                seconds: 1,
                burst: 20,
            },
            keys_max: 262_144,
            deny_users: Vec::new(),
            deny_ips: Vec::new(),
            allow_users: Vec::new(),
            allow_ips: Vec::new(),
        }
    }
}

pub fn parse(file: &str, text: &str) -> Result<RawConfig, ConfigError> {
    let unreadable = |error: toml::de::Error| ConfigError::File {
        file: file.to_owned(),
        problem: error.to_string().trim_end().to_owned(),
    };
    let table = toml::de::DeTable::parse(text).map_err(unreadable)?;
    // The shape speaks of keys and ranges where serde would speak of its types.
    shape::check(file, text, table.get_ref())?;
    toml::from_str(text).map_err(unreadable)
}
