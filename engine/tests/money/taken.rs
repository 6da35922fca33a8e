//! A stock host whose buckets are another engine's: nobody waits for them for ever.

use std::sync::Arc;
use std::time::Duration;

use floodgate_engine::sale::RecoveryError;
use floodgate_engine::stock::{Args, BucketRef, HostFuture, Reply, Script, StockHost};
use tokio::runtime::Handle;

use super::shop::*;

struct Taken;

impl StockHost for Taken {
    fn run<'a>(&'a self, _: &'a BucketRef, _: Script, _: &'a Arc<Args>) -> HostFuture<'a> {
        let says = vec![Reply::Int(3), Reply::Bytes("9".into()), Reply::Int(1)];
        Box::pin(std::future::ready(Ok(Reply::Array(says))))
    }

    fn make_room<'a>(&'a self, _: &'a BucketRef, _: usize) -> HostFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_second_copy(&self) -> bool {
        false
    }

    fn home(&self, _: &BucketRef) -> Option<Handle> {
        None
    }
}

#[tokio::test]
async fn a_sale_whose_buckets_are_taken_does_not_open_and_the_engine_is_told() {
    let shop = Shop::new(sale(10, 10, 4), None);
    let (selling, ..) = shop.selling_on(Arc::new(Taken)).await;
    let created = tokio::time::timeout(Duration::from_secs(60), selling.create(shop.sale.clone()));
    let created = created.await.expect("it does not hang");
    assert!(matches!(created, Err(RecoveryError::Fallen(_))));
    let why = selling.fallen().await;
    assert!(why.contains("is another engine's by now"), "{why}");
}
