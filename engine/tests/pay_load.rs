//! Winners pay while the engine is killed twenty times: late, twice, wrongly, with
//! callbacks that repeat themselves, and an operator who refunds. In the end every payment
//! was applied or went back, and what is granted follows its order.
//!
//! As in `restart.rs` each kill comes some records, drawn from a seed, after the start
//! before it. Buyers, provider and operator are the load harness, and so is the judge.

mod common;
#[path = "common/postgres.rs"]
mod postgres;
mod stampede;

use std::time::Duration;

use common::{Engine, open_sale, redis};
use postgres::Server;
use stampede::{Pace, Stampede};

const KILLS: usize = 20;
/// The next kill comes after 1 to this many records: twenty of them are spread over the
/// records that 1,600 orders and their payments make.
const RECORDS_BETWEEN_KILLS_MAX: u64 = 200;
/// A run in which little money moved proves little.
const PAYMENTS_MIN: u64 = 600;

const SCENARIO: &str = r#"
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

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        1 + (z ^ (z >> 31)) % max
    }
}

fn start(folder: &tempfile::TempDir, places: &str, http: &str, admin: &str) -> Engine {
    let more = format!("{places}[payment]\nprovider = \"mock\"\n");
    let config = open_sale("other", 1, 1, &more);
    let engine =
        Engine::start_on(folder, &config, http, admin, "").unwrap_or_else(|why| panic!("{why}"));
    for _ in 0..600 {
        if engine.admin("GET", "/readyz", "").status == 200 {
            return engine;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!(
        "never ready: {}",
        engine.admin("GET", "/readyz?verbose", "").body
    );
}

#[test]
fn no_payment_stays_stuck_over_twenty_kills() {
    twenty_kills("");
}

#[test]
fn no_payment_stays_stuck_over_twenty_kills_on_redis_and_postgres() {
    let Some(stock) = redis::start() else {
        return;
    };
    if postgres::programs().is_none() {
        return;
    }
    let store = Server::shared();
    let database = store.database();
    twenty_kills(&format!("{}{}", stock.toml(), store.store(&database)));
}

fn twenty_kills(places: &str) {
    let seed: u64 =
        std::env::var("SEED").map_or(7_731, |text| text.parse().expect("SEED is a number"));
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("engine.log");
    let pace = Pace {
        sale: "pay",
        log: &log,
    };

    // The first start finds free ports, every later one takes the same.
    let mut engine = start(&folder, places, "127.0.0.1:0", "127.0.0.1:0");
    let (http, admin) = (engine.public.clone(), engine.admin.clone());
    let mut buyers = Stampede::start(
        &engine,
        folder.path(),
        SCENARIO,
        &["--seed", &seed.to_string()],
    );
    for _ in 0..KILLS {
        let records = dice.up_to(RECORDS_BETWEEN_KILLS_MAX);
        pace.wait(&engine, &mut buyers, records);
        engine.kill();
        engine = start(&folder, places, &http, &admin);
    }

    let verdict = buyers.verdict();
    println!("{}", verdict.text);
    assert_eq!(verdict.line, "audit: pass", "SEED={seed}");
    let money = &verdict.report["audit"]["money"];
    let count = |name: &str| money[name].as_u64().unwrap_or(0);
    assert!(count("payments") >= PAYMENTS_MIN, "SEED={seed}: {money}");
    for name in [
        "applied",
        "refunded",
        "review",
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
    assert!(count("lateApplied") + count("lateRefunded") > 0, "{money}");
    assert_eq!(count("ordersUnpaid"), 0, "SEED={seed}");
    assert_eq!(engine.differences(), 0, "SEED={seed}");
    assert!(engine.stop(), "SEED={seed}: SIGTERM ends it well");
}
