//! One server: what is refused at the start, and what becomes of a call when the server
//! forgets, is full, stands still or is not there.

use std::sync::Arc;
use std::time::Duration;

use floodgate_engine::config::{Password, RedisConfig, RedisTls};
use floodgate_engine::domain::ids::{BucketNo, SaleId};
use floodgate_engine::stock::redis::RedisHost;
use floodgate_engine::stock::{Args, BucketRef, HostError, Reply, Script, StockHost};
use floodgate_engine::workers::Workers;

use crate::common::redis::{self, Redis};

pub fn bucket(no: u16) -> BucketRef {
    BucketRef {
        sale: SaleId::parse("tea").expect("an id"),
        bucket: BucketNo(no),
    }
}

pub fn call(words: &str) -> Arc<Args> {
    let mut args = Args::default();
    words.split(' ').for_each(|word| args.push(word));
    Arc::new(args)
}

/// Epoch 1, two calls done.
pub async fn open(host: &RedisHost, bucket: &BucketRef) {
    for words in ["1 1 0 l 1 begin 0 9", "1 2 1 l 1 end 0"] {
        let args = call(words);
        // As a desk does it: the same call until it is answered.
        let reply = loop {
            match host.run(bucket, Script::Rebuild, &args).await {
                Err(HostError::Unknown(_)) => {}
                reply => break reply,
            }
        };
        assert!(matches!(reply, Ok(Reply::Array(_))), "{reply:?}");
    }
}

pub async fn connect(config: &RedisConfig) -> Result<RedisHost, String> {
    let workers = Arc::new(Workers::start(2).expect("workers"));
    RedisHost::connect(config, workers).await
}

/// A call in the order of calls, and what it says of itself: `0 n`.
pub async fn audit(host: &RedisHost, bucket: &BucketRef, n: u64) -> Result<(), HostError> {
    let args = call(&format!("1 {n} {} l 1 0", n - 1));
    let reply = host.run(bucket, Script::Audit, &args).await?;
    let Reply::Array(values) = &reply else {
        panic!("{reply:?}");
    };
    let n = i64::try_from(n).expect("small");
    assert_eq!(values[..2], [Reply::Int(0), Reply::Int(n)], "{reply:?}");
    Ok(())
}

/// As a desk does it: the same call until it is answered.
pub async fn until_audited(host: &RedisHost, bucket: &BucketRef, n: u64) {
    while let Err(error) = audit(host, bucket, n).await {
        assert!(matches!(error, HostError::Unknown(_)), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn refused(config: &RedisConfig) -> String {
    let host = connect(config).await;
    host.err().expect("it must not be trusted with the stock")
}

#[tokio::test]
async fn a_server_that_may_forget_keys_is_refused() {
    for binary in redis::binaries() {
        let server = Redis::start(&binary, &[("maxmemory-policy", "allkeys-lru")]);
        let why = refused(&server.config()).await;
        assert!(why.contains("maxmemory-policy allkeys-lru"), "{why}");
        assert!(why.contains("allowed is noeviction"), "{why}");
        // Also for a user who may ask with CONFIG and not with INFO.
        server.text(&["ACL", "SETUSER", redis::USER, "-info", "+config|get"]);
        let why = refused(&server.config()).await;
        assert!(why.contains("maxmemory-policy allkeys-lru"), "{why}");
        // Who may ask neither way is told in the log, and goes on.
        server.text(&["ACL", "SETUSER", redis::USER, "-config|get"]);
        let host = connect(&server.config())
            .await
            .expect("nobody knows better");
        open(&host, &bucket(0)).await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said_at_the_start() {
    let Some(server) = redis::start() else { return };
    let with = |change: fn(&mut RedisConfig)| {
        let mut config = server.config();
        config.limits.connect = Duration::from_secs(3);
        change(&mut config);
        config
    };
    let why = refused(&with(|c| c.password = Some(Password::new("wrong")))).await;
    assert!(
        why.contains("WRONGPASS") && !why.contains("wrong\""),
        "{why}"
    );
    let why = refused(&with(|c| c.servers[0].port = 1)).await;
    assert!(why.contains("127.0.0.1:1"), "{why}");
    let why = refused(&with(|c| c.cluster = true)).await;
    assert!(why.contains("cluster"), "{why}");
    for command in ["hset", "hscan", "unlink"] {
        let acl = |rule: &str| server.text(&["ACL", "SETUSER", redis::USER, rule]);
        acl(&format!("-{command}"));
        let why = refused(&server.config()).await;
        let said = format!("may not call {command} on the stock server 127.0.0.1:");
        assert!(why.contains(&said), "{why}");
        assert!(why.contains("config/redis.acl"), "{why}");
        acl(&format!("+{command}"));
    }
    let why = refused(&with(|c| c.tls = Some(RedisTls { ca: None }))).await;
    assert!(why.contains("rediss://"), "{why}");
    server.text(&["ACL", "SETUSER", redis::USER, "-script|load"]);
    let why = refused(&server.config()).await;
    assert!(
        why.contains("NOPERM") && why.contains("load a script"),
        "{why}"
    );
}

#[tokio::test]
async fn a_server_that_lost_the_scripts_gets_them_again() {
    let Some(server) = redis::start() else { return };
    let host = connect(&server.config()).await.expect("a host");
    open(&host, &bucket(0)).await;
    for n in 3..6 {
        server.text(&["SCRIPT", "FLUSH"]);
        audit(&host, &bucket(0), n)
            .await
            .expect("loaded and sent again");
    }
}

#[tokio::test]
async fn a_server_that_is_full_or_no_primary_is_asked_again_and_nothing_happened() {
    let Some(server) = redis::start() else { return };
    let host = connect(&server.config()).await.expect("a host");
    open(&host, &bucket(0)).await;
    server.text(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = audit(&host, &bucket(0), 3).await;
    assert!(
        matches!(&full, Err(HostError::Unknown(why)) if why.contains("OOM")),
        "{full:?}"
    );
    server.text(&["CONFIG", "SET", "maxmemory", "0"]);
    until_audited(&host, &bucket(0), 3).await;
    server.text(&["REPLICAOF", "127.0.0.1", "1"]);
    let replica = audit(&host, &bucket(0), 4).await;
    let said = |why: &str| why.contains("READONLY") || why.contains("MASTERDOWN");
    assert!(
        matches!(&replica, Err(HostError::Unknown(why)) if said(why)),
        "{replica:?}"
    );
    server.text(&["REPLICAOF", "NO", "ONE"]);
    until_audited(&host, &bucket(0), 4).await;
}

#[tokio::test]
async fn a_script_that_fails_is_no_unknown_outcome() {
    let Some(server) = redis::start() else { return };
    let host = connect(&server.config()).await.expect("a host");
    open(&host, &bucket(0)).await;
    let [_, _, orders, ..] = bucket(0).keys();
    server.ask(&["DEL", &orders]).expect("gone");
    server.text(&["SET", &orders, "no hash"]);
    let failed = audit(&host, &bucket(0), 3).await;
    assert!(
        matches!(&failed, Err(HostError::Script(why)) if why.contains("WRONGTYPE")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_bucket_that_lost_a_key_is_not_what_it_was() {
    let Some(server) = redis::start() else { return };
    let host = connect(&server.config()).await.expect("a host");
    let [_meta, others @ .., tail] = bucket(0).keys();
    for lost in others.into_iter().chain([tail.clone()]) {
        server.text(&["FLUSHALL"]);
        open(&host, &bucket(0)).await;
        audit(&host, &bucket(0), 3).await.expect("all is there");
        server.ask(&["DEL", &lost]).expect("gone");
        // And there again, with what came since.
        if lost != tail {
            server.ask(&["HSET", &lost, "ana", "1"]).expect("there");
        }
        let args = call("1 4 3 l 1 0");
        let reply = host.run(&bucket(0), Script::Audit, &args).await;
        let Ok(Reply::Array(said)) = reply else {
            panic!("{lost}: {reply:?}");
        };
        let changed = [Reply::Int(2), Reply::Bytes("1".into()), Reply::Int(3)];
        assert_eq!(said, changed, "{lost}");
    }
}

#[tokio::test]
async fn a_call_to_a_server_that_stands_still_is_unknown_until_it_goes_on() {
    let Some(server) = redis::start() else { return };
    let mut config = server.config();
    config.limits.call = Duration::from_millis(500);
    config.limits.silent = Duration::from_millis(1_500);
    let host = connect(&config).await.expect("a host");
    open(&host, &bucket(0)).await;
    server.freeze();
    // Past the limit of silence too, so that the connection is given up and made anew.
    for _ in 0..8 {
        let late = audit(&host, &bucket(0), 3).await;
        assert!(matches!(late, Err(HostError::Unknown(_))), "{late:?}");
    }
    server.thaw();
    // Every copy that was under way is the same call: done once, answered alike.
    until_audited(&host, &bucket(0), 3).await;
    until_audited(&host, &bucket(0), 4).await;
}

#[tokio::test]
async fn a_server_that_was_away_is_found_again_and_has_forgotten() {
    let Some(mut server) = redis::start() else {
        return;
    };
    let host = connect(&server.config()).await.expect("a host");
    open(&host, &bucket(0)).await;
    server.kill();
    let away = audit(&host, &bucket(0), 3).await;
    assert!(matches!(away, Err(HostError::Unknown(_))), "{away:?}");
    server.start_again();
    let args = call("1 3 2 l 1 0");
    let reply = loop {
        match host.run(&bucket(0), Script::Audit, &args).await {
            Ok(reply) => break reply,
            Err(error) => assert!(matches!(error, HostError::Unknown(_)), "{error}"),
        }
    };
    // CHANGED, without an epoch.
    let Reply::Array(values) = &reply else {
        panic!("{reply:?}")
    };
    assert_eq!(values[0], Reply::Int(2), "{reply:?}");
}

/// The engine's own user may do what the scripts need, and nothing else.
#[tokio::test]
async fn the_engines_user_may_do_no_more_than_it_needs() {
    let Some(server) = redis::start() else { return };
    server.text(&["SET", "other", "1"]);
    for command in [
        &["FLUSHALL"][..],
        &["GET", "other"],
        &["HGET", "other", "f"],
        &["HMGET", "other", "f"],
        &["CONFIG", "GET", "*"],
        &["KEYS", "*"],
        &["EVAL", "return 1", "0"],
    ] {
        let said = server.ask(&[&["ACL", "DRYRUN", redis::USER], command].concat());
        assert!(
            said != Ok(Reply::Bytes("OK".into())),
            "{command:?} is allowed"
        );
    }
}
