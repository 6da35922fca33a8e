//! The judge: the promises, the journal, and what the ledger holds in the end.
//!
//! It knows nothing of how the engine works. Records are read in their order, so
//! every promise about "at any time" is asked after each of them.

use std::collections::{BTreeMap, HashMap};

use floodgate_engine::domain::codec::{decode_allotment, decode_order, decode_transfer};
use floodgate_engine::domain::ids::{BucketNo, IdemKey, OrderId, PaymentId, SkuId, UserId};
use floodgate_engine::domain::order::{CloseReason, Order, OrderEvent, OrderState};
use floodgate_engine::domain::payment::Payment;
use floodgate_engine::domain::sale::Sale;
use floodgate_engine::sale::Units;
use floodgate_ledger::{Kind, Ledger, Seq};

use crate::cash::Cash;
use crate::journal::Journal;
use crate::works::{self, Works};
use crate::world::World;

const ORDER: Kind = Kind(1);
const ALLOTMENT: Kind = Kind(3);
const TRANSFER: Kind = Kind(4);
const PAYMENT: Kind = Kind(5);
const ENTITLEMENT: Kind = Kind(6);

/// Everything the ledger says at this moment, one promise after the other.
pub struct Facts {
    pub orders: BTreeMap<OrderId, Order>,
    pub payments: BTreeMap<PaymentId, Payment>,
    /// Units of each SKU in live orders.
    pub live: Vec<u64>,
    /// Units of each SKU that came back from refunds and are not for sale.
    pub withdrawn: Vec<u64>,
}

impl Facts {
    pub fn free(&self, sale: &Sale, sku: usize) -> u64 {
        u64::from(sale.skus[sku].units).saturating_sub(self.live[sku] + self.withdrawn[sku])
    }

    /// What a user has in live orders.
    pub fn units_of(&self, user: &UserId) -> u32 {
        let orders = self.orders.values();
        let theirs = orders.filter(|order| order.user == *user && order.state.is_live());
        theirs.map(Order::units).sum()
    }
}

macro_rules! broken {
    ($world:expr, $($what:tt)*) => { $world.breaks(format_args!($($what)*)) };
}

pub(crate) use broken;

pub fn units(sale: &Sale, order: &Order) -> Units {
    let place = |sku: &SkuId| sale.sku(sku).map_or(usize::MAX, |(at, _)| at);
    let items = order.items.iter();
    items
        .map(|item| (place(&item.sku), item.quantity))
        .collect()
}

/// Reads the records in their order.
pub fn history(world: &World, journal: &Journal, ledger: &Ledger) -> Facts {
    let sale = &world.setup.sale;
    let mut orders: BTreeMap<OrderId, Order> = BTreeMap::new();
    let mut keys: HashMap<(UserId, IdemKey), OrderId> = HashMap::new();
    let mut live = vec![0_u64; sale.skus.len()];
    let mut withdrawn = vec![0_u64; sale.skus.len()];
    let (mut cash, mut works) = (Cash::default(), Works::default());
    let mut users: HashMap<UserId, (u64, u32)> = HashMap::new();
    let mut given: Vec<Vec<i64>> = vec![vec![0; sale.skus.len()]; usize::from(sale.buckets)];
    let mut give = |bucket: BucketNo, sku: &SkuId, n: i64| {
        if let Some((at, _)) = sale.sku(sku) {
            given[usize::from(bucket.0)][at] += n;
        }
    };
    let records = match ledger.tail(Seq(1), usize::MAX, usize::MAX) {
        Ok(records) => records,
        Err(error) => {
            broken!(world, "P4 never take back a win: {error}");
            Vec::new()
        }
    };
    let mut last = Seq(0);
    for record in records {
        if world.is_commit_end(last.0) {
            cash.commit_ends(world, &orders);
            works.commit_ends(world, &orders);
        }
        last = record.seq;
        match record.kind {
            ALLOTMENT => {
                let allotment = decode_allotment(&record.body).expect("an allotment");
                for (sku, n) in &allotment.lines {
                    give(allotment.bucket, sku, *n);
                }
                continue;
            }
            TRANSFER => {
                let transfer = decode_transfer(&record.body).expect("a transfer");
                for (sku, n) in &transfer.lines {
                    give(transfer.from, sku, -i64::from(*n));
                    give(transfer.to, sku, i64::from(*n));
                }
                continue;
            }
            PAYMENT => {
                cash.record(world, journal, &orders, &record);
                continue;
            }
            ENTITLEMENT => {
                works.record(world, &record);
                continue;
            }
            ORDER => {}
            _other_kinds => continue,
        }
        let order = match decode_order(&record.body) {
            Ok(order) => order,
            Err(error) => {
                broken!(
                    world,
                    "P4 never take back a win: record {}: {error}",
                    record.seq
                );
                continue;
            }
        };
        let id = order.id;
        let before = orders.get(&id);
        step(world, journal, before, &order);
        let held = |order: &Order| order.state.is_live();
        let (was, is) = (before.is_some_and(held), held(&order));
        let user = users.entry(order.user.clone()).or_default();
        if before.is_none() {
            user.1 += 1;
            if user.1 > sale.orders_per_user_max {
                broken!(
                    world,
                    "P6 limits hold: {} has {} orders",
                    order.user,
                    user.1
                );
            }
            let slot = (order.user.clone(), order.key.clone());
            if let Some(other) = keys.insert(slot, id) {
                broken!(
                    world,
                    "P3 one key, one order: {} {} names {other} and {id}",
                    order.user,
                    order.key
                );
            }
        }
        for (sku, n) in units(sale, &order) {
            let n = u64::from(n);
            match (was, is) {
                (false, true) => {
                    live[sku] += n;
                    user.0 += n;
                }
                (true, false) => {
                    live[sku] -= n;
                    user.0 -= n;
                }
                (true, true) | (false, false) => {}
            }
            if !before.is_some_and(|before| before.state.is_withdrawn())
                && order.state.is_withdrawn()
            {
                withdrawn[sku] += n;
            }
            if live[sku] + withdrawn[sku] > u64::from(sale.skus[sku].units) {
                broken!(
                    world,
                    "P1 never oversell: {} units of {} live and {} withdrawn at {id}",
                    live[sku],
                    sale.skus[sku].id,
                    withdrawn[sku]
                );
            }
        }
        if user.0 > u64::from(sale.units_per_user) {
            broken!(world, "P6 limits hold: {} has {} units", order.user, user.0);
        }
        cash.order(world, &order);
        works.order(&order);
        orders.insert(id, order);
    }
    cash.commit_ends(world, &orders);
    works.commit_ends(world, &orders);
    for (at, sku) in sale.skus.iter().enumerate() {
        let sum: i64 = given.iter().map(|bucket| bucket[at]).sum();
        if sum != i64::from(sku.units) || given.iter().any(|bucket| bucket[at] < 0) {
            broken!(
                world,
                "P8 stock adds up: buckets were given {given:?} of {} {}",
                sku.units,
                sku.id
            );
        }
    }
    Facts {
        orders,
        payments: cash.into_payments(),
        live,
        withdrawn,
    }
}

/// One record of an order: is it what may follow, and did anybody ask for it?
fn step(world: &World, journal: &Journal, before: Option<&Order>, order: &Order) {
    let id = order.id;
    let asked = |wanted: fn(&OrderEvent) -> bool| {
        let mut changes = journal.changes.iter();
        changes.any(|change| change.order == id && wanted(&change.event))
    };
    let legal = match (before.map(|before| before.state), order.state) {
        (None, OrderState::PendingPayment { .. }) => {
            let wanted = units(&world.setup.sale, order);
            journal.requests.iter().any(|request| {
                request.user == order.user && request.key == order.key && request.units == wanted
            })
        }
        (
            Some(OrderState::PendingPayment { .. }),
            OrderState::Closed {
                reason: CloseReason::Canceled,
            },
        ) => asked(|event| matches!(event, OrderEvent::Cancel)),
        (
            Some(OrderState::PendingPayment { until, .. }),
            OrderState::Closed {
                reason: CloseReason::Timeout,
            },
        ) => until <= order.updated_at,
        // Whether this money pays this order is asked when the commit ends.
        (Some(OrderState::PendingPayment { .. } | OrderState::Closed { .. }), OrderState::Paid) => {
            journal.is_captured(id)
        }
        // Units were held for late money; the engine died before the ledger had the money.
        (Some(OrderState::Closed { .. }), OrderState::PendingPayment { until, .. }) => {
            world.setup.host_apart && journal.is_captured(id) && until <= order.updated_at
        }
        (Some(OrderState::Paid), OrderState::Delivered) => {
            works::grants(&world.setup.sale, order)
                || asked(|event| matches!(event, OrderEvent::Granted))
        }
        (Some(OrderState::Paid | OrderState::Delivered), OrderState::RefundDue { .. }) => {
            asked(|event| matches!(event, OrderEvent::RefundAsked { .. }))
        }
        (Some(OrderState::RefundDue { restocked }), OrderState::Refunded { restocked: still }) => {
            restocked == still
        }
        (_, _) => false,
    };
    if !legal {
        broken!(
            world,
            "P4 never take back a win: {id} of {} {} went from {:?} to {:?} for no reason",
            order.user,
            order.key,
            before.map(|before| before.state),
            order.state
        );
    }
    if let Some(before) = before
        && (before.version >= order.version
            || before.user != order.user
            // Where units are held for late money the window that is over is this moment's.
            || before.pay_deadline != order.pay_deadline
                && !matches!(order.state, OrderState::PendingPayment { .. })
            || before.key != order.key
            || before.items != order.items)
    {
        broken!(world, "P4 never take back a win: {id} became another order");
    }
}

/// P5, once every pay window is over.
pub fn all_closed(world: &World, facts: &Facts, now: u64) {
    for order in facts.orders.values() {
        if let OrderState::PendingPayment { until, .. } = order.state
            && until.0 + 2_000 < now
        {
            broken!(
                world,
                "P5 nothing stays stuck: {} is unpaid, its window ended at {until}",
                order.id
            );
        }
    }
}
