//! Which server of a cluster has which slot, as the cluster says. Pure.

use fred::types::Value;

use crate::config::RedisServer;

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// Ranges of slots, each with its primary; a server alone has all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slots(Vec<(u16, u16, RedisServer)>);

impl Slots {
    pub fn all_at(server: RedisServer) -> Self {
        Self(vec![(0, SLOTS - 1, server)])
    }

    pub fn primary(&self, slot: u16) -> Option<&RedisServer> {
        let found = self
            .0
            .iter()
            .find(|(from, to, _)| (*from..=*to).contains(&slot));
        found.map(|(_, _, server)| server)
    }

    /// Every primary once.
    pub fn primaries(&self) -> Vec<RedisServer> {
        let mut all: Vec<_> = self.0.iter().map(|(_, _, server)| server.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Slots that nobody has.
    pub fn missing(&self) -> usize {
        (0..SLOTS)
            .filter(|slot| self.primary(*slot).is_none())
            .count()
    }

    /// The answer to CLUSTER SLOTS of the server that was asked.
    pub fn parse(said: &Value, asked: &RedisServer) -> Option<Self> {
        let ranges = array(said)?.iter().map(|range| {
            let [from, to, primary, ..] = array(range)? else {
                return None;
            };
            let [host, port, ..] = array(primary)? else {
                return None;
            };
            // A server that does not know its name says nothing, or "?".
            let host = match host.as_str().as_deref() {
                None | Some("" | "?") => asked.host.clone(),
                Some(host) => host.to_owned(),
            };
            let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
            let server = RedisServer {
                host,
                port: number(port)?,
            };
            Some((number(from)?, number(to)?, server))
        });
        ranges.collect::<Option<Vec<_>>>().map(Self)
    }
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Null
        | Value::Queued
        | Value::Map(_) => None,
    }
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

    fn range(from: i64, to: i64, host: Value, port: i64) -> Value {
        let node = |host, port: i64| Value::Array(vec![host, port.into(), "id".into()]);
        let replica = node("r".into(), 9);
        Value::Array(vec![from.into(), to.into(), node(host, port), replica])
    }

    #[test]
    fn each_slot_has_the_primary_that_the_cluster_names() {
        let said = Value::Array(vec![
            range(0, 5_460, "a".into(), 1),
            range(5_461, 10_922, Value::Null, 2),
            range(10_924, 16_383, "a".into(), 1),
        ]);
        let slots = Slots::parse(&said, &at("seed", 7)).expect("as Redis says it");
        assert_eq!(slots.primary(5_460), Some(&at("a", 1)));
        assert_eq!(slots.primary(5_461), Some(&at("seed", 2)));
        assert_eq!(slots.primary(10_923), None);
        assert_eq!(slots.missing(), 1);
        assert_eq!(slots.primaries(), [at("a", 1), at("seed", 2)]);
        assert_eq!(Slots::all_at(at("a", 1)).missing(), 0);
    }

    #[test]
    fn what_is_no_list_of_slots_is_not_believed() {
        for said in [
            Value::Null,
            Value::Array(vec![Value::Array(vec![1.into()])]),
        ] {
            assert_eq!(Slots::parse(&said, &at("seed", 7)), None);
        }
    }
}
