//! Units that stand in the wrong bucket find their buyers: the last one sells,
//! nobody hears "not enough" before, and a crash on the way loses none.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::redis::{Host, hosts};
use common::{Engine, open_sale};
use fastrand::Rng;
use floodgate_engine::domain::ids::{BucketNo, SaleId, UserId, home_bucket};
use tempfile::TempDir;

const N_BUCKETS: u16 = 8;

fn body(quantity: u32) -> String {
    format!(r#"{{"saleId":"tea","items":[{{"skuId":"unit","quantity":{quantity}}}]}}"#)
}

fn start(host: &Host, folder: &TempDir, units: u32, failpoints: &str) -> Engine {
    let config = open_sale(
        "tea",
        units,
        3,
        // A journey of units is a commit, and a crowd may have fifteen of them before it.
        &format!(
            "buckets = {N_BUCKETS}\n[limits]\nanswer_ms = 25000\n{}",
            host.toml
        ),
    );
    let any = "127.0.0.1:0";
    Engine::start_on(folder, &config, any, any, failpoints).expect("it opens")
}

fn settled(engine: &Engine, units: u64) {
    assert_eq!(engine.differences(), 0);
    let stock = engine.admin("GET", "/admin/v1/sales/tea", "").json["skus"][0]["stock"].clone();
    let state = |name: &str| stock[name].as_u64().expect("a count");
    let places = ["available", "held", "sold", "withdrawn", "transfer"].map(state);
    assert_eq!((state("opened"), places.iter().sum()), (units, units));
}

#[test]
fn every_unit_sells_one_by_one_wherever_it_stands() {
    for host in hosts() {
        let folder = tempfile::tempdir().expect("a folder");
        // Fewer than a bucket should start with: all of them stand in one.
        let engine = start(&host, &folder, 40, "");
        let statuses: Vec<u16> = (0..45)
            .map(|n| engine.buy(&format!("user-{n}"), "k", &body(1)).status)
            .collect();
        assert_eq!(statuses, [[201; 40].as_slice(), &[422; 5]].concat());
        settled(&engine, 40);
    }
}

/// Buyers of one to three units at once, some of whom give theirs back.
fn crowd(engine: &Engine, seed: u64, n_buyers: u32) {
    let n_threads = 12;
    thread::scope(|scope| {
        for t in 0..n_threads {
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed * 1_000 + u64::from(t));
                for n in 0..n_buyers / n_threads {
                    let user = format!("crowd-{seed}-{t}-{n}");
                    let answer = engine.buy(&user, "k", &body(rng.u32(1..=3)));
                    assert!(matches!(answer.status, 201 | 422), "{answer:?}");
                    if answer.status == 201 && rng.u8(..3) == 0 {
                        let id = answer.json["orderId"].as_str().expect("an id");
                        let gone = engine.post(&user, &format!("/v1/orders/{id}/cancel"));
                        assert_eq!(gone.status, 200, "{gone:?}");
                    }
                }
            });
        }
    });
}

/// Single units, one after the other, until there are none: then there are none.
fn rest(engine: &Engine, units: u32) {
    for n in 0..=units {
        let answer = engine.buy(&format!("rest-{n}"), "k", &body(1));
        if answer.status == 422 {
            assert_eq!(answer.code().1, "STOCK_NOT_ENOUGH");
            assert_eq!(engine.remaining("tea"), 0, "refused before the last unit");
            return;
        }
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    panic!("more was sold than there is");
}

#[test]
fn a_crowd_of_larger_orders_leaves_nothing_behind_and_nobody_waiting() {
    for (host, seed) in hosts()
        .iter()
        .flat_map(|h| (0..4).map(move |seed| (h, seed)))
    {
        let folder = tempfile::tempdir().expect("a folder");
        host.fresh();
        let units = [30, 150, 700, 1_001][seed as usize];
        let engine = start(host, &folder, units, "");
        crowd(&engine, seed, 600);
        settled(&engine, units.into());
        rest(&engine, units);
        settled(&engine, units.into());
        assert!(engine.stop());
        // The ledger alone knows where the units are now.
        settled(&start(host, &folder, units, ""), units.into());
    }
}

#[test]
fn a_crash_at_either_step_of_a_transfer_loses_no_unit_and_makes_none() {
    hosts().iter().for_each(crash_at_either_step);
}

/// All at one bucket: however fast each of them is, every other bucket gives what it has,
/// half by half.
fn buyers_of_one_bucket(thread: u32) -> impl Iterator<Item = String> {
    let sale = SaleId::parse("tea").expect("an id");
    let all = (0..).map(move |n| format!("user-{thread}-{n}"));
    all.filter(move |user| {
        let user = UserId::parse(user).expect("an id");
        home_bucket(&sale, &user, N_BUCKETS) == BucketNo(N_BUCKETS - 1)
    })
}

fn crash_at_either_step(host: &Host) {
    let units = 200;
    for at in ["transfer-debited", "transfer-recorded"] {
        for nth in [1, 4] {
            let folder = tempfile::tempdir().expect("a folder");
            host.fresh();
            let engine = start(
                host,
                &folder,
                units,
                &format!("{at}={}*off->return", nth - 1),
            );
            let (told, died) = (Mutex::new(Vec::new()), AtomicBool::new(false));
            thread::scope(|scope| {
                for t in 0..8 {
                    let (engine, told, died) = (&engine, &told, &died);
                    scope.spawn(move || {
                        for user in buyers_of_one_bucket(t).take(60) {
                            let Some(answer) = engine.try_buy(&user, "k", &body(1)) else {
                                died.store(true, Ordering::Relaxed);
                                return;
                            };
                            if answer.status == 201 {
                                told.lock().expect("no panic").push((user, answer.json));
                            }
                        }
                    });
                }
            });
            assert!(died.into_inner(), "{at} was never reached");
            drop(engine);
            let engine = start(host, &folder, units, "");
            settled(&engine, units.into());
            for (user, order) in told.into_inner().expect("no panic") {
                assert_eq!(engine.buy(&user, "k", &body(1)).json, order);
            }
            rest(&engine, units);
            settled(&engine, units.into());
        }
    }
}
