//! Orders of buyers who are numbered, and what becomes of them.

use floodgate_engine::domain::ids::{
    BucketNo, DeviceId, Fingerprint, IdemKey, NodeNo, OrderId, OrderIdParts, SaleId, SaleNo, SkuId,
    UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Item, Items, Order, OrderEvent, OrderState, Version};
use floodgate_engine::domain::time::UnixMs;

use super::T0;

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
