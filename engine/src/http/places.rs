//! Places: how many connections there may be, and how many of one client.
//!
//! A place of the listener is taken before a connection is accepted, one of the
//! client right after it, before a byte is read. A client is what limits count: an
//! IPv4 address or an IPv6 /64. Trusted proxies speak for many and have no cap.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::connection::Waits;
use crate::domain::ip::{ClientNet, IpSet};

#[derive(Debug, Clone, Default)]
pub struct ClientCap {
    pub max: Option<usize>,
    pub exempt: IpSet,
}

/// Connections of each client; no more entries than there are connections.
#[derive(Debug)]
pub(super) struct ClientPlaces {
    cap: ClientCap,
    open: Mutex<HashMap<ClientNet, usize>>,
}

/// Given back when dropped.
#[derive(Debug)]
pub(super) struct ClientPlace {
    of: Arc<ClientPlaces>,
    client: ClientNet,
}

impl ClientPlaces {
    pub fn new(cap: ClientCap) -> Arc<Self> {
        Arc::new(Self {
            cap,
            open: Mutex::default(),
        })
    }

    /// `Ok(None)`: this one is not counted. `Err`: it has as many as it may have.
    pub fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Option<ClientPlace>, ()> {
        let Some(max) = self.cap.max.filter(|_| !self.cap.exempt.contains(ip)) else {
            return Ok(None);
        };
        let client = ClientNet::of(ip);
        let mut open = self.open.lock();
        let n_open = open.entry(client).or_default();
        if *n_open >= max {
            return Err(());
        }
        *n_open += 1;
        let of = Arc::clone(self);
        Ok(Some(ClientPlace { of, client }))
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut n_open) = self.of.open.lock().entry(self.client) {
            *n_open.get_mut() -= 1;
            if *n_open.get() == 0 {
                n_open.remove();
            }
        }
    }
}

/// Families that both listeners share.
#[derive(Clone)]
pub struct ConnectionMetrics {
    open: IntGaugeVec,
    max: IntGaugeVec,
    refused: IntCounterVec,
    late: IntCounterVec,
    accept_errors: IntCounterVec,
}

/// Those of one listener, resolved.
#[derive(Clone)]
pub struct ListenerMetrics {
    pub(super) open: IntGauge,
    pub(super) max: IntGauge,
    pub(super) refused: IntCounter,
    pub(super) accept_errors: IntCounter,
    late: [IntCounter; 4],
}

impl ConnectionMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| IntGaugeVec::new(Opts::new(name, help), &["listener"]);
        let counter =
            |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            open: gauge("floodgate_connections", "Connections that are open")?,
            max: gauge(
                "floodgate_connections_max",
                "Connections that may be open; at it, new ones wait in the kernel's queue",
            )?,
            refused: counter(
                "floodgate_connections_refused_total",
                "Connections closed at once: their client has as many as it may have",
                &["listener"],
            )?,
            late: counter(
                "floodgate_connections_late_total",
                "Connections ended because what they were waited for did not come in time",
                &["listener", "waited_for"],
            )?,
            accept_errors: counter(
                "floodgate_accept_errors_total",
                "Connections that the kernel had and could not hand over",
                &["listener"],
            )?,
        };
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.max.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.late.clone()))?;
        registry.register(Box::new(metrics.accept_errors.clone()))?;
        Ok(metrics)
    }

    pub fn of(&self, listener: &str) -> ListenerMetrics {
        ListenerMetrics {
            open: self.open.with_label_values(&[listener]),
            max: self.max.with_label_values(&[listener]),
            refused: self.refused.with_label_values(&[listener]),
            accept_errors: self.accept_errors.with_label_values(&[listener]),
            late: Waits::ALL.map(|w| self.late.with_label_values(&[listener, w.name()])),
        }
    }
}

impl ListenerMetrics {
    /// So many connections may be open.
    pub fn bound(&self, max: usize) {
        self.max.set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    pub(super) fn late(&self, waited_for: Waits) -> &IntCounter {
        &self.late[waited_for as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ip::IpRange;

    #[test]
    fn a_client_has_its_cap_and_gets_places_back() {
        let exempt = IpRange::parse("10.0.0.0/8").expect("a range");
        let places = ClientPlaces::new(ClientCap {
            max: Some(2),
            exempt: [exempt].into_iter().collect(),
        });
        let take = |ip: &str| places.take(ip.parse().expect(ip));
        let first = take("192.0.2.1").expect("room");
        let second = take("::ffff:192.0.2.1").expect("room");
        assert!(take("192.0.2.1").is_err());
        let other = take("192.0.2.2").expect("room of its own");
        drop(first);
        let third = take("192.0.2.1").expect("a place came free");
        assert!(take("192.0.2.1").is_err());
        let net: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(take).into();
        assert!(take("2001:db8::3").is_err() && net.iter().all(Result::is_ok));
        let proxies: Vec<_> = (0..9).map(|_| take("10.0.0.1")).collect();
        assert!(proxies.iter().all(|p| matches!(p, Ok(None))));
        drop((second, third, other, net));
        assert!(places.open.lock().is_empty(), "nobody is remembered");
    }
}
