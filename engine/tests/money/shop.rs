//! An engine's desks without its HTTP, a sale, and a clock that only tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use floodgate_engine::admission::{AdmissionMetrics, Limits, Standing};
use floodgate_engine::config::BuyerRules;
use floodgate_engine::domain::ids::{
    Channel, ChannelTxnNo, IdemKey, NodeNo, SaleId, SkuId, UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::domain::sale::{RawAdmission, Sale, Sku};
use floodgate_engine::domain::time::{Clock, UnixMs};
use floodgate_engine::sale::{
    Bought, Captured, Changed, Created, LiveSale, Owed, OwedList, Purchase, SaleMetrics, Selling,
    SellingParts, Stored,
};
use floodgate_engine::stock::StockHost;
use floodgate_engine::stock::embedded::{EmbeddedConfig, EmbeddedHost};
use floodgate_engine::stock::redis::RedisHost;
use floodgate_engine::workers::Workers;
use floodgate_ledger::{Ledger, LedgerConfig};
use prometheus::Histogram;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::common;
use crate::common::redis::Redis;

pub const T0: u64 = 1_800_000_000_000;
/// Shorter than order ids are leased for, so that buyers may come after its end.
pub const WINDOW: u64 = 1_000;

pub struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::Relaxed))
    }
}

pub struct Open {
    pub selling: Arc<Selling>,
    pub live: Arc<LiveSale>,
    pub ledger: Ledger,
    pub owed: OwedList,
    /// Counts buyers that a desk has taken.
    pub at_desk: Histogram,
}

/// An engine's desks with one sale, and what they stand on.
pub struct Shop {
    pub redis: Option<Redis>,
    pub folder: TempDir,
    pub clock: Arc<Hands>,
    pub sale: Sale,
    pub records_max: usize,
    pub open: Option<Open>,
    /// Whoever runs its buyers; they end with it.
    workers: Vec<Arc<Workers>>,
}

/// Units to sell, what a buyer may have, buckets.
pub fn sale(units: u32, units_per_user: u32, buckets: u16) -> Sale {
    Sale {
        id: SaleId::parse("tea").expect("an id"),
        name: "tea".into(),
        starts_at: UnixMs(T0 - 1_000),
        ends_at: UnixMs(T0 + 10 * WINDOW),
        pay_window_ms: WINDOW,
        payment_grace_ms: 0,
        units_per_user,
        buckets,
        orders_per_user_max: 100,
        admission: RawAdmission {
            rate: 100_000,
            burst: 10_000,
            queue_max: 1_000,
            wait_ms: 1_000,
        },
        skus: vec![Sku {
            id: SkuId::parse("unit").expect("an id"),
            name: "unit".into(),
            price: Cents(100),
            currency: Currency::parse("EUR").expect("a currency"),
            units,
            grant: None,
        }],
    }
}

/// The same on the embedded host, and on Redis where it is installed.
pub async fn on_each_host(sale: Sale, test: impl AsyncFn(&mut Shop)) {
    for redis in std::iter::once(None).chain(common::redis::start().map(Some)) {
        let mut shop = Shop::new(sale.clone(), redis);
        shop.start().await;
        test(&mut shop).await;
        shop.adds_up().await;
    }
}

impl Shop {
    pub fn new(sale: Sale, redis: Option<Redis>) -> Self {
        Self {
            redis,
            folder: tempfile::tempdir().expect("a folder"),
            clock: Arc::new(Hands(AtomicU64::new(T0))),
            sale,
            records_max: 4_096,
            open: None,
            workers: Vec::new(),
        }
    }

    pub async fn start(&mut self) {
        let workers = Arc::new(Workers::start(2).expect("workers"));
        self.workers.push(Arc::clone(&workers));
        let host: Arc<dyn StockHost> = match &self.redis {
            None => Arc::new(
                EmbeddedHost::on(workers, &EmbeddedConfig::default()).expect("the scripts compile"),
            ),
            Some(redis) => Arc::new(
                RedisHost::connect(&redis.config(), workers)
                    .await
                    .expect("it connects"),
            ),
        };
        let (selling, ledger, owed, at_desk) = self.selling_on(host).await;
        let created = selling.create(self.sale.clone()).await;
        let live = match created.expect("it is durable") {
            Created::New(live) | Created::Same(live) => live,
            other @ (Created::Different(_) | Created::Refused(_)) => panic!("{other:?}"),
        };
        self.open = Some(Open {
            selling,
            live,
            ledger,
            owed,
            at_desk,
        });
    }

    /// Without the sale, unless the ledger has it.
    pub async fn selling_on(
        &self,
        host: Arc<dyn StockHost>,
    ) -> (Arc<Selling>, Ledger, OwedList, Histogram) {
        let registry = prometheus::Registry::new();
        let admission = AdmissionMetrics::register(&registry).expect("an empty registry");
        let (owed, owed_list) = Owed::channel();
        let mut config = LedgerConfig::new(self.folder.path().join("ledger"));
        config.batch.records_max = self.records_max;
        config.memtable_bytes = 4 << 20;
        let ledger = loop {
            match Ledger::open(config.clone()) {
                Ok(ledger) => break ledger,
                // Tasks of the life before still hold it.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let metrics = SaleMetrics::register(&registry).expect("names of its own");
        let at_desk = metrics.desk_seconds.clone();
        let selling = Selling::recover(SellingParts {
            ledger: ledger.clone(),
            host,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            limits: Limits::new(&BuyerRules::default(), 1, &admission),
            metrics,
            node: NodeNo(0),
            seed: 1,
            run: 1,
            under_way_max: 4_096,
            answer_max: Duration::from_secs(600),
            stored: Stored::default(),
            owed,
            takes_over: false,
        });
        let selling = selling.await.expect("it starts");
        (selling, ledger, owed_list, at_desk)
    }

    pub async fn restart(&mut self) {
        let open = self.open.take().expect("it is open");
        open.selling.stop().await;
        drop((open.selling, open.live, open.owed));
        open.ledger.close();
        self.start().await;
    }

    pub fn selling(&self) -> &Selling {
        &self.open.as_ref().expect("it is open").selling
    }

    pub fn owed(&mut self) -> &mut OwedList {
        &mut self.open.as_mut().expect("it is open").owed
    }

    pub async fn buy(&self, user: &str, quantity: u32) -> Order {
        let purchase = Purchase {
            user: UserId::parse(user).expect("an id"),
            key: IdemKey::parse(&format!("key-{quantity}")).expect("an id"),
            units: std::iter::once((0, quantity)).collect(),
            device: None,
            ip: [127, 0, 0, 1].into(),
        };
        let live = &self.open.as_ref().expect("it is open").live;
        let mut standing = Standing::default();
        let bought = self.selling().buy(live, purchase, &mut standing);
        match bought.await {
            Bought::New(order) => Order::clone(&order),
            other => panic!("{user}: {other:?}"),
        }
    }

    /// Once more, as the ledger has it.
    pub fn look(&self, order: &Order) -> Order {
        let found = self.selling().order(&order.user, order.id);
        found.expect("it can be read").expect("it is there")
    }

    pub fn state(&self, order: &Order) -> &'static str {
        self.look(order).state.name()
    }

    /// The states of what was paid for an order, sorted.
    pub fn paid(&self, order: &Order) -> Vec<&'static str> {
        let payments = self.selling().payments_of(order.id).expect("readable");
        let mut states: Vec<_> = payments.iter().map(|p| p.state.name()).collect();
        states.sort_unstable();
        states
    }

    /// Until it is known what became of it, as a provider does.
    pub async fn capture(&self, payment: &Payment) -> (Payment, bool) {
        loop {
            match self.selling().capture(payment.clone()).await {
                Captured::Stands { payment, replayed } => {
                    return (Payment::clone(&payment), replayed);
                }
                Captured::Unknown => {}
                other @ (Captured::Illegal(_) | Captured::Missing) => panic!("{other:?}"),
            }
        }
    }

    pub async fn captured(&self, payment: &Payment) -> PaymentState {
        self.capture(payment).await.0.state
    }

    pub async fn change(&self, order: &Order, event: OrderEvent) -> Changed {
        self.selling().change(order.id, event).await
    }

    pub async fn refund(&self, order: &Order, restock: bool) -> Order {
        let asked = OrderEvent::RefundAsked { restock };
        match self.change(order, asked).await {
            Changed::Stands { order, .. } => Order::clone(&order),
            other => panic!("{other:?}"),
        }
    }

    /// The provider confirms that the money went back.
    pub async fn sent_back(&self, payment: &Payment) {
        let said = self.selling().refunded(payment, "r1".into()).await;
        assert!(
            matches!(&said, Captured::Stands { payment, .. } if payment.state == PaymentState::Refunded),
            "{said:?}"
        );
    }

    pub fn later(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Buckets and ledger count alike. Whatever is due is done before they count.
    pub async fn adds_up(&self) {
        let live = &self.open.as_ref().expect("it is open").live;
        for audit in self.selling().audit(live).await {
            assert!(audit.is_equal(), "{audit:?}");
        }
        let [available, held, sold, withdrawn] = self.counts();
        let units = u64::from(self.sale.skus[0].units).cast_signed();
        assert_eq!(available + held + sold + withdrawn, units);
    }

    /// Available, held, sold, withdrawn.
    pub fn counts(&self) -> [i64; 4] {
        let open = self.open.as_ref().expect("it is open");
        let stock = open.live.counts(0);
        let all = [&stock.available, &stock.held, &stock.sold, &stock.withdrawn];
        all.map(|n| n.load(Ordering::Relaxed))
    }
}

impl Drop for Shop {
    /// A desk on its way out may be the last that holds the ledger, and a process that ends
    /// while a thread still closes RocksDB falls over it.
    fn drop(&mut self) {
        self.open = None;
        let workers = std::mem::take(&mut self.workers);
        // Not here, which is a task.
        let ended = std::thread::spawn(move || workers.iter().for_each(|w| w.end())).join();
        ended.expect("they end");
    }
}

/// What a provider says when somebody paid for this order.
pub fn bill(order: &Order, txn: &str) -> Payment {
    let channel = Channel::parse("card").expect("an id");
    let channel_txn_no = ChannelTxnNo::parse(txn).expect("an id");
    Payment {
        id: Payment::id_of(&channel, &channel_txn_no),
        order: Some(order.id),
        channel,
        channel_txn_no,
        amount: order.pay_amount(),
        currency: order.currency,
        state: PaymentState::Captured,
        paid_at: UnixMs(T0),
        received_at: UnixMs(T0),
        note: String::new(),
        refund_no: String::new(),
        raw: None,
    }
}

/// All at once, each until it is known what became of it.
pub async fn all_at_once(shop: &Shop, payments: Vec<Payment>) -> Vec<(Payment, bool)> {
    let mut said = Vec::new();
    let mut under_way = JoinSet::new();
    for payment in payments {
        let selling = Arc::clone(&shop.open.as_ref().expect("it is open").selling);
        under_way.spawn(async move {
            loop {
                match selling.capture(payment.clone()).await {
                    Captured::Stands { payment, replayed } => {
                        return (Payment::clone(&payment), replayed);
                    }
                    Captured::Unknown => {}
                    other @ (Captured::Illegal(_) | Captured::Missing) => panic!("{other:?}"),
                }
            }
        });
    }
    while let Some(one) = under_way.join_next().await {
        said.push(one.expect("it is said"));
    }
    said
}
