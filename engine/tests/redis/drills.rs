//! A sale under load while Redis forgets, falls back and stands still: nobody's win is
//! lost, nothing is sold twice, and the sale goes on by itself.

use std::thread;
use std::time::Duration;

use crate::common::redis::{self, Redis};
use crate::common::{Engine, call, open_sale};
use crate::long_sale;
use crate::stampede::{Site, Stampede};

type Drill = fn(&mut Redis, &[u8]);

const DRILLS: [(&str, Drill); 9] = [
    ("it restarts empty", |server, _| server.restart_empty()),
    ("FLUSHALL", |server, _| drop(server.text(&["FLUSHALL"]))),
    ("it restarts with an older dump", |server, old| {
        server.restart_with(old)
    }),
    ("it stands still for three seconds", |server, _| {
        server.freeze();
        thread::sleep(Duration::from_secs(3));
        server.thaw();
    }),
    ("SCRIPT FLUSH", |server, _| {
        drop(server.text(&["SCRIPT", "FLUSH"]))
    }),
    (
        "a stranger's script keeps it busy for a second or two",
        |server, _| {
            server.text(&["CONFIG", "SET", "busy-reply-threshold", "20"]);
            let script = "for _ = 1, 3e8 do end return 'done'";
            server.text(&["EVAL", script, "0"]);
        },
    ),
    ("it has no memory for two seconds", |server, _| {
        server.text(&["CONFIG", "SET", "maxmemory", "1"]);
        thread::sleep(Duration::from_secs(2));
        server.text(&["CONFIG", "SET", "maxmemory", "0"]);
    }),
    ("one bucket is lost, the others are not", |server, _| {
        let mut words = vec!["UNLINK".to_owned()];
        words.extend(keys_of_one());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        server.ask(&words).expect("unlinked");
    }),
    ("a stray hand puts texts where hashes were", |server, _| {
        for key in keys_of_one() {
            server.text(&["SET", &key, "stray"]);
        }
    }),
];

fn keys_of_one() -> [String; 6] {
    let names = ["meta", "stock", "orders", "users", "moves", "tail"];
    names.map(|name| format!("{{fg:drills:1}}:{name}"))
}

fn rebuilds(engine: &Engine) -> u64 {
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("floodgate_bucket_rebuilds_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

#[test]
fn whatever_redis_loses_under_load_no_win_is_lost_and_none_is_sold_twice() {
    let Some(mut server) = redis::start() else {
        return;
    };
    let mut site = Site::new(open_sale("other", 1, 1, &server.toml()));
    let pace = site.pace("drills");
    let engine = site.start().expect("a new engine");
    let sale = long_sale("drills", 1_000);
    let mut buyers = Stampede::start(&engine, site.folder.path(), &sale, &["--seed", "7731"]);
    pace.wait(&engine, &mut buyers, 500);
    let old = server.backup();
    pace.wait(&engine, &mut buyers, 500);
    for (what, drill) in DRILLS {
        println!("{what}");
        drill(&mut server, &old);
        pace.wait(&engine, &mut buyers, 1_500);
    }
    buyers.close_the_doors();
    let verdict = buyers.verdict();
    println!("{}", verdict.text);
    assert_eq!(verdict.line, "audit: pass");
    assert_eq!(engine.differences(), 0);
    // Two times everything and an older dump: four buckets and the one that holds still
    // nothing, each; and one bucket alone, in two ways.
    assert!(
        rebuilds(&engine) >= 14,
        "{} buckets were rebuilt",
        rebuilds(&engine)
    );
    assert!(engine.stop(), "SIGTERM ends it well");
}

/// A stray hand in Redis: told by the next comparison, and gone with it.
#[test]
fn a_bucket_that_counts_wrong_is_told_of_and_made_anew() {
    let Some(server) = redis::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    // Nobody compares but us.
    let rare = format!("{}[limits]\nreconcile_seconds = 3600\n", server.toml());
    let engine = Engine::start(&folder, &open_sale("tea", 30, 1, &rare));
    let one = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
    assert_eq!(engine.buy("ana", "k", one).status, 201);
    assert_eq!(engine.differences(), 0);
    let count = ["HINCRBY", "{fg:tea:0}:stock", "a:unit", "-20"];
    server.ask(&count).expect("counted down");
    let told = engine.differences();
    assert!(told.as_u64().is_some_and(|n| n > 0), "{told}");
    assert_eq!(engine.differences(), 0);
    assert_eq!(rebuilds(&engine), 1);
    assert_eq!(engine.buy("bob", "k", one).status, 201);
    assert_eq!(engine.remaining("tea"), 28);
}
