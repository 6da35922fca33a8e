//! The same calls, drawn from a seed, on Redis and on the embedded host's VM: the same
//! replies, and the same bytes under every key.
//!
//! Most calls make sense and some do not: what a script does with nonsense must not
//! depend on where it runs either.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use floodgate_engine::domain::ids::{BucketNo, SaleId};
use floodgate_engine::stock::embedded::Vm;
use floodgate_engine::stock::redis::RedisHost;
use floodgate_engine::stock::{Args, BucketRef, HostError, Reply, Script, StockHost};
use floodgate_engine::workers::Workers;

use common::redis::{self, Redis};

const WORLDS: u64 = 24;
const CALLS: usize = 250;
const SKUS: [&str; 3] = ["tea", "mug", "none"];

/// Draws calls; what was drawn before comes back often.
struct Draw {
    rng: Rng,
    epoch: u64,
    /// The last n that was given out, and the last that was done.
    n: u64,
    done: u64,
    version: u64,
    /// Of each user and key the order that was last asked for, as it probably stands.
    placed: BTreeMap<u8, Placed>,
}

/// Name, version and mark.
type Placed = (String, u64, u64);

fn mark(version: u64) -> u64 {
    version * 0x9E_3779_B97F % (1 << 40)
}

impl Draw {
    fn of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.rng.choice(from).copied().unwrap_or_default()
    }

    /// Epoch, n and acked as they should be, and sometimes as they should not.
    fn head(&mut self) -> [u64; 3] {
        self.n += 1;
        match self.rng.u8(..20) {
            0 => [self.epoch + 1, self.n, self.done],
            1 => [self.epoch, self.done.saturating_sub(1), 0],
            2 => [self.epoch, self.n, self.done + 1],
            3 => [self.epoch, self.done, self.done.saturating_sub(1)],
            _ => [self.epoch, self.n, self.done],
        }
    }

    fn order(&mut self) -> (u8, String) {
        let n = self.rng.u8(..40);
        (n, format!("o{n}"))
    }

    fn items(&mut self) -> String {
        let lines = self.rng.u8(1..=2);
        let mut items = lines.to_string();
        for _ in 0..lines {
            items += &format!(" {} {}", self.of(&SKUS), self.rng.u8(1..=3));
        }
        items
    }

    fn body(&mut self) -> (Script, String) {
        match self.rng.u8(..26) {
            0..=9 => {
                let n = self.rng.u8(1..=5);
                let (now, again) = (self.rng.u16(90..=210), self.rng.u8(..5) / 4);
                let mut body = format!("{now} {again} {} {n}", self.rng.u8(1..=5));
                for _ in 0..n {
                    self.version += 1;
                    let (at, id) = self.order();
                    let user = ["ana", "bob", "cid"][usize::from(at % 3)];
                    let print = ["a", "b"][usize::from(self.rng.u8(..8) / 7)].repeat(32);
                    let (version, name) = (self.version, format!("{print}:{id}"));
                    let (key, mark) = (format!("k{}", at / 3), mark(version));
                    let units = self.rng.u8(1..=3);
                    body += &format!(" {user} {mark} {units}:{}:{key}", key.len());
                    body += &format!(":{name}:{version}:{mark}:order\u{e9}\u{0}");
                    body += &format!(" {}", self.items());
                    let asked = (name, version, mark);
                    if self.rng.u8(..4) > 0 {
                        self.placed.entry(at).or_insert(asked);
                    } else {
                        self.placed.insert(at, asked);
                    }
                }
                (Script::Reserve, body)
            }
            10..=15 => {
                let n = self.rng.u8(1..=4);
                let mut body = n.to_string();
                for _ in 0..n {
                    let (mut at, id) = self.order();
                    let placed: Vec<u8> = self.placed.keys().copied().collect();
                    at = self.rng.choice(placed).unwrap_or(at);
                    let never = || (format!("{}:{id}", "a".repeat(32)), 1, mark(1));
                    let (name, from, was) = self.placed.remove(&at).unwrap_or_else(never);
                    let user = ["ana", "bob", "cid"][usize::from(at % 3)];
                    let key = format!("k{}", at / 3);
                    self.version += 1;
                    let (to, is) = (self.version, mark(self.version));
                    body += &format!(" {user} {}:{key}: {name}:{from}:{was}:", key.len());
                    if self.rng.bool() {
                        let moved = self.of(&["none", "pay"]);
                        let grows = is.cast_signed() - was.cast_signed();
                        body += &format!(" {name}:{to}:{is}:later\u{0} {grows} {moved} 1");
                        self.placed.insert(at, (name, to, is));
                    } else {
                        let moved = self.of(&["none", "close", "restock", "withdraw"]);
                        body += &format!(" {name} -{was} {moved} 0");
                    }
                    body += &format!(" {}", self.items());
                }
                (Script::Settle, body)
            }
            16 | 17 => {
                let (id, sku) = (self.rng.u8(..9), self.of(&SKUS));
                (
                    Script::Open,
                    format!("a{id} 1 {sku} {}", self.rng.i8(-3..=9)),
                )
            }
            18 | 19 => {
                let (id, side) = (self.rng.u8(..9), self.of(&["debit", "credit"]));
                let (sku, units) = (self.of(&SKUS), self.rng.u8(1..=4));
                (Script::Move, format!("t{id} {side} {sku} {units}"))
            }
            24 | 25 => {
                let n = self.rng.u8(..=3);
                let mut body = n.to_string();
                for _ in 0..n {
                    body += &format!(" 5:p{} {}:pay\u{0}ment", self.rng.u8(..6), self.version);
                }
                for _ in 0..self.rng.u8(..3) {
                    body += &format!(" 5:p{}", self.rng.u8(..6));
                }
                (Script::Keep, body)
            }
            20 | 21 => (Script::Audit, format!("3 {}", SKUS.join(" "))),
            // A rebuild in the middle of things, and words that are no numbers.
            22 => (
                Script::Rebuild,
                self.of(&[
                    "end 5",
                    "chunk live 1 ana:k0 a:o0:1:5:x",
                    "chunk tail 1 5:p1 2:x",
                    "x",
                ])
                .into(),
            ),
            _ => (
                Script::Reserve,
                self.of(&["", "1 0 1", "a b c d", "1 0 1 9 o1"]).into(),
            ),
        }
    }
}

fn call(script: Script, head: [u64; 3], body: &str) -> (Script, Arc<Args>) {
    let [epoch, n, acked] = head;
    let mut args = Args::default();
    let words = format!("{epoch} {n} {acked} ledger 7 {body}");
    words.split(' ').for_each(|word| args.push(word));
    (script, Arc::new(args))
}

type State = Vec<(Bytes, Vec<(Bytes, Bytes)>)>;

fn state(vm: &Vm, bucket: &BucketRef) -> State {
    let keyspace = vm.keyspace();
    let mut all: State = Vec::new();
    for key in bucket.keys() {
        let Some(fields) = keyspace.fields(key.as_bytes()) else {
            continue;
        };
        let copy = |(f, v)| (Bytes::copy_from_slice(f), Bytes::copy_from_slice(v));
        let mut pairs: Vec<_> = fields.iter().map(copy).collect();
        pairs.sort_unstable();
        all.push((key.into(), pairs));
    }
    all.sort_unstable();
    all
}

async fn world(seed: u64, server: &Redis, host: &RedisHost, vm: &mut Vm) {
    let bucket = BucketRef {
        sale: SaleId::parse(&format!("world-{seed}")).expect("an id"),
        bucket: BucketNo(0),
    };
    server.text(&["FLUSHALL"]);
    let mut draw = Draw {
        rng: Rng::with_seed(seed),
        epoch: 0,
        n: 0,
        done: 0,
        version: 0,
        placed: BTreeMap::new(),
    };
    let mut said = String::new();
    let (mut n_done, mut n_settled) = (0, 0);
    let mut calls = Vec::new();
    for at in 0..CALLS {
        if at % 100 == 0 {
            (draw.epoch, draw.n, draw.done) = (draw.epoch + 1, 3, 3);
            draw.placed.clear();
            calls.push((
                Script::Rebuild,
                [draw.epoch, 1, 0],
                "begin 100 200".to_owned(),
            ));
            calls.push((Script::Rebuild, [draw.epoch, 2, 1], "end 0".to_owned()));
            calls.push((
                Script::Open,
                [draw.epoch, 3, 2],
                "first 2 tea 20 mug 5".to_owned(),
            ));
        }
        let (head, (script, body)) = (draw.head(), draw.body());
        let times = if draw.rng.u8(..6) == 0 { 2 } else { 1 };
        calls.extend((0..times).map(|_| (script, head, body.clone())));
        for (script, head, body) in calls.drain(..) {
            let (script, args) = call(script, head, &body);
            let there = host.run(&bucket, script, &args).await;
            let here = vm.run(&bucket, script, &args);
            said += &format!("\n{script:?} {head:?} {body} -> {there:?} {here:?}");
            match (&there, &here) {
                (Ok(there), Ok(here)) => {
                    assert_eq!(there, here, "SEED={seed}{said}");
                    let Reply::Array(there) = there else {
                        panic!("SEED={seed}{said}");
                    };
                    if there.first() == Some(&Reply::Int(0)) {
                        (n_done, draw.done) = (n_done + 1, head[1]);
                        let done = there[2..].iter().filter(|code| **code == Reply::Int(0));
                        n_settled += usize::from(script == Script::Settle) * done.count();
                    }
                }
                (Err(HostError::Script(_)), Err(_)) => {}
                _ => panic!("SEED={seed}{said}"),
            }
        }
        if at % 25 == 24 {
            let there = server.hashes();
            assert_eq!(there, state(vm, &bucket), "SEED={seed}{said}");
            said.clear();
        }
    }
    // Nonsense alone would prove nothing.
    assert!(n_done > CALLS / 2, "SEED={seed}: {n_done} calls were done");
    assert!(
        n_settled > CALLS / 10,
        "SEED={seed}: {n_settled} orders changed"
    );
}

#[tokio::test]
async fn redis_and_the_embedded_host_are_one_and_the_same() {
    for binary in redis::binaries() {
        let server = Redis::start(&binary, &[]);
        let workers = Arc::new(Workers::start(1).expect("a worker"));
        let host = RedisHost::connect(&server.config(), workers).await;
        let (host, mut vm) = (host.expect("a host"), Vm::new(64 << 20).expect("a VM"));
        for seed in 0..WORLDS {
            world(seed, &server, &host, &mut vm).await;
        }
    }
}
