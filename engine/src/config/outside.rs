//! What flags and the environment say. A flag wins over a variable, a variable over
//! the file, and each value remembers its name, so that blame falls on the right one.
//!
//! A variable of ours that nobody reads is refused: a misspelt name must not
//! silently leave a default in force.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{AdminToken, ConfigError, Password, nearest};

/// Every variable of ours begins with this; what follows is the part that differs.
const PREFIX: &str = "FLOODGATE_";
const KNOWN: [&str; 6] = [
    "HTTP_LISTEN",
    "ADMIN_LISTEN",
    "DATA_DIR",
    "ADMIN_TOKEN",
    "REDIS_PASSWORD",
    "STORE_PASSWORD",
];

/// A value and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<T> {
    /// The flag or variable, as the user writes it.
    pub by: &'static str,
    pub value: T,
}

#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub http_listen: Option<Given<String>>,
    pub admin_listen: Option<Given<String>>,
    pub data_dir: Option<Given<PathBuf>>,
    /// Never a flag: every user of the machine sees the flags of a process.
    pub admin_token: Option<Given<AdminToken>>,
    pub redis_password: Option<Given<Password>>,
    /// Never a flag either.
    pub store_password: Option<Given<Password>>,
}

impl Overrides {
    pub fn from_environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut found = Self::default();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            let Some(ours) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let value = value.into_string();
            let text = || value.clone().or_else(|_| fail(&name, "is not UTF-8 text"));
            match ours {
                "HTTP_LISTEN" => found.http_listen = given("FLOODGATE_HTTP_LISTEN", text()?),
                "ADMIN_LISTEN" => found.admin_listen = given("FLOODGATE_ADMIN_LISTEN", text()?),
                "DATA_DIR" => found.data_dir = given("FLOODGATE_DATA_DIR", text()?.into()),
                "ADMIN_TOKEN" => {
                    found.admin_token = given("FLOODGATE_ADMIN_TOKEN", AdminToken::new(text()?));
                }
                "REDIS_PASSWORD" => {
                    let password = Password::check(&text()?).or_else(|e| fail(&name, e))?;
                    found.redis_password = given("FLOODGATE_REDIS_PASSWORD", password);
                }
                "STORE_PASSWORD" => {
                    let password = Password::check(&text()?).or_else(|e| fail(&name, e))?;
                    found.store_password = given("FLOODGATE_STORE_PASSWORD", password);
                }
                link if is_service_link(link) => {}
                unknown => return fail(&name, not_known(unknown)),
            }
        }
        Ok(found)
    }
}

fn given<T>(by: &'static str, value: T) -> Option<Given<T>> {
    Some(Given { by, value })
}

fn fail<T>(name: &str, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Outside {
        name: name.to_owned(),
        problem: problem.into(),
    })
}

fn not_known(name: &str) -> String {
    let mut problem = "is not a known variable".to_owned();
    if let Some(near) = nearest(name, KNOWN.into_iter()) {
        problem.push_str(&format!("; did you mean {PREFIX}{near}?"));
    } else {
        let known = KNOWN.map(|k| format!("{PREFIX}{k}")).join(", ");
        problem.push_str(&format!("; known are {known}"));
    }
    problem
}

/// A Service called `floodgate` puts FLOODGATE_PORT, FLOODGATE_SERVICE_HOST,
/// FLOODGATE_PORT_8080_TCP_ADDR and their like into every pod beside it: nobody
/// misspelt anything.
fn is_service_link(name: &str) -> bool {
    let name = format!("_{name}");
    name.ends_with("_PORT")
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT_")
        || (name.contains("_PORT_") && name.contains("_TCP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Overrides, String> {
        Overrides::from_environment([(name.into(), value.into())]).map_err(|e| e.to_string())
    }

    #[test]
    fn every_known_variable_is_read_under_its_own_name() {
        let by = |name: &str| {
            let found = read(name, "v").expect("known");
            [
                found.http_listen.map(|g| g.by),
                found.admin_listen.map(|g| g.by),
                found.data_dir.map(|g| g.by),
                found.admin_token.map(|g| g.by),
                found.redis_password.map(|g| g.by),
                found.store_password.map(|g| g.by),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
        };
        for known in KNOWN {
            let name = format!("{PREFIX}{known}");
            assert_eq!(by(&name), [name.as_str()]);
        }
        assert!(by("PATH").is_empty());
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_no_misspelt_name() {
        for name in ["PORT", "SERVICE_HOST", "SERVICE_PORT", "PORT_8080_TCP_ADDR"] {
            let found = read(&format!("{PREFIX}{name}"), "x").expect(name);
            assert!(found.http_listen.is_none());
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        for name in [
            "FLOODGATE_ADMIN_TOKEN",
            "FLOODGATE_REDIS_PASSWORD",
            "FLOODGATE_STORE_PASSWORD",
        ] {
            let found = read(name, "0123456789abcdef").expect("known");
            assert!(!format!("{found:?}").contains("0123456789abcdef"));
        }
    }
}
