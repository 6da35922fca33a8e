//! A hundred thousand pay windows end at once: how soon are all orders closed and their
//! units back on sale, and what do those notice who buy meanwhile?
//!
//! The orders go straight into the ledger, as the engine would have written them, all
//! with a pay window that ends at the same millisecond. The engine starts on that ledger
//! and sells another SKU of the same sale, so at the same desk, at a fixed rate before
//! the moment and until the last unit is back. Latency runs from the moment a send was
//! due.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use floodgate_ledger::{Ledger, LedgerConfig};
use floodgate_loadtest::fire::{Answered, Requests};
use floodgate_loadtest::stats::Latency;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::components::orders::{fill, now_ms, order_until, user};
use crate::engine::{Server, scratch, sku};
use crate::ratios;
use crate::report::{Report, count_name};
use crate::shoot::{Line, Shot, host, run, send, until_ready, write_purchase};

/// For filling the ledger, starting the engine, and the time before the moment.
const LEAD_MS: u64 = 15_000;
/// The pay window that has ended then.
const WINDOW_MS: u64 = 900_000;
/// Purchases that find cold caches; they are not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// Without as much there is nothing to compare with.
const BEFORE_MIN: Duration = Duration::from_secs(2);
/// Everything is over by then, or nothing ever will be.
const CLOSED_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const OTHER: &str = r#"{"saleId":"bench","items":[{"skuId":"other","quantity":1}]}"#;

#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// That end at once.
    pub orders: u32,
    /// Purchases a second meanwhile.
    pub rate: u32,
    pub connections: usize,
}

impl Windows {
    pub const USUAL: Self = Self {
        orders: 100_000,
        rate: 5_000,
        connections: 128,
    };
}

/// What one round found.
struct Closed {
    seconds: f64,
    p99_ms_before: f64,
    p99_ms_during: f64,
}

pub fn measure(
    rounds: usize,
    asked: &Windows,
    out: &Path,
    report: &mut Report,
) -> Result<(), String> {
    let name = |what: &str| format!("close_{}_{what}", count_name(asked.orders));
    for round in 1..=rounds {
        let ceiling = ratios::ceiling(Shot {
            connections: asked.connections,
            seconds: 2.0,
            warmup_seconds: 1.0,
            rate: None,
        })?;
        let closed = once(asked, out)?;
        eprintln!(
            "windows: round {round} of {rounds}: {} closed in {:.2} s",
            asked.orders, closed.seconds
        );
        report.push(&name("seconds"), closed.seconds);
        let closes = f64::from(asked.orders) / closed.seconds;
        report.push("closes_per_s", closes);
        report.push("closes_over_ceiling", closes / ceiling);
        report.push("close_p99_ms_before", closed.p99_ms_before);
        report.push("close_p99_ms_during", closed.p99_ms_during);
        let ratio = closed.p99_ms_during / closed.p99_ms_before;
        report.push("close_p99_ratio", ratio);
    }
    Ok(())
}

fn once(asked: &Windows, out: &Path) -> Result<Closed, String> {
    let folder = scratch(out)?;
    // More than can be bought in the time.
    let seconds = LEAD_MS / 1_000 + CLOSED_MAX.as_secs();
    let others = u64::from(asked.rate) * seconds;
    let others = u32::try_from(others).map_err(|_| "too many purchases a second")?;
    let skus = [
        sku("unit", asked.orders, ""),
        sku("other", others.max(1), ""),
    ]
    .join(", ");
    // So that there is a sale.
    drop(Server::engine_in(folder.path(), &skus)?);
    let ends_ms = now_ms()? + LEAD_MS;
    let ends = Instant::now() + Duration::from_millis(LEAD_MS);
    let made_at = ends_ms - WINDOW_MS;
    let ledger = LedgerConfig::new(folder.path().join("data/ledger"));
    let ledger = Ledger::open(ledger).map_err(|e| e.to_string())?;
    let order = |n| order_until(n, made_at, ends_ms);
    run(fill(&ledger, asked.orders, order))??;
    ledger.close();

    let engine = Server::engine_in(folder.path(), &skus)?;
    until_ready(engine.admin()?)?;
    let began = Instant::now();
    if began + WARM_UP + BEFORE_MIN > ends {
        return Err("this machine was too slow to sell before the windows ended".into());
    }
    let shoppers = Arc::new(Shoppers {
        host: host(engine.public())?,
        is_over: AtomicBool::new(false),
        seen: Mutex::new(Vec::new()),
    });
    let shot = Shot {
        connections: asked.connections,
        // They go home when all units are back.
        seconds: seconds as f64,
        warmup_seconds: 0.0,
        rate: Some(f64::from(asked.rate)),
    };
    let (sold, all_back) = run(async {
        let look = async {
            let all_back = all_back(engine.public(), asked.orders, ends).await;
            shoppers.is_over.store(true, Ordering::Relaxed);
            all_back
        };
        tokio::join!(send(shot, engine.public(), Arc::clone(&shoppers)), look)
    })?;
    let all_back = all_back?;
    sold?;
    check(&engine, asked.orders)?;

    let seen = shoppers.seen.lock();
    let p99_ms = |from: Instant, to: Instant| {
        let mut latency = Latency::default();
        let within = seen.iter().filter(|(due, _)| (from..to).contains(due));
        within.for_each(|(_, took)| latency.record(took.as_micros() as u64));
        match latency.percentiles() {
            found if found.n == 0 => Err("nobody bought while the orders were closed"),
            found => Ok(found.p99_us as f64 / 1e3),
        }
    };
    Ok(Closed {
        seconds: (all_back - ends).as_secs_f64(),
        p99_ms_before: p99_ms(began + WARM_UP, ends)?,
        p99_ms_during: p99_ms(ends, all_back)?,
    })
}

#[derive(Deserialize)]
struct Sale {
    skus: Vec<Sku>,
}

#[derive(Deserialize)]
struct Sku {
    id: String,
    remaining: u32,
}

/// When all units were on sale again; none of them may be before their windows end.
async fn all_back(public: &str, units: u32, ends: Instant) -> Result<Instant, String> {
    let mut line = Line::to(public)?;
    let request = line.get("/v1/sales/bench");
    loop {
        let asked_at = Instant::now();
        let sale: Sale = line.json(&request, 200).await?;
        let found = sale.skus.iter().find(|sku| sku.id == "unit");
        let back = found.ok_or("the sale has no unit")?.remaining;
        if back > 0 && Instant::now() < ends {
            return Err(format!("{back} units were back before their windows ended"));
        }
        if back == units {
            return Ok(asked_at);
        }
        if asked_at > ends + CLOSED_MAX {
            return Err(format!("{back} of {units} units were back in time"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Back on sale means that they can be bought, by those as well who let them go.
fn check(engine: &Server, orders: u32) -> Result<(), String> {
    let mut line = Line::to(engine.public())?;
    run(async {
        for n in [0, orders / 2, orders - 1] {
            let again = line.purchase(&user(n), "another-key");
            line.json::<serde_json::Value>(&again, 201).await?;
        }
        Ok(())
    })?
}

/// Those who buy meanwhile, and how long each of them waited.
struct Shoppers {
    host: String,
    is_over: AtomicBool,
    seen: Mutex<Vec<(Instant, Duration)>>,
}

impl Requests for Shoppers {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        write_purchase(out, &self.host, &format!("shopper-{n}"), "key", OTHER);
        !self.is_over.load(Ordering::Relaxed)
    }

    fn answered(&self, answer: &Answered<'_>) -> Result<(), String> {
        if answer.status != 201 {
            let body = String::from_utf8_lossy(answer.body);
            return Err(format!("a purchase was answered {} {body}", answer.status));
        }
        let took = answer.at - answer.intended;
        self.seen.lock().push((answer.intended, took));
        Ok(())
    }
}
