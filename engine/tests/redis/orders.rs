//! Orders, and a bucket to sell them from.

use std::sync::Arc;

use floodgate_engine::domain::ids::{
    BucketNo, Fingerprint, IdemKey, NodeNo, OrderId, OrderIdParts, SaleNo, SkuId, UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Item, Items, Order, OrderState, Version};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stock::{BucketCaller, Owner, StockHost};
use tokio::sync::watch;

use super::host::bucket;

const T0: u64 = 1_794_355_200_000;

pub fn order(n: u32) -> Order {
    let sale = bucket(0).sale;
    let mut items = Items::new();
    items.push(Item {
        sku: SkuId::parse("unit").expect("an id"),
        quantity: 1,
        price: Cents(12_900),
    });
    let until = UnixMs(T0 + 900_000);
    Order {
        id: OrderId::from_parts(OrderIdParts {
            ms: T0 + u64::from(n),
            bucket: BucketNo(0),
            sale: SaleNo(1),
            node: NodeNo(0),
            counter: (n % 65_536) as u16,
            random: n,
        }),
        user: UserId::parse(&format!("buyer-{n:09}")).expect("an id"),
        key: IdemKey::parse("3b1c6d0e-1f0a-4d5b-9c57-0a0b0c0d0e0f").expect("a key"),
        fingerprint: Fingerprint::of(&sale, items.iter().map(|i| (&i.sku, i.quantity))),
        sale,
        items,
        currency: Currency::parse("EUR").expect("a currency"),
        state: OrderState::PendingPayment {
            until,
            grace_used: false,
        },
        version: Version::first(1),
        created_at: UnixMs(T0),
        updated_at: UnixMs(T0),
        pay_deadline: until,
        device: None,
    }
}

/// A bucket that sells `units`.
pub async fn open(host: Arc<dyn StockHost>, no: u16, units: i64) -> BucketCaller {
    let owner = Owner {
        ledger: "00".repeat(16),
        run: 1,
    };
    let lost = watch::Sender::new(None);
    let mut caller = BucketCaller::new(host, bucket(no), 1, &owner, lost);
    let (from, to) = (UnixMs(0), UnixMs(T0 + 86_400_000));
    caller
        .rebuild_begin(from, to, b"a sale")
        .await
        .expect("begun");
    caller.rebuild_end(0).await.expect("ended");
    let all = [(SkuId::parse("unit").expect("an id"), units)];
    assert!(caller.open("all", &all).await.expect("opened"));
    caller
}
