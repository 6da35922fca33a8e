//! What stands in a bucket can be read back, whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use floodgate_engine::domain::codec::{decode_order, encode_order};
use floodgate_engine::domain::ids::{IdemKey, UserId};
use floodgate_engine::domain::order::Order;
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stock::{HoldRequest, Meta, StockHost, Verdict};

use super::host::{bucket, connect};
use super::orders::{open, order};
use crate::common::redis;

#[tokio::test]
async fn every_hold_of_a_bucket_is_its_order() {
    let Some(server) = redis::start() else { return };
    let host = Arc::new(connect(&server.config()).await.expect("a host"));
    assert_eq!(host.meta(&bucket(0)).await, Ok(None));
    let shared = Arc::clone(&host) as Arc<dyn StockHost>;
    let mut caller = open(shared, 0, 5_000).await;
    caller.witness(77);
    let mut orders: Vec<Order> = (0..2_000).map(order).collect();
    // One who has several, and is called like the field that keeps a hash from being empty.
    for (n, order) in orders[997..1_003].iter_mut().enumerate() {
        order.user = UserId::parse("_").expect("an id");
        order.key = IdemKey::parse(&format!("key-{n}")).expect("a key");
    }
    for part in orders.chunks(500) {
        let bodies: Vec<Vec<u8>> = part.iter().map(encode_order).collect();
        let requests: Vec<HoldRequest<'_>> = part
            .iter()
            .zip(&bodies)
            .map(|(order, blob)| HoldRequest { order, blob })
            .collect();
        let held = caller.reserve(UnixMs(1), false, 6, &requests).await;
        let held = held.expect("answered");
        assert!(held.iter().all(|v| *v == Verdict::Held));
    }
    let meta = Meta {
        epoch: 1,
        n: 7,
        is_building: false,
        ledger: "00".repeat(16),
        seq: 77,
        sale: bytes::Bytes::from_static(b"a sale"),
    };
    assert_eq!(host.meta(&bucket(0)).await, Ok(Some(meta)));
    let (mut found, mut at) = (BTreeMap::new(), Some(0));
    while let Some(from) = at {
        let page = host.holds(&bucket(0), from).await.expect("a page");
        for (id, hold) in page.holds {
            let order = decode_order(&hold.order).expect("an order");
            assert_eq!(
                (order.id, order.version, order.mark()),
                (id, hold.version, hold.mark)
            );
            found.insert(id, order);
        }
        at = page.next;
    }
    assert!(
        found.into_values().eq(orders),
        "each order once, and no other"
    );
}
