//! Holds that stand only in a host that outlives the engine become orders.
//!
//! Such a hold was told to its buyer and its record went with the ledger's tail, or the
//! engine fell between script and ledger and nobody heard of it. From here the two look
//! alike, so both are adopted: the first is owed, the second closes with its pay window,
//! and a retry with its key finds it. An order that the bucket has in a newer version
//! than the ledger becomes what the bucket says.
//!
//! What may not be beside the orders that the ledger has (`judge.rs`) is told in the log
//! and in a metric, and is not sold.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use floodgate_ledger::{Group, Ledger};

use super::facts;
use super::guard::Guard;
use super::judge::Judge;
use super::recovery::{RecoveryError, Tools, read_allotments};
use crate::domain::codec::decode_order;
use crate::domain::ids::OrderId;
use crate::domain::order::{Order, Version};
use crate::domain::sale::Sale;
use crate::stock::{BucketRef, HostError, Meta, StockHost};

/// A host that does not answer is asked again after this, so often.
const AGAIN: Duration = Duration::from_millis(200);
const ASKED_MAX: usize = 150;
/// Orders that become durable together: below the smallest commit that may be configured
/// (512 records).
const GROUP: usize = 256;

/// Adopts what the sale's buckets have and the ledger lacks. Returns each bucket's epoch.
pub(super) async fn adopt(sale: &Sale, tools: &Tools) -> Result<Vec<u32>, RecoveryError> {
    let mut epochs = Vec::new();
    if !tools.host.is_second_copy() {
        return Ok(epochs);
    }
    let mut strays: HashMap<OrderId, Order> = HashMap::new();
    for bucket in BucketRef::all(sale) {
        let meta = patient(&bucket, || tools.host.meta(&bucket)).await?;
        epochs.push(meta.as_ref().map_or(0, |meta| meta.epoch));
        let Some(meta) = meta else { continue };
        // Whoever takes over has brought together what stands here; and one that was being
        // made had been wiped, so that the ledger has all of it.
        if tools.takes_over || meta.is_building {
            continue;
        }
        let (ledger, group) = (&tools.ledger, sale.id.as_bytes());
        let lacks = |id: OrderId, version: Version| {
            let known = ledger.entity(group, facts::ORDER, id.as_bytes())?;
            Ok(known.is_none_or(|known| known.version < version.0))
        };
        for order in read_holds(&*tools.host, &bucket, lacks).await? {
            strays.insert(order.id, order);
        }
    }
    if !strays.is_empty() {
        take(sale, tools, strays).await?;
    }
    Ok(epochs)
}

/// Whether every bucket of the sale that is there was served by this very ledger, which
/// has all that it was told of. Asked of all sales before any of them writes: what the
/// first one adds would hide what the ledger lost.
pub(super) async fn check(sale: &Sale, tools: &Tools) -> Result<(), RecoveryError> {
    if !tools.host.is_second_copy() || tools.takes_over {
        return Ok(());
    }
    for bucket in BucketRef::all(sale) {
        if let Some(meta) = patient(&bucket, || tools.host.meta(&bucket)).await? {
            check_witness(&bucket, &meta, &tools.ledger)?;
        }
    }
    Ok(())
}

async fn take(
    sale: &Sale,
    tools: &Tools,
    strays: HashMap<OrderId, Order>,
) -> Result<(), RecoveryError> {
    let empty = || Guard::new(sale.skus.len());
    let mut guards: Vec<Guard> = (0..sale.buckets).map(|_| empty()).collect();
    read_allotments(sale, &tools.ledger, &mut guards)?;
    let mut judge = Judge::new(sale, guards);
    let group = Some(sale.id.as_bytes());
    for found in tools.ledger.entities(group, Some(facts::ORDER), false) {
        let order = facts::order_of(&found?)?;
        if !strays.contains_key(&order.id) {
            judge.count(&order);
        }
    }
    // The oldest first: where not all of them may be, those who came first are.
    let mut orders: Vec<Order> = strays.into_values().collect();
    orders.sort_by_key(|order| order.id);
    let mut drafts = Vec::new();
    for order in &orders {
        match judge.take(order) {
            Ok(()) => drafts.push(facts::order_draft(order, facts::order_body(order))),
            Err(why) => {
                tools.metrics.strays_set_aside.inc();
                tracing::error!(
                    sale = %sale.id, order = %order.id, %why, body = hex(&facts::order_body(order)),
                    "a hold that the ledger does not know cannot be adopted"
                );
            }
        }
    }
    tracing::warn!(sale = %sale.id, n = drafts.len(), "adopt what only the stock host knew");
    tools.metrics.strays_adopted.inc_by(drafts.len() as u64);
    while !drafts.is_empty() {
        let group = Group {
            drafts: drafts.drain(..drafts.len().min(GROUP)).collect(),
            meta: Vec::new(),
        };
        let unconfirmed = |e: &dyn std::fmt::Display| RecoveryError::Unconfirmed(e.to_string());
        let receipt = tools.ledger.append(group).await;
        let receipt = receipt.map_err(|e| unconfirmed(&e))?;
        receipt.await.map_err(|e| unconfirmed(&e))?;
    }
    Ok(())
}

/// What is not sold may have been told to a buyer: all of it goes into the log.
fn hex(body: &[u8]) -> String {
    body.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_witness(bucket: &BucketRef, meta: &Meta, ledger: &Ledger) -> Result<(), RecoveryError> {
    let (ours, tip) = (ledger.id().to_string(), ledger.tip().seq.0);
    if meta.ledger == ours && meta.seq <= tip {
        return Ok(());
    }
    Err(RecoveryError::Behind {
        sale: bucket.sale.to_string(),
        bucket: bucket.bucket.0,
        theirs: meta.ledger.clone(),
        at: meta.seq,
        ours,
        tip,
    })
}

/// The orders that a bucket holds, as far as they are `wanted`.
pub(crate) async fn read_holds(
    host: &dyn StockHost,
    bucket: &BucketRef,
    mut wanted: impl FnMut(OrderId, Version) -> Result<bool, floodgate_ledger::ReadError>,
) -> Result<Vec<Order>, RecoveryError> {
    let odd = |id: OrderId, why: &str| said(bucket, format!("the hold of order {id} {why}"));
    let (mut orders, mut at) = (Vec::new(), Some(0));
    while let Some(from) = at {
        let page = patient(bucket, || host.holds(bucket, from)).await?;
        for (id, hold) in page.holds {
            if !wanted(id, hold.version)? {
                continue;
            }
            let order = decode_order(&hold.order).map_err(|e| odd(id, &e.to_string()))?;
            if order.id != id || order.version != hold.version || order.sale != bucket.sale {
                return Err(odd(id, "is of another order"));
            }
            orders.push(order);
        }
        at = page.next;
    }
    Ok(orders)
}

/// Asks until there is an answer, though not for ever.
pub(crate) async fn patient<T, F>(
    bucket: &BucketRef,
    mut ask: impl FnMut() -> F,
) -> Result<T, RecoveryError>
where
    F: Future<Output = Result<T, HostError>>,
{
    let mut asked = 1;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(HostError::Unknown(_)) if asked < ASKED_MAX => {
                asked += 1;
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(said(bucket, error.to_string())),
        }
    }
}

fn said(bucket: &BucketRef, why: String) -> RecoveryError {
    RecoveryError::Host {
        sale: bucket.sale.to_string(),
        bucket: bucket.bucket.0,
        why,
    }
}
