//! P8: stock host, counters and ledger tell one story of the stock.

use floodgate_engine::sale::{BucketAudit, LiveSale};

use crate::check::{Facts, broken};
use crate::world::World;

/// P8, at any time: at one place in a bucket's call order the stock host counts what
/// the ledger's facts count.
pub fn no_drift(world: &World, audits: &[BucketAudit]) {
    let n_buckets = usize::from(world.setup.sale.buckets);
    if audits.len() != n_buckets {
        broken!(
            world,
            "P8 stock adds up: {} of {n_buckets} buckets answered an audit",
            audits.len()
        );
    }
    for audit in audits.iter().filter(|audit| !audit.is_equal()) {
        broken!(world, "P8 stock adds up: {audit:?}");
    }
}

/// P8, when nothing is under way: counters, audits and the ledger tell one story.
pub fn adds_up(world: &World, live: &LiveSale, audits: &[BucketAudit], facts: &Facts) {
    let sale = &world.setup.sale;
    no_drift(world, audits);
    for (at, sku) in sale.skus.iter().enumerate() {
        let counts = live.counts(at);
        let get = |n: &std::sync::atomic::AtomicI64| n.load(std::sync::atomic::Ordering::Relaxed);
        let (available, held) = (get(&counts.available), get(&counts.held));
        let (sold, withdrawn) = (get(&counts.sold), get(&counts.withdrawn));
        let (opened, live) = (i64::from(sku.units), facts.live[at].cast_signed());
        let gone = facts.withdrawn[at].cast_signed();
        if available + held + sold + withdrawn != opened
            || held + sold != live
            || withdrawn != gone
            || available < 0
        {
            broken!(
                world,
                "P8 stock adds up: {opened} of {} opened, {available} available, {held} held, \
                 {sold} sold, {withdrawn} withdrawn; the ledger has {live} live, {gone} withdrawn",
                sku.id
            );
        }
        let host: u64 = audits
            .iter()
            .map(|audit| audit.host.skus[at].held + audit.host.skus[at].sold)
            .sum();
        if host.cast_signed() != live {
            broken!(
                world,
                "P8 stock adds up: the stock host has {host} live units of {}, the ledger {live}",
                sku.id
            );
        }
    }
}
