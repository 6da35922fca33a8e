//! The sales of a node: open them, buy in them, change their orders.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use floodgate_ledger::{AppendError, CommitError, Group, Ledger};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::Instant;

use super::adopt;
use super::answer::{Answer, Changed, Refusal};
use super::bucket::BucketAudit;
use super::desk::{Act, Ask, Command, Wish};
use super::facts::{self, FactError};
use super::guard::Units;
use super::index::{Claimed, Known};
use super::live::LiveSale;
use super::metrics::SaleMetrics;
use super::order_ids::{IdLease, LEASE_MS};
use super::owed::Owed;
use super::recovery::{self, RecoveryError, Tools};
use super::revoked::Revoked;
use super::tail::{Stored, Tails};
use super::unclaimed::Unclaimed;
use crate::admission::{Asker, Limits, Shed, Standing};
use crate::domain::allotment::Allotment;
use crate::domain::codec::decode_sale;
use crate::domain::ids::{
    BucketNo, DeviceId, Fingerprint, IdemKey, NodeNo, OrderId, SaleId, SaleNo, UserId, home_bucket,
};
use crate::domain::order::{Order, OrderEvent};
use crate::domain::sale::{Sale, SaleRecord, Switches};
use crate::domain::time::Clock;
use crate::stock::StockHost;

/// What [`Selling`] is built from.
pub struct SellingParts {
    pub ledger: Ledger,
    pub host: Arc<dyn StockHost>,
    pub clock: Arc<dyn Clock>,
    pub metrics: SaleMetrics,
    pub limits: Limits,
    pub node: NodeNo,
    pub seed: u64,
    pub under_way_max: u32,
    /// Longest a buyer waits for an answer; after it the outcome is "unknown".
    pub answer_max: Duration,
    /// How far the order store has the ledger.
    pub stored: Stored,
    /// Where payments go whose money must go back.
    pub owed: Owed,
    /// Whether buckets that another ledger served are taken over.
    pub takes_over: bool,
}

/// A purchase as the door understood it.
#[derive(Debug)]
pub struct Purchase {
    pub user: UserId,
    pub key: IdemKey,
    pub units: Units,
    pub device: Option<DeviceId>,
    /// Whose request it is for the limits by address.
    pub ip: IpAddr,
}

/// What a purchase came to.
#[derive(Debug)]
pub enum Bought {
    New(Arc<Order>),
    Replay(Arc<Order>),
    Refused(Refusal),
    Shed(Shed),
    /// The same key is being worked on, longer than this buyer may wait.
    InProgress,
    Unknown,
    /// Nothing happened, and cannot now.
    NotReady(&'static str),
    /// The disk is nearly full: nobody new buys until there is room.
    NoRoom,
}

#[derive(Debug)]
pub enum Created {
    New(Arc<LiveSale>),
    Same(Arc<LiveSale>),
    /// Another definition has this id; field by field.
    Different(Vec<String>),
    Refused(String),
}

#[derive(Debug)]
pub enum Switched {
    Done(Arc<LiveSale>),
    Missing,
    Refused(&'static str),
}

/// A page of all orders of a sale, in the order of their ids.
#[derive(Debug)]
pub struct OrdersPage {
    pub orders: Vec<Order>,
    pub next: Option<OrderId>,
    pub durable_seq: u64,
}

/// A page of one user's orders, the newest first.
#[derive(Debug, Default)]
pub struct OwnOrders {
    pub orders: Vec<Order>,
    /// Where the next page goes on, if there is more to read.
    pub next: Option<OrderId>,
}

/// Why a group is not known to be durable.
enum NotCommitted {
    /// It can never be, as it is.
    Refused(String),
    /// The ledger closed, before it took the group or after; the text says which.
    Unconfirmed(String),
}

/// What came of asking a desk.
pub(super) enum Wished<T> {
    Heard(T),
    NoDesk,
    Silence,
}

type SalesById = HashMap<SaleId, Arc<LiveSale>>;

pub struct Selling {
    sales: ArcSwap<SalesById>,
    pub(super) tools: Tools,
    pub(super) answer_max: Duration,
    limits: Limits,
    /// From where the limits count time.
    started: Instant,
    disk_low: AtomicBool,
    /// One sale is created or switched at a time. The highest number that a sale was
    /// ever given: one whose creation was not confirmed may have it all the same.
    admin: Mutex<u16>,
    pub(super) unclaimed: Arc<Unclaimed>,
    /// Why a task that sells ended, if one did.
    fallen: watch::Sender<Option<String>>,
}

impl Selling {
    /// Opens every sale the ledger knows.
    pub async fn recover(parts: SellingParts) -> Result<Arc<Self>, RecoveryError> {
        let SellingParts {
            ledger,
            host,
            clock,
            metrics,
            limits,
            node,
            seed,
            under_way_max,
            answer_max,
            stored,
            owed,
            takes_over,
        } = parts;
        let mut records: Vec<SaleRecord> = Vec::new();
        let mut floor = ledger
            .meta(facts::ID_FLOOR)?
            .and_then(|b| <[u8; 8]>::try_from(&b[..]).ok())
            .map_or(0, u64::from_be_bytes);
        for found in ledger.entities(None, Some(facts::SALE), false) {
            let snapshot = found?;
            let record = decode_sale(&snapshot.body).map_err(|source| FactError::Body {
                seq: snapshot.seq.0,
                source,
            })?;
            floor = floor.max(recovery::highest_id_ms(&ledger, &record.definition)?);
            if let Some(other) = records.iter().find(|r| r.number == record.number) {
                // An order id would name two sales.
                return Err(RecoveryError::OneNumber {
                    number: record.number.0,
                    sales: [&other.definition.id, &record.definition.id].map(ToString::to_string),
                });
            }
            records.push(record);
        }
        let last_number = records.iter().map(|r| r.number.0).max().unwrap_or(0);
        let (fallen, _) = watch::channel(None);
        let lease = Arc::new(IdLease::new(above(floor), 0));
        let unclaimed = Unclaimed::new(ledger.clone(), Arc::clone(&clock), owed.clone());
        let tools = Tools {
            ledger,
            host,
            clock,
            lease,
            metrics,
            node,
            seed,
            under_way_max,
            takes_over,
            stored,
            owed,
            revoked: Arc::default(),
            fallen: fallen.clone(),
        };
        let selling = Arc::new(Self {
            sales: ArcSwap::default(),
            tools,
            answer_max,
            limits,
            started: Instant::now(),
            disk_low: AtomicBool::new(false),
            admin: Mutex::new(last_number),
            unclaimed,
            fallen,
        });
        for record in &records {
            adopt::check(&record.definition, &selling.tools).await?;
        }
        selling.extend_lease().await;
        let mut sales = SalesById::new();
        let mut tails = Tails::default();
        if selling.tools.host.is_second_copy() {
            tails = Tails::read(&selling.tools.ledger, selling.tools.stored.get())?;
        }
        for record in records {
            let live = recovery::open_sale(record, &selling.tools, &mut tails).await?;
            sales.insert(live.sale().id.clone(), live);
        }
        selling.sales.store(Arc::new(sales));
        Ok(selling)
    }

    /// Keeps the floor of order ids durable ahead of the clock; ends with the runtime.
    pub async fn keep_lease(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(LEASE_MS / 10)).await;
            self.extend_lease().await;
        }
    }

    async fn extend_lease(&self) {
        let Some(ceiling) = self.tools.lease.wanted(self.tools.clock.now()) else {
            return;
        };
        let meta = vec![(
            Bytes::from_static(facts::ID_FLOOR),
            Bytes::copy_from_slice(&ceiling.to_be_bytes()),
        )];
        let committed = match self
            .tools
            .ledger
            .append(Group {
                drafts: Vec::new(),
                meta,
            })
            .await
        {
            Ok(receipt) => receipt.await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match committed {
            Ok(_) => self.tools.lease.extend(ceiling),
            Err(error) => tracing::error!(error, "lease order ids"),
        }
    }

    /// Resolves when a desk or what serves it fell. The process should then end: what
    /// the task knew is lost, and the next start reads it from the ledger.
    pub fn fallen(&self) -> impl Future<Output = String> + Send + 'static {
        let mut fallen = self.fallen.subscribe();
        async move {
            loop {
                let why = fallen.borrow_and_update().clone();
                if let Some(why) = why {
                    return why;
                }
                if fallen.changed().await.is_err() {
                    // Nobody is left who could fall.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// What is only known when somebody asks for it.
    pub fn refresh_metrics(&self) {
        let now = self.tools.clock.now();
        self.tools.metrics.show_release_lag(now);
        for (id, live) in self.sales.load().iter() {
            let silent = self.tools.metrics.silent.with_label_values(&[id.as_str()]);
            silent.set(i64::try_from(live.n_silent()).unwrap_or(i64::MAX));
        }
    }

    /// While it is so no new order begins in any sale; everything else goes on.
    pub fn set_disk_low(&self, low: bool) {
        self.disk_low.store(low, Ordering::Relaxed);
    }

    pub fn is_disk_low(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed)
    }

    pub fn sales(&self) -> Arc<SalesById> {
        self.sales.load_full()
    }

    pub fn sale(&self, id: &str) -> Option<Arc<LiveSale>> {
        let id = SaleId::parse(id).ok()?;
        self.sales.load().get(&id).cloned()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.tools.ledger
    }

    /// What was revoked since the start; whoever checks tokens looks there.
    pub fn revoked(&self) -> &Arc<Revoked> {
        &self.tools.revoked
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.tools.clock
    }

    /// Creates a sale once by its id; its units are durable before it opens.
    pub async fn create(&self, sale: Sale) -> Result<Created, RecoveryError> {
        let mut last_number = self.admin.lock().await;
        let sales = self.sales.load_full();
        if let Some(there) = sales.get(&sale.id) {
            return Ok(match there.sale().difference(&sale) {
                same if same.is_empty() => Created::Same(Arc::clone(there)),
                difference => Created::Different(difference),
            });
        }
        let group = sale.id.as_bytes();
        if self
            .tools
            .ledger
            .entity(group, facts::SALE, group)?
            .is_some()
        {
            return Ok(Created::Refused(
                "the ledger has it and could not open it; the next start does".into(),
            ));
        }
        // Before anything is written: a sale that another ledger sold must not begin anew.
        if let Err(error) = adopt::check(&sale, &self.tools).await {
            return Ok(Created::Refused(error.to_string()));
        }
        let Some(number) = last_number.checked_add(1) else {
            return Ok(Created::Refused(
                "the ledger has 65,535 sales; start a new one".into(),
            ));
        };
        *last_number = number;
        let record = SaleRecord {
            definition: sale.clone(),
            number: SaleNo(number),
            switches: Switches::default(),
        };
        let now = self.tools.clock.now();
        let mut drafts = vec![facts::sale_draft(&record, 1, now)];
        for bucket in 0..sale.buckets {
            let lines = sale
                .skus
                .iter()
                .enumerate()
                .map(|(at, s)| (s.id.clone(), i64::from(sale.share(at, bucket))))
                .filter(|(_, units)| *units > 0)
                .collect();
            let allotment = Allotment {
                bucket: BucketNo(bucket),
                lines,
            };
            drafts.push(facts::allotment_draft(
                &sale.id,
                &format!("open-{bucket}"),
                &allotment,
                now,
            ));
        }
        match self
            .commit(Group {
                drafts,
                meta: Vec::new(),
            })
            .await
        {
            Ok(()) => {}
            // The definition's own fault: too many buckets for one commit, say.
            Err(NotCommitted::Refused(why)) => return Ok(Created::Refused(why)),
            Err(NotCommitted::Unconfirmed(why)) => return Err(RecoveryError::Unconfirmed(why)),
        }
        let live = recovery::open_sale(record, &self.tools, &mut Tails::default()).await?;
        let mut sales = SalesById::clone(&sales);
        sales.insert(sale.id.clone(), Arc::clone(&live));
        self.sales.store(Arc::new(sales));
        tracing::info!(sale = %sale.id, units = sale.units_opened(), "sale created");
        Ok(Created::New(live))
    }

    /// Pause, resume, end. Durable before it counts.
    pub async fn switch(&self, id: &str, change: impl FnOnce(Switches) -> Switches) -> Switched {
        let _one = self.admin.lock().await;
        let Some(live) = self.sale(id) else {
            return Switched::Missing;
        };
        let (was, to) = (live.switches(), change(live.switches()));
        if was.ended && !to.ended {
            return Switched::Refused("an ended sale cannot be opened again");
        }
        if was != to {
            let record = SaleRecord {
                definition: live.sale().clone(),
                number: live.number(),
                switches: to,
            };
            let version = match self
                .tools
                .ledger
                .entity(id.as_bytes(), facts::SALE, id.as_bytes())
            {
                Ok(Some(snapshot)) => snapshot.version + 1,
                Ok(None) | Err(_) => return Switched::Refused("the ledger cannot be read"),
            };
            let draft = facts::sale_draft(&record, version, self.tools.clock.now());
            if self
                .commit(Group {
                    drafts: vec![draft],
                    meta: Vec::new(),
                })
                .await
                .is_err()
            {
                return Switched::Refused(
                    "the ledger closed before it confirmed the switch; the next start tells",
                );
            }
            live.switch(to);
        }
        Switched::Done(live)
    }

    async fn commit(&self, group: Group) -> Result<(), NotCommitted> {
        let receipt = match self.tools.ledger.append(group).await {
            Ok(receipt) => receipt,
            Err(error @ AppendError::Closed) => {
                return Err(NotCommitted::Unconfirmed(error.to_string()));
            }
            Err(
                error @ (AppendError::Draft { .. }
                | AppendError::MetaKey { .. }
                | AppendError::GroupTooLarge { .. }),
            ) => return Err(NotCommitted::Refused(error.to_string())),
        };
        match receipt.await {
            Ok(_) => Ok(()),
            Err(error @ CommitError::UniqueTaken { .. }) => {
                Err(NotCommitted::Refused(error.to_string()))
            }
            Err(error @ CommitError::Closed) => Err(NotCommitted::Unconfirmed(error.to_string())),
        }
    }

    /// One purchase, from key to answer. `standing` tells afterwards how its buyer
    /// stands with the limits, where they were asked.
    pub async fn buy(
        &self,
        live: &LiveSale,
        purchase: Purchase,
        standing: &mut Standing,
    ) -> Bought {
        let Purchase {
            user,
            key,
            units,
            device,
            ip,
        } = purchase;
        let sale = live.sale();
        let fingerprint = Fingerprint::of_request(
            &sale.id,
            units.iter().map(|(at, n)| (&sale.skus[*at].id, *n)),
            device.as_ref(),
        );
        let bucket = home_bucket(&sale.id, &user, sale.buckets);
        let n_units: u32 = units
            .iter()
            .fold(0_u32, |sum, (_, n)| sum.saturating_add(*n));
        loop {
            // What is known of the key comes before every other answer.
            let claimed = match live.refuse_now(self.tools.clock.now(), &units) {
                None if self.is_disk_low() => match live.index.look(&user, &key, fingerprint) {
                    Some(known) => Claimed::Known(known),
                    None => return Bought::NoRoom,
                },
                None if live.is_silent(bucket) => match live.index.look(&user, &key, fingerprint) {
                    Some(known) => Claimed::Known(known),
                    None => return Bought::NotReady("the buyer's stock does not answer"),
                },
                None => live.index.claim(&user, &key, fingerprint, n_units),
                Some(refusal) => match live.index.look(&user, &key, fingerprint) {
                    Some(known) => Claimed::Known(known),
                    None => Claimed::Refused(refusal),
                },
            };
            let asked_at = Instant::now();
            let claim = match claimed {
                Claimed::Mine(claim) => claim,
                Claimed::Known(known) => {
                    match self.replay(live, known, asked_at + self.answer_max).await {
                        Some(bought) => return bought,
                        None => continue,
                    }
                }
                Claimed::Refused(refusal) => {
                    self.tools.metrics.refused(refusal).inc();
                    return Bought::Refused(refusal);
                }
            };
            let asker = Asker {
                user: &user,
                device: device.as_ref(),
                ip,
            };
            let now = asked_at.saturating_duration_since(self.started);
            let (left, cleared) = self.limits.clear(claim, &asker, now);
            *standing = left;
            let cleared = match cleared {
                Ok(cleared) => cleared.map(|claim| Ask {
                    claim,
                    units,
                    device,
                }),
                Err(shed) => return Bought::Shed(self.counted(shed)),
            };
            let admitted = live.gate.admit(cleared).await;
            let admitted_at = Instant::now();
            self.tools
                .metrics
                .admit_seconds
                .observe((admitted_at - asked_at).as_secs_f64());
            let ask = match admitted {
                Ok(ask) => ask,
                Err(shed) => return Bought::Shed(self.counted(shed)),
            };
            // The sale may have been paused or ended while this one stood in line.
            if let Some(refusal) = live.refuse_now(self.tools.clock.now(), &[]) {
                self.tools.metrics.refused(refusal).inc();
                return Bought::Refused(refusal);
            }
            let (reply, answer) = oneshot::channel();
            let Some(desk) = live.desk(bucket) else {
                return Bought::NotReady("the desk is not open");
            };
            let buy = Command::Buy {
                ask,
                asked_at: admitted_at,
                reply,
            };
            if desk.try_send(buy).is_err() {
                return Bought::NotReady("the desk is closed");
            }
            // The wait for admission is bounded on its own and not part of this one.
            return match tokio::time::timeout_at(admitted_at + self.answer_max, answer).await {
                Ok(Ok(Answer::Won(order))) => Bought::New(order),
                Ok(Ok(Answer::Refused(refusal))) => Bought::Refused(refusal),
                Ok(Ok(Answer::Unknown)) | Err(_) => {
                    self.tools.metrics.count(&Answer::Unknown);
                    Bought::Unknown
                }
                // The desk dropped the request, and nothing is set aside for it.
                Ok(Err(_)) => Bought::NotReady("no ids, or stock that does not answer"),
            };
        }
    }

    /// Whether this asker may have another licence written now.
    pub(super) fn clear_license(
        &self,
        asker: &Asker<'_>,
        standing: &mut Standing,
    ) -> Result<(), Shed> {
        let now = Instant::now().saturating_duration_since(self.started);
        let (left, cleared) = self.limits.license(asker, now);
        *standing = left;
        cleared.map_err(|shed| self.counted(shed))
    }

    fn counted(&self, shed: Shed) -> Shed {
        let counter = &self.tools.metrics.shed;
        counter.with_label_values(&[shed.reason()]).inc();
        shed
    }

    /// `None`: whoever held the key gave up; look again.
    async fn replay(&self, live: &LiveSale, known: Known, deadline: Instant) -> Option<Bought> {
        match known {
            Known::Reused => {
                self.tools.metrics.refused(Refusal::KeyReused).inc();
                Some(Bought::Refused(Refusal::KeyReused))
            }
            Known::Won(id) => Some(
                match facts::load_order(&self.tools.ledger, &live.sale().id, id) {
                    Ok(Some(order)) => Bought::Replay(Arc::new(order)),
                    Ok(None) => {
                        tracing::error!(order = %id, "the index names an order that the ledger does not have");
                        Bought::Unknown
                    }
                    Err(error) => {
                        tracing::error!(%error, order = %id, "read an order");
                        Bought::Unknown
                    }
                },
            ),
            Known::Join(answer) => match tokio::time::timeout_at(deadline, answer).await {
                Err(_) => Some(Bought::InProgress),
                Ok(Err(_)) => None,
                Ok(Ok(Answer::Won(order))) => Some(Bought::Replay(order)),
                Ok(Ok(Answer::Refused(refusal))) => Some(Bought::Refused(refusal)),
                Ok(Ok(Answer::Unknown)) => Some(Bought::Unknown),
            },
        }
    }

    /// The order, if it is this user's; another's is as good as none.
    pub fn order(&self, user: &UserId, id: OrderId) -> Result<Option<Order>, FactError> {
        let Some(live) = self.sale_of(id) else {
            return Ok(None);
        };
        let order = facts::load_order(&self.tools.ledger, &live.sale().id, id)?;
        Ok(order.filter(|o| o.user == *user))
    }

    /// The order, whoever's it is.
    pub fn any_order(&self, id: OrderId) -> Result<Option<Order>, FactError> {
        match self.sale_of(id) {
            Some(live) => facts::load_order(&self.tools.ledger, &live.sale().id, id),
            None => Ok(None),
        }
    }

    pub(super) fn sale_of(&self, id: OrderId) -> Option<Arc<LiveSale>> {
        let number = id.parts().sale;
        self.sales
            .load()
            .values()
            .find(|s| s.number() == number)
            .cloned()
    }

    /// A user's orders over all sales that are `wanted`, newest first, before `before`:
    /// at most `limit` of them, and at most `read_max` orders are read for it.
    pub fn orders_of(
        &self,
        user: &UserId,
        before: Option<OrderId>,
        limit: usize,
        read_max: usize,
        wanted: impl Fn(&Order) -> bool,
    ) -> Result<OwnOrders, FactError> {
        let ledger = &self.tools.ledger;
        let refs = ledger.by_owner(
            user.as_bytes(),
            facts::ORDER,
            before.as_ref().map(|id| &id.as_bytes()[..]),
            read_max + 1,
        )?;
        let mut own = OwnOrders::default();
        let mut read = None;
        for (n_read, found) in refs.iter().enumerate() {
            if own.orders.len() == limit || n_read == read_max {
                own.next = read;
                break;
            }
            read = OrderId::from_bytes(&found.id);
            if let Some(snapshot) = ledger.entity(&found.group, facts::ORDER, &found.id)? {
                let order = facts::order_of(&snapshot)?;
                if wanted(&order) {
                    own.orders.push(order);
                }
            }
        }
        Ok(own)
    }

    /// All orders of a sale, as the ledger has them.
    pub fn orders_page(
        &self,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<OrdersPage, FactError> {
        let ledger = &self.tools.ledger;
        // Before the read: what is durable now is certainly in what is read next.
        let durable_seq = ledger.tip().seq.0;
        let after = after.as_ref().map(|id| &id.as_bytes()[..]);
        let snapshots = ledger.entities_page(sale.as_bytes(), facts::ORDER, after, limit)?;
        let orders = snapshots
            .iter()
            .map(facts::order_of)
            .collect::<Result<Vec<_>, _>>()?;
        let next = if orders.len() == limit {
            orders.last().map(|o| o.id)
        } else {
            None
        };
        Ok(OrdersPage {
            orders,
            next,
            durable_seq,
        })
    }

    /// Asks the order's desk for a change.
    pub async fn change(&self, id: OrderId, event: OrderEvent) -> Changed {
        let act = |reply| Act::Step {
            event,
            reply: Some(reply),
        };
        match self.wish(id, act).await {
            Wished::Heard(changed) => changed,
            Wished::NoDesk => Changed::Missing(id),
            Wished::Silence => Changed::Unknown,
        }
    }

    pub(super) async fn wish<T>(
        &self,
        order: OrderId,
        act: impl FnOnce(oneshot::Sender<T>) -> Act,
    ) -> Wished<T> {
        let Some(live) = self.sale_of(order) else {
            return Wished::NoDesk;
        };
        let Some(desk) = live.desk(order.bucket()) else {
            return Wished::NoDesk;
        };
        let (reply, answer) = oneshot::channel();
        let act = act(reply);
        // A desk that is stuck takes nothing either: both waits are one.
        let asked = async {
            desk.send(Command::Change(Wish { order, act })).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(self.answer_max, asked).await {
            Ok(Some(heard)) => Wished::Heard(heard),
            Ok(None) | Err(_) => Wished::Silence,
        }
    }

    /// Each bucket's counters and the ledger's facts, at one place in its call order.
    pub async fn audit(&self, live: &LiveSale) -> Vec<BucketAudit> {
        let mut audits = Vec::new();
        for (desk, silence) in live.desks.iter().zip(&live.silences) {
            let (reply, answer) = oneshot::channel();
            let audit = async {
                desk.send(Command::Audit { reply }).await.ok()?;
                answer.await.ok()
            };
            // A bucket that stays silent would keep all others from being looked at.
            let mut silence = silence.clone();
            let patience = async {
                silence.begins().await;
                tokio::time::sleep(self.answer_max).await;
            };
            tokio::select! {
                biased;
                audit = audit => audits.extend(audit),
                () = patience => {}
            }
        }
        audits
    }

    /// Whoever stands in line for a token goes home: there will be none.
    pub fn close_gates(&self) {
        for live in self.sales.load().values() {
            live.gate.stop();
        }
    }

    /// Everything handed to a desk is finished and told; then the desks are closed.
    pub async fn stop(&self) {
        for live in self.sales.load_full().values() {
            for desk in &live.desks {
                let (reply, done) = oneshot::channel();
                if desk.send(Command::Stop { reply }).await.is_ok() {
                    // An error means that the desk had ended before.
                    let _ = done.await;
                }
            }
        }
    }
}

/// Where ids begin after a restart: above all that were given, unless a test wants
/// to see what becomes of ids that repeat.
fn above(floor: u64) -> u64 {
    fail::fail_point!("ids-without-floor", |_| 0);
    floor + 1
}
