//! How many records does one fsync carry, and what does an idle append cost?
//!
//! Per batch size: groups of that many orders of one SKU as the engine writes
//! them, each of another buyer, with room in the queue for more, so that the next
//! gather while one is on its way. Afterwards every record is counted.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use floodgate_engine::domain::codec::encode_order;
use floodgate_engine::domain::ids::{BucketNo, NodeNo, OrderId, OrderIdParts, SaleNo};
use floodgate_ledger::{BatchLimits, Draft, Group, Kind, Ledger, LedgerConfig};

use super::{Figures, at_share_ms, orders};
use crate::engine::scratch;
use crate::shoot;

const GROUPS_UNDER_WAY: usize = 3;
const MADE_AT_MS: u64 = 1_764_000_000_000;

pub fn by_batch(run: Duration, out: &Path) -> Result<Figures, String> {
    [64, 256, 1_024]
        .into_iter()
        .map(|batch| {
            let folder = scratch(out)?;
            let rate = shoot::run(records_per_s(folder.path(), batch, run))??;
            Ok((format!("ledger_records_per_s_{batch}"), rate))
        })
        .collect()
}

/// One record after another on a ledger that has nothing else to do.
pub fn idle(n: usize, out: &Path) -> Result<Figures, String> {
    let folder = scratch(out)?;
    let mut took = shoot::run(async {
        let ledger = Ledger::open(LedgerConfig::new(folder.path())).map_err(|e| e.to_string())?;
        let mut took = Vec::with_capacity(n);
        let body = body()?;
        let mut next = 0;
        for _ in 0..n {
            let group = Group::one(draft(&mut next, &body));
            let started = Instant::now();
            let receipt = ledger.append(group).await.map_err(|e| e.to_string())?;
            receipt.await.map_err(|e| e.to_string())?;
            took.push(started.elapsed());
        }
        Ok::<_, String>(took)
    })??;
    Ok(vec![
        (
            "ledger_idle_append_p50_ms".into(),
            at_share_ms(&mut took, 0.5),
        ),
        (
            "ledger_idle_append_p99_ms".into(),
            at_share_ms(&mut took, 0.99),
        ),
    ])
}

async fn records_per_s(path: &Path, batch: usize, run: Duration) -> Result<f64, String> {
    let config = LedgerConfig {
        batch: BatchLimits {
            records_max: batch,
            ..BatchLimits::default()
        },
        queue_records_max: 4 * batch,
        ..LedgerConfig::new(path)
    };
    let ledger = Ledger::open(config).map_err(|e| e.to_string())?;
    let mut under_way = VecDeque::new();
    let body = body()?;
    let mut next = 0;
    let started = Instant::now();
    while started.elapsed() < run || !under_way.is_empty() {
        if started.elapsed() < run && under_way.len() < GROUPS_UNDER_WAY {
            let group = Group {
                drafts: (0..batch).map(|_| draft(&mut next, &body)).collect(),
                meta: Vec::new(),
            };
            under_way.push_back(ledger.append(group).await.map_err(|e| e.to_string())?);
        } else if let Some(receipt) = under_way.pop_front() {
            receipt.await.map_err(|e| e.to_string())?;
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 records")]
    let rate = next as f64 / started.elapsed().as_secs_f64();
    let counted = ledger.entities(None, None, false).count() as u64;
    if ledger.tip().seq.0 == next && counted == next {
        Ok(rate)
    } else {
        Err(format!(
            "{next} records were committed, {counted} are there"
        ))
    }
}

fn body() -> Result<Bytes, String> {
    let order = orders::order(1, orders::made_at()?);
    Ok(encode_order(&order).into())
}

/// With an id as a desk makes it, a hundred each millisecond, and another buyer each time.
fn draft(next: &mut u64, body: &Bytes) -> Draft {
    *next += 1;
    let id = OrderId::from_parts(OrderIdParts {
        ms: MADE_AT_MS + *next / 100,
        bucket: BucketNo(0),
        sale: SaleNo(1),
        node: NodeNo(0),
        counter: u16::try_from(*next % 100).expect("below 100"),
        random: (next.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as u32,
    });
    Draft {
        kind: Kind(1),
        group: Bytes::from_static(b"spring-2026"),
        id: Bytes::copy_from_slice(id.as_bytes()),
        version: 1,
        live: true,
        owner: Some(Bytes::from(format!(
            "user-{}",
            next.wrapping_mul(0x2545_f491_4f6c_dd1d) % 10_000_000
        ))),
        uniques: Vec::new(),
        at_ms: MADE_AT_MS,
        body: body.clone(),
    }
}
