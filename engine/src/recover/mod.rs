//! `floodgate recover`: a new ledger from what the other copies know.
//!
//! For a ledger that is gone, or that the order store or the stock host saw further than
//! it is. Old ledger, store rows and the stock host's holds and keys are brought together
//! (`gather.rs`, `merge.rs`) before anything is changed, and written into a ledger with a new id beside
//! the old one. Then the two change places, the store's mark moves behind what the store
//! has, and every bucket is made anew from it. The old ledger is kept. Broken off
//! before the change of places nothing happened; after it the new ledger, which has
//! everything and knows its predecessors, is where the next try begins.

mod gather;
mod merge;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use floodgate_ledger::{Ledger, LedgerConfig, OpenError, Reader};
use prometheus::Registry;
use serde::Serialize;
use tokio::task::block_in_place;

use self::gather::{Known, Old, read_old};
use self::merge::Merged;
use self::write::write;
use crate::admission::{AdmissionMetrics, Limits};
use crate::app;
use crate::config::Config;
use crate::domain::ids::{BucketNo, NodeNo, SaleId};
use crate::domain::sale::SaleRecord;
use crate::domain::time::{Clock, UnixMs};
use crate::sale::{Owed, SaleMetrics, Selling, SellingParts, Stored, facts, patient};
use crate::stock::{Meta, StockHost};
use crate::stream::{Batch, Mark, Put, witness};
use crate::workers::Workers;

/// What is read, or becomes durable, together. A payment may have 2 KB of its provider's
/// words, and so many of them are a third of what a commit may hold.
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
    /// For which no order of ours was named.
    pub loose_payments: usize,
    /// Sales with buckets of other ledgers, which were not touched.
    pub left_alone: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SaleReport {
    pub sale: String,
    pub orders: usize,
    pub payments: usize,
    pub entitlements: usize,
    pub found_in_ledger: usize,
    pub found_in_store: usize,
    pub found_in_stock: usize,
    /// Closed orders, payments and entitlements that buckets keep beside the holds.
    pub found_in_tails: usize,
    /// Closed because their bucket, which was whole, held them no longer.
    pub closed: usize,
    /// Told differently by two copies in one version.
    pub differing: Vec<String>,
    /// Where a copy ended between a payment and its order, and what was made of it.
    pub mended: Vec<String>,
    /// Orders that are paid and whose payment stands in no copy: one of them is refunded
    /// only when the payment was told again.
    pub unproven: Vec<String>,
    /// Holds that may not be beside the others, with the reason; they are not sold.
    pub set_aside: Vec<String>,
    /// Whether it was paused or ended since, nobody knows: the operator lets it go on.
    pub paused: bool,
}

/// Buckets of one sale as they stand in the stock host.
type Stood = BTreeMap<BucketNo, Meta>;

pub async fn recover(config: &Config, workers: &Arc<Workers>) -> Result<Report, String> {
    let places = Places::new(&config.data_dir);
    places.finish()?;
    let store = app::order_store(config).await?;
    let host = app::stock_host(&config.stock, workers).await?;
    let mark = block_in_place(|| store.mark(app::NODE)).map_err(|e| e.to_string())?;
    let stood = look(&*host).await?;

    let mut report = Report::default();
    let mut old = match open_old(&places.ledger)? {
        Some(Ok(ledger)) => {
            report.ledger_before = Some(ledger.id().to_string());
            // A start checks what is new; whoever recovers has the time to check all.
            let rotten = block_in_place(|| ledger.scrub(|| true)).err();
            let old = block_in_place(|| read_old(ledger.reader()));
            let because = app::known_damage(&places.ledger)
                .or(rotten.map(|error| error.to_string()))
                .or_else(|| old.damage.clone())
                .or_else(|| disagreement(&ledger, &old, mark.as_ref(), &stood));
            close(ledger).await?;
            let Some(because) = because else {
                report.because = "ledger, order store and stock host agree".into();
                return Ok(report);
            };
            report.because = because;
            old
        }
        Some(Err(damage)) => {
            report.because = damage;
            // What cannot be written to may be read yet.
            let old =
                block_in_place(|| Reader::open_read_only(&places.ledger).map(|r| read_old(&r)));
            let old = old.unwrap_or_default();
            report.ledger_before.clone_from(&old.id);
            old
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
    let after = std::mem::take(&mut old.after);
    let mut known = Known {
        old: &old,
        after,
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

    let loose = known.bring_after(None)?;
    report.loose_payments = loose.n_payments();
    if let Some(group) = known.after.keys().next() {
        return Err(format!(
            "the old ledger has payments or entitlements of {}, which is no sale of it",
            group.escape_ascii()
        ));
    }

    // Until here nothing was changed.
    places.keep_set_aside(&brought, now)?;
    places.clear_new()?;
    let ledger = open(&places.new)?;
    let told = write(&brought, &loose, &trusted, &ledger, now).await?;
    close(ledger).await?;
    fail::fail_point!("recover-written", |_| std::process::abort());
    report.moved_to = places.swap(now)?;
    let ledger = open(&places.ledger)?;
    report.ledger_after = Some(ledger.id().to_string());
    fail::fail_point!("recover-moved", |_| std::process::abort());
    match block_in_place(|| store.put(app::NODE, &Batch::default(), mark.as_ref(), &told)) {
        Ok(Put::Advanced) => {}
        // Its answer was lost the first time.
        Ok(Put::MarkMoved(Some(there))) if there == told => {}
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
        // Of a ledger that is new.
        run: 0,
        under_way_max: config.under_way_max,
        answer_max: config.answer_max,
        takes_over: true,
        stored: Stored::default(),
        // The next start finds in the ledger what is owed.
        owed: Owed::channel().0,
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
    let sold = |sale: &SaleId| old.sales.contains_key(sale);
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
