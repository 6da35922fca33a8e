//! A sale under load on a cluster whose replica takes over without the last writes, there
//! and back, and whose buckets move from server to server: nobody's win is lost, and
//! nothing is sold twice.

use std::thread;
use std::time::{Duration, Instant};

use floodgate_engine::stock::Reply;

use super::cluster::Cluster;
use crate::common::redis::Redis;
use crate::common::{Engine, call, open_sale};
use crate::long_sale;
use crate::stampede::{Pace, Site, Stampede};

const BUCKETS: u16 = 4;

/// Until it is so, or far longer than it takes.
#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(120), "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The sum of a metric over its labels.
fn metric(engine: &Engine, name: &str) -> u64 {
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

fn id(server: &Redis) -> String {
    server.text(&["CLUSTER", "MYID"])
}

fn meta(bucket: u16) -> String {
    format!("{{fg:drills:{bucket}}}:meta")
}

fn number(server: &Redis, words: &[&str]) -> i64 {
    match server.ask(words) {
        Ok(Reply::Int(n)) => n,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Follows its primary, or would like to with a name that the primary does not know.
fn follows(replica: &Redis, as_user: &str) {
    replica.text(&["CONFIG", "SET", "masteruser", as_user]);
    replica.text(&["CONFIG", "SET", "masterauth", as_user]);
}

fn until_followed(replica: &Redis) {
    until("the replica has everything", || {
        let said = replica.text(&["INFO", "replication"]);
        said.contains("role:slave") && said.contains("master_link_status:up")
    });
}

struct Day {
    site: Site,
    engine: Engine,
    buyers: Stampede,
    pace: Pace,
}

impl Day {
    fn goes_on(&mut self, records: u64) {
        self.pace.wait(&self.engine, &mut self.buyers, records);
    }

    /// Killed and started, and it finds every bucket where it is now.
    fn restarted(mut self) -> Self {
        self.engine.kill();
        self.engine = self.site.ready();
        self
    }

    /// `to` has not heard the last writes of `from`, which stands still.
    fn taken_over(&mut self, from: &Redis, to: &Redis) {
        follows(to, "nobody");
        number(from, &["CLIENT", "KILL", "TYPE", "replica"]);
        self.goes_on(500);
        from.freeze();
        to.text(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
        self.goes_on(500);
        until("every bucket sells", || {
            metric(&self.engine, "floodgate_silent_buckets") == 0
        });
        self.goes_on(500);
        // It comes back, and may take itself for the primary for a moment.
        from.thaw();
        for server in [from, to] {
            follows(server, "");
        }
        until_followed(from);
        self.goes_on(500);
    }

    /// The bucket moves, key by key, while it is asked for. The engine may be killed and
    /// started when all keys are there and the cluster does not say so yet.
    fn moved(mut self, bucket: u16, all: &[&Redis], restart: bool) -> Self {
        let slot = number(all[0], &["CLUSTER", "KEYSLOT", &meta(bucket)]).to_string();
        let has = |server: &&&Redis| number(server, &["CLUSTER", "COUNTKEYSINSLOT", &slot]) > 0;
        let at = all
            .iter()
            .position(|server| has(&server))
            .expect("somewhere");
        let (from, to) = (all[at], all[(at + 1) % all.len()]);
        let (from_id, to_id) = (id(from), id(to));
        to.text(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        from.text(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let port = to.port.to_string();
        let found = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
        let Ok(Reply::Array(keys)) = found else {
            panic!("{found:?}");
        };
        assert!(keys.len() > 1, "a bucket is several keys");
        for (n, key) in keys.into_iter().enumerate() {
            let Reply::Bytes(key) = key else {
                panic!("{key:?} is no key");
            };
            let key = String::from_utf8_lossy(&key).into_owned();
            from.text(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
            if n == 0 {
                // Between two servers nobody can buy there; the others go on.
                self.goes_on(20);
            }
        }
        if restart {
            self = self.restarted();
        }
        for server in [to, from] {
            server.text(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
        until("it sells at its new server", || {
            metric(&self.engine, "floodgate_silent_buckets") == 0
        });
        self
    }
}

#[test]
fn failovers_that_lose_writes_and_buckets_that_move_lose_no_win() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let slot = number(&cluster.0[0], &["CLUSTER", "KEYSLOT", &meta(0)]);
    let primary = cluster.at(u16::try_from(slot).expect("a slot"));
    let replica = cluster.replica_of(primary);
    until_followed(&replica);

    let stock = primary.toml() + "cluster = true\ncall_ms = 500\n";
    let mut site = Site::new(open_sale("other", 1, 1, &stock));
    let pace = site.pace("drills");
    let engine = site.start().expect("a new engine");
    let sale = long_sale("drills", 1_000);
    let buyers = Stampede::start(&engine, site.folder.path(), &sale, &["--seed", "7741"]);
    let mut day = Day {
        site,
        engine,
        buyers,
        pace,
    };
    day.goes_on(500);
    day.taken_over(primary, &replica);
    let there = metric(&day.engine, "floodgate_bucket_rebuilds_total{");
    assert!(there > 0, "writes were lost, and no bucket was made anew");
    // The server that its configuration names follows another one now.
    let mut day = day.restarted();
    let there = metric(&day.engine, "floodgate_bucket_rebuilds_total{");
    day.taken_over(&replica, primary);
    let back = metric(&day.engine, "floodgate_bucket_rebuilds_total{");
    assert!(back > there, "writes were lost on the way back");

    let all: Vec<&Redis> = cluster.0.iter().collect();
    for bucket in 0..BUCKETS {
        day = day.moved(bucket, &all, bucket == 0);
    }
    day.goes_on(500);
    day.buyers.close_the_doors();
    let verdict = day.buyers.verdict();
    println!("{}", verdict.text);
    assert_eq!(verdict.line, "audit: pass");
    assert_eq!(day.engine.differences(), 0);
    assert!(day.engine.stop(), "SIGTERM ends it well");
}
