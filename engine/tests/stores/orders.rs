//! The sale, its buyers and their orders, and what a store shows of them.

use std::collections::BTreeMap;

use floodgate_engine::domain::ids::{
    BucketNo, DeviceId, Fingerprint, IdemKey, NodeNo, OrderId, OrderIdParts, SaleId, SaleNo, SkuId,
    UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Item, Items, Order, OrderEvent, OrderState, Version};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stream::{Batch, Mark, OrderRow, OrderStore, Row, StoredOrder};
use floodgate_ledger::{ChainHash, LedgerId, Seq};

use crate::places::Place;
use crate::places::after::{self, order_draft};
use crate::till::T0;

pub fn sale(name: &str) -> SaleId {
    SaleId::parse(name).unwrap()
}

pub fn order_id(n: u16) -> OrderId {
    OrderId::from_parts(OrderIdParts {
        ms: T0 + u64::from(n / 3), // Some share a millisecond.
        bucket: BucketNo(n % 64),
        sale: SaleNo(7),
        node: NodeNo(1),
        counter: n,
        random: u32::from(n) * 31,
    })
}

/// Buyer `n` asks `sale` for tea, every third one for a cup with it.
pub fn ordered(name: &str, n: u16) -> Order {
    let item = |sku: &str, quantity, cents| Item {
        sku: SkuId::parse(sku).unwrap(),
        quantity,
        price: Cents(cents),
    };
    let mut items = Items::new();
    if n.is_multiple_of(3) {
        items.push(item("cup", 1, 450));
    }
    items.push(item("tea", 1 + u32::from(n % 4), 1_999));
    let sale = sale(name);
    let until = UnixMs(T0 + 900_000 + u64::from(n));
    Order {
        id: order_id(n),
        user: UserId::parse(&format!("buyer-{n}")).unwrap(),
        key: IdemKey::parse(&format!("key_{n}")).unwrap(),
        fingerprint: Fingerprint::of(&sale, items.iter().map(|i| (&i.sku, i.quantity))),
        sale,
        items,
        currency: Currency::parse("EUR").unwrap(),
        state: OrderState::PendingPayment {
            until,
            grace_used: false,
        },
        version: Version::first(1),
        created_at: UnixMs(T0 + u64::from(n)),
        updated_at: UnixMs(T0 + u64::from(n)),
        pay_deadline: until,
        device: n
            .is_multiple_of(2)
            .then(|| DeviceId::parse(&format!("phone-{n}")).unwrap()),
    }
}

/// What happens to an order, from its first version to its last.
pub fn life(first: Order, events: &[OrderEvent]) -> Vec<Order> {
    let mut versions = vec![first];
    for (i, event) in events.iter().enumerate() {
        let last = versions.last().unwrap();
        // The last steps fall to a desk that took the bucket over.
        let epoch = if i >= 2 { 2 } else { 1 };
        let now = UnixMs(last.updated_at.0 + 1_000);
        let (next, _) = last.step(*event, epoch, now).unwrap().unwrap();
        versions.push(next);
    }
    versions
}

pub fn bought_and_given_back(name: &str, n: u16) -> Vec<Order> {
    use OrderEvent::{Granted, PaymentApplied, PaymentStarted, RefundAsked, RefundDone};
    let until = UnixMs(T0 + 1_200_000);
    life(
        ordered(name, n),
        &[
            PaymentStarted { until },
            PaymentApplied,
            Granted,
            RefundAsked { restock: true },
            RefundDone,
        ],
    )
}

/// A life for everybody; the buyers do not all do the same.
pub fn some_life(name: &str, n: u16) -> Vec<Order> {
    use OrderEvent::{Cancel, HeldAgain, PaymentApplied, WindowEnded};
    let first = ordered(name, n);
    let now = UnixMs(T0 + 5_000_000);
    match n % 5 {
        0 => vec![first],
        1 => life(first, &[PaymentApplied]),
        2 => life(
            first,
            &[
                WindowEnded { now },
                HeldAgain { until: now },
                PaymentApplied,
            ],
        ),
        3 => life(first, &[Cancel]),
        _ => bought_and_given_back(name, n),
    }
}

/// The lives of `n` buyers as a ledger sees them: everybody's first step, then
/// everybody's second, and so on.
pub fn rush(name: &str, n: u16) -> Vec<Order> {
    let lives: Vec<_> = (0..n).map(|i| some_life(name, i)).collect();
    let longest = lives.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|step| lives.iter().filter_map(move |l| l.get(step).cloned()))
        .collect()
}

/// The newest version of each, and how many versions there were.
pub fn newest<'a>(versions: impl IntoIterator<Item = &'a Order>) -> Vec<StoredOrder> {
    let mut by_id: BTreeMap<OrderId, StoredOrder> = BTreeMap::new();
    for order in versions {
        let kept = by_id.entry(order.id).or_insert_with(|| StoredOrder {
            order: order.clone(),
            n_events: 0,
        });
        kept.n_events += 1;
        if kept.order.version < order.version {
            kept.order = order.clone();
        }
    }
    by_id.into_values().collect()
}

pub fn row(order: &Order) -> OrderRow {
    match after::row(&order_draft(order)) {
        Row::Order(row) => row,
        other @ (Row::Payment(_) | Row::Entitlement(_)) => panic!("no order: {other:?}"),
    }
}

pub fn batch<'a>(orders: impl IntoIterator<Item = &'a Order>) -> Batch {
    Batch {
        rows: orders.into_iter().map(row).map(Row::Order).collect(),
        ..Batch::default()
    }
}

pub fn mark(seq: u64) -> Mark {
    Mark {
        ledger: LedgerId([7; 16]),
        seq: Seq(seq),
        hash: ChainHash([seq as u8; 32]),
    }
}

/// Everything of a sale, in pages of `limit`.
pub fn all_of(store: &dyn OrderStore, name: &str, limit: usize) -> Vec<StoredOrder> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.orders_page(0, &sale(name), after, limit).unwrap();
        assert!(page.orders.len() <= limit);
        all.extend(page.orders);
        match page.next {
            Some(next) => {
                assert!(after < Some(next), "a page that does not move on");
                after = Some(next);
            }
            None => return all,
        }
    }
}

pub fn n_rows(place: &dyn Place, table: &str) -> usize {
    place.tables()[table].len()
}

/// A small generator of its own: the same disorder at every run.
pub fn shuffle<T>(list: &mut [T], mut seed: u64) {
    for i in (1..list.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        list.swap(i, (seed >> 33) as usize % (i + 1));
    }
}
