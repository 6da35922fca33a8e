//! A sale under load on a cluster whose replica takes over without the last writes, there
//! and back, and whose buckets move from server to server: nobody's win is lost, and
//! nothing is sold twice.

use std::thread;
use std::time::{Duration, Instant};

use floodgate_engine::stock::Reply;

use super::cluster::{self, Cluster, ONE, buyer};
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
    // What its user may do for the sake of clusters was done.
    for command in ["asking", "cluster|slots"] {
        let anywhere = all.iter().any(|server| server.called().contains(command));
        assert!(anywhere, "nobody called {command}");
    }
}

/// Without one of its primaries a cluster serves no slot at all.
#[test]
fn a_cluster_that_is_down_tells_nobody_yes_and_forgets_no_order() {
    let Some(mut cluster) = Cluster::start() else {
        return;
    };
    let stock = cluster.0[0].toml() + "cluster = true\ncall_ms = 500\n";
    let more = format!(
        "buckets = {}\n[limits]\nanswer_ms = 3000\n{stock}",
        cluster::BUCKETS
    );
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 1_200, 1, &more));
    let buy = |of: u16, n: u32| engine.buy(&buyer(of, n), "k", ONE);
    let won: Vec<_> = (0..cluster::BUCKETS).map(|no| buy(no, 0)).collect();
    assert!(won.iter().all(|answer| answer.status == 201));

    let there = (0..cluster::BUCKETS).find(|no| cluster.owner(*no) == 1);
    let there = there.expect("each server has some");
    for server in &cluster.0 {
        server.text(&["CONFIG", "SET", "cluster-node-timeout", "300"]);
    }
    cluster.0[0].kill();
    let is = |server: &Redis, state: &str| server.text(&["CLUSTER", "INFO"]).contains(state);
    until("it is down", || {
        cluster.0[1..]
            .iter()
            .all(|server| is(server, "cluster_state:fail"))
    });
    let down = buy(there, 1);
    assert_eq!(down.code(), (503, "OUTCOME_UNKNOWN"), "{down:?}");

    cluster.0[0].start_again();
    cluster.until(|server| is(server, "cluster_state:ok"));
    let asked = |of: u16, n: u32| {
        let answer = loop {
            let answer = buy(of, n);
            if answer.status != 503 && answer.status != 409 {
                break answer;
            }
        };
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer.json
    };
    let order = asked(there, 1);
    assert_eq!(asked(there, 1), order);
    for (no, won) in (0..).zip(won) {
        assert_eq!(asked(no, 0), won.json, "bucket {no}");
    }
    // One of them is empty now, and sells again.
    let emptied = (0..cluster::BUCKETS).find(|no| cluster.owner(*no) == 0);
    asked(emptied.expect("each server has some"), 1);
    assert_eq!(
        engine.remaining("tea"),
        1_200 - u64::from(cluster::BUCKETS) - 2
    );
    assert_eq!(engine.differences(), 0);
}
