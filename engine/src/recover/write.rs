//! What was brought together, as a ledger.

use std::collections::BTreeSet;

use bytes::Bytes;
use floodgate_ledger::{Draft, Group, Ledger};

use super::PREDECESSORS;
use super::merge::{After, Merged};
use crate::domain::order::Order;
use crate::domain::sale::SaleRecord;
use crate::domain::time::UnixMs;
use crate::sale::facts;
use crate::stream::Mark;

/// Below the smallest commit that may be configured (512 records).
const GROUP_RECORDS: usize = 256;
const GROUP_BYTES: usize = 1 << 20;

/// Everything into the new ledger, and whom it follows. What the order store has of the
/// orders stands first, and the mark behind it is returned: the store is told what comes
/// then. One that loses everything later is told from the beginning, and so of each order's
/// whole way, as far as it is known.
pub(super) async fn write(
    brought: &[(SaleRecord, Merged)],
    loose: &After,
    predecessors: &BTreeSet<String>,
    ledger: &Ledger,
    now: UnixMs,
) -> Result<Mark, String> {
    let lines: Vec<&str> = predecessors.iter().map(String::as_str).collect();
    let meta = (
        Bytes::from_static(PREDECESSORS),
        Bytes::from(lines.join("\n")),
    );
    append(ledger, Vec::new(), vec![meta]).await?;
    // The ledger is not in its place yet: nothing need be whole before all of it is.
    for (record, merged) in brought {
        let sale = &record.definition;
        let allotments = merged.allotments.iter().map(|allotment| {
            let id = format!("recover-{}", allotment.bucket.0);
            facts::allotment_draft(&sale.id, &id, allotment, now)
        });
        let opened = std::iter::once(facts::sale_draft(record, 1, now)).chain(allotments);
        append_all(ledger, opened).await?;
        append_all(ledger, ways(merged, true)).await?;
    }
    let mark = Mark::at(ledger, ledger.tip());
    for (_, merged) in brought {
        // Where the store refused orders before, they are all that it lacks, and a stream that
        // hears "no" to every order would take it for the schema's.
        append_all(ledger, merged.known_good().map(draft)).await?;
        append_all(ledger, ways(merged, false)).await?;
        append_all(ledger, merged.after.drafts()).await?;
    }
    append_all(ledger, loose.drafts()).await?;
    Ok(mark)
}

/// Every order with what is known of its way: what the order store has, or what it lacks.
fn ways(merged: &Merged, is_stored: bool) -> impl Iterator<Item = Draft> {
    let ways = merged.orders.iter().map(|order| merged.way(order));
    ways.flat_map(move |(stored, lacking)| if is_stored { stored } else { lacking })
        .map(|order| draft(&order))
}

fn draft(order: &Order) -> Draft {
    facts::order_draft(order, facts::order_body(order))
}

/// In groups that any ledger takes, whatever its limits: a group ends with the record that
/// fills it, and no record of ours is larger than a commit may be.
async fn append_all(
    ledger: &Ledger,
    drafts: impl IntoIterator<Item = Draft>,
) -> Result<(), String> {
    let (mut group, mut n_bytes) = (Vec::new(), 0);
    for draft in drafts {
        n_bytes += draft.body.len();
        group.push(draft);
        if group.len() >= GROUP_RECORDS || n_bytes >= GROUP_BYTES {
            append(ledger, std::mem::take(&mut group), Vec::new()).await?;
            n_bytes = 0;
        }
    }
    if group.is_empty() {
        return Ok(());
    }
    append(ledger, group, Vec::new()).await
}

async fn append(
    ledger: &Ledger,
    drafts: Vec<Draft>,
    meta: Vec<(Bytes, Bytes)>,
) -> Result<(), String> {
    let group = Group { drafts, meta };
    let receipt = ledger.append(group).await.map_err(|e| e.to_string())?;
    receipt.await.map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use floodgate_ledger::{Kind, LedgerConfig};

    use super::*;

    #[tokio::test]
    async fn any_ledger_takes_all_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = LedgerConfig::new(folder.path().join("ledger"));
        (config.memtable_bytes, config.batch.records_max) = (4 << 20, 512);
        let ledger = Ledger::open(config).expect("a ledger");
        // Many small ones, some that are more than a commit together, one that fills a group.
        let sizes = [vec![10; 2_000], vec![200_000; 100], vec![2 << 20], vec![10]].concat();
        let drafts = sizes.iter().enumerate().map(|(n, size)| Draft {
            kind: Kind(1),
            group: Bytes::from_static(b"tea"),
            id: Bytes::copy_from_slice(&n.to_be_bytes()),
            version: 1,
            live: true,
            owner: None,
            uniques: Vec::new(),
            at_ms: 1,
            body: Bytes::from(vec![7; *size]),
        });
        append_all(&ledger, drafts).await.expect("all of it");
        assert_eq!(ledger.entities(None, None, false).count(), sizes.len());
    }
}
