//! Orders as the engine makes them, without an engine.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use floodgate_engine::domain::codec::encode_order;
use floodgate_engine::domain::ids::{
    BucketNo, Fingerprint, IdemKey, NodeNo, OrderId, OrderIdParts, SaleId, SaleNo, SkuId, UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Item, Order, OrderState, Version};
use floodgate_engine::domain::time::UnixMs;
use floodgate_ledger::{Draft, Group, Kind, Ledger};

const HOUR_MS: u64 = 3_600_000;
/// Records a group, and groups on their way, when a ledger is filled.
const GROUP: usize = 1_000;
const GROUPS_UNDER_WAY: usize = 8;

/// Milliseconds since 1970.
pub fn now_ms() -> Result<u64, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|e| format!("read the clock: {e}"))?;
    u64::try_from(now.as_millis()).map_err(|e| format!("read the clock: {e}"))
}

/// A moment that all orders of a run were made at: an hour ago.
pub fn made_at() -> Result<u64, String> {
    Ok(now_ms()?.saturating_sub(HOUR_MS))
}

pub fn user(n: u32) -> String {
    format!("buyer-{n}")
}

/// The order number `n`; its pay window ends tomorrow.
pub fn order(n: u32, made_at: u64) -> Order {
    order_until(n, made_at, made_at + 25 * HOUR_MS)
}

/// The order number `n` with a pay window that ends then.
pub fn order_until(n: u32, made_at: u64, until: u64) -> Order {
    let until = UnixMs(until);
    Order {
        id: OrderId::from_parts(OrderIdParts {
            ms: u64::from(n / 50_000) + made_at,
            bucket: BucketNo(0),
            sale: SaleNo(1),
            node: NodeNo(0),
            counter: u16::try_from(n % 50_000).expect("50,000 fits"),
            random: 7,
        }),
        sale: sale(),
        user: UserId::parse(&user(n)).expect("letters and digits"),
        key: IdemKey::parse(&format!("key-{n}")).expect("letters and digits"),
        fingerprint: Fingerprint(1),
        items: std::iter::once(Item {
            sku: sku(),
            quantity: 1,
            price: Cents(100),
        })
        .collect(),
        currency: Currency::parse("EUR").expect("three letters"),
        state: OrderState::PendingPayment {
            until,
            grace_used: false,
        },
        version: Version::first(1),
        created_at: UnixMs(made_at),
        updated_at: UnixMs(made_at),
        pay_deadline: until,
        device: None,
    }
}

pub fn sale() -> SaleId {
    SaleId::parse("bench").expect("letters")
}

pub fn sku() -> SkuId {
    SkuId::parse("unit").expect("letters")
}

/// As the engine hands it to its ledger (kind 1 in `ledger/FORMAT.md`).
fn draft(order: &Order) -> Draft {
    Draft {
        kind: Kind(1),
        group: Bytes::copy_from_slice(order.sale.as_bytes()),
        id: Bytes::copy_from_slice(order.id.as_bytes()),
        version: order.version.0,
        live: order.state.is_live(),
        owner: Some(Bytes::copy_from_slice(order.user.as_bytes())),
        uniques: Vec::new(),
        at_ms: order.updated_at.0,
        body: encode_order(order).into(),
    }
}

/// Puts the orders 0 to `n` into a ledger; all are durable when it returns.
pub async fn fill(ledger: &Ledger, n: u32, order: impl Fn(u32) -> Order) -> Result<(), String> {
    let numbers: Vec<u32> = (0..n).collect();
    let mut under_way = VecDeque::new();
    for chunk in numbers.chunks(GROUP) {
        let drafts = chunk.iter().map(|n| draft(&order(*n))).collect();
        let group = Group {
            drafts,
            meta: Vec::new(),
        };
        under_way.push_back(ledger.append(group).await.map_err(|e| e.to_string())?);
        if under_way.len() >= GROUPS_UNDER_WAY
            && let Some(receipt) = under_way.pop_front()
        {
            receipt.await.map_err(|e| e.to_string())?;
        }
    }
    for receipt in under_way {
        receipt.await.map_err(|e| e.to_string())?;
    }
    Ok(())
}
