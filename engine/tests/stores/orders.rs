//! Whole lives of orders, and what a store shows of them.

use std::collections::BTreeMap;

use floodgate_engine::domain::ids::OrderId;
use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stream::{Batch, Mark, OrderRow, OrderStore, Row, StoredOrder};
use floodgate_ledger::{ChainHash, LedgerId, Seq};

use crate::places::Place;
use crate::places::after::{self, order_draft};
use crate::till::T0;
pub use crate::till::orders::{life, order_id, ordered, sale};

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
