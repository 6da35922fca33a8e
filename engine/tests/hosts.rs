//! The scripted conversations of `lua/cases`, the same for every stock host.

mod common;

use std::path::Path;
use std::sync::Arc;

use floodgate_engine::domain::ids::{BUCKETS_MAX, BucketNo, SaleId};
use floodgate_engine::stock::embedded::{EmbeddedConfig, EmbeddedHost};
use floodgate_engine::stock::redis::RedisHost;
use floodgate_engine::stock::{Args, BucketRef, Reply, Script, StockHost};
use floodgate_engine::workers::Workers;

use common::redis::{self, Redis};

fn script(name: &str) -> Script {
    match name {
        "open" => Script::Open,
        "reserve" => Script::Reserve,
        "settle" => Script::Settle,
        "keep" => Script::Keep,
        "move" => Script::Move,
        "rebuild" => Script::Rebuild,
        "audit" => Script::Audit,
        other => panic!("no script is called {other}"),
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Int(n) => n.to_string(),
        Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        Reply::Nil => "nil".to_owned(),
    }
}

async fn converse(host: Arc<dyn StockHost>, name: &str, conversation: &str) {
    let bucket = BucketRef {
        sale: SaleId::parse(name).expect("a file name"),
        bucket: BucketNo(0),
    };
    let mut said = "";
    for (at, line) in conversation.lines().enumerate() {
        let line = match line.trim_end() {
            "" => continue,
            comment if comment.starts_with('#') => continue,
            "=" => said,
            line => line,
        };
        said = line;
        let (call, expected) = line
            .split_once(" -> ")
            .unwrap_or_else(|| panic!("{name}:{}: no arrow", at + 1));
        let mut words = call.split(' ');
        let name_of = words.next().unwrap_or_default();
        let (script_name, owner) = name_of.split_once('@').unwrap_or((name_of, "0"));
        let script = script(script_name);
        let mut args = Args::default();
        for (i, word) in words.enumerate() {
            let print = word.split_once("fp:");
            match print.and_then(|(before, w)| Some((before, w.split_once(':')?))) {
                Some((before, (letter, id))) => {
                    args.push(format!("{before}{}:{id}", letter.repeat(32)));
                }
                None => args.push(word),
            }
            if i == 2 {
                // Owner and durable seq: nobody says them but who speaks for another.
                args.push(owner.repeat(32));
                args.push("1");
            }
        }
        let reply = host.run(&bucket, script, &Arc::new(args)).await;
        let reply = reply.unwrap_or_else(|e| panic!("{name}:{}: {line}: {e}", at + 1));
        assert_eq!(text(&reply), expected, "{name}:{}: {line}", at + 1);
    }
}

#[tokio::test]
async fn every_conversation_goes_as_written_on_the_embedded_host() {
    let host = EmbeddedHost::start(&EmbeddedConfig::default()).expect("a host");
    every_conversation(Arc::new(host)).await;
}

#[tokio::test]
async fn every_conversation_goes_as_written_on_redis() {
    for binary in redis::binaries() {
        let server = Redis::start(&binary, &[]);
        let workers = Arc::new(Workers::start(2).expect("workers"));
        let host = RedisHost::connect(&server.config(), workers).await;
        every_conversation(Arc::new(host.expect("a host"))).await;
    }
}

async fn every_conversation(host: Arc<dyn StockHost>) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../lua/cases"));
    let mut n_files = 0;
    for entry in std::fs::read_dir(folder).expect("the cases") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .and_then(|n| n.to_str())
            .expect("a name")
            .to_owned();
        let conversation = std::fs::read_to_string(&path).expect("a case");
        converse(Arc::clone(&host), &name, &conversation).await;
        n_files += 1;
    }
    assert!(n_files >= 3, "the cases are gone");
}

/// As many buckets as a sale may have, on one shard: nothing of a call stays in the VM.
#[tokio::test]
async fn one_shard_serves_every_bucket_of_a_sale() {
    let host = EmbeddedHost::start(&EmbeddedConfig::default()).expect("a host");
    let mut args = Args::default();
    "1 1 0 ledger 1 begin 0 1000"
        .split(' ')
        .for_each(|word| args.push(word));
    let args = Arc::new(args);
    for bucket in 0..BUCKETS_MAX {
        let bucket = BucketRef {
            sale: SaleId::parse("many").expect("an id"),
            bucket: BucketNo(bucket),
        };
        let reply = host.run(&bucket, Script::Rebuild, &args).await;
        assert_eq!(reply.as_ref().map(text).as_deref(), Ok("0 1"), "{bucket:?}");
    }
}
