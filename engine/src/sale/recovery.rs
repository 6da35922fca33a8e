//! From the ledger back to a running sale: index, guards, pay windows, buckets.
//!
//! Everything here is read from the ledger's snapshots; the stock host is told,
//! not asked, once `adopt.rs` has looked for what only a host that outlives the engine
//! knows. (The embedded host starts empty.)

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use bytes::Bytes;
use floodgate_ledger::Ledger;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::adopt;
use super::bucket::Bucket;
use super::desk::{Desk, DeskParts};
use super::facts::{self, FactError};
use super::guard::Guard;
use super::index::{Index, UserLimits};
use super::live::{LiveSale, SkuStock};
use super::metrics::SaleMetrics;
use super::order_ids::{IdLease, OrderIds};
use super::owed::Owed;
use super::rebuild::{self, CHUNK, Kept, ROOM_MAX};
use super::refill::Refiller;
use super::revoked::Revoked;
use super::tail::{Stored, Tails};
use super::teller::Teller;
use crate::admission::{Gate, GateLimits};
use crate::domain::codec;
use crate::domain::ids::{BucketNo, NodeNo, OrderId, SkuId};
use crate::domain::order::{Order, OrderState};
use crate::domain::sale::{Sale, SaleRecord};
use crate::domain::time::{Clock, UnixMs};
use crate::stock::{BucketCaller, BucketRef, Owner, StockHost};

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Fact(#[from] FactError),
    #[error("sale {sale}: order {order} names bucket {bucket}, and the sale has {buckets}")]
    NoSuchBucket {
        sale: String,
        order: OrderId,
        bucket: u16,
        buckets: u16,
    },
    #[error("the sales {} and {} have one number, {number}", sales[0], sales[1])]
    OneNumber { number: u16, sales: [String; 2] },
    #[error("the stock host was stopped")]
    Stopped,
    #[error("make room for the buyers: {0}")]
    Room(String),
    #[error("a sale that was to be created: {0}")]
    Unconfirmed(String),
    #[error("sale {sale}: {what}")]
    Oversold { sale: String, what: String },
    #[error("{0}")]
    Fallen(String),
    #[error("bucket {bucket} of sale {sale}: {why}")]
    Host {
        sale: String,
        bucket: u16,
        why: String,
    },
    #[error(
        "bucket {bucket} of sale {sale} was last served by ledger {theirs} at record {at}; this is \
         ledger {ours}, which ends at {tip}. Orders that were told to buyers are missing here: \
         `floodgate recover` brings them back from the stock host and the order store"
    )]
    Behind {
        sale: String,
        bucket: u16,
        theirs: String,
        at: u64,
        ours: String,
        tip: u64,
    },
}

impl From<floodgate_ledger::ReadError> for RecoveryError {
    fn from(error: floodgate_ledger::ReadError) -> Self {
        Self::Fact(error.into())
    }
}

/// Pages of orders that may wait for a bucket to take them.
const PAGES_AHEAD: usize = 4;
/// Orders read from the ledger at a time.
const PAGE: usize = 4_096;

/// Buyers whom an index is made for in less time than a thread takes to wake.
const AT_ONCE_MAX: usize = 256;

/// What every sale of a node is built with.
#[derive(Clone)]
pub struct Tools {
    pub ledger: Ledger,
    pub host: Arc<dyn StockHost>,
    pub clock: Arc<dyn Clock>,
    pub lease: Arc<IdLease>,
    pub metrics: SaleMetrics,
    pub node: NodeNo,
    /// Of the random bits in order ids.
    pub seed: u64,
    /// In whose name stock hosts are called.
    pub owner: Owner,
    /// Requests between gate and answer, per sale.
    pub under_way_max: u32,
    /// Buckets that another ledger served are taken over: `floodgate recover` has
    /// brought together what it knew.
    pub takes_over: bool,
    pub stored: Stored,
    pub owed: Owed,
    pub revoked: Arc<Revoked>,
    /// Told when a task that sells ends other than by being told to, or may not sell.
    pub fallen: watch::Sender<Option<String>>,
}

impl Tools {
    /// Runs a task that must not fall in silence.
    fn spawn(&self, on: &Handle, what: String, task: impl Future<Output = ()> + Send + 'static) {
        let (task, fallen) = (on.spawn(task), self.fallen.clone());
        on.spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(what, %error, "a task that sells fell");
                fallen.send_replace(Some(format!("{what} fell: {error}")));
            }
        });
    }
}

/// The highest millisecond in any order id of the ledger.
pub fn highest_id_ms(ledger: &Ledger, sale: &Sale) -> Result<u64, RecoveryError> {
    // Ids begin with their milliseconds, so the last of them has the highest.
    let last = ledger.last_id(sale.id.as_bytes(), facts::ORDER)?;
    let id = last.and_then(|id| OrderId::from_bytes(&id));
    Ok(id.map_or(0, |id| id.parts().ms))
}

/// Reads the sale's facts, rebuilds its buckets and opens its desks.
/// `tails`: what its buckets keep for the order store.
pub async fn open_sale(
    record: SaleRecord,
    tools: &Tools,
    tails: &mut Tails,
) -> Result<Arc<LiveSale>, RecoveryError> {
    let mut fallen = tools.fallen.subscribe();
    tokio::select! {
        opened = build(record, tools, tails) => opened,
        // Whoever waits for a bucket that was taken waits for ever.
        Ok(why) = fallen.wait_for(Option::is_some) => {
            Err(RecoveryError::Fallen(why.clone().unwrap_or_default()))
        }
    }
}

async fn build(
    record: SaleRecord,
    tools: &Tools,
    tails: &mut Tails,
) -> Result<Arc<LiveSale>, RecoveryError> {
    let sale = Arc::new(record.definition.clone());
    let epochs = adopt::adopt(&sale, tools).await?;
    let body = Bytes::from(codec::encode_sale(&record));
    // As many winners as units; a buyer may win more than one.
    // Nothing more is sold of a sale that is over.
    let is_over = record.switches.ended || sale.ends_at <= tools.clock.now();
    let winners = if is_over {
        0
    } else {
        usize::try_from(sale.units_opened())
            .unwrap_or(usize::MAX)
            .min(ROOM_MAX)
    };
    let limits = UserLimits {
        units_max: sale.units_per_user,
        orders_max: sale.orders_per_user_max,
    };
    let index = if winners <= AT_ONCE_MAX {
        Index::new(limits, winners)
    } else {
        tokio::task::spawn_blocking(move || Index::new(limits, winners))
            .await
            .map_err(|e| RecoveryError::Room(e.to_string()))?
    };
    let mut guards: Vec<Guard> = (0..sale.buckets)
        .map(|_| Guard::new(sale.skus.len()))
        .collect();
    let mut windows: Vec<Vec<(UnixMs, OrderId)>> = vec![Vec::new(); usize::from(sale.buckets)];
    read_allotments(&sale, &tools.ledger, &mut guards)?;
    // Each bucket fills on its own place while the orders are read here.
    let (mut feeds, mut fills) = (Vec::new(), Vec::new());
    for (no, guard) in guards.iter().enumerate() {
        let no = BucketNo(u16::try_from(no).expect("a sale has at most 4,096 buckets"));
        let bucket = BucketRef {
            sale: sale.id.clone(),
            bucket: no,
        };
        let home = tools.host.home(&bucket).unwrap_or_else(Handle::current);
        // The ledger may have lost the newest epoch with its tail.
        let epoch = epochs.get(usize::from(no.0)).copied().unwrap_or(0);
        let (host, lost) = (Arc::clone(&tools.host), tools.fallen.clone());
        let caller = BucketCaller::new(host, bucket, epoch, &tools.owner, lost);
        let tail = tails.of(&sale.id, no);
        let (ledger, stored) = (tools.ledger.clone(), tools.stored.clone());
        let bucket = Bucket::new(caller, ledger, body.clone(), tail, stored);
        let room = if is_over {
            0
        } else {
            rebuild::room(&sale, guard)
        };
        let (feed, pages) = mpsc::channel(PAGES_AHEAD);
        feeds.push(feed);
        let filled = home.spawn(fill(bucket, Arc::clone(&sale), room, pages));
        fills.push((home, filled));
    }
    let mut books = Books {
        sale: &sale,
        index: &index,
        guards: &mut guards,
        windows: &mut windows,
    };
    books.read_orders(&tools.ledger, feeds).await?;
    let stock = Arc::new(publish(&sale, &guards)?);

    let (mut desks, mut posts, mut silences) = (Vec::new(), Vec::new(), Vec::new());
    // Each desk asks for one refill at a time, so this never fills.
    let (refill, wanted) = mpsc::channel(usize::from(sale.buckets));
    for ((guard, windows), (home, filled)) in guards.into_iter().zip(windows).zip(fills) {
        let (bucket, is_filled) = filled.await.map_err(|_| RecoveryError::Stopped)?;
        let no = bucket.no();
        silences.push(bucket.silence());
        // Bounded by what the gate lets through, and some room for changes.
        let (post, commands) = mpsc::channel(tools.under_way_max as usize + 1_024);
        posts.push(post);
        let (teller, telling) = Teller::new(tools.metrics.clone());
        let desk = Desk::new(
            DeskParts {
                sale: Arc::clone(&sale),
                stock: Arc::clone(&stock),
                index: Arc::clone(&index),
                guard,
                bucket,
                is_filled,
                ids: OrderIds::new(
                    record.number,
                    no,
                    tools.node,
                    // Desks must not draw the same bits.
                    tools.seed ^ (u64::from(record.number.0) << 16 | u64::from(no.0)),
                ),
                lease: Arc::clone(&tools.lease),
                ledger: tools.ledger.clone(),
                clock: Arc::clone(&tools.clock),
                metrics: tools.metrics.clone(),
                windows,
                owed: tools.owed.clone(),
                revoked: Arc::clone(&tools.revoked),
                refill: (sale.buckets > 1).then(|| refill.clone()),
            },
            teller,
            commands,
        );
        let (open, opened) = oneshot::channel();
        let what = format!("bucket {} of sale {}", no.0, sale.id);
        tools.spawn(&home, format!("the teller of {what}"), telling);
        tools.spawn(&home, format!("the desk of {what}"), desk.run(open));
        desks.push(opened);
    }
    for opened in desks {
        opened.await.map_err(|_| RecoveryError::Stopped)?;
    }
    let refiller = Refiller::new(
        posts.clone(),
        silences.clone(),
        Arc::clone(&stock),
        tools.ledger.incarnation(),
    );
    let what = format!("the refiller of sale {}", sale.id);
    tools.spawn(&Handle::current(), what, refiller.run(wanted));
    let gate = Gate::new(GateLimits {
        rate: sale.admission.rate,
        burst: sale.admission.burst,
        queue_max: sale.admission.queue_max,
        wait_max: std::time::Duration::from_millis(u64::from(sale.admission.wait_ms)),
        under_way_max: tools.under_way_max,
    });
    Ok(Arc::new(LiveSale::new(
        sale,
        record.number,
        record.switches,
        index,
        gate,
        (posts, silences),
        stock,
    )))
}

/// What was given to each bucket, and what moved between them.
pub(super) fn read_allotments(
    sale: &Sale,
    ledger: &Ledger,
    guards: &mut [Guard],
) -> Result<(), RecoveryError> {
    let n_buckets = guards.len();
    let mut units = vec![vec![0_i64; sale.skus.len()]; n_buckets];
    let mut count = |seq: u64, bucket: BucketNo, sku: &SkuId, n: i64| {
        let odd = |what: String| FactError::Odd { seq, what };
        let (at, _) = sale
            .sku(sku)
            .ok_or_else(|| odd(format!("units of the SKU {sku}")))?;
        let line = units
            .get_mut(usize::from(bucket.0))
            .ok_or_else(|| odd(format!("units for bucket {}", bucket.0)))?;
        line[at] += n;
        Ok::<_, FactError>(())
    };
    for found in ledger.entities(Some(sale.id.as_bytes()), Some(facts::ALLOTMENT), false) {
        let (seq, body) = found.map(|s| (s.seq.0, s.body))?;
        let allotment =
            codec::decode_allotment(&body).map_err(|source| FactError::Body { seq, source })?;
        for (sku, n) in &allotment.lines {
            count(seq, allotment.bucket, sku, *n)?;
        }
    }
    for found in ledger.entities(Some(sale.id.as_bytes()), Some(facts::TRANSFER), false) {
        let (seq, body) = found.map(|s| (s.seq.0, s.body))?;
        let transfer =
            codec::decode_transfer(&body).map_err(|source| FactError::Body { seq, source })?;
        for (sku, n) in &transfer.lines {
            count(seq, transfer.from, sku, -i64::from(*n))?;
            count(seq, transfer.to, sku, i64::from(*n))?;
        }
    }
    for (bucket, (guard, units)) in guards.iter_mut().zip(units).enumerate() {
        for (at, n) in units.into_iter().enumerate() {
            guard.lines[at].allotted = u64::try_from(n).map_err(|_| RecoveryError::Oversold {
                sale: sale.id.to_string(),
                what: format!("bucket {bucket} has {n} units of {}", sale.skus[at].id),
            })?;
        }
    }
    Ok(())
}

/// What the orders of a sale are read into.
struct Books<'a> {
    sale: &'a Sale,
    index: &'a Index,
    guards: &'a mut [Guard],
    windows: &'a mut [Vec<(UnixMs, OrderId)>],
}

impl Books<'_> {
    /// Reads each order once, and feeds it to its bucket.
    async fn read_orders(
        &mut self,
        ledger: &Ledger,
        feeds: Vec<mpsc::Sender<Vec<Kept>>>,
    ) -> Result<(), RecoveryError> {
        let mut pages: Vec<Vec<Kept>> = feeds.iter().map(|_| Vec::new()).collect();
        let mut after: Option<Bytes> = None;
        loop {
            let group = self.sale.id.as_bytes();
            let read = ledger.entities_page(group, facts::ORDER, after.as_deref(), PAGE)?;
            let Some(last) = read.last() else { break };
            after = Some(last.id.clone());
            for snapshot in read {
                let order = facts::order_of(&snapshot)?;
                let bucket = usize::from(order.id.bucket().0);
                let units_live = self.enter(&order)?;
                let page = &mut pages[bucket];
                page.push(Kept {
                    order,
                    body: snapshot.body,
                    units_live,
                });
                if page.len() == CHUNK {
                    // A bucket that cannot be filled now is rebuilt by its desk.
                    let _ = feeds[bucket].send(std::mem::take(page)).await;
                }
            }
        }
        for (feed, page) in feeds.into_iter().zip(pages) {
            let _ = feed.send(page).await;
        }
        Ok(())
    }

    /// Returns what the order's user has live by now.
    fn enter(&mut self, order: &Order) -> Result<u32, RecoveryError> {
        let bucket = usize::from(order.id.bucket().0);
        if bucket >= self.guards.len() {
            return Err(RecoveryError::NoSuchBucket {
                sale: self.sale.id.to_string(),
                order: order.id,
                bucket: order.id.bucket().0,
                buckets: self.sale.buckets,
            });
        }
        let live = order.state.is_live();
        if live {
            self.guards[bucket].restore(
                &facts::units_of(self.sale, order),
                order.state.is_held(),
                order.mark(),
            );
        }
        if order.state == OrderState::Paid && facts::grants_of(self.sale, order).next().is_some() {
            // Paid and not granted: its desk looks at it at once.
            self.windows[bucket].push((order.updated_at, order.id));
        }
        if order.state.is_withdrawn() && !forgotten_on_purpose() {
            let units = facts::units_of(self.sale, order);
            self.guards[bucket].withdraw(&units);
        }
        if let OrderState::PendingPayment { until, .. } = order.state {
            self.windows[bucket].push((until, order.id));
        }
        Ok(self.index.restore(
            &order.user,
            &order.key,
            order.fingerprint,
            order.id,
            if live { order.units() } else { 0 },
        ))
    }
}

/// Takes the pages as they come. `false`: the desk has to rebuild its bucket.
async fn fill(
    mut bucket: Bucket,
    sale: Arc<Sale>,
    room: usize,
    mut pages: mpsc::Receiver<Vec<Kept>>,
) -> (Bucket, bool) {
    let filled = async {
        bucket.begin(&sale, room).await?;
        while let Some(page) = pages.recv().await {
            bucket.put(&page).await?;
        }
        Ok::<_, String>(())
    };
    let filled = filled.await.inspect_err(
        |error| tracing::warn!(error, sale = %sale.id, "fill a bucket; it is built once more"),
    );
    (bucket, filled.is_ok())
}

/// Totals over the buckets; more live than allotted is oversell, and no start.
fn publish(sale: &Sale, guards: &[Guard]) -> Result<Vec<SkuStock>, RecoveryError> {
    (0..sale.skus.len())
        .map(|at| {
            let sum = |f: fn(&super::guard::Line) -> u64| guards.iter().map(|g| f(&g.lines[at])).sum::<u64>();
            let (allotted, held, sold, withdrawn) =
                (sum(|l| l.allotted), sum(|l| l.held), sum(|l| l.sold), sum(|l| l.withdrawn));
            if held + sold + withdrawn > allotted && !allowed_on_purpose() {
                return Err(RecoveryError::Oversold {
                    sale: sale.id.to_string(),
                    what: format!(
                        "{}: {held} held, {sold} sold and {withdrawn} withdrawn of {allotted} units",
                        sale.skus[at].id
                    ),
                });
            }
            let signed = |n: u64| AtomicI64::new(n.cast_signed());
            Ok(SkuStock {
                opened: AtomicU64::new(allotted),
                available: AtomicI64::new(allotted.cast_signed() - (held + sold + withdrawn).cast_signed()),
                held: signed(held),
                sold: signed(sold),
                withdrawn: signed(withdrawn),
                by_bucket: guards.iter().map(|g| AtomicU64::new(g.lines[at].available())).collect(),
            })
        })
        .collect()
}

/// Only the test that shows what becomes of units that came back from refunds and were
/// not to be sold again.
fn forgotten_on_purpose() -> bool {
    fail::fail_point!("recovery-no-withdrawn", |_| true);
    false
}

/// Only the test that sells too much on purpose starts again after it did.
fn allowed_on_purpose() -> bool {
    fail::fail_point!("guard-allows-all", |_| true);
    false
}
