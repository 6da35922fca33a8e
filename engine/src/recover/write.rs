//! What was brought together, as a ledger.

use std::collections::BTreeSet;

use bytes::Bytes;
use floodgate_ledger::{Draft, Group, Ledger};

use super::merge::{After, Merged};
use super::{PAGE, PREDECESSORS};
use crate::domain::order::Order;
use crate::domain::sale::SaleRecord;
use crate::domain::time::UnixMs;
use crate::sale::facts;

/// Everything into the new ledger, and whom it follows.
pub(super) async fn write(
    brought: &[(SaleRecord, Merged)],
    loose: &After,
    predecessors: &BTreeSet<String>,
    ledger: &Ledger,
    now: UnixMs,
) -> Result<(), String> {
    let lines: Vec<&str> = predecessors.iter().map(String::as_str).collect();
    let meta = (
        Bytes::from_static(PREDECESSORS),
        Bytes::from(lines.join("\n")),
    );
    append(ledger, Vec::new(), vec![meta]).await?;
    for (record, merged) in brought {
        let sale = &record.definition;
        let mut drafts = vec![facts::sale_draft(record, 1, now)];
        for allotment in &merged.allotments {
            let id = format!("recover-{}", allotment.bucket.0);
            drafts.push(facts::allotment_draft(&sale.id, &id, allotment, now));
        }
        append(ledger, drafts, Vec::new()).await?;
        for orders in merged.orders.chunks(PAGE) {
            let mut drafts = Vec::with_capacity(orders.len());
            for order in orders {
                if merged.unheard.contains(&order.id) {
                    drafts.extend(order.earlier().iter().map(draft));
                }
                drafts.push(draft(order));
            }
            append(ledger, drafts, Vec::new()).await?;
        }
        write_after(&merged.after, ledger).await?;
    }
    write_after(loose, ledger).await
}

fn draft(order: &Order) -> Draft {
    facts::order_draft(order, facts::order_body(order))
}

async fn write_after(after: &After, ledger: &Ledger) -> Result<(), String> {
    let mut drafts = after.drafts();
    loop {
        let page: Vec<Draft> = drafts.by_ref().take(PAGE).collect();
        if page.is_empty() {
            return Ok(());
        }
        append(ledger, page, Vec::new()).await?;
    }
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
