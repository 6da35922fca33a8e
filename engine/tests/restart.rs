//! Twenty kill -9 during load: every answer that was told stays true.
//!
//! The harness keeps asking with the same keys while the engine is away; in the
//! end its audit holds the whole journal against the books. Faults are paced by
//! the ledger, not by a clock: each kill comes some records, drawn from a seed,
//! after the start before it.

mod common;
mod stampede;

use common::{open_sale, redis};
use fastrand::Rng;
use stampede::{Site, Stampede};

const KILLS: usize = 20;
/// The next kill comes after 1 to this many records.
const RECORDS_BETWEEN_KILLS_MAX: u64 = 1_200;
/// First-hand wins told in a run; twenty gaps of 600 records make twice as many.
const WINS_MIN: u64 = 5_000;

/// Buyers and units outlast twenty restarts of the slowest machine; the doors
/// are closed after the last kill.
const SCENARIO: &str = r#"
attempts = 450000
users = 450000
connections = 64
quantity = 1
dropAfterMs = 600000
timeoutMs = 5000
outageSeconds = 600
retryShed = true

[mix]
doubleClickShare = 0.1
retryOnCutShare = 0.02
keyReuseShare = 0.01
cancelShare = 0.02
againShare = 0.02

[sale]
id = "kills"
name = "kills"
startsIn = 0.0
endsIn = 3600.0
payWindowSeconds = 1800
unitsPerUser = 1

[sale.admission]
rate = 100000
burst = 100000

[[sale.skus]]
id = "unit"
name = "unit"
priceCent = 100
currency = "EUR"
units = 500000

[[phases]]
kind = "constant"
rate = 1500.0
seconds = 300.0
"#;

#[test]
fn twenty_kills_during_load_take_back_nothing() {
    twenty_kills("");
}

#[test]
fn twenty_kills_during_load_take_back_nothing_on_redis() {
    if let Some(server) = redis::start() {
        twenty_kills(&server.toml());
    }
}

fn twenty_kills(stock: &str) {
    let seed = stampede::seed(7_731);
    let mut dice = Rng::with_seed(seed);
    let mut site = Site::new(open_sale("other", 1, 1, stock));
    let pace = site.pace("kills");
    let mut engine = site.ready();
    let mut buyers = Stampede::start(
        &engine,
        site.folder.path(),
        SCENARIO,
        &["--seed", &seed.to_string()],
    );

    let mut n_kills = 0;
    while n_kills < KILLS {
        let records = dice.u64(1..=RECORDS_BETWEEN_KILLS_MAX);
        pace.wait(&engine, &mut buyers, records);
        engine.kill();
        n_kills += 1;
        engine = site.ready();
    }
    // Buyers who were cut off at the last kill come back within a second.
    pace.wait(&engine, &mut buyers, 3_000);
    buyers.close_the_doors();

    let verdict = buyers.verdict();
    println!("{}", verdict.text);
    assert_eq!(verdict.line, "audit: pass", "SEED={seed}");
    assert_eq!(n_kills, 20);
    let wins = verdict.report["outcomes"]["won"].as_u64().unwrap_or(0);
    assert!(
        wins >= WINS_MIN,
        "SEED={seed}: a run of {wins} wins proves little"
    );
    assert_eq!(engine.differences(), 0, "SEED={seed}");
    assert!(engine.stop(), "SEED={seed}: SIGTERM ends it well");
}
