//! What a server's answer to a call means. Pure.
//!
//! An error that comes back is one of three things: the script did not run and will
//! once something passes (a server that loads, is full, or is no primary), the script
//! is not there or the bucket is elsewhere, or the script itself failed. Whatever is
//! not certain is unknown, because an unknown call is only sent again.

use fred::error::{Error, ErrorKind};
use fred::types::Value;

use crate::config::RedisServer;
use crate::stock::host::{HostError, Reply};

/// Why a call brought no reply of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server does not know the script: it did not run.
    NotLoaded,
    /// The bucket lives there now.
    Moved(RedisServer),
    /// The bucket is on its way there; this call is to be taken there, others are not.
    Asked(RedisServer),
    /// The same call, later; whether it ran is not known, or it certainly did not.
    Later(String),
    /// As [`Self::Later`], over a new connection: this one leads to the wrong server, or
    /// has not said who we are.
    Elsewhere(String),
    /// No reply in time.
    Late,
    /// The script failed, perhaps midway.
    Failed(String),
}

impl From<Trouble> for HostError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotLoaded => Self::Unknown("the server does not keep the script".to_owned()),
            Trouble::Moved(to) | Trouble::Asked(to) => {
                Self::Unknown(format!("the bucket is said to be at {to}"))
            }
            Trouble::Later(why) | Trouble::Elsewhere(why) => Self::Unknown(why),
            Trouble::Late => Self::Unknown("no reply in time".to_owned()),
            Trouble::Failed(why) => Self::Script(why),
        }
    }
}

/// Refused before the script ran, or before its first write: none of these can come
/// in the middle of a script that has written.
const LATER: [&str; 8] = [
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MISCONF",
    "NOPERM",
    "NOREPLICAS",
    "OOM",
    "TRYAGAIN",
];
/// Where a new connection may find another server behind the same name, or log in anew.
const ELSEWHERE: [&str; 4] = ["MASTERDOWN", "NOAUTH", "READONLY", "WRONGPASS"];

/// `asked` is the server that answered.
pub fn trouble(error: &Error, asked: &RedisServer) -> Trouble {
    let said = error.details();
    let mut words = said.split_ascii_whitespace();
    let code = words.next().unwrap_or_default();
    // A server's word begins with a code in capitals, and fred files it under these.
    let may_be_its = matches!(
        error.kind(),
        ErrorKind::Auth
            | ErrorKind::Cluster
            | ErrorKind::Config
            | ErrorKind::InvalidArgument
            | ErrorKind::InvalidCommand
            | ErrorKind::Unknown
    );
    if !may_be_its || code.is_empty() || !code.bytes().all(|b| b.is_ascii_uppercase()) {
        return match error.kind() {
            ErrorKind::Timeout => Trouble::Late,
            _ => Trouble::Later(error.to_string()),
        };
    }
    match code {
        "NOSCRIPT" => Trouble::NotLoaded,
        "MOVED" | "ASK" => match words.nth(1).and_then(|to| address(to, asked)) {
            Some(to) if code == "MOVED" => Trouble::Moved(to),
            Some(to) => Trouble::Asked(to),
            None => Trouble::Later(said.to_owned()),
        },
        _ if LATER.contains(&code) => Trouble::Later(said.to_owned()),
        _ if ELSEWHERE.contains(&code) => Trouble::Elsewhere(said.to_owned()),
        _ => Trouble::Failed(said.to_owned()),
    }
}

/// `host:port` as redirections have it; a server that does not know its own name
/// leaves the host out, and means the one that was asked.
fn address(text: &str, asked: &RedisServer) -> Option<RedisServer> {
    let (host, port) = text.rsplit_once(':')?;
    let host = if host.is_empty() { &asked.host } else { host };
    Some(RedisServer {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

pub fn reply(value: Value) -> Result<Reply, HostError> {
    Ok(match value {
        Value::Integer(n) => Reply::Int(n),
        Value::String(text) => Reply::Bytes(text.into_inner()),
        Value::Bytes(bytes) => Reply::Bytes(bytes),
        Value::Null => Reply::Nil,
        Value::Array(items) => {
            Reply::Array(items.into_iter().map(reply).collect::<Result<_, _>>()?)
        }
        Value::Boolean(_) | Value::Double(_) | Value::Queued | Value::Map(_) => {
            return Err(HostError::Script(format!(
                "a reply of the kind {:?}",
                value.kind()
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> RedisServer {
        RedisServer {
            host: host.to_owned(),
            port,
        }
    }

    fn told(said: &'static str) -> Trouble {
        trouble(&Error::new(ErrorKind::Unknown, said), &at("a", 1))
    }

    #[test]
    fn what_did_not_run_is_sent_again_and_what_failed_is_not() {
        for said in [
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:4.",
            "BUSY Redis is busy running a script.",
            "TRYAGAIN Multiple keys request during rehashing of slot",
        ] {
            assert_eq!(told(said), Trouble::Later(said.to_owned()));
        }
        let replica = "READONLY You can't write against a read only replica.";
        assert_eq!(told(replica), Trouble::Elsewhere(replica.to_owned()));
        assert_eq!(told("NOSCRIPT No matching script."), Trouble::NotLoaded);
        for said in [
            "WRONGTYPE Operation against a key holding the wrong kind of value script: 1f, on @user_script:9.",
            "ERR user_script:3: attempt to compare nil with number script: 1f",
        ] {
            assert_eq!(told(said), Trouble::Failed(said.to_owned()));
        }
    }

    #[test]
    fn redirections_name_a_server_or_mean_the_one_that_was_asked() {
        assert_eq!(told("MOVED 3999 b:2"), Trouble::Moved(at("b", 2)));
        assert_eq!(told("ASK 3999 ::1:2"), Trouble::Asked(at("::1", 2)));
        assert_eq!(told("MOVED 3999 :2"), Trouble::Moved(at("a", 2)));
        assert!(matches!(told("MOVED 3999"), Trouble::Later(_)));
    }

    #[test]
    fn the_clients_own_errors_leave_the_outcome_open() {
        let late = Error::new(ErrorKind::Timeout, "Request timed out.");
        assert_eq!(trouble(&late, &at("a", 1)), Trouble::Late);
        for kind in [ErrorKind::IO, ErrorKind::Canceled, ErrorKind::Routing] {
            for said in ["Connection closed.", "EOF"] {
                let cut = Error::new(kind.clone(), said);
                assert!(matches!(trouble(&cut, &at("a", 1)), Trouble::Later(_)));
            }
        }
    }
}
