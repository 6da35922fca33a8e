//! Winners pay while the engine is killed twenty times: late, twice, wrongly, with
//! callbacks that repeat themselves, and an operator who refunds. In the end every payment
//! was applied or went back, and what is granted follows its order.
//!
//! The kills come at records that are drawn from a seed, all over the evening, and none
//! sooner than a record after the start before it. Buyers, provider and operator are the
//! load harness, and so is the judge.
//!
//! There are two evenings: a short one, and `loadtest/scenarios/pay.toml` itself, on which
//! `make demo-pay` kills nobody. The whole one is not part of `make test`, because it takes
//! a minute for each pair of host and store: `make drill-pay`. `SEED=7` draws other kills,
//! other buyers and other payments.

mod common;
#[path = "common/postgres.rs"]
mod postgres;
mod stampede;

use std::time::Instant;

use common::{open_sale, redis};
use fastrand::Rng;
use postgres::Server;
use stampede::{Site, Stampede};

const KILLS: usize = 20;

/// What happens, and when the engine is killed meanwhile.
struct Evening {
    scenario: &'static str,
    /// Where the environment names none.
    seed: u64,
    /// By this record the last kill has come: a little fewer than the orders, their
    /// payments and what becomes of both make.
    records: u64,
    /// A run in which little money moved proves little.
    payments_min: u64,
}

const SHORT: Evening = Evening {
    scenario: SHORT_SCENARIO,
    seed: 7_731,
    // Of some 9,200.
    records: 8_500,
    payments_min: 600,
};

const WHOLE: Evening = Evening {
    scenario: include_str!("../../loadtest/scenarios/pay.toml"),
    // The file's own.
    seed: 21,
    // Of some 34,300.
    records: 32_000,
    payments_min: 3_000,
};

const SHORT_SCENARIO: &str = r#"
attempts = 2400
users = 2400
connections = 32
quantity = 1
dropAfterMs = 600000
timeoutMs = 5000
outageSeconds = 600
retryShed = true

[mix]
doubleClickShare = 0.1
retryOnCutShare = 0.02
keyReuseShare = 0.01
cancelShare = 0.03
againShare = 0.1

[pay]
onTimeShare = 0.45
lateShare = 0.15
twiceShare = 0.08
lieShare = 0.04
failedFirstShare = 0.1
reorderShare = 0.4
repeatsMax = 2
refundShare = 0.2
restockShare = 0.5
delayMs = 700

[sale]
id = "pay"
name = "pay"
startsIn = 0.0
endsIn = 3600.0
payWindowSeconds = 5
unitsPerUser = 1
buckets = 3

[sale.admission]
rate = 100000
burst = 100000

[[sale.skus]]
id = "film"
name = "film"
priceCent = 1500
currency = "EUR"
units = 800
grant = { workId = "premiere", validDays = 365, devicesMax = 3 }

[[sale.skus]]
id = "poster"
name = "poster"
priceCent = 2900
currency = "EUR"
units = 800

[[phases]]
kind = "constant"
rate = 200.0
seconds = 12.0
"#;

/// `then` hears where a Redis and a PostgreSQL of our own are, as configuration. Where
/// they are not installed nothing happens.
fn on_redis_and_postgres(then: impl FnOnce(&str)) {
    let Some(stock) = redis::start() else {
        return;
    };
    if postgres::programs().is_none() {
        return;
    }
    let store = Server::shared();
    let database = store.database();
    then(&format!("{}{}", stock.toml(), store.store(&database)));
}

#[test]
fn no_payment_stays_stuck_over_twenty_kills() {
    SHORT.with_twenty_kills("");
}

#[test]
fn no_payment_stays_stuck_over_twenty_kills_on_redis_and_postgres() {
    on_redis_and_postgres(|places| SHORT.with_twenty_kills(places));
}

#[test]
#[ignore = "takes a minute; make drill-pay"]
fn the_whole_evening_with_twenty_kills() {
    WHOLE.with_twenty_kills("");
}

#[test]
#[ignore = "takes a minute; make drill-pay"]
fn the_whole_evening_with_twenty_kills_on_redis_and_postgres() {
    on_redis_and_postgres(|places| WHOLE.with_twenty_kills(places));
}

impl Evening {
    fn with_twenty_kills(&self, places: &str) {
        let seed = stampede::seed(self.seed);
        let mut dice = Rng::with_seed(seed);
        let more = format!("{places}[payment]\nprovider = \"mock\"\n");
        let mut site = Site::new(open_sale("other", 1, 1, &more));
        let pace = site.pace("pay");
        let mut engine = site.ready();
        let mut buyers = Stampede::start(
            &engine,
            site.folder.path(),
            self.scenario,
            &["--seed", &seed.to_string()],
        );
        let doors_open = Instant::now();
        let mut kills = [0; KILLS].map(|_| dice.u64(1..=self.records));
        kills.sort_unstable();
        for at in kills {
            let more = at.saturating_sub(pace.records(&engine)).max(1);
            pace.wait(&engine, &mut buyers, more);
            let seconds = doors_open.elapsed().as_secs_f64();
            println!("killed after {seconds:.1} s, at record {at}");
            engine.kill();
            engine = site.ready();
        }

        let verdict = buyers.verdict();
        println!("{}", verdict.text);
        let seconds = doors_open.elapsed().as_secs_f64();
        let records = pace.records(&engine);
        println!("{KILLS} kills, {seconds:.1} s, {records} records");
        assert_eq!(verdict.line, "audit: pass", "SEED={seed}");
        let money = &verdict.report["audit"]["money"];
        let count = |name: &str| money[name].as_u64().unwrap_or(0);
        assert!(
            count("payments") >= self.payments_min,
            "SEED={seed}: {money}"
        );
        for name in [
            "applied",
            "refunded",
            "review",
            "lateApplied",
            "lateRefunded",
            "twiceRefunded",
            "ordersPaid",
            "ordersDelivered",
            "ordersRefunded",
            "ordersClosed",
            "entitlementsActive",
            "entitlementsRevoked",
        ] {
            assert!(count(name) > 0, "SEED={seed}: no {name}: {money}");
        }
        assert_eq!(count("ordersUnpaid"), 0, "SEED={seed}");
        assert_eq!(engine.differences(), 0, "SEED={seed}");
        assert!(engine.stop(), "SEED={seed}: SIGTERM ends it well");
    }
}
