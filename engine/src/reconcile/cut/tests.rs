//! Cuts through a real ledger and a store that changes when it is told to.

use bytes::Bytes;
use floodgate_ledger::{Group, LedgerConfig, LedgerId};
use parking_lot::Mutex;
use serde_json::json;
use smallvec::smallvec;
use tempfile::TempDir;

use super::*;
use crate::domain::codec::encode_order;
use crate::domain::ids::{
    BucketNo, EntitlementId, Fingerprint, IdemKey, NodeNo, OrderId, OrderIdParts, PaymentId,
    SaleId, SaleNo, SkuId, UserId,
};
use crate::domain::money::{Cents, Currency};
use crate::domain::order::{Item, Order, OrderEvent, OrderState, Version};
use crate::domain::sale::RawSale;
use crate::domain::time::UnixMs;
use crate::sale::facts::order_draft;
use crate::stream::{Batch, Put, StoredPage};

const T: u64 = 1_793_000_000_000;

type Hook<'a> = Box<dyn FnOnce(&Fake) + Send + 'a>;

/// A store of orders alone. What is to happen between the view and the first page does.
struct Fake<'a> {
    orders: Mutex<BTreeMap<OrderId, OrderFact>>,
    mark: Mutex<Mark>,
    between: Mutex<Option<Hook<'a>>>,
}

impl Fake<'_> {
    fn put(&self, order: &Order) {
        self.orders.lock().insert(order.id, OrderFact::of(order));
    }
}

fn nobody_asks<T>() -> Result<T, StoreError> {
    Err(StoreError::Away("nobody asks for that".into()))
}

impl OrderStore for Fake<'_> {
    fn order_facts_page(
        &self,
        _: u16,
        _: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<FactPage<OrderFact>, StoreError> {
        if let Some(hook) = self.between.lock().take() {
            hook(self);
        }
        let orders = self.orders.lock();
        let behind = orders.values().filter(|o| after.is_none_or(|id| o.id > id));
        Ok(FactPage {
            facts: behind.take(limit).cloned().collect(),
            mark: Some(self.mark.lock().clone()),
        })
    }

    fn mark(&self, _: u16) -> Result<Option<Mark>, StoreError> {
        Ok(Some(self.mark.lock().clone()))
    }

    fn put(&self, _: u16, _: &Batch, _: Option<&Mark>, _: &Mark) -> Result<Put, StoreError> {
        nobody_asks()
    }

    fn sales(&self) -> Result<Vec<SaleId>, StoreError> {
        nobody_asks()
    }

    fn orders_page(
        &self,
        _: u16,
        _: &SaleId,
        _: Option<OrderId>,
        _: usize,
    ) -> Result<StoredPage, StoreError> {
        nobody_asks()
    }

    fn payments_page(
        &self,
        _: u16,
        _: Option<&SaleId>,
        _: Option<&PaymentId>,
        _: usize,
    ) -> Result<FactPage<PaymentFact>, StoreError> {
        nobody_asks()
    }

    fn entitlements_page(
        &self,
        _: u16,
        _: &SaleId,
        _: Option<&EntitlementId>,
        _: usize,
    ) -> Result<FactPage<EntitlementFact>, StoreError> {
        nobody_asks()
    }
}

struct Room {
    sale: Sale,
    ledger: Ledger,
    runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = LedgerConfig::new(folder.path().join("ledger"));
        config.memtable_bytes = 4 << 20;
        let sku =
            |id| json!({"id": id, "name": "s", "priceCent": 1, "currency": "EUR", "units": 9});
        let raw = json!({
            "id": "tea", "name": "Tea", "unitsPerUser": 9, "skus": [sku("cup"), sku("pot")],
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        });
        let raw: RawSale = serde_json::from_value(raw).expect("a raw sale");
        Self {
            sale: raw.check().expect("a sale"),
            ledger: Ledger::open(config).expect("a ledger"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            _folder: folder,
        }
    }

    /// One record an order.
    fn write(&self, order: &Order) {
        let group = Group::one(order_draft(order, Bytes::from(encode_order(order))));
        self.runtime.block_on(async {
            let receipt = self.ledger.append(group).await.expect("handed over");
            receipt.await.expect("durable");
        });
    }

    fn mark(&self, seq: u64) -> Mark {
        Mark {
            seq: Seq(seq),
            ..Mark::genesis(&self.ledger)
        }
    }

    /// A store that has come to `seq`, with these orders.
    fn store<'a>(&self, seq: u64, orders: &[&Order]) -> Fake<'a> {
        let store = Fake {
            orders: Mutex::default(),
            mark: Mutex::new(self.mark(seq)),
            between: Mutex::default(),
        };
        for order in orders {
            store.put(order);
        }
        store
    }

    fn cut(&self, store: &Fake, dead: &[&Order]) -> Option<Orders> {
        let dead: BTreeSet<RowId> = dead.iter().map(|order| RowId::Order(order.id)).collect();
        let mark = store.mark(0).expect("reads").expect("a mark");
        let is_over = AtomicBool::new(false);
        let cut = Cut::new(
            &self.ledger,
            (store, 0),
            Some(&self.sale),
            &mark,
            &dead,
            (0, &is_over),
        );
        cut.expect("a view").orders(&self.sale).expect("compared")
    }
}

fn order(n: u16, cups: u32, pots: u32) -> Order {
    let id = OrderIdParts {
        ms: T + u64::from(n),
        bucket: BucketNo(0),
        sale: SaleNo(1),
        node: NodeNo(0),
        counter: n,
        random: 0,
    };
    let item = |sku, quantity| Item {
        sku: SkuId::parse(sku).expect("an id"),
        quantity,
        price: Cents(1),
    };
    let mut items = smallvec![item("cup", cups), item("pot", pots)];
    items.retain(|item: &mut Item| item.quantity > 0);
    Order {
        id: OrderId::from_parts(id),
        sale: SaleId::parse("tea").expect("an id"),
        user: UserId::parse(&format!("u{n}")).expect("an id"),
        key: IdemKey::parse("k").expect("a key"),
        fingerprint: Fingerprint(1),
        items,
        currency: Currency::parse("EUR").expect("a currency"),
        state: OrderState::PendingPayment {
            until: UnixMs(T + 60_000),
            grace_used: false,
        },
        version: Version::first(1),
        created_at: UnixMs(T),
        updated_at: UnixMs(T),
        pay_deadline: UnixMs(T + 60_000),
        device: None,
    }
}

fn paid(order: &Order) -> Order {
    let stepped = order.step(OrderEvent::PaymentApplied, 1, UnixMs(T + 9));
    stepped.expect("legal").expect("changed").0
}

#[track_caller]
fn assert_found(found: Option<Orders>, n: u64, first: Option<&Order>, units: [u64; 2]) {
    let found = found.expect("it could be compared");
    assert_eq!(found.drift.n, n, "{found:?}");
    let first = first.map(|order| order.id.to_string());
    assert_eq!(found.drift.first, first);
    assert_eq!(found.drift_units, units);
}

#[test]
fn what_is_on_its_way_is_no_difference_and_all_else_is() {
    let room = Room::new();
    let (ana, bob, cid) = (order(1, 1, 0), order(2, 2, 0), order(3, 1, 1));
    let bob_paid = paid(&bob);
    for order in [&ana, &bob, &cid, &bob_paid] {
        room.write(order);
    }

    // Cid and Bob's payment are on their way.
    let found = room.cut(&room.store(2, &[&ana, &bob]), &[]);
    let units = |held, sold| Units { held, sold };
    assert_eq!(
        found.as_ref().map(|f| f.ledger.clone()),
        Some(vec![units(2, 2), units(1, 0)])
    );
    assert_found(found, 0, None, [0, 0]);
    // Ana must be there by now, and Bob need not be: what he was is not known any more.
    assert_found(room.cut(&room.store(2, &[]), &[]), 1, None, [1, 0]);
    // Everything must be.
    assert_found(room.cut(&room.store(4, &[&ana]), &[]), 2, None, [3, 1]);
    let all = [&ana, &bob_paid, &cid];
    assert_found(room.cut(&room.store(4, &all), &[]), 0, None, [0, 0]);

    // One in a version that is too old, or in one that never was.
    let found = room.cut(&room.store(4, &[&ana, &bob, &cid]), &[]);
    assert_found(found, 1, Some(&bob), [4, 0]);
    let found = room.cut(&room.store(4, &[&paid(&ana), &bob_paid, &cid]), &[]);
    assert_found(found, 1, Some(&ana), [2, 0]);
    // The same version with other units.
    let found = room.cut(&room.store(4, &[&ana, &bob_paid, &order(3, 1, 5)]), &[]);
    assert_found(found, 1, Some(&cid), [0, 4]);
    // One that the ledger never heard of.
    let strange = order(4, 0, 7);
    let found = room.cut(&room.store(2, &[&ana, &bob, &strange]), &[]);
    assert_found(found, 1, Some(&strange), [0, 7]);

    // A dead letter is compared when it was replayed, whatever the store has of it.
    assert_found(
        room.cut(&room.store(4, &[&bob, &cid]), &[&ana, &bob]),
        0,
        None,
        [0, 0],
    );
}

#[test]
fn what_comes_during_the_cut_is_no_difference() {
    let (ana, bob) = (order(1, 1, 0), order(2, 1, 0));
    let ana_paid = paid(&ana);
    // Ana's payment and Bob's order reach ledger and store; then the store has `theirs`.
    let comes = |theirs: &[&Order]| {
        let room = Room::new();
        room.write(&ana);
        let store = room.store(1, &[&ana]);
        *store.between.lock() = Some(Box::new(|store| {
            room.write(&ana_paid);
            room.write(&bob);
            theirs.iter().for_each(|order| store.put(order));
            *store.mark.lock() = room.mark(3);
        }));
        room.cut(&store, &[])
    };
    assert_found(comes(&[&ana_paid, &bob]), 0, None, [0, 0]);
    // The store may be quicker than the mark that it was asked for, not than the ledger.
    assert_found(comes(&[]), 0, None, [0, 0]);
    let [mut otherwise, mut too_new] = [ana_paid.clone(), ana_paid.clone()];
    otherwise.items[0].quantity = 4;
    too_new.version = too_new.version.next(1);
    assert_found(comes(&[&otherwise, &bob]), 1, Some(&ana), [5, 0]);
    assert_found(comes(&[&too_new, &bob]), 1, Some(&ana), [2, 0]);
    let strange = order(3, 1, 0);
    assert_found(
        comes(&[&ana_paid, &bob, &strange]),
        1,
        Some(&strange),
        [1, 0],
    );
}

#[test]
fn a_store_that_is_put_back_meanwhile_is_not_compared() {
    let room = Room::new();
    let (ana, bob) = (order(1, 1, 0), order(2, 1, 0));
    room.write(&ana);
    room.write(&bob);
    let other = Mark {
        ledger: LedgerId([9; 16]),
        ..room.mark(2)
    };
    for to in [room.mark(1), other] {
        let store = room.store(2, &[&ana, &bob]);
        *store.between.lock() = Some(Box::new(|store| {
            store.orders.lock().remove(&bob.id);
            *store.mark.lock() = to;
        }));
        assert_eq!(room.cut(&store, &[]), None);
    }
}
