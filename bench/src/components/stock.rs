//! What does one order cost in the stock host, by batch size and by how many it holds?
//!
//! Microseconds an order. Of the embedded host with encoding and decoding of the call,
//! beside the VM as desks run; of Redis what it says that its scripts took, with nobody
//! else at work.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use floodgate_engine::config::{RedisConfig, RedisLimits, RedisServer};
use floodgate_engine::domain::codec::encode_order;
use floodgate_engine::domain::ids::BucketNo;
use floodgate_engine::domain::order::Order;
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stock::embedded::{EmbeddedConfig, EmbeddedHost};
use floodgate_engine::stock::redis::RedisHost;
use floodgate_engine::stock::{BucketCaller, BucketRef, HoldRequest, Owner, StockHost, Verdict};
use floodgate_engine::workers::Workers;
use tokio::sync::watch;

use super::{Figures, orders};
use crate::peer::{self, Redis};
use crate::shoot::run;

/// Orders that are timed once the host holds as many as asked for.
const TIMED: u32 = 10_240;
/// A batch under load, for what does not depend on it.
const BATCH: usize = 64;

pub fn by_batch(n: u32) -> Result<Figures, String> {
    [1_usize, 8, 64, 512]
        .into_iter()
        .map(|batch| {
            let micros = on_a_host(move |caller| async move {
                let mut bucket = Bucket::open(caller, n).await?;
                bucket.sell(n, batch).await
            })?;
            Ok((format!("stock_us_per_order_{batch}"), micros))
        })
        .collect()
}

/// The same work on a host that holds few orders and one that holds many.
pub fn by_orders_held([few, many]: [u32; 2]) -> Result<Figures, String> {
    let (at_few, at_many) = on_a_host(move |caller| async move {
        let mut bucket = Bucket::open(caller, few + many + 2 * TIMED).await?;
        bucket.sell(few, BATCH).await?;
        let at_few = bucket.sell(TIMED, BATCH).await?;
        bucket
            .sell(many - few - TIMED.min(many - few), BATCH)
            .await?;
        let at_many = bucket.sell(TIMED, BATCH).await?;
        Ok((at_few, at_many))
    })?;
    Ok(vec![
        ("stock_us_per_order_held_1k".into(), at_few),
        ("stock_us_per_order_held_1m".into(), at_many),
        ("stock_held_1m_over_1k".into(), at_many / at_few),
    ])
}

/// Redis' own time for an order; nothing where Redis is not installed.
pub fn on_redis(n: u32) -> Result<Figures, String> {
    if !peer::has_redis() {
        return Ok(Vec::new());
    }
    [BATCH, 512]
        .into_iter()
        .map(|batch| {
            let mut redis = Redis::start()?;
            let config = RedisConfig {
                servers: vec![RedisServer {
                    host: "127.0.0.1".into(),
                    port: redis.port,
                }],
                cluster: false,
                tls: None,
                user: None,
                password: None,
                limits: RedisLimits::default(),
            };
            run(async {
                let workers = Arc::new(Workers::start(1)?);
                let host = Arc::new(RedisHost::connect(&config, workers).await?);
                let caller = caller(host, bucket());
                Bucket::open(caller, n).await?.sell(n, batch).await
            })??;
            let name = format!("redis_us_per_order_{batch}");
            Ok((name, redis.us_per_order()?))
        })
        .collect()
}

fn caller(host: Arc<dyn StockHost>, bucket: BucketRef) -> BucketCaller {
    let owner = Owner {
        ledger: "00".repeat(16),
        run: 1,
    };
    BucketCaller::new(host, bucket, 1, &owner, watch::Sender::new(None))
}

fn bucket() -> BucketRef {
    BucketRef {
        sale: orders::sale(),
        bucket: BucketNo(0),
    }
}

/// Runs where a desk would run: on the thread of the VM.
fn on_a_host<T, W, F>(work: W) -> Result<T, String>
where
    T: Send + 'static,
    W: FnOnce(BucketCaller) -> F + Send + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let host = Arc::new(EmbeddedHost::start(&EmbeddedConfig::default())?);
    let bucket = bucket();
    let home = host.home(&bucket).ok_or("the embedded host has no home")?;
    let (tell, told) = std::sync::mpsc::channel();
    let caller = caller(host, bucket);
    home.spawn(async move {
        // An error means that nobody listens any more.
        let _ = tell.send(work(caller).await);
    });
    told.recv().map_err(|e| e.to_string())?
}

struct Bucket {
    caller: BucketCaller,
    next: u32,
    made_at: u64,
}

impl Bucket {
    async fn open(mut caller: BucketCaller, units: u32) -> Result<Self, String> {
        let text = |e: floodgate_engine::stock::CallError| e.to_string();
        let made_at = orders::made_at()?;
        caller.make_room(units as usize).await;
        caller
            .rebuild_begin(UnixMs(0), UnixMs(made_at + 86_400_000), b"")
            .await
            .map_err(text)?;
        caller.rebuild_end(0).await.map_err(text)?;
        caller
            .open("all", &[(orders::sku(), i64::from(units))])
            .await
            .map_err(text)?;
        Ok(Self {
            caller,
            next: 0,
            made_at,
        })
    }

    /// Sells the next `n`; microseconds an order. Making the orders is not timed.
    async fn sell(&mut self, n: u32, batch: usize) -> Result<f64, String> {
        let made: Vec<Order> = (self.next..self.next + n)
            .map(|n| orders::order(n, self.made_at))
            .collect();
        self.next += n;
        let blobs: Vec<Vec<u8>> = made.iter().map(encode_order).collect();
        let started = Instant::now();
        let mut held = 0;
        for (made, blobs) in made.chunks(batch).zip(blobs.chunks(batch)) {
            let requests: Vec<HoldRequest<'_>> = made
                .iter()
                .zip(blobs)
                .map(|(order, blob)| HoldRequest { order, blob })
                .collect();
            let verdicts = self
                .caller
                .reserve(UnixMs(self.made_at), false, 1, &requests)
                .await
                .map_err(|e| e.to_string())?;
            held += verdicts.iter().filter(|v| **v == Verdict::Held).count();
        }
        let micros = started.elapsed().as_secs_f64() * 1e6 / f64::from(n);
        if held == n as usize {
            Ok(micros)
        } else {
            Err(format!("the stock host held {held} of {n} orders"))
        }
    }
}
