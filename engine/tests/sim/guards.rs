//! Take one guard away, and some day breaks a promise: a simulation that cannot
//! fail proves nothing, and neither does a guard that nobody would miss.

use fail::FailScenario;

use crate::search;

/// What is taken away, by fail point; and where it is the second of two guards, the first with it.
const GUARDS: [(&str, &[&str]); 30] = [
    ("epoch", &["stock-no-epoch-check"]),
    ("n", &["stock-no-n-check"]),
    ("acked", &["stock-no-acked-check"]),
    ("allotment", &["guard-allows-all"]),
    ("stock in the script", &["stock-no-stock-check"]),
    (
        "stock in both",
        &["guard-allows-all", "stock-no-stock-check"],
    ),
    ("key", &["index-ignore-keys"]),
    ("key in both", &["index-ignore-keys", "stock-no-key-check"]),
    ("limit", &["index-ignore-limits"]),
    ("limit in the script", &["stock-no-limit-check"]),
    (
        "limit in both",
        &["index-ignore-limits", "stock-no-limit-check"],
    ),
    ("version", &["stock-no-version-check"]),
    ("floor of ids", &["ids-without-floor"]),
    ("seq and hash at the start", &["ledger-open-unchecked"]),
    ("witness at the start", &["stream-no-witness"]),
    ("transfers on their way", &["transfer-counted-early"]),
    ("fsync before the answer", &["ledger-ack-early"]),
    ("known transaction", &["payment-forgotten"]),
    ("transaction in the ledger", &["ledger-unique-unchecked"]),
    (
        "transaction in both",
        &["payment-forgotten", "ledger-unique-unchecked"],
    ),
    ("amount", &["payment-any-amount"]),
    (
        "limit of late money in both",
        &["late-no-limit", "stock-no-limit-check"],
    ),
    ("guard of late money", &["late-no-guard"]),
    ("units that late money did not take", &["late-not-let-go"]),
    ("refund of the money", &["refund-keeps-money"]),
    ("withdrawn units", &["recovery-no-withdrawn"]),
    ("changes under way", &["flight-concerns-nobody"]),
    ("landing before late money", &["late-before-landing"]),
    ("landing before a rebuild", &["rebuild-before-landing"]),
    ("landing before an audit", &["audit-before-landing"]),
];

/// Days within which each must be missed.
const SEEDS: u64 = 40_000;

#[test]
fn without_any_one_guard_a_promise_breaks() {
    let mut unmissed = Vec::new();
    for (guard, fail_points) in GUARDS {
        let scenario = FailScenario::setup();
        for fail_point in fail_points {
            fail::cfg(*fail_point, "return(0)").expect("a fail point's action");
        }
        let (n, _, found) = search(0, |n| n < SEEDS);
        scenario.teardown();
        match found {
            Some((seed, broken)) => println!("{guard}: day {seed}, {n} days: {broken}"),
            None => unmissed.push(guard),
        }
    }
    assert!(unmissed.is_empty(), "nobody misses {unmissed:?}");
}
