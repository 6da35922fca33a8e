//! One client for one connection, and what it must not do on its own.

use fred::clients::Client;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, TlsConfig,
    UnresponsiveConfig,
};

use crate::config::{RedisConfig, RedisLimits, RedisServer};

/// Calls that may wait in a client for its connection to take them. A bucket has one
/// call under way; more than this is a connection that takes nothing.
pub const WAITING_MAX: usize = 8_192;

/// What a line needs to know of the configuration.
pub struct Settings {
    pub limits: RedisLimits,
    pub user: Option<String>,
    pub password: Option<String>,
    pub tls: Option<TlsConfig>,
}

impl Settings {
    pub fn new(config: &RedisConfig) -> Result<Self, String> {
        let password = config.password.as_ref();
        Ok(Self {
            limits: config.limits,
            user: config.user.clone(),
            password: password.map(|p| p.reveal().to_owned()),
            tls: config.tls.as_ref().map(super::tls::connector).transpose()?,
        })
    }

    /// A client for one connection.
    pub fn client(&self, server: &RedisServer) -> Client {
        let config = Config {
            fail_fast: true,
            server: ServerConfig::Centralized {
                server: Server::new(server.host.as_str(), server.port),
            },
            username: self.user.clone(),
            password: self.password.clone(),
            tls: self.tls.clone(),
            ..Config::default()
        };
        let performance = PerformanceConfig {
            default_command_timeout: self.limits.call,
            ..PerformanceConfig::default()
        };
        let connection = ConnectionConfig {
            connection_timeout: self.limits.connect,
            internal_command_timeout: self.limits.connect,
            // A second attempt would be ours to make.
            max_command_attempts: 1,
            max_redirections: 0,
            // Never reached, see `WAITING_MAX`: a client that turned a call away because
            // it was full counts it as waiting ever after, and no longer flushes.
            max_command_buffer_len: 4 * WAITING_MAX,
            tcp: TcpConfig {
                nodelay: Some(true),
                ..TcpConfig::default()
            },
            // Its clock starts anew with every call, so who calls often is never found
            // out; `Line` keeps its own.
            unresponsive: UnresponsiveConfig {
                max_timeout: None,
                ..UnresponsiveConfig::default()
            },
            reconnect_errors: Vec::new(),
            ..ConnectionConfig::default()
        };
        Client::new(config, Some(performance), Some(connection), None)
    }
}
