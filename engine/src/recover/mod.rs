//! `floodgate recover`: a new ledger from what the other copies know.
//!
//! For a ledger that is gone, or that the order store or the stock host saw further than
//! it is. Old ledger, store rows and the stock host's holds and keys are brought together
//! (`merge.rs`) before anything is changed, and written into a ledger with a new id beside
//! the old one. Then the two change places, the store's mark moves to the new one's
//! beginning, and every bucket is made anew from it. The old ledger is kept. Broken off
//! before the change of places nothing happened; after it the new ledger, which has
//! everything and knows its predecessors, is where the next try begins.

mod merge;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use floodgate_ledger::{Draft, Group, Ledger, LedgerConfig, OpenError};
use prometheus::Registry;
use serde::Serialize;
use tokio::task::block_in_place;

use self::merge::{Copy, Merged, Pile};
use crate::admission::{AdmissionMetrics, Limits};
use crate::app;
use crate::config::Config;
use crate::domain::codec::decode_sale;
use crate::domain::ids::{BucketNo, NodeNo, OrderId, SaleId};
use crate::domain::order::Order;
use crate::domain::sale::{Sale, SaleRecord, Switches};
use crate::domain::time::{Clock, UnixMs};
use crate::sale::{Owed, SaleMetrics, Selling, SellingParts, Stored, facts, patient, read_holds};
use crate::stock::{BucketRef, Meta, StockHost};
use crate::stream::{Batch, Mark, OrderStore, Put, witness};
use crate::workers::Workers;

/// Orders that are read, or become durable, together.
const PAGE: usize = 1_000;
/// In the folder of a new ledger: it has everything.
const WHOLE: &str = "recovered";
/// Meta of a recovered ledger: the ids of those that it follows, a line each.
const PREDECESSORS: &[u8] = b"predecessors";

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
    /// Sales with buckets of other ledgers, which were not touched.
    pub left_alone: Vec<String>,
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
    /// Whether it was paused or ended since, nobody knows: the operator lets it go on.
    pub paused: bool,
}

/// What the old ledger still told.
#[derive(Default)]
struct Old {
    id: Option<String>,
    predecessors: BTreeSet<String>,
    sales: Vec<SaleRecord>,
    orders: BTreeMap<SaleId, Vec<Order>>,
}

/// Buckets of one sale as they stand in the stock host.
type Stood = BTreeMap<BucketNo, Meta>;

pub async fn recover(config: &Config) -> Result<Report, String> {
    let places = Places::new(&config.data_dir);
    places.finish()?;
    let store = app::order_store(config).await?;
    let workers = Arc::new(Workers::start(config.http.workers)?);
    let host = app::stock_host(&config.stock, &workers).await?;
    let mark = block_in_place(|| store.mark(app::NODE)).map_err(|e| e.to_string())?;
    let stood = look(&*host).await?;

    let mut report = Report::default();
    let old = match open_old(&places.ledger)? {
        Some(Ok(ledger)) => {
            report.ledger_before = Some(ledger.id().to_string());
            let old = read_old(&ledger)?;
            let disagreement = disagreement(&ledger, &old, mark.as_ref(), &stood);
            close(ledger).await?;
            let Some(because) = disagreement else {
                report.because = "ledger, order store and stock host agree".into();
                return Ok(report);
            };
            report.because = because;
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
    let mut trusted: BTreeSet<String> = old.predecessors.clone();
    trusted.extend(old.id.clone());
    trusted.extend(mark.as_ref().map(|mark| mark.ledger.to_string()));
    let known = Known {
        old: &old,
        stood: &stood,
        store: &*store,
        host: &*host,
        trusted: &trusted,
        now,
    };
    let mut brought = Vec::new();
    for record in known.sales(&config.sales, &mut report)? {
        let (record, merged, sale) = known.bring(record).await?;
        report.sales.push(sale);
        brought.push((record, merged));
    }

    // Until here nothing was changed.
    places.keep_set_aside(&brought, now)?;
    places.clear_new()?;
    let ledger = open(&places.new)?;
    write(&brought, &trusted, &ledger, now).await?;
    close(ledger).await?;
    fail::fail_point!("recover-written", |_| std::process::abort());
    report.moved_to = places.swap(now)?;
    let ledger = open(&places.ledger)?;
    report.ledger_after = Some(ledger.id().to_string());
    fail::fail_point!("recover-moved", |_| std::process::abort());
    let genesis = Mark::genesis(&ledger);
    match block_in_place(|| store.put(app::NODE, &Batch::default(), mark.as_ref(), &genesis)) {
        Ok(Put::Advanced) => {}
        // Its answer was lost the first time.
        Ok(Put::MarkMoved(Some(there))) if there == genesis => {}
        Ok(Put::MarkMoved(_)) => return Err("another engine writes to the order store".into()),
        Err(error) => return Err(error.to_string()),
    }
    fail::fail_point!("recover-marked", |_| std::process::abort());
    rebuild(config, &ledger, host, clock).await?;
    close(ledger).await?;
    Ok(report)
}

/// Whether a recovery fell between its two moves: whoever starts then would find no ledger
/// and found another one.
pub fn is_unfinished(data: &Path) -> bool {
    let places = Places::new(data);
    !places.ledger.exists() && places.new.join(WHOLE).exists()
}

fn open(folder: &Path) -> Result<Ledger, String> {
    Ledger::open(LedgerConfig::new(folder)).map_err(|e| format!("open {}: {e}", folder.display()))
}

async fn close(ledger: Ledger) -> Result<(), String> {
    tokio::task::spawn_blocking(move || ledger.close())
        .await
        .map_err(|e| e.to_string())
}

/// Where ledgers stand in the data folder.
struct Places {
    data: PathBuf,
    ledger: PathBuf,
    /// Written beside the old one; a file in it says when it is whole.
    new: PathBuf,
}

impl Places {
    fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            ledger: data.join("ledger"),
            new: data.join("ledger.new"),
        }
    }

    /// A try before this one fell between the two moves.
    fn finish(&self) -> Result<(), String> {
        if is_unfinished(&self.data) {
            return moved(&self.new, &self.ledger);
        }
        Ok(())
    }

    fn clear_new(&self) -> Result<(), String> {
        match std::fs::remove_dir_all(&self.new) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("remove {}: {e}", self.new.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn swap(&self, now: UnixMs) -> Result<Option<String>, String> {
        let whole = self.new.join(WHOLE);
        let synced = std::fs::File::create(&whole).and_then(|file| file.sync_all());
        synced.map_err(|e| format!("write {}: {e}", whole.display()))?;
        let before = self.data.join(format!("ledger.before-{}", now.0));
        let had = self.ledger.exists();
        if had {
            moved(&self.ledger, &before)?;
        }
        fail::fail_point!("recover-between-moves", |_| std::process::abort());
        moved(&self.new, &self.ledger)?;
        Ok(had.then(|| before.display().to_string()))
    }

    /// Orders that are not sold may have been told to their buyers: all that is known of
    /// them is kept, a line each, as the ledger would have had it.
    fn keep_set_aside(&self, brought: &[(SaleRecord, Merged)], now: UnixMs) -> Result<(), String> {
        let mut lines = String::new();
        for (order, why) in brought.iter().flat_map(|(_, merged)| &merged.set_aside) {
            let body: String = facts::order_body(order)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            let line = serde_json::json!({
                "orderId": order.id.to_string(),
                "saleId": order.sale.to_string(),
                "userId": order.user.to_string(),
                "why": why.to_string(),
                "body": body,
            });
            lines.push_str(&format!("{line}\n"));
        }
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.data.join(format!("set-aside-{}.jsonl", now.0));
        let mut options = std::fs::File::options();
        let kept = options.write(true).create_new(true).mode(0o600).open(&path);
        kept.and_then(|mut file| {
            file.write_all(lines.as_bytes())?;
            file.sync_all()
        })
        .map_err(|e| format!("write {}: {e}", path.display()))
    }
}

fn moved(from: &Path, to: &Path) -> Result<(), String> {
    let synced = |folder: &Path| std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    std::fs::rename(from, to)
        .and_then(|()| to.parent().map_or(Ok(()), synced))
        .map_err(|e| format!("move {} to {}: {e}", from.display(), to.display()))
}

/// Makes every bucket anew, and shows that the new ledger opens.
async fn rebuild(
    config: &Config,
    ledger: &Ledger,
    host: Arc<dyn StockHost>,
    clock: Arc<dyn Clock>,
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
        stored: Stored::default(),
        // The next start finds in the ledger what is owed.
        owed: Owed::channel().0,
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
        Err(
            error @ (OpenError::InUse { .. }
            | OpenError::Limits(_)
            | OpenError::Io { .. }
            | OpenError::Format { .. }),
        ) => Err(format!("open the ledger: {error}")),
        Err(error @ (OpenError::Damaged { .. } | OpenError::Corrupt { .. })) => {
            Ok(Some(Err(error.to_string())))
        }
    }
}

/// Buckets of sales that this ledger never had and never served are nobody's concern.
fn disagreement(
    ledger: &Ledger,
    old: &Old,
    mark: Option<&Mark>,
    stood: &BTreeMap<SaleId, Stood>,
) -> Option<String> {
    if let Some(mark) = mark
        && let Err(why) = witness::check(ledger, mark)
    {
        return Some(why.to_string());
    }
    let (ours, tip) = (ledger.id().to_string(), ledger.tip().seq.0);
    let sold = |sale: &SaleId| old.sales.iter().any(|record| record.definition.id == *sale);
    let ahead = |sale: &SaleId, meta: &Meta| {
        if meta.ledger == ours {
            meta.seq > tip
        } else {
            sold(sale)
        }
    };
    let mut metas = stood
        .iter()
        .flat_map(|(sale, s)| s.values().map(move |m| (sale, m)));
    let (_, meta) = metas.find(|(sale, meta)| ahead(sale, meta))?;
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
    let known = ledger.meta(PREDECESSORS).map_err(|e| e.to_string())?;
    let known = known.unwrap_or_default();
    let lines = String::from_utf8_lossy(&known);
    old.predecessors = lines.lines().map(ToOwned::to_owned).collect();
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
    /// Ledgers whose buckets are ours.
    trusted: &'a BTreeSet<String>,
    now: UnixMs,
}

impl Known<'_> {
    /// Every sale that a copy names.
    fn sales(&self, configured: &[Sale], report: &mut Report) -> Result<Vec<SaleRecord>, String> {
        let mut found: BTreeMap<SaleId, SaleRecord> = BTreeMap::new();
        for record in &self.old.sales {
            found.insert(record.definition.id.clone(), record.clone());
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

    /// Gathers one sale from everywhere.
    async fn bring(
        &self,
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
            // In one that was being made the keys may come before the holds.
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
        report.differing = pile.differing.iter().map(ToString::to_string).collect();
        let merged = pile.settle(&sale)?;
        report.orders = merged.orders.len();
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

/// Everything into the new ledger, and whom it follows.
async fn write(
    brought: &[(SaleRecord, Merged)],
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
            let drafts = orders
                .iter()
                .map(|o| facts::order_draft(o, facts::order_body(o)));
            append(ledger, drafts.collect(), Vec::new()).await?;
        }
    }
    Ok(())
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
