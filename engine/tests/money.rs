//! Money at the desk, one question a test: what becomes of a capture, whenever and however
//! often it comes, and of a refund. On both stock hosts, with a clock that tests set.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use floodgate_engine::admission::{AdmissionMetrics, Limits, Standing};
use floodgate_engine::config::BuyerRules;
use floodgate_engine::domain::codec::encode_payment;
use floodgate_engine::domain::ids::{
    Channel, ChannelTxnNo, IdemKey, NodeNo, OrderId, SaleId, SkuId, UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::domain::sale::{RawAdmission, Sale, Sku, Switches};
use floodgate_engine::domain::time::{Clock, UnixMs};
use floodgate_engine::sale::{
    Bought, Captured, Changed, Created, Due, LiveSale, Owed, OwedList, Purchase, SaleMetrics,
    Selling, SellingParts, Stored,
};
use floodgate_engine::stock::StockHost;
use floodgate_engine::stock::embedded::{EmbeddedConfig, EmbeddedHost};
use floodgate_engine::stock::redis::RedisHost;
use floodgate_engine::workers::Workers;
use floodgate_ledger::{Draft, Group, Kind, Ledger, LedgerConfig};
use tempfile::TempDir;
use tokio::task::JoinSet;

use common::redis::Redis;

const T0: u64 = 1_800_000_000_000;
/// Shorter than order ids are leased for, so that buyers may come after its end.
const WINDOW: u64 = 1_000;
/// Several turns of a desk.
const CROWD: u64 = 3_000;

struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::Relaxed))
    }
}

struct Open {
    selling: Arc<Selling>,
    live: Arc<LiveSale>,
    ledger: Ledger,
    owed: OwedList,
}

/// An engine's desks with one sale, and what they stand on.
struct Shop {
    redis: Option<Redis>,
    folder: TempDir,
    clock: Arc<Hands>,
    sale: Sale,
    records_max: usize,
    open: Option<Open>,
}

/// Units to sell, what a buyer may have, buckets.
fn sale(units: u32, units_per_user: u32, buckets: u16) -> Sale {
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
async fn on_each_host(sale: Sale, test: impl AsyncFn(&mut Shop)) {
    for redis in std::iter::once(None).chain(common::redis::start().map(Some)) {
        let mut shop = Shop::new(sale.clone(), redis);
        shop.start().await;
        test(&mut shop).await;
        shop.adds_up().await;
    }
}

impl Shop {
    fn new(sale: Sale, redis: Option<Redis>) -> Self {
        Self {
            redis,
            folder: tempfile::tempdir().expect("a folder"),
            clock: Arc::new(Hands(AtomicU64::new(T0))),
            sale,
            records_max: 4_096,
            open: None,
        }
    }

    async fn start(&mut self) {
        let workers = Arc::new(Workers::start(2).expect("workers"));
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
        let selling = Selling::recover(SellingParts {
            ledger: ledger.clone(),
            host,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            limits: Limits::new(&BuyerRules::default(), 1, &admission),
            metrics: SaleMetrics::register(&registry).expect("names of its own"),
            node: NodeNo(0),
            seed: 1,
            under_way_max: 4_096,
            answer_max: Duration::from_secs(600),
            stored: Stored::default(),
            owed,
            takes_over: false,
        });
        let selling = selling.await.expect("it starts");
        let created = selling.create(self.sale.clone()).await;
        let live = match created.expect("it is durable") {
            Created::New(live) | Created::Same(live) => live,
            other @ (Created::Different(_) | Created::Refused(_)) => panic!("{other:?}"),
        };
        self.open = Some(Open {
            selling,
            live,
            ledger,
            owed: owed_list,
        });
    }

    async fn restart(&mut self) {
        let open = self.open.take().expect("it is open");
        open.selling.stop().await;
        drop((open.selling, open.live, open.owed));
        open.ledger.close();
        self.start().await;
    }

    fn selling(&self) -> &Selling {
        &self.open.as_ref().expect("it is open").selling
    }

    fn owed(&mut self) -> &mut OwedList {
        &mut self.open.as_mut().expect("it is open").owed
    }

    async fn buy(&self, user: &str, quantity: u32) -> Order {
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
    fn look(&self, order: &Order) -> Order {
        let found = self.selling().order(&order.user, order.id);
        found.expect("it can be read").expect("it is there")
    }

    fn state(&self, order: &Order) -> &'static str {
        self.look(order).state.name()
    }

    /// The states of what was paid for an order, sorted.
    fn paid(&self, order: &Order) -> Vec<&'static str> {
        let payments = self.selling().payments_of(order.id).expect("readable");
        let mut states: Vec<_> = payments.iter().map(|p| p.state.name()).collect();
        states.sort_unstable();
        states
    }

    /// Until it is known what became of it, as a provider does.
    async fn capture(&self, payment: &Payment) -> (Payment, bool) {
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

    async fn captured(&self, payment: &Payment) -> PaymentState {
        self.capture(payment).await.0.state
    }

    async fn change(&self, order: &Order, event: OrderEvent) -> Changed {
        self.selling().change(order.id, event).await
    }

    async fn refund(&self, order: &Order, restock: bool) -> Order {
        let asked = OrderEvent::RefundAsked { restock };
        match self.change(order, asked).await {
            Changed::Now(order) => Order::clone(&order),
            other => panic!("{other:?}"),
        }
    }

    /// The provider confirms that the money went back.
    async fn sent_back(&self, payment: &Payment) {
        let said = self.selling().refunded(payment, "r1".into()).await;
        assert!(
            matches!(&said, Captured::Stands { payment, .. } if payment.state == PaymentState::Refunded),
            "{said:?}"
        );
    }

    fn later(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Buckets and ledger count alike. Whatever is due is done before they count.
    async fn adds_up(&self) {
        let live = &self.open.as_ref().expect("it is open").live;
        for audit in self.selling().audit(live).await {
            assert!(audit.is_equal(), "{audit:?}");
        }
        let [available, held, sold, withdrawn] = self.counts();
        let units = u64::from(self.sale.skus[0].units).cast_signed();
        assert_eq!(available + held + sold + withdrawn, units);
    }

    /// Available, held, sold, withdrawn.
    fn counts(&self) -> [i64; 4] {
        let open = self.open.as_ref().expect("it is open");
        let stock = open.live.counts(0);
        let all = [&stock.available, &stock.held, &stock.sold, &stock.withdrawn];
        all.map(|n| n.load(Ordering::Relaxed))
    }
}

/// What a provider says when somebody paid for this order.
fn bill(order: &Order, txn: &str) -> Payment {
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
async fn all_at_once(shop: &Shop, payments: Vec<Payment>) -> Vec<(Payment, bool)> {
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

#[tokio::test]
async fn said_five_times_a_capture_changes_one_order_once() {
    on_each_host(sale(10, 10, 2), async |shop| {
        let order = shop.buy("ana", 2).await;
        let payment = bill(&order, "t1");
        let said = all_at_once(shop, vec![payment.clone(); 5]).await;
        let first = &said[0].0;
        assert!(said.iter().all(|(payment, _)| payment == first));
        assert_eq!(said.iter().filter(|(_, replayed)| !replayed).count(), 1);
        assert_eq!(first.state, PaymentState::Applied);
        let paid = shop.look(&order);
        assert_eq!(paid.state.name(), "PAID");
        assert_eq!(paid.version, order.version.next(0));
        shop.restart().await;
        assert!(shop.capture(&payment).await.1, "known for ever");
        assert_eq!(shop.look(&order), paid);
        assert_eq!(shop.paid(&order), ["APPLIED"]);
        assert_eq!(shop.counts(), [8, 0, 2, 0]);
    })
    .await;
}

#[tokio::test]
async fn money_that_comes_as_the_window_ends_is_in_time_and_later_takes_fresh_units() {
    on_each_host(sale(10, 10, 2), async |shop| {
        let (order, late) = (shop.buy("ana", 2).await, shop.buy("bea", 3).await);
        shop.later(WINDOW);
        // The desk hears of the money in the same turn in which the window is over.
        assert_eq!(
            shop.captured(&bill(&order, "t1")).await,
            PaymentState::Applied
        );
        shop.adds_up().await;
        assert_eq!((shop.state(&order), shop.state(&late)), ("PAID", "CLOSED"));
        assert_eq!(shop.counts(), [8, 0, 2, 0]);
        assert_eq!(
            shop.captured(&bill(&late, "t2")).await,
            PaymentState::Applied
        );
        assert_eq!(shop.state(&late), "PAID");
        assert_eq!(shop.counts(), [5, 0, 5, 0]);
        shop.restart().await;
        assert_eq!((shop.state(&order), shop.state(&late)), ("PAID", "PAID"));
        assert_eq!(shop.counts(), [5, 0, 5, 0]);
    })
    .await;
}

#[tokio::test]
async fn late_money_goes_back_where_nobody_may_sell_for_it() {
    on_each_host(sale(4, 3, 1), async |shop| {
        let (ana, bea) = (shop.buy("ana", 3).await, shop.buy("bea", 1).await);
        shop.later(WINDOW);
        shop.adds_up().await;
        // The limit: ana has two units by now, and a buyer may have three.
        let again = shop.buy("ana", 2).await;
        assert_eq!(
            shop.captured(&bill(&ana, "limit")).await,
            PaymentState::RefundDue
        );
        shop.capture(&bill(&again, "again")).await;
        // Paused: nobody is sold anything.
        let pause = |paused| move |was: Switches| Switches { paused, ..was };
        shop.selling().switch("tea", pause(true)).await;
        assert_eq!(
            shop.captured(&bill(&bea, "paused")).await,
            PaymentState::RefundDue
        );
        shop.selling().switch("tea", pause(false)).await;
        // Sold out.
        let rest = shop.buy("cid", 2).await;
        assert_eq!(
            shop.captured(&bill(&bea, "none")).await,
            PaymentState::RefundDue
        );
        // There are units again, and the sale is over.
        shop.change(&rest, OrderEvent::Cancel).await;
        shop.later(20 * WINDOW);
        assert_eq!(
            shop.captured(&bill(&bea, "over")).await,
            PaymentState::RefundDue
        );
        assert_eq!((shop.state(&ana), shop.state(&bea)), ("CLOSED", "CLOSED"));
        assert_eq!(shop.counts(), [2, 0, 2, 0]);
        let mut due = Vec::new();
        for _ in 0..4 {
            match shop.owed().next().await {
                Some(Due::Payment(payment)) => due.push(payment),
                other => panic!("{other:?}"),
            }
        }
        let txns: Vec<_> = due.iter().map(|p| p.channel_txn_no.to_string()).collect();
        assert_eq!(txns, ["limit", "paused", "none", "over"]);
        shop.restart().await;
        assert_eq!(
            shop.selling()
                .payments_owed(usize::MAX)
                .expect("readable")
                .len(),
            4
        );
        for payment in &due {
            shop.sent_back(payment).await;
        }
        assert!(
            shop.selling()
                .payments_owed(usize::MAX)
                .expect("readable")
                .is_empty()
        );
        assert_eq!(shop.state(&bea), "CLOSED", "its money came and went");
    })
    .await;
}

#[tokio::test]
async fn one_transaction_that_names_two_orders_pays_one_of_them() {
    on_each_host(sale(100, 2, 2), async |shop| {
        let mut orders: [Vec<Order>; 2] = [Vec::new(), Vec::new()];
        for n in 0..40 {
            let order = shop.buy(&format!("user-{n}"), 1).await;
            orders[usize::from(order.id.bucket().0)].push(order);
        }
        let [here, there] = orders;
        let pairs: Vec<_> = here.into_iter().zip(there).collect();
        assert!(pairs.len() > 10, "both buckets have buyers");
        let bills = pairs.iter().enumerate().flat_map(|(n, (one, other))| {
            let txn = format!("t{n}");
            [bill(one, &txn), bill(other, &txn)]
        });
        all_at_once(shop, bills.collect()).await;
        for (one, other) in &pairs {
            let mut states = [shop.state(one), shop.state(other)];
            states.sort_unstable();
            assert_eq!(states, ["PAID", "PENDING_PAYMENT"]);
            let paid = [shop.paid(one), shop.paid(other)].concat();
            assert_eq!(paid, ["APPLIED"]);
        }
    })
    .await;
}

#[tokio::test]
async fn what_does_not_match_waits_for_a_person() {
    on_each_host(sale(10, 10, 1), async |shop| {
        let orders = [shop.buy("ana", 1).await, shop.buy("bea", 1).await];
        let short = |order: &Order, txn: &str| Payment {
            amount: Cents(99),
            ..bill(order, txn)
        };
        let dollars = Payment {
            currency: Currency::parse("USD").expect("a currency"),
            ..bill(&orders[1], "t2")
        };
        let nobodys = Payment {
            order: OrderId::parse("00000000-0000-8000-8000-000000000000"),
            ..bill(&orders[1], "t3")
        };
        let (short, _) = shop.capture(&short(&orders[0], "t1")).await;
        let (dollars, _) = shop.capture(&dollars).await;
        let (nobodys, _) = shop.capture(&nobodys).await;
        for payment in [&short, &dollars, &nobodys] {
            assert_eq!(payment.state, PaymentState::Review);
            assert!(!payment.note.is_empty());
            let found = shop.selling().payment(&payment.id).expect("readable");
            assert_eq!(found.as_ref(), Some(payment));
        }
        assert_eq!(nobodys.order, None);
        assert_eq!(shop.counts(), [8, 2, 0, 0]);
        let accepted = shop.selling().review(&short, true, "a cent".into()).await;
        assert!(matches!(
            accepted,
            Captured::Stands {
                replayed: false,
                ..
            }
        ));
        assert_eq!(
            (shop.state(&orders[0]), shop.paid(&orders[0])),
            ("PAID", vec!["APPLIED"])
        );
        // Its order is paid: it can only go back.
        let (second, _) = shop.capture(&bill(&orders[0], "t4")).await;
        let again = shop.selling().review(&second, true, "again".into()).await;
        assert!(matches!(again, Captured::Illegal(_)), "{again:?}");
        for payment in [&dollars, &nobodys] {
            let no = shop.selling().review(payment, false, "no".into()).await;
            assert!(
                matches!(
                    no,
                    Captured::Stands {
                        replayed: false,
                        ..
                    }
                ),
                "{no:?}"
            );
            shop.sent_back(payment).await;
        }
        let stray = shop.selling().review(&nobodys, true, "yes".into()).await;
        assert!(
            matches!(stray, Captured::Illegal(_)),
            "no order could take it"
        );
        assert_eq!(
            (shop.state(&orders[1]), shop.paid(&orders[1])),
            ("PENDING_PAYMENT", vec!["REFUNDED"])
        );
    })
    .await;
}

#[tokio::test]
async fn a_refund_asked_twice_is_one_and_its_units_stay_away_if_told_to() {
    on_each_host(sale(10, 10, 2), async |shop| {
        let (away, back) = (shop.buy("ana", 2).await, shop.buy("bea", 3).await);
        let unpaid = shop.buy("cid", 1).await;
        let (for_away, _) = shop.capture(&bill(&away, "t1")).await;
        let (for_back, _) = shop.capture(&bill(&back, "t2")).await;
        let first = shop.refund(&away, false).await;
        assert_eq!(
            shop.refund(&away, true).await,
            first,
            "the first word counts"
        );
        shop.refund(&back, true).await;
        let no = shop
            .change(&unpaid, OrderEvent::RefundAsked { restock: true })
            .await;
        assert!(matches!(no, Changed::Illegal(_)), "{no:?}");
        assert_eq!(
            (shop.state(&away), shop.paid(&away)),
            ("REFUND_DUE", vec!["REFUND_DUE"])
        );
        assert_eq!(shop.counts(), [7, 1, 0, 2]);
        shop.restart().await;
        assert_eq!(shop.counts(), [7, 1, 0, 2]);
        shop.sent_back(&for_away).await;
        shop.sent_back(&for_away).await;
        shop.sent_back(&for_back).await;
        for order in [&away, &back] {
            assert_eq!(
                (shop.state(order), shop.paid(order)),
                ("REFUNDED", vec!["REFUNDED"])
            );
            assert_eq!(shop.refund(order, true).await.state.name(), "REFUNDED");
        }
        // What came back may be bought, what was withdrawn may not.
        shop.buy("dan", 7).await;
        assert_eq!(shop.counts(), [0, 8, 0, 2]);
        shop.restart().await;
        assert_eq!(shop.counts(), [0, 8, 0, 2]);
    })
    .await;
}

#[tokio::test]
async fn an_order_is_refunded_once_all_its_money_is_back() {
    on_each_host(sale(10, 10, 2), async |shop| {
        for surplus_first in [false, true] {
            let name = if surplus_first { "ana" } else { "bea" };
            let order = shop.buy(name, 1).await;
            let (first, _) = shop.capture(&bill(&order, &format!("{name}-1"))).await;
            let (surplus, _) = shop.capture(&bill(&order, &format!("{name}-2"))).await;
            assert_eq!(first.state, PaymentState::Applied);
            assert_eq!(surplus.state, PaymentState::RefundDue);
            shop.refund(&order, true).await;
            let (one, other) = if surplus_first {
                (&surplus, &first)
            } else {
                (&first, &surplus)
            };
            shop.sent_back(one).await;
            assert_eq!(shop.state(&order), "REFUND_DUE");
            shop.sent_back(other).await;
            assert_eq!(
                (shop.state(&order), shop.paid(&order)),
                ("REFUNDED", vec!["REFUNDED"; 2])
            );
            // And once more, too late for anything.
            let (stray, _) = shop.capture(&bill(&order, &format!("{name}-3"))).await;
            assert_eq!(stray.state, PaymentState::RefundDue);
            shop.sent_back(&stray).await;
            assert_eq!(shop.state(&order), "REFUNDED");
        }
        assert_eq!(shop.counts(), [10, 0, 0, 0]);
    })
    .await;
}

/// What a refund brings to its order comes with it or not at all.
#[tokio::test]
async fn a_refund_whose_order_cannot_be_looked_into_is_not_half_done() {
    on_each_host(sale(10, 10, 1), async |shop| {
        let order = shop.buy("ana", 1).await;
        let (paid, _) = shop.capture(&bill(&order, "t1")).await;
        shop.refund(&order, true).await;
        // Another payment of the order that cannot be read, and then one that can.
        let other = Payment {
            state: PaymentState::Refunded,
            ..bill(&order, "t2")
        };
        let readable = encode_payment(&other);
        let ledger = shop.open.as_ref().expect("it is open").ledger.clone();
        let write = async |version, body: Vec<u8>| {
            let draft = Draft {
                kind: Kind(5),
                group: Bytes::from_static(b"tea"),
                id: Bytes::copy_from_slice(other.id.as_bytes()),
                version,
                live: false,
                owner: Some(Bytes::copy_from_slice(order.id.as_bytes())),
                uniques: Vec::new(),
                at_ms: T0,
                body: body.into(),
            };
            let receipt = ledger.append(Group::one(draft)).await.expect("it is open");
            receipt.await.expect("durable");
        };
        write(1, b"nonsense".to_vec()).await;
        let said = shop.selling().refunded(&paid, "r1".into()).await;
        assert!(matches!(said, Captured::Unknown), "{said:?}");
        write(2, readable).await;
        assert_eq!(shop.paid(&order), ["REFUNDED", "REFUND_DUE"]);
        shop.sent_back(&paid).await;
        assert_eq!(shop.state(&order), "REFUNDED");
    })
    .await;
}

/// A turn of the desk takes in so many wishes at most, and here there are always more:
/// the crowd asks until the window has ended, however long the disk takes.
#[tokio::test]
async fn windows_end_however_many_ask_meanwhile() {
    let mut shop = Shop::new(sale(10, 10, 1), None);
    shop.start().await;
    let (paid, unpaid) = (shop.buy("ana", 1).await, shop.buy("bea", 2).await);
    shop.capture(&bill(&paid, "t1")).await;
    let n_heard = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let selling = Arc::clone(&shop.open.as_ref().expect("it is open").selling);
        let (n_heard, is_over) = (Arc::clone(&n_heard), Arc::clone(&is_over));
        let id = paid.id;
        crowd.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let said = selling.change(id, OrderEvent::Cancel).await;
                assert!(matches!(said, Changed::Illegal(_)), "{said:?}");
                n_heard.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while n_heard.load(Ordering::Relaxed) < CROWD {
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.state(&unpaid), "PENDING_PAYMENT");
    shop.later(WINDOW);
    while shop.state(&unpaid) != "CLOSED" {
        // A desk that closes nothing while it is asked must fail and not hang.
        assert!(n_heard.load(Ordering::Relaxed) < 10_000 * CROWD, "never");
        tokio::task::yield_now().await;
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(asked) = crowd.join_next().await {
        asked.expect("no panic");
    }
}

/// A group that the ledger refuses takes nobody's window with it.
#[tokio::test]
async fn a_window_whose_end_was_refused_with_the_money_of_others_ends_all_the_same() {
    // So long that only the hands of the clock end it.
    let long = Sale {
        pay_window_ms: 3_600_000,
        ..sale(10, 10, 1)
    };
    let mut shop = Shop::new(long, None);
    shop.start().await;
    let (ana, bea) = (shop.buy("ana", 1).await, shop.buy("bea", 2).await);
    // The transaction is taken, and not by a payment.
    let taken = Draft {
        kind: Kind(99),
        group: Bytes::from_static(b"others"),
        id: Bytes::from_static(b"other"),
        version: 1,
        live: false,
        owner: None,
        uniques: vec![Bytes::from_static(b"pay:card:t1")],
        at_ms: T0,
        body: Bytes::new(),
    };
    let group = Group {
        drafts: vec![taken],
        meta: Vec::new(),
    };
    let ledger = &shop.open.as_ref().expect("it is open").ledger;
    let receipt = ledger.append(group).await.expect("it is open");
    receipt.await.expect("durable");
    shop.later(3_600_000);
    // The money and both windows are one turn of the desk.
    let said = shop.selling().capture(bill(&ana, "t1")).await;
    assert!(matches!(said, Captured::Unknown), "{said:?}");
    assert_eq!([shop.state(&ana), shop.state(&bea)], ["PENDING_PAYMENT"; 2]);
    shop.later(1_000);
    shop.adds_up().await;
    assert_eq!([shop.state(&ana), shop.state(&bea)], ["CLOSED"; 2]);
}

/// The smallest group that a configuration may allow is half of what a desk takes in.
#[tokio::test]
async fn more_money_at_once_than_a_commit_holds_is_taken_in_turns() {
    let mut shop = Shop {
        records_max: 512,
        ..Shop::new(sale(1_000, 1, 1), None)
    };
    shop.start().await;
    let mut orders = Vec::new();
    for n in 0..600 {
        orders.push(shop.buy(&format!("user-{n}"), 1).await);
    }
    let mut under_way = JoinSet::new();
    for (n, order) in orders.iter().enumerate() {
        let selling = Arc::clone(&shop.open.as_ref().expect("it is open").selling);
        let payment = bill(order, &format!("t{n}"));
        under_way.spawn(async move { selling.capture(payment).await });
    }
    while let Some(said) = under_way.join_next().await {
        // Nobody is told to come again.
        assert!(
            matches!(&said, Ok(Captured::Stands { payment, .. }) if payment.state == PaymentState::Applied),
            "{said:?}"
        );
    }
    assert_eq!(shop.counts(), [400, 0, 600, 0]);
    shop.adds_up().await;
}
