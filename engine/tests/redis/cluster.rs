//! A cluster: each bucket finds its server, and one that stands still holds up nobody
//! but its own buckets.

use std::time::{Duration, Instant};

use floodgate_engine::config::RedisConfig;
use floodgate_engine::domain::ids::{BucketNo, SaleId, UserId, home_bucket};
use floodgate_engine::stock::{HostError, Reply};

use super::host::{audit, bucket, connect, open, until_audited};
use crate::common::redis::{self, Redis};
use crate::common::{Engine, open_sale};

const SERVERS: u16 = 3;
pub const BUCKETS: u16 = 12;
/// Longer than three servers take on a busy machine.
const UNTIL_MAX: Duration = Duration::from_secs(120);
pub const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

/// Of a cluster in which nobody is called dead.
const MEMBER: [(&str, &str); 3] = [
    ("cluster-enabled", "yes"),
    ("cluster-node-timeout", "600000"),
    ("cluster-port", redis::SECOND_PORT),
];

pub struct Cluster(pub Vec<Redis>);

impl Cluster {
    /// Three primaries with a third of the slots each. No failover: who is frozen stays
    /// a member.
    pub fn start() -> Option<Self> {
        Self::with(&[], |server| server.port)
    }

    /// With more options, and known to each other by another port.
    pub fn with(more: &[(&str, &str)], port: fn(&Redis) -> u16) -> Option<Self> {
        let binary = redis::binaries().into_iter().next()?;
        let options = [&MEMBER[..], more].concat();
        let mut servers = Vec::new();
        for no in 0..SERVERS {
            let server = Redis::start(&binary, &options);
            let share = 16_384 / SERVERS;
            let last = if no + 1 == SERVERS {
                16_383
            } else {
                (no + 1) * share - 1
            };
            let range = [(no * share).to_string(), last.to_string()];
            server.text(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            server.text(&["CLUSTER", "SET-CONFIG-EPOCH", &(no + 1).to_string()]);
            servers.push(server);
        }
        let cluster = Self(servers);
        for other in &cluster.0[1..] {
            cluster.meet(other, port(other));
        }
        cluster.until(|server| {
            let said = server.text(&["CLUSTER", "INFO"]);
            said.contains("cluster_state:ok") && said.contains("cluster_known_nodes:3")
        });
        Some(cluster)
    }

    fn meet(&self, other: &Redis, port: u16) {
        let (port, bus) = (port.to_string(), other.second_port.to_string());
        self.0[0].text(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }

    /// A fourth member, which follows `primary`.
    pub fn replica_of(&self, primary: &Redis) -> Redis {
        let binary = redis::binaries().into_iter().next().expect("as before");
        let replica = Redis::start(&binary, &MEMBER);
        self.meet(&replica, replica.port);
        self.until(|server| {
            let said = server.text(&["CLUSTER", "INFO"]);
            said.contains("cluster_known_nodes:4")
        });
        let id = primary.text(&["CLUSTER", "MYID"]);
        let began = Instant::now();
        while let Err(why) = replica.ask(&["CLUSTER", "REPLICATE", &id]) {
            assert!(began.elapsed() < UNTIL_MAX, "{why}");
            std::thread::sleep(Duration::from_millis(20));
        }
        replica
    }

    /// Who has the slot, as long as none was moved.
    pub fn at(&self, slot: u16) -> &Redis {
        let share = 16_384 / SERVERS;
        &self.0[usize::from((slot / share).min(SERVERS - 1))]
    }

    /// Until all of them say so; they tell each other in their own time.
    pub fn until(&self, so: impl Fn(&Redis) -> bool) {
        let began = Instant::now();
        while !self.0.iter().all(&so) {
            assert!(began.elapsed() < UNTIL_MAX, "they do not come to it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn config(&self) -> RedisConfig {
        let mut config = self.0[0].config();
        config.cluster = true;
        config.limits.call = Duration::from_secs(2);
        config
    }

    fn slot(&self, bucket: u16) -> u16 {
        let [meta, ..] = crate::host::bucket(bucket).keys();
        match self.0[0].ask(&["CLUSTER", "KEYSLOT", &meta]) {
            Ok(Reply::Int(slot)) => u16::try_from(slot).expect("a slot"),
            other => panic!("{other:?}"),
        }
    }

    /// Who has the bucket, as long as no slot was moved.
    pub fn owner(&self, bucket: u16) -> usize {
        let share = 16_384 / SERVERS;
        usize::from((self.slot(bucket) / share).min(SERVERS - 1))
    }
}

#[tokio::test]
async fn every_bucket_finds_its_server() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let mut alone = cluster.config();
    alone.cluster = false;
    let refused = connect(&alone).await.err().expect("a member of a cluster");
    assert!(refused.contains("say cluster = true"), "{refused}");

    let host = connect(&cluster.config()).await.expect("a host");
    let mut used = [false; SERVERS as usize];
    for no in 0..BUCKETS {
        open(&host, &bucket(no)).await;
        audit(&host, &bucket(no), 3).await.expect("answered");
        used[cluster.owner(no)] = true;
    }
    assert!(
        used.iter().all(|used| *used),
        "the buckets are all in one place"
    );
}

#[tokio::test]
async fn a_bucket_that_is_handed_over_is_followed() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let host = connect(&cluster.config()).await.expect("a host");
    open(&host, &bucket(0)).await;
    let slot = cluster.slot(0).to_string();
    let from = &cluster.0[cluster.owner(0)];
    let to = &cluster.0[(cluster.owner(0) + 1) % usize::from(SERVERS)];
    let [from_id, to_id] = [from, to].map(|server| server.text(&["CLUSTER", "MYID"]));
    to.text(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.text(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    audit(&host, &bucket(0), 3)
        .await
        .expect("all keys are still there");
    let port = to.port.to_string();
    let migrate = |keys: &[String]| {
        let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        from.text(&words);
    };
    let keys = bucket(0).keys();
    migrate(&keys[..2]);
    let split = audit(&host, &bucket(0), 4).await;
    assert!(
        matches!(&split, Err(HostError::Unknown(why)) if why.contains("TRYAGAIN")),
        "{split:?}"
    );
    migrate(&keys[2..]);
    audit(&host, &bucket(0), 4)
        .await
        .expect("asked for at the new server");
    for server in [to, from] {
        server.text(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
    for n in 5..8 {
        audit(&host, &bucket(0), n)
            .await
            .expect("at the new server");
    }
}

#[tokio::test]
async fn one_server_that_stands_still_holds_up_only_its_own_buckets() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let host = connect(&cluster.config()).await.expect("a host");
    for no in 0..BUCKETS {
        open(&host, &bucket(no)).await;
    }
    let owners: Vec<usize> = (0..BUCKETS).map(|no| cluster.owner(no)).collect();
    cluster.0[0].freeze();
    for (no, owner) in (0..).zip(owners) {
        let answer = audit(&host, &bucket(no), 3).await;
        let still = owner == 0;
        assert_eq!(answer.is_err(), still, "bucket {no}: {answer:?}");
    }
    cluster.0[0].thaw();
    for no in 0..BUCKETS {
        until_audited(&host, &bucket(no), 3).await;
    }
}

/// A buyer at home in the bucket.
pub fn buyer(of: u16, n: u32) -> String {
    let sale = SaleId::parse("tea").expect("an id");
    let names = (0..).map(|i| format!("buyer-{of}-{n}-{i}"));
    let at_home = |name: &String| {
        let user = UserId::parse(name).expect("a name");
        home_bucket(&sale, &user, BUCKETS) == BucketNo(of)
    };
    names
        .into_iter()
        .find(at_home)
        .expect("some name leads there")
}

#[test]
fn a_sale_goes_on_in_the_other_buckets_and_nothing_is_lost_in_the_one_that_waits() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let stock = cluster.0[0].toml() + "cluster = true\ncall_ms = 200\n";
    let config = open_sale(
        "tea",
        12_000,
        1,
        &format!("buckets = {BUCKETS}\n[limits]\nanswer_ms = 5000\n{stock}"),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &config);
    let (waiting, others): (Vec<u16>, Vec<u16>) =
        (0..BUCKETS).partition(|no| cluster.owner(*no) == 0);
    assert!(!waiting.is_empty() && !others.is_empty());
    cluster.0[0].freeze();
    let held_up = buyer(waiting[0], 0);
    assert_eq!(
        engine.buy(&held_up, "k", ONE).code(),
        (503, "OUTCOME_UNKNOWN")
    );
    // Whoever comes later is told at once, and nothing is set aside for them.
    let later = engine.buy(&buyer(waiting[0], 1), "k", ONE);
    assert_eq!(later.code(), (503, "NOT_READY"), "{later:?}");
    let ready = engine.admin("GET", "/readyz?verbose", "");
    assert_eq!(ready.status, 200, "the others sell: {}", ready.body);
    assert!(ready.body.contains("does not answer"), "{}", ready.body);
    for n in 0..20 {
        for no in &others {
            let sold = engine.buy(&buyer(*no, n), "k", ONE);
            assert_eq!(sold.status, 201, "{sold:?}");
        }
    }
    cluster.0[0].thaw();
    // The key finds its one order.
    let order = loop {
        let answer = engine.buy(&held_up, "k", ONE);
        if matches!(answer.status, 200 | 201) {
            break answer;
        }
        assert!(matches!(answer.status, 409 | 503), "{answer:?}");
    };
    assert_eq!(engine.buy(&held_up, "k", ONE).json, order.json);
    let sold = 20 * others.len() as u64 + 1;
    assert_eq!(engine.remaining("tea"), 12_000 - sold);
    assert_eq!(engine.differences(), 0);
}

#[test]
fn units_that_stand_at_a_silent_server_are_not_called_sold_out() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let stock = cluster.0[0].toml() + "cluster = true\ncall_ms = 200\n";
    let limits = format!("buckets = {BUCKETS}\n[limits]\nanswer_ms = 5000\n{stock}");
    let folder = tempfile::tempdir().expect("a folder");
    // Fewer than a bucket should start with: all of them stand in one.
    let engine = Engine::start(&folder, &open_sale("tea", 5, 1, &limits));
    let owners: Vec<usize> = (0..BUCKETS).map(|no| cluster.owner(no)).collect();
    let has_units = |no: &u16| {
        let [_, stock, ..] = bucket(*no).keys();
        let server = &cluster.0[owners[usize::from(*no)]];
        server.text(&["HGET", &stock, "a:unit"]) != "0"
    };
    let full = (0..BUCKETS).find(has_units).expect("a bucket with units");
    let at = owners[usize::from(full)];
    let home = (0..BUCKETS).find(|no| owners[usize::from(*no)] != at);
    let buyers: Vec<String> = (0..6)
        .map(|n| buyer(home.expect("another server"), n))
        .collect();
    cluster.0[at].freeze();
    for buyer in &buyers {
        let answer = engine.buy(buyer, "k", ONE);
        assert_eq!(answer.code(), (503, "NOT_READY"), "{answer:?}");
    }
    cluster.0[at].thaw();
    let last = buyers.iter().map(|buyer| {
        loop {
            let answer = engine.buy(buyer, "k", ONE);
            if answer.status != 503 {
                break answer.status;
            }
        }
    });
    assert_eq!(last.collect::<Vec<_>>(), [201, 201, 201, 201, 201, 422]);
    assert_eq!(engine.differences(), 0);
}
