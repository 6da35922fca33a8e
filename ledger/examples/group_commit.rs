//! How many records does one fsync carry, and what does an idle append cost?
//!
//! `cargo run --release -p floodgate-ledger --example group_commit [folder]`
//!
//! Per batch size: groups of that many 400-byte orders, four batches of room in the queue, so
//! that the next gather while one is on its way; after the run every record is
//! counted. Then single appends, one after another, on an idle ledger.

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use floodgate_ledger::{BatchLimits, Draft, Group, Kind, Ledger, LedgerConfig};

const BODY: &[u8] = &[0x5a; 400];
const RUN: Duration = Duration::from_millis(1_500);
const IDLE_APPENDS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    println!("{:>8} {:>12} {:>14}", "batch", "records/s", "commit p50 us");
    for batch in [1, 64, 256, 1_024] {
        let folder = tempfile::tempdir_in(&parent)?;
        let (rate, p50) = runtime.block_on(run(folder.path().into(), batch))?;
        println!("{batch:>8} {rate:>12.0} {:>14.0}", p50.as_secs_f64() * 1e6);
    }
    let folder = tempfile::tempdir_in(&parent)?;
    let (p50, p99) = runtime.block_on(idle(folder.path().into()))?;
    println!(
        "idle append: p50 {:.0} us, p99 {:.0} us",
        p50.as_secs_f64() * 1e6,
        p99.as_secs_f64() * 1e6
    );
    Ok(())
}

async fn run(path: PathBuf, batch: usize) -> Result<(f64, Duration), Box<dyn Error>> {
    let limits = BatchLimits {
        records_max: batch,
        ..BatchLimits::default()
    };
    let config = LedgerConfig {
        batch: limits,
        queue_records_max: 4 * batch,
        ..LedgerConfig::new(path)
    };
    let ledger = Ledger::open(config)?;
    let mut waiting = VecDeque::new();
    let mut took = Vec::new();
    let mut next = 0;
    let started_at = Instant::now();
    let mut last_at = started_at;
    while started_at.elapsed() < RUN || !waiting.is_empty() {
        if started_at.elapsed() < RUN && waiting.len() < 3 {
            let drafts = (0..batch).map(|_| draft(&mut next)).collect();
            waiting.push_back(
                ledger
                    .append(Group {
                        drafts,
                        meta: Vec::new(),
                    })
                    .await?,
            );
            continue;
        }
        if let Some(receipt) = waiting.pop_front() {
            receipt.await?;
            took.push(last_at.elapsed());
            last_at = Instant::now();
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 records")]
    let rate = next as f64 / started_at.elapsed().as_secs_f64();
    assert_eq!(ledger.tip().seq.0, next, "every record was committed");
    assert_eq!(ledger.entities(None, None, false).count() as u64, next);
    took.sort_unstable();
    Ok((rate, took[took.len() / 2]))
}

async fn idle(path: PathBuf) -> Result<(Duration, Duration), Box<dyn Error>> {
    let ledger = Ledger::open(LedgerConfig::new(path))?;
    let mut took = Vec::new();
    let mut next = 0;
    for _ in 0..IDLE_APPENDS {
        let group = Group::one(draft(&mut next));
        let started_at = Instant::now();
        ledger.append(group).await?.await?;
        took.push(started_at.elapsed());
    }
    took.sort_unstable();
    Ok((took[IDLE_APPENDS / 2], took[IDLE_APPENDS * 99 / 100]))
}

/// Ids like the engine's: time first, then what is spread.
fn draft(next: &mut u64) -> Draft {
    *next += 1;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(*next / 100).to_be_bytes());
    id[8..].copy_from_slice(&next.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Draft {
        kind: Kind(1),
        group: Bytes::from_static(b"spring-2026"),
        id: Bytes::copy_from_slice(&id),
        version: 1,
        live: true,
        owner: Some(Bytes::from(format!(
            "user-{}",
            next.wrapping_mul(0x2545_f491_4f6c_dd1d) % 10_000_000
        ))),
        uniques: Vec::new(),
        at_ms: 1_764_000_000_000,
        body: Bytes::from_static(BODY),
    }
}
