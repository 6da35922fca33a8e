//! `floodgate recover`: a new ledger from what the other copies know.
//!
//! For a ledger that is gone, or that the order store or the stock host saw further than
//! it is. Old ledger, store rows and the stock host's holds are brought together
//! (`merge.rs`) and written into a ledger with a new id; the store's mark moves to its
//! beginning, and every bucket is made anew from it. The old ledger is moved aside, never
//! deleted. Done twice it does the same again; broken off, it begins again.

mod merge;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use floodgate_ledger::{Group, Ledger, LedgerConfig, OpenError};
use prometheus::Registry;
use serde::Serialize;
use tokio::task::block_in_place;

use self::merge::{Copy, Merged, Pile};
use crate::admission::{AdmissionMetrics, Limits};
use crate::app;
use crate::config::Config;
use crate::domain::codec::decode_sale;
use crate::domain::ids::{BucketNo, NodeNo, OrderId, SaleId};
use crate::domain::sale::{Sale, SaleRecord, Switches};
use crate::domain::time::UnixMs;
use crate::sale::{SaleMetrics, Selling, SellingParts, facts, patient, read_holds};
use crate::stock::{BucketRef, Meta, StockHost};
use crate::stream::{Batch, Mark, OrderStore, Put, witness};
use crate::workers::Workers;

/// Orders that are read, or become durable, together.
const PAGE: usize = 1_000;

/// What was done, as JSON for the operator.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether anything had to be done.
    pub recovered: bool,
    /// Why, or what every copy agrees on.
    pub because: String,
    pub ledger_before: Option<String>,
    pub ledger_after: Option<String>,
    /// Where the old ledger stands now.
    pub moved_to: Option<String>,
    pub sales: Vec<SaleReport>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SaleReport {
    pub sale: String,
    pub orders: usize,
    pub found_in_ledger: usize,
    pub found_in_store: usize,
    pub found_in_stock: usize,
    /// Closed because their bucket, which was whole, held them no longer.
    pub closed: usize,
    /// Told differently by two copies in one version.
    pub differing: Vec<String>,
    /// Holds that may not be beside the others, with the reason; they are not sold.
    pub set_aside: Vec<String>,
    /// Its switches were not in a ledger: the operator decides when it goes on.
    pub paused: bool,
}

/// What the old ledger still told.
#[derive(Default)]
struct Old {
    id: Option<String>,
    sales: Vec<SaleRecord>,
    orders: BTreeMap<SaleId, Vec<crate::domain::order::Order>>,
}

/// Buckets of one sale as they stand in the stock host.
type Stood = BTreeMap<BucketNo, Meta>;

pub async fn recover(config: &Config) -> Result<Report, String> {
    let store = app::order_store(config).await?;
    let workers = Arc::new(Workers::start(config.http.workers)?);
    let host = app::stock_host(&config.stock, &workers).await?;
    let mark = block_in_place(|| store.mark(app::NODE)).map_err(|e| e.to_string())?;
    let stood = look(&*host).await?;
    let folder = config.data_dir.join("ledger");

    let mut report = Report::default();
    let old = match open_old(&folder)? {
        Some(Ok(ledger)) => {
            report.ledger_before = Some(ledger.id().to_string());
            let Some(because) = disagreement(&ledger, mark.as_ref(), &stood) else {
                report.because = "ledger, order store and stock host agree".into();
                return Ok(report);
            };
            report.because = because;
            let old = read_old(&ledger)?;
            tokio::task::spawn_blocking(move || ledger.close())
                .await
                .map_err(|e| e.to_string())?;
            old
        }
        Some(Err(damage)) => {
            report.because = damage;
            Old::default()
        }
        None if mark.is_none() && stood.is_empty() => {
            report.because = "there is no ledger, and nobody knew one".into();
            return Ok(report);
        }
        None => {
            report.because = "there is no ledger".into();
            Old::default()
        }
    };
    report.recovered = true;
    let clock = app::clock();
    let now = clock.now();
    if folder.exists() {
        let aside = config.data_dir.join(format!("ledger.before-{}", now.0));
        std::fs::rename(&folder, &aside)
            .map_err(|e| format!("move {} to {}: {e}", folder.display(), aside.display()))?;
        report.moved_to = Some(aside.display().to_string());
    }
    let path = LedgerConfig::new(folder);
    let ledger = Ledger::open(path).map_err(|e| format!("found a new ledger: {e}"))?;
    report.ledger_after = Some(ledger.id().to_string());

    let known = Known {
        old: &old,
        stood: &stood,
        store: &*store,
        host: &*host,
        mark: mark.as_ref(),
        now,
    };
    for record in known.sales(&config.sales)? {
        report.sales.push(known.bring(record, &ledger).await?);
    }
    let genesis = Mark::genesis(&ledger);
    match block_in_place(|| store.put(app::NODE, &Batch::default(), mark.as_ref(), &genesis)) {
        Ok(Put::Advanced) => {}
        Ok(Put::MarkMoved(_)) => return Err("another engine writes to the order store".into()),
        Err(error) => return Err(error.to_string()),
    }
    rebuild(config, &ledger, host, clock).await?;
    tokio::task::spawn_blocking(move || ledger.close())
        .await
        .map_err(|e| e.to_string())?;
    Ok(report)
}

/// Makes every bucket anew, and shows that the new ledger opens.
async fn rebuild(
    config: &Config,
    ledger: &Ledger,
    host: Arc<dyn StockHost>,
    clock: Arc<dyn crate::domain::time::Clock>,
) -> Result<(), String> {
    let registry = Registry::new();
    let text = |e: prometheus::Error| format!("register metrics: {e}");
    let admission = AdmissionMetrics::register(&registry).map_err(text)?;
    let selling = Selling::recover(SellingParts {
        ledger: ledger.clone(),
        host,
        clock,
        metrics: SaleMetrics::register(&registry).map_err(text)?,
        limits: Limits::new(&config.buyers, 0, &admission),
        node: NodeNo(app::NODE),
        seed: 0,
        under_way_max: config.under_way_max,
        answer_max: config.answer_max,
        takes_over: true,
    })
    .await
    .map_err(|e| e.to_string())?;
    selling.stop().await;
    Ok(())
}

async fn look(host: &dyn StockHost) -> Result<BTreeMap<SaleId, Stood>, String> {
    let mut stood: BTreeMap<SaleId, Stood> = BTreeMap::new();
    let buckets = host.buckets().await;
    for bucket in buckets.map_err(|e| format!("look for buckets: {e}"))? {
        let meta = patient(&bucket, || host.meta(&bucket)).await;
        if let Some(meta) = meta.map_err(|e| e.to_string())? {
            let sale = stood.entry(bucket.sale.clone()).or_default();
            sale.insert(bucket.bucket, meta);
        }
    }
    Ok(stood)
}

/// `None`: there is none. The inner error is a damage that cannot be read past.
fn open_old(folder: &Path) -> Result<Option<Result<Ledger, String>>, String> {
    if !folder.join("db").is_dir() {
        return Ok(None);
    }
    match Ledger::open(LedgerConfig::new(folder)) {
        Ok(ledger) => Ok(Some(Ok(ledger))),
        Err(error @ (OpenError::InUse { .. } | OpenError::Limits(_) | OpenError::Io { .. })) => {
            Err(format!("open the ledger: {error}"))
        }
        Err(
            error @ (OpenError::Damaged { .. }
            | OpenError::Corrupt { .. }
            | OpenError::Format { .. }),
        ) => Ok(Some(Err(error.to_string()))),
    }
}

fn disagreement(
    ledger: &Ledger,
    mark: Option<&Mark>,
    stood: &BTreeMap<SaleId, Stood>,
) -> Option<String> {
    if let Some(mark) = mark
        && let Err(why) = witness::check(ledger, mark)
    {
        return Some(why.to_string());
    }
    let (ours, tip) = (ledger.id().to_string(), ledger.tip().seq.0);
    let ahead = |meta: &&Meta| meta.ledger != ours || meta.seq > tip;
    let meta = stood.values().flat_map(BTreeMap::values).find(ahead)?;
    Some(format!(
        "a bucket was last served by ledger {} at record {}; this is ledger {ours}, which ends \
         at {tip}",
        meta.ledger, meta.seq
    ))
}

fn read_old(ledger: &Ledger) -> Result<Old, String> {
    let mut old = Old {
        id: Some(ledger.id().to_string()),
        ..Old::default()
    };
    for found in ledger.entities(None, Some(facts::SALE), false) {
        let snapshot = found.map_err(|e| e.to_string())?;
        let record = decode_sale(&snapshot.body).map_err(|e| e.to_string())?;
        old.sales.push(record);
    }
    for found in ledger.entities(None, Some(facts::ORDER), false) {
        let snapshot = found.map_err(|e| e.to_string())?;
        let order = facts::order_of(&snapshot).map_err(|e| e.to_string())?;
        old.orders
            .entry(order.sale.clone())
            .or_default()
            .push(order);
    }
    Ok(old)
}

struct Known<'a> {
    old: &'a Old,
    stood: &'a BTreeMap<SaleId, Stood>,
    store: &'a dyn OrderStore,
    host: &'a dyn StockHost,
    mark: Option<&'a Mark>,
    now: UnixMs,
}

impl Known<'_> {
    /// Every sale that a copy names, with its number and whether its switches are known.
    fn sales(&self, configured: &[Sale]) -> Result<Vec<(SaleRecord, bool)>, String> {
        let mut found: BTreeMap<SaleId, (SaleRecord, bool)> = BTreeMap::new();
        for record in &self.old.sales {
            found.insert(record.definition.id.clone(), (record.clone(), true));
        }
        for (id, buckets) in self.stood {
            let told = buckets.values().find(|meta| !meta.sale.is_empty());
            if let Some(meta) = told.filter(|_| !found.contains_key(id)) {
                let record = decode_sale(&meta.sale).map_err(|e| format!("sale {id}: {e}"))?;
                found.insert(id.clone(), (record, false));
            }
        }
        for sale in configured {
            // One that nobody bought from is created by the next start.
            if !found.contains_key(&sale.id)
                && let Some(order) = self.page(&sale.id, None, 1)?.first()
            {
                let record = SaleRecord {
                    definition: sale.clone(),
                    number: order.id.parts().sale,
                    switches: Switches::default(),
                };
                found.insert(sale.id.clone(), (record, false));
            }
        }
        Ok(found.into_values().collect())
    }

    fn page(
        &self,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<crate::domain::order::Order>, String> {
        let page = block_in_place(|| self.store.orders_page(app::NODE, sale, after, limit));
        let page = page.map_err(|e| e.to_string())?;
        Ok(page.orders.into_iter().map(|stored| stored.order).collect())
    }

    /// Gathers one sale from everywhere and writes it down.
    async fn bring(
        &self,
        (mut record, switches_known): (SaleRecord, bool),
        ledger: &Ledger,
    ) -> Result<SaleReport, String> {
        let sale = record.definition.clone();
        let mut report = SaleReport {
            sale: sale.id.to_string(),
            paused: !switches_known && !record.switches.ended,
            ..SaleReport::default()
        };
        record.switches.paused |= report.paused;
        let mut pile = Pile::default();
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
        let mut held = HashSet::new();
        for no in (0..sale.buckets).map(BucketNo) {
            if !self.is_whole(&sale.id, no) {
                continue;
            }
            let bucket = BucketRef {
                sale: sale.id.clone(),
                bucket: no,
            };
            let holds = read_holds(self.host, &bucket, |_, _| Ok(true)).await;
            for order in holds.map_err(|e| e.to_string())? {
                held.insert(order.id);
                pile.add(order, Copy::Stock);
            }
        }
        report.found_in_stock = held.len();
        report.closed = pile.close_gone(|no| self.is_whole(&sale.id, no), &held, self.now);
        report.differing = pile.differing.iter().map(ToString::to_string).collect();
        let merged = pile.settle(&sale)?;
        report.orders = merged.orders.len();
        let aside = merged.set_aside.iter();
        report.set_aside = aside.map(|(o, why)| format!("{}: {why}", o.id)).collect();
        self.write(&record, &merged, ledger).await?;
        Ok(report)
    }

    /// Whether a bucket's holds are all that it ever had: it was served by a ledger that
    /// another copy names too, and was not being made.
    fn is_whole(&self, sale: &SaleId, no: BucketNo) -> bool {
        let meta = self.stood.get(sale).and_then(|buckets| buckets.get(&no));
        let ours = |meta: &Meta| {
            let by_store = self
                .mark
                .is_none_or(|m| m.ledger.to_string() == meta.ledger);
            by_store || self.old.id.as_deref() == Some(&meta.ledger)
        };
        meta.is_some_and(|meta| !meta.is_building && ours(meta))
    }

    async fn write(
        &self,
        record: &SaleRecord,
        merged: &Merged,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let sale = &record.definition;
        let mut drafts = vec![facts::sale_draft(record, 1, self.now)];
        for allotment in &merged.allotments {
            let id = format!("recover-{}", allotment.bucket.0);
            let draft = facts::allotment_draft(&sale.id, &id, allotment, self.now);
            drafts.push(draft);
        }
        let orders = merged.orders.iter();
        drafts.extend(orders.map(|o| facts::order_draft(o, facts::order_body(o))));
        for drafts in drafts.chunks(PAGE) {
            let group = Group {
                drafts: drafts.to_vec(),
                meta: Vec::new(),
            };
            let receipt = ledger.append(group).await.map_err(|e| e.to_string())?;
            receipt.await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}
