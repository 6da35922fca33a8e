//! Model against scripts: whatever a desk may ask, in whatever order, the stock
//! scripts answer what `lua/README.md` promises, to the letter.
//!
//! The model keeps facts (units given, orders and their states) and no counter:
//! every number of an audit is a sum over orders, so it cannot count wrongly as a
//! script might. One seed draws all worlds; `PROPTEST_CASES` asks for more of them.

mod common;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floodgate_engine::domain::ids::{BucketNo, SaleId};
use floodgate_engine::stock::embedded::{EmbeddedConfig, EmbeddedHost};
use floodgate_engine::stock::redis::RedisHost;
use floodgate_engine::stock::{Args, BucketRef, Reply, Script, StockHost};
use floodgate_engine::workers::Workers;
use proptest::collection::vec as list;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};
use tokio::runtime::{Builder, Runtime};

use common::redis;

const USERS: [&str; 3] = ["ana", "bob", "cid"];
/// The last one is never given units: the bucket does not know it.
const SKUS: [&str; 4] = ["tea", "mug", "pot", "none"];
const STARTS: u64 = 100;
const ENDS: u64 = 200;
/// More units than any world has.
const MANY: i64 = 1_000;
/// Looks like a version and a mark, as a blob may.
const BLOB: &str = "7:7:order";
/// Beside h held, s sold, w withdrawn and c closed.
const NEVER_TAKEN: char = '-';

type Lines = Vec<(&'static str, i64)>;
/// User, key, items, again; an earlier order and what is kept of it: id, slot, items.
type Ask = (&'static str, u8, Lines, bool, Index, [bool; 3]);
/// An order, live or any; which of its next steps; what is wrong with the request.
type Change = (Index, bool, usize, &'static str);
/// A script, its own arguments, and what it has to answer after `0 n`.
type Said = (Script, String, String);
/// A script, then epoch, n and acked, then its own arguments.
type Call = (Script, [u64; 3], String);

#[derive(Debug, Clone)]
enum Step {
    Open(u8, Lines),
    /// Below zero it is a debit.
    Move(u8, &'static str, i64),
    Reserve(u64, Vec<Ask>),
    Settle(Vec<Change>),
    /// Facts that get a second copy, and facts that need it no more.
    Keep(BTreeSet<u8>, BTreeSet<u8>),
    Rebuild(usize),
    /// An earlier call as it was, or in a new place with so much added to epoch and acked.
    Misplaced(Index, i64, u64),
}

#[derive(Clone)]
struct Order {
    id: String,
    user: &'static str,
    slot: String,
    items: Lines,
    units_max: i64,
    again: bool,
    version: u64,
    state: char,
}

impl Order {
    fn is_live(&self) -> bool {
        matches!(self.state, 'h' | 's')
    }

    fn was_taken(&self) -> bool {
        self.state != NEVER_TAKEN
    }

    fn units(&self, of: impl Fn(&str) -> bool) -> i64 {
        let lines = self.items.iter().filter(|(sku, _)| of(sku));
        lines.map(|(_, n)| n).sum()
    }

    /// Fingerprint and id; equal items have equal fingerprints.
    fn name(&self) -> String {
        let items = listed(&self.items, 1).replace(' ', "");
        format!("{items:x>32}:{}", self.id)
    }

    /// What it begins with while it is live.
    fn head(&self, version: u64) -> String {
        format!("{}:{version}:{}:", self.name(), mark(version))
    }

    /// As it stands while it is live.
    fn whole(&self) -> String {
        format!("{}{BLOB}", self.head(self.version))
    }

    /// What stands before it where it stands with its user.
    fn place(&self) -> String {
        let key = &self.slot[self.user.len() + 1..];
        format!("{}:{key}:", key.len())
    }

    /// As it may stand with its user.
    fn entry(&self) -> String {
        let units = self.units(|_| true);
        format!("{units}:{}{}", self.place(), self.whole())
    }

    /// As it stands among the arguments of a reserve.
    fn request(&self) -> String {
        let (user, mark) = (self.user, mark(self.version));
        let (entry, items) = (self.entry(), listed(&self.items, 1));
        format!(" {user} {mark} {entry} {items}")
    }
}

/// How many lines, then each SKU with its units.
fn listed(lines: &Lines, times: i64) -> String {
    let each = lines.iter().map(|(sku, n)| format!(" {sku} {}", n * times));
    format!("{}{}", lines.len(), each.collect::<String>())
}

/// Scattered over 40 bits, so that sums of marks soon pass 2^40.
fn mark(version: u64) -> u64 {
    version.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24
}

/// What stands in a bucket, as the ledger would tell it.
#[derive(Default)]
struct Model {
    units_max: i64,
    tail: BTreeSet<String>,
    /// Units given, of each SKU that is known.
    skus: BTreeMap<&'static str, i64>,
    orders: Vec<Order>,
    moves: BTreeSet<String>,
    version: u64,
}

impl Model {
    fn live(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(|o| o.is_live())
    }

    /// Allotted, available, held, sold, withdrawn.
    fn counters(&self, sku: &str) -> [i64; 5] {
        let given = self.skus.get(sku).copied().unwrap_or_default();
        let [held, sold, withdrawn] = ['h', 's', 'w'].map(|state| {
            let orders = self.orders.iter().filter(|o| o.state == state);
            orders.map(|o| o.units(|s| s == sku)).sum::<i64>()
        });
        let available = given - held - sold - withdrawn;
        [given, available, held, sold, withdrawn]
    }

    fn units(&self, user: &str) -> i64 {
        let orders = self.live().filter(|o| o.user == user);
        orders.map(|o| o.units(|_| true)).sum()
    }

    fn digest(&self) -> u64 {
        self.live().map(|o| mark(o.version)).sum::<u64>() % (1 << 40)
    }

    /// Units come and go once per id; tells the first SKU with too few free.
    fn give(&mut self, id: String, lines: &Lines) -> Option<(&'static str, i64)> {
        if self.moves.contains(&id) {
            return None;
        }
        for (sku, units) in lines {
            let free = self.counters(sku)[1];
            if free + units < 0 {
                return Some((sku, free));
            }
        }
        for (sku, units) in lines {
            *self.skus.entry(sku).or_default() += units;
        }
        self.moves.insert(id);
        None
    }

    /// The list of `lua/README.md`: the first that applies.
    fn verdict(&self, now: u64, order: &Order) -> u8 {
        let mut taken = self.orders.iter().rev().filter(|o| o.was_taken());
        let known = taken.find(|o| o.slot == order.slot);
        // Ids are unique: nobody asks for one under another key.
        let own = known.is_some_and(|o| o.name() == order.name());
        let same = known.is_some_and(|o| o.items == order.items);
        let any = |no: &dyn Fn(&str) -> bool| order.items.iter().any(|(sku, _)| no(sku));
        let units = self.units(order.user) + order.units(|_| true);
        let short = |sku: &str| self.counters(sku)[1] < order.units(|s| s == sku);
        let list = [
            (0, own && known.is_some_and(Order::is_live)),
            (1, same && !(own && order.again)),
            (2, known.is_some() && !same),
            (3, now < STARTS),
            (4, now >= ENDS),
            (7, any(&|sku| !self.skus.contains_key(sku))),
            (5, units > order.units_max),
            (6, any(&short)),
        ];
        list.iter().find(|l| l.1).map_or(0, |l| l.0)
    }

    /// An order under a fresh id, but for what it keeps of an earlier one.
    fn draft(&mut self, (user, key, items, _, at, keeps): &Ask, again: bool) -> Order {
        self.version += 1;
        let (n, items) = (self.orders.len(), items.clone());
        let mut order = Order {
            id: format!("o{n}"),
            user,
            slot: format!("{user}:k{key}"),
            items,
            // A late payment's money is there already: it may pass the limit.
            units_max: self.units_max + if again { 2 } else { 0 },
            again,
            version: self.version,
            state: NEVER_TAKEN,
        };
        if let Some(old) = self.orders.get(at.index(n.max(1))).cloned() {
            order.id = if keeps[0] { old.id } else { order.id };
            order.items = if keeps[2] { old.items } else { order.items };
            // An order has one key.
            if keeps[0] || keeps[1] {
                (order.user, order.slot) = (old.user, old.slot);
            }
        }
        order
    }

    fn reserve(&mut self, now: u64, asks: &[Ask]) -> Said {
        // A batch asks for fresh orders, or for units of late payments.
        let again = asks[0].3;
        let max = self.units_max + if again { 2 } else { 0 };
        let mut body = format!("{now} {} {max} {}", u8::from(again), asks.len());
        let mut codes = Vec::new();
        for ask in asks {
            let mut order = self.draft(ask, again);
            body += &order.request();
            codes.push(self.verdict(now, &order));
            if codes.ends_with(&[0]) && !self.live().any(|o| o.slot == order.slot) {
                order.state = 'h';
            }
            self.orders.push(order);
        }
        let answer = codes.iter().map(|code| format!(" {code}")).collect();
        (Script::Reserve, body, answer)
    }

    fn keep(&mut self, put: &BTreeSet<u8>, gone: &BTreeSet<u8>) -> Said {
        let name = |n: &u8| format!("5:p{n}");
        let mut body = put.len().to_string();
        for n in put {
            body += &format!(" {} 1:body", name(n));
            self.tail.insert(name(n));
        }
        for n in gone {
            body += &format!(" {}", name(n));
            self.tail.remove(&name(n));
        }
        (Script::Keep, body, format!(" {}", self.tail.len()))
    }

    fn settle(&mut self, changes: &[Change]) -> Said {
        let (mut body, mut answer, mut n) = (String::new(), String::new(), 0);
        for (at, live, way, wrong) in changes {
            if let Some(i) = self.pick(*at, *live) {
                let (request, code) = self.change(i, *way, wrong);
                body += &request;
                answer += &format!(" {code}");
                n += 1;
            }
        }
        (Script::Settle, format!("{n}{body}"), answer)
    }

    fn pick(&self, at: Index, live: bool) -> Option<usize> {
        let may = |i: &usize| !live || self.orders[*i].is_live();
        let from: Vec<usize> = (0..self.orders.len()).filter(may).collect();
        let i = *from.get(at.index(from.len().max(1)))?;
        let stands = |o: &Order| o.is_live() && o.id == self.orders[i].id;
        Some(self.orders.iter().position(stands).unwrap_or(i))
    }

    fn change(&mut self, i: usize, way: usize, wrong: &str) -> (String, u8) {
        self.version += 1;
        let (order, new) = (&mut self.orders[i], self.version);
        let (way, after) = match order.state {
            's' => [("none", 's'), ("restock", 'c'), ("withdraw", 'w')][way],
            _ => [("pay", 's'), ("none", 'h'), ("close", 'c')][way],
        };
        let keep = u8::from(matches!(after, 'h' | 's'));
        let (from, to, times, code) = match wrong {
            "stale" => (new, new + 1, 1, 1),
            // Live and at the version in which it is no longer: no ledger says so.
            "done" => (0, order.version, 1, 1 - keep),
            "many" if way != "none" => (order.version, new, MANY, 3),
            _ => (order.version, new, 1, 0),
        };
        let (user, place) = (order.user, order.place());
        let (was, name) = (order.head(from), order.name());
        let now = match keep {
            1 => format!("{}{BLOB}", order.head(to)),
            _ => name,
        };
        let grows = i64::try_from(u64::from(keep) * mark(to)).expect("small")
            - i64::try_from(mark(from)).expect("small");
        let items = listed(&order.items, times);
        let request = format!(" {user} {place} {was} {now} {grows} {way} {keep} {items}");
        if !order.is_live() {
            return (request, 2 * keep);
        }
        if to == new && code == 0 {
            (order.version, order.state) = (new, after);
        }
        (request, code)
    }

    /// Field and value of each row but the stock's and the tail's.
    fn rows(&self) -> [(&'static str, Vec<String>); 4] {
        let taken = || self.orders.iter().filter(|o| o.was_taken());
        let live = self.live().map(|o| format!("{} {}", o.slot, o.whole()));
        let users: BTreeSet<&str> = taken().map(|o| o.user).collect();
        let users = users.iter().map(|u| format!("{u} {}", self.units(u)));
        let mut closed: BTreeMap<_, _> = taken().map(|o| (&o.slot, o.name())).collect();
        self.live().for_each(|o| drop(closed.remove(&o.slot)));
        let closed = closed.iter().map(|(slot, name)| format!("{slot} {name}"));
        let moves = self.moves.iter().map(|id| format!("{id} 1"));
        [
            ("live", live.collect()),
            ("user", users.collect()),
            ("closed", closed.collect()),
            ("move", moves.collect()),
        ]
    }
}

/// The one who calls a bucket, and what the bucket should be.
struct Desk<'a> {
    host: (&'a dyn StockHost, &'a Runtime, &'a BucketRef),
    model: Model,
    epoch: u64,
    /// The last n that was given out, and the last that was done.
    n: u64,
    done: u64,
    calls: Vec<Call>,
    said: String,
}

impl Desk<'_> {
    fn say(&mut self, (script, header, body): &Call, expected: &str) -> TestCaseResult {
        let ((host, runtime, bucket), [epoch, n, acked]) = (self.host, header);
        let mut args = Args::default();
        // One owner; `lua/cases/rivals.case` has two.
        let words = format!("{epoch} {n} {acked} ledger 1 {body}");
        words.split(' ').for_each(|word| args.push(word));
        let reply = runtime.block_on(host.run(bucket, *script, &Arc::new(args)));
        let reply = reply.map_or_else(|e| e.to_string(), |r| text(&r));
        self.said += &format!("\n{script:?} {epoch} {n} {acked} {body} -> {reply}");
        prop_assert!(reply == expected, "{}\nexpected {expected}", self.said);
        Ok(())
    }

    /// A call in its turn; sent again byte for byte it is answered the same.
    fn call(&mut self, (script, body, answer): Said, times: usize) -> TestCaseResult {
        self.n += 1;
        let call = (script, [self.epoch, self.n, self.done], body);
        self.done = self.n;
        self.calls.push(call.clone());
        let expected = format!("0 {}{answer}", self.n);
        (0..times).try_for_each(|_| self.say(&call, &expected))
    }

    /// A call that is too late, or from one who knows another bucket.
    fn refused(&mut self, call: &Call, status: u8) -> TestCaseResult {
        self.say(call, &format!("{status} '{}' {}", self.epoch, self.done))
    }

    fn rebuild(&mut self, rows_max: usize, times: usize) -> TestCaseResult {
        let said = |body| (Script::Rebuild, body, String::new());
        (self.epoch, self.n, self.done) = (self.epoch + 1, 0, 0);
        self.call(said(format!("begin {STARTS} {ENDS}")), times)?;
        self.n += 1;
        self.refused(&(Script::Audit, [self.epoch, self.n, 1], "0".into()), 2)?;
        let stock = self.model.skus.keys().flat_map(|sku| {
            let kinds = "oahsw".chars().zip(self.model.counters(sku));
            kinds.map(move |(kind, units)| format!("{kind}:{sku} {units}"))
        });
        let stock = ("stock", stock.collect());
        let tail = self.model.tail.iter().map(|fact| format!("{fact} 1:body"));
        let tail = ("tail", tail.collect());
        for (kind, rows) in self.model.rows().into_iter().chain([stock, tail]) {
            for rows in rows.chunks(rows_max) {
                let body = format!("chunk {kind} {} {}", rows.len(), rows.join(" "));
                self.call(said(body), times)?;
            }
        }
        self.call(said(format!("end {}", self.model.digest())), times)
    }

    fn step(&mut self, step: &Step, times: usize) -> TestCaseResult {
        let said = match step {
            Step::Open(id, lines) => {
                let short = self.model.give(format!("a:{id}"), lines);
                let no = short.map(|(sku, free)| format!(" 1 '{sku}' {free}"));
                let body = format!("{id} {}", listed(lines, 1));
                (Script::Open, body, no.unwrap_or(" 0".into()))
            }
            Step::Move(id, sku, units) => {
                let side = if *units < 0 { "debit" } else { "credit" };
                let line = vec![(*sku, *units)];
                let short = self.model.give(format!("t:{side}:{id}"), &line);
                let no = short.map(|(_, free)| format!(" 1 {free}"));
                let body = format!("{id} {side} {sku} {}", units.abs());
                (Script::Move, body, no.unwrap_or(" 0".into()))
            }
            Step::Reserve(now, asks) => self.model.reserve(*now, asks),
            Step::Keep(put, gone) => self.model.keep(put, gone),
            Step::Settle(changes) => self.model.settle(changes),
            Step::Rebuild(rows_max) => return self.rebuild(*rows_max, times),
            Step::Misplaced(at, epoch, acked) => {
                let call = at.get(&self.calls).clone();
                return self.misplaced(call, *epoch, *acked);
            }
        };
        self.call(said, times)
    }

    fn misplaced(&mut self, (script, at, body): Call, epoch: i64, acked: u64) -> TestCaseResult {
        if (epoch, acked) == (0, 0) || body.starts_with("begin") {
            let status = match (at[0] < self.epoch, script) {
                (true, _) => 3,
                // What rebuilds finds nothing being built, however old it is.
                (false, Script::Rebuild) => 2,
                (false, _) => 1,
            };
            return self.refused(&(script, at, body), status);
        }
        self.n += 2;
        let at = [
            self.epoch.strict_add_signed(epoch),
            self.n,
            self.done + acked,
        ];
        // For whoever is at an older epoch the bucket is another's.
        self.refused(&(script, at, body), if epoch < 0 { 3 } else { 2 })
    }

    /// Every number that an audit tells, and one that it does not: a user's units,
    /// by asking for too many under a limit just below and just at the sum.
    fn check(&mut self) -> TestCaseResult {
        let (m, n_calls) = (&self.model, self.calls.len());
        let mut answer = format!(" {}", m.digest());
        answer += &format!(" {} {}", m.live().count(), m.moves.len());
        for units in SKUS.map(|sku| m.counters(sku)) {
            prop_assert!(units.iter().all(|n| *n >= 0), "{}", self.said);
            units.iter().for_each(|n| answer += &format!(" {n}"));
        }
        let mut asks = Vec::new();
        let sku = m.skus.keys().next().expect("the first opening gave units");
        for user in USERS {
            let (units, print) = (m.units(user), "x".repeat(32));
            let again = m.live().any(|o| o.user == user && o.again);
            prop_assert!(again || units <= m.units_max, "{}", self.said);
            for max in [units + MANY - 1, units + MANY] {
                let entry = format!("{MANY}:1:k:{print}:o:1:1:{BLOB}");
                let ask = format!("{user} 1 {entry} 1 {sku} {MANY}");
                asks.push(format!("{STARTS} 0 {max} 1 {ask}"));
            }
        }
        let skus = format!("{} {}", SKUS.len(), SKUS.join(" "));
        self.call((Script::Audit, skus, answer), 1)?;
        for (ask, code) in asks.into_iter().zip([" 5", " 6"].into_iter().cycle()) {
            self.call((Script::Reserve, ask, code.into()), 1)?;
        }
        // The audit is now late by one. Other late calls shall be such as do something.
        let audit = self.calls.drain(n_calls..).next().expect("called above");
        self.refused(&audit, 1)
    }
}

/// As in `lua/cases`, but texts stand in quotes: a number must not become one.
fn text(reply: &Reply) -> String {
    match reply {
        Reply::Int(n) => n.to_string(),
        Reply::Bytes(bytes) => format!("'{}'", bytes.escape_ascii()),
        Reply::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        Reply::Nil => "nil".into(),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (at, often) = (any::<Index>, prop::bool::weighted);
    let units = || prop_oneof![-4..=-1_i64, 1..=5_i64];
    let now = prop_oneof![1 => Just(99), 4 => Just(STARTS), 4 => Just(199), 1 => Just(ENDS)];
    let sku = prop_oneof![12 => select(&SKUS[..3]), 1 => Just(SKUS[3])];
    let items = list((sku, 1..=3_i64), 1..=2);
    let keeps = [often(0.25), often(0.4), often(0.4)];
    let ask = (select(&USERS[..]), 1..=3_u8, items, often(0.2), at(), keeps);
    let asks = list(ask, 1..=6);
    let skus = subsequence(&SKUS[..3], 1..=3);
    let lines = (skus, list(units(), 3)).prop_map(|(skus, n)| skus.into_iter().zip(n).collect());
    let wrong = prop_oneof![6 => Just(""), 1 => select(&["stale", "done", "many"][..])];
    let changes = list((at(), often(0.8), 0..3_usize, wrong), 1..=4);
    let facts = || prop::collection::btree_set(0..6_u8, 0..4_usize);
    let wheres = prop_oneof![Just((0, 0)), select(&[(-1, 0), (1, 0), (0, 1)][..])];
    prop_oneof![
        2 => (0..6_u8, lines).prop_map(|(id, lines)| Step::Open(id, lines)),
        8 => (now, asks).prop_map(|(now, asks)| Step::Reserve(now, asks)),
        6 => changes.prop_map(Step::Settle),
        2 => (facts(), facts()).prop_map(|(put, gone)| Step::Keep(put, gone)),
        2 => (0..4_u8, select(&SKUS[..3]), units()).prop_map(|(id, sku, n)| Step::Move(id, sku, n)),
        1 => (1..=4_usize).prop_map(Step::Rebuild),
        2 => (at(), wheres).prop_map(|(at, (epoch, acked))| Step::Misplaced(at, epoch, acked)),
    ]
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

#[test]
fn the_scripts_do_what_the_contract_says() {
    let host = EmbeddedHost::start(&EmbeddedConfig::default()).expect("a host");
    keeps_the_contract(&host, &runtime());
}

#[test]
fn the_scripts_do_what_the_contract_says_on_redis() {
    if let Some(server) = redis::start() {
        let (runtime, workers) = (runtime(), Workers::start(1).expect("a worker"));
        let config = server.config();
        let host = RedisHost::connect(&config, Arc::new(workers));
        let host = runtime.block_on(host).expect("a host");
        keeps_the_contract(&host, &runtime);
    }
}

fn keeps_the_contract(host: &dyn StockHost, runtime: &Runtime) {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(7731);
    }
    // Each step comes with how often its calls are sent.
    let times = prop_oneof![2 => Just(1), 1 => 2..=3_usize];
    let steps = list((step(), times), 1..=40);
    let world = (1..=4_i64, list(1..=6_i64, 2..=3), steps);
    let (sale, bucket) = (SaleId::parse("model").expect("an id"), BucketNo(0));
    let bucket = BucketRef { sale, bucket };
    // One bucket for all worlds: under a new epoch nothing of the last may be left.
    let epoch = Cell::new(0);
    let run = TestRunner::new(config).run(&world, |(units_max, first, steps)| {
        epoch.set(epoch.get() + 100);
        let mut desk = Desk {
            host: (host, runtime, &bucket),
            model: Model::default(),
            epoch: epoch.get(),
            n: 0,
            done: 0,
            calls: Vec::new(),
            said: String::new(),
        };
        desk.model.units_max = units_max;
        desk.rebuild(1, 1)?;
        desk.step(&Step::Open(99, SKUS.into_iter().zip(first).collect()), 1)?;
        desk.check()?;
        for (step, times) in steps {
            desk.step(&step, times)?;
            desk.check()?;
        }
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}
