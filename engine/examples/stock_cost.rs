//! What does one order cost in the embedded stock host, by batch size?
//!
//! Prints microseconds an order, encoding and decoding included, on one thread
//! of an otherwise idle machine.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::sync::Arc;
use std::time::Instant;

use floodgate_engine::domain::codec::encode_order;
use floodgate_engine::domain::ids::{
    BucketNo, Fingerprint, IdemKey, NodeNo, OrderId, OrderIdParts, SaleId, SaleNo, SkuId, UserId,
};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::order::{Item, Order, OrderState, Version};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stock::embedded::{EmbeddedConfig, EmbeddedHost};
use floodgate_engine::stock::{BucketCaller, BucketRef, HoldRequest, StockHost, Verdict};

fn order(n: u32) -> Order {
    let until = UnixMs(900_000);
    Order {
        id: OrderId::from_parts(OrderIdParts {
            ms: u64::from(n / 50_000) + 1,
            bucket: BucketNo(0),
            sale: SaleNo(1),
            node: NodeNo(0),
            counter: (n % 50_000) as u16,
            random: 7,
        }),
        sale: SaleId::parse("bench").expect("an id"),
        user: UserId::parse(&format!("buyer-{n}")).expect("an id"),
        key: IdemKey::parse(&format!("key-{n}")).expect("an id"),
        fingerprint: Fingerprint(1),
        items: std::iter::once(Item {
            sku: SkuId::parse("unit").expect("an id"),
            quantity: 1,
            price: Cents(100),
        })
        .collect(),
        currency: Currency::parse("EUR").expect("a currency"),
        state: OrderState::PendingPayment {
            until,
            grace_used: false,
        },
        version: Version::first(1),
        created_at: UnixMs(1),
        updated_at: UnixMs(1),
        pay_deadline: until,
        device: None,
    }
}

const ORDERS: u32 = 102_400;

fn main() -> Result<(), String> {
    for batch in [1_usize, 8, 64, 512] {
        let host = Arc::new(EmbeddedHost::start(&EmbeddedConfig::default())?);
        let bucket = BucketRef {
            sale: SaleId::parse("bench").map_err(|e| e.to_string())?,
            bucket: BucketNo(0),
        };
        let home = host.home(&bucket).ok_or("the embedded host has no home")?;
        let (tell, told) = std::sync::mpsc::channel();
        // Where desks run: beside the VM.
        home.spawn(async move {
            // An error means that nobody listens any more.
            let _ = tell.send(
                measure(host, bucket, batch)
                    .await
                    .map_err(|e| e.to_string()),
            );
        });
        let micros = told.recv().map_err(|e| e.to_string())??;
        println!("batch {batch:>3}: {micros:.2} us an order");
    }
    Ok(())
}

async fn measure(
    host: Arc<EmbeddedHost>,
    bucket: BucketRef,
    batch: usize,
) -> Result<f64, Box<dyn std::error::Error>> {
    let mut caller = BucketCaller::new(host, bucket, 1, "00".repeat(16));
    caller.make_room(ORDERS as usize).await;
    caller.rebuild_begin(UnixMs(0), UnixMs(1_000_000)).await?;
    caller.rebuild_end(0).await?;
    caller
        .open("all", &[(SkuId::parse("unit")?, i64::from(ORDERS))])
        .await?;
    let orders: Vec<Order> = (0..ORDERS).map(order).collect();
    let blobs: Vec<Vec<u8>> = orders.iter().map(encode_order).collect();
    let started = Instant::now();
    let mut held = 0;
    for (orders, blobs) in orders.chunks(batch).zip(blobs.chunks(batch)) {
        let requests: Vec<HoldRequest<'_>> = orders
            .iter()
            .zip(blobs)
            .map(|(order, blob)| HoldRequest { order, blob })
            .collect();
        let verdicts = caller.reserve(UnixMs(10), false, 1, &requests).await?;
        held += verdicts.iter().filter(|v| **v == Verdict::Held).count();
    }
    assert_eq!(held, ORDERS as usize);
    Ok(started.elapsed().as_micros() as f64 / f64::from(ORDERS))
}
