//! Configuration: raw as the file says it, then checked as the code sees it.
//!
//! No stage reads a file or the environment; each is handed what it needs.

mod checked;
mod raw;

pub use checked::{AdminToken, AuthMode, Config, HttpConfig, Overrides};

/// Names file, key, value and what is allowed.
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
}
