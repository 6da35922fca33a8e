//! Everything that the other copies know, brought together sale by sale; nothing is
//! changed here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use floodgate_ledger::{Kind, ReadError, Reader, Seq};
use tokio::task::block_in_place;

use super::merge::{After, Copy, Merged, Pile};
use super::{PAGE, PREDECESSORS, Report, SaleReport, Stood};
use crate::app;
use crate::domain::codec::{decode_order, decode_sale};
use crate::domain::ids::{EntitlementId, OrderId, PaymentId, SaleId};
use crate::domain::order::Order;
use crate::domain::payment::NO_SALE;
use crate::domain::sale::{Sale, SaleRecord, Switches};
use crate::domain::time::UnixMs;
use crate::sale::{facts, patient, read_holds};
use crate::stock::{BucketRef, Meta, StockHost};
use crate::stream::{FactPage, OrderStore, RowKind, Source, StoreError};

/// What the old ledger still told.
#[derive(Default)]
pub(super) struct Old {
    pub id: Option<String>,
    pub predecessors: BTreeSet<String>,
    /// By version.
    pub sales: BTreeMap<SaleId, (u64, SaleRecord)>,
    pub orders: BTreeMap<SaleId, Vec<Order>>,
    /// Payments and entitlements by their group.
    pub after: BTreeMap<Bytes, After>,
    /// The first that could not be read.
    pub damage: Option<String>,
}

/// Records that cannot be read, one after the other: then the rest is given up as well. A
/// block of a table has some hundred.
const LOST_MAX: usize = 20_000;

/// Everything that can be read.
pub(super) fn read_old(ledger: &Reader) -> Old {
    let mut old = Old::default();
    match ledger.identity() {
        Ok(identity) => old.id = Some(identity.id.to_string()),
        Err(error) => old.damage = Some(error.to_string()),
    }
    match ledger.meta(PREDECESSORS) {
        Ok(known) => {
            let known = known.unwrap_or_default();
            let lines = String::from_utf8_lossy(&known);
            old.predecessors = lines.lines().map(ToOwned::to_owned).collect();
        }
        Err(error) => {
            old.damage.get_or_insert(error.to_string());
        }
    }
    for found in ledger.entities(None, None, false) {
        let taken = found
            .map_err(|e| e.to_string())
            .and_then(|snapshot| old.take(&Source::of_snapshot(&snapshot)));
        if let Err(why) = taken {
            old.damage.get_or_insert(why);
        }
    }
    if old.damage.is_some() {
        old.replay(ledger);
    }
    old
}

impl Old {
    /// What a recovery has no use for is passed over.
    fn take(&mut self, told: &Source<'_>) -> Result<(), String> {
        if told.kind == facts::SALE {
            let record = decode_sale(told.body).map_err(|e| e.to_string())?;
            let known = self.sales.get(&record.definition.id);
            if known.is_none_or(|(version, _)| *version <= told.version) {
                let id = record.definition.id.clone();
                self.sales.insert(id, (told.version, record));
            }
        } else if told.kind == facts::ORDER {
            let order = decode_order(told.body).map_err(|e| e.to_string())?;
            self.orders
                .entry(order.sale.clone())
                .or_default()
                .push(order);
        } else if let Some(kind) = [RowKind::Payment, RowKind::Entitlement]
            .into_iter()
            .find(|kind| kind.kind() == told.kind)
        {
            let group = Bytes::copy_from_slice(told.group);
            let after = self.after.entry(group).or_default();
            after.take(kind, told, Copy::Ledger)?;
        }
        Ok(())
    }

    /// The records that are kept say once more what the entities said, and one that cannot
    /// be read keeps none of the others from it.
    fn replay(&mut self, ledger: &Reader) {
        let tip = ledger
            .identity()
            .map_or(Seq(u64::MAX), |known| known.tip.seq);
        let mut at = Seq(1);
        // Records to be read one by one, and how many in a row could not be.
        let (mut alone, mut lost, mut n_lost) = (0_usize, 0, 0_u64);
        while at <= tip && lost < LOST_MAX {
            let n_max = if alone > 0 { 1 } else { PAGE };
            alone = alone.saturating_sub(1);
            match ledger.tail(at, n_max, usize::MAX) {
                Ok(records) => {
                    let Some(last) = records.last() else { break };
                    (at, lost) = (last.seq.next(), 0);
                    let taken = records.iter().map(|r| self.take(&Source::of_record(r)));
                    n_lost += taken.filter(Result::is_err).count() as u64;
                }
                Err(ReadError::Trimmed { oldest, .. }) if oldest > at => at = oldest,
                Err(_) if n_max > 1 => alone = PAGE,
                Err(_) => (at, lost, n_lost) = (at.next(), lost + 1, n_lost + 1),
            }
        }
        tracing::warn!(n_lost, "records that could not be read");
    }
}

pub(super) struct Known<'a> {
    pub old: &'a Old,
    /// What the old ledger has of payments and entitlements; taken out as it is brought.
    pub after: BTreeMap<Bytes, After>,
    pub stood: &'a BTreeMap<SaleId, Stood>,
    pub store: &'a dyn OrderStore,
    pub host: &'a dyn StockHost,
    /// Ledgers whose buckets are ours.
    pub trusted: &'a BTreeSet<String>,
    pub now: UnixMs,
}

impl Known<'_> {
    /// Every sale that a copy names.
    pub fn sales(
        &self,
        configured: &[Sale],
        report: &mut Report,
    ) -> Result<Vec<SaleRecord>, String> {
        let mut found: BTreeMap<SaleId, SaleRecord> = BTreeMap::new();
        for (id, (_, record)) in &self.old.sales {
            found.insert(id.clone(), record.clone());
        }
        for (id, buckets) in self.stood {
            let told = |meta: &&Meta| self.is_ours(meta) && !meta.sale.is_empty();
            if !found.contains_key(id)
                && let Some(meta) = buckets.values().find(told)
            {
                let record = decode_sale(&meta.sale).map_err(|e| format!("sale {id}: {e}"))?;
                found.insert(id.clone(), record);
            }
        }
        let stored = block_in_place(|| self.store.sales()).map_err(|e| e.to_string())?;
        for id in stored {
            if found.contains_key(&id) {
                continue;
            }
            let first = self.page(&id, None, 1)?;
            let definition = configured.iter().find(|sale| sale.id == id);
            let (Some(definition), Some(first)) = (definition, first.first()) else {
                return Err(format!(
                    "the order store has orders of sale {id}, and nobody here has its \
                     definition: put it into the configuration"
                ));
            };
            let record = SaleRecord {
                definition: definition.clone(),
                number: first.id.parts().sale,
                switches: Switches::default(),
            };
            found.insert(id, record);
        }
        for (id, buckets) in self.stood {
            if !found.contains_key(id) {
                report.left_alone.push(id.to_string());
            } else if let Some((no, meta)) = buckets.iter().find(|(_, m)| !self.is_ours(m)) {
                return Err(format!(
                    "bucket {} of sale {id} was last served by ledger {}, which nobody here \
                     knows: its orders would be lost. Bring its ledger, or take the keys \
                     {{fg:{id}:{}}}:* away",
                    no.0, meta.ledger, no.0
                ));
            }
        }
        let mut numbers: BTreeMap<u16, SaleId> = BTreeMap::new();
        for (id, record) in &found {
            if let Some(other) = numbers.insert(record.number.0, id.clone()) {
                let number = record.number.0;
                return Err(format!(
                    "the sales {other} and {id} have one number, {number}"
                ));
            }
        }
        Ok(found.into_values().collect())
    }

    fn page(
        &self,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, String> {
        let page = block_in_place(|| self.store.orders_page(app::NODE, sale, after, limit));
        let page = page.map_err(|e| e.to_string())?;
        Ok(page.orders.into_iter().map(|stored| stored.order).collect())
    }

    /// Payments and entitlements of a sale, or of none, from old ledger and store.
    pub fn bring_after(&mut self, sale: Option<&SaleId>) -> Result<After, String> {
        let group = sale.map_or(NO_SALE, SaleId::as_bytes);
        let mut found = self.after.remove(group).unwrap_or_default();
        let mut after: Option<PaymentId> = None;
        loop {
            let page = facts_of(|| {
                let after = after.as_ref();
                self.store.payments_page(app::NODE, sale, after, PAGE)
            })?;
            let Some(last) = page.last() else { break };
            after = Some(last.payment.id.clone());
            page.into_iter().for_each(|fact| found.add_payment(fact));
        }
        let Some(sale) = sale else { return Ok(found) };
        let mut after: Option<EntitlementId> = None;
        loop {
            let page = facts_of(|| {
                let after = after.as_ref();
                self.store.entitlements_page(app::NODE, sale, after, PAGE)
            })?;
            let Some(last) = page.last() else { break };
            after = Some(last.entitlement.id.clone());
            page.into_iter()
                .for_each(|fact| found.add_entitlement(fact, Copy::Store));
        }
        Ok(found)
    }

    /// Gathers one sale from everywhere.
    pub async fn bring(
        &mut self,
        mut record: SaleRecord,
    ) -> Result<(SaleRecord, Merged, SaleReport), String> {
        let sale = record.definition.clone();
        let mut report = SaleReport {
            sale: sale.id.to_string(),
            paused: !record.switches.ended,
            ..SaleReport::default()
        };
        record.switches.paused |= report.paused;
        let mut pile = Pile::default();
        pile.after = self.bring_after(Some(&sale.id))?;
        for order in self.old.orders.get(&sale.id).into_iter().flatten() {
            pile.add(order.clone(), Copy::Ledger);
            report.found_in_ledger += 1;
        }
        let mut after = None;
        loop {
            let page = self.page(&sale.id, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            report.found_in_store += page.len();
            page.into_iter()
                .for_each(|order| pile.add(order, Copy::Store));
        }
        let (mut held, mut used) = (HashSet::new(), Vec::new());
        for bucket in BucketRef::all(&sale) {
            let stood = self.stood.get(&sale.id);
            let Some(meta) = stood.and_then(|s| s.get(&bucket.bucket)) else {
                continue;
            };
            let holds = read_holds(self.host, &bucket, |_, _| Ok(true)).await;
            for order in holds.map_err(|e| e.to_string())? {
                held.insert(order.id);
                pile.add(order, Copy::Stock);
            }
            let mut at = Some(0);
            while let Some(from) = at {
                let tail = patient(&bucket, || self.host.tail(&bucket, from)).await;
                let tail = tail.map_err(|e| e.to_string())?;
                report.found_in_tails += tail.entries.len();
                for entry in tail.entries {
                    let version = (Kind(entry.kind), entry.version);
                    let taken = pile.take_tail(&sale, version, &entry.body, self.now);
                    taken.map_err(|e| {
                        let no = bucket.bucket.0;
                        format!(
                            "{} in the tail of bucket {no} of sale {}: {e}",
                            entry.id, sale.id
                        )
                    })?;
                }
                at = tail.next;
            }
            // One that was being made may lack orders that it would call gone.
            if !meta.is_building {
                let mut at = Some(0);
                while let Some(from) = at {
                    let page = patient(&bucket, || self.host.used_keys(&bucket, from)).await;
                    let page = page.map_err(|e| e.to_string())?;
                    used.extend(page.keys);
                    at = page.next;
                }
            }
        }
        report.found_in_stock = held.len();
        report.closed = pile.close_gone(&sale, &used, &held, self.now);
        let differing = pile.differing.iter().map(ToString::to_string);
        let after = pile.after.differing.iter().map(ToString::to_string);
        report.differing = differing.chain(after).collect();
        let mut merged = pile.settle(&sale, self.now)?;
        report.orders = merged.orders.len();
        report.payments = merged.after.n_payments();
        report.entitlements = merged.after.n_entitlements();
        report.mended = std::mem::take(&mut merged.mended);
        report.unproven = merged.unproven.iter().map(ToString::to_string).collect();
        let aside = merged.set_aside.iter();
        report.set_aside = aside.map(|(o, why)| format!("{}: {why}", o.id)).collect();
        Ok((record, merged, report))
    }

    /// Whether one of the ledgers that are brought together served it. Where nobody names
    /// a ledger, the buckets are all there is.
    fn is_ours(&self, meta: &Meta) -> bool {
        self.trusted.is_empty() || self.trusted.contains(&meta.ledger)
    }
}

fn facts_of<T>(page: impl FnOnce() -> Result<FactPage<T>, StoreError>) -> Result<Vec<T>, String> {
    let page = block_in_place(page).map_err(|e| e.to_string())?;
    Ok(page.facts)
}
