//! The judge of what paid orders grant: it is there with the money, and it ends with it.

use std::collections::{BTreeMap, BTreeSet};

use floodgate_engine::domain::codec::decode_entitlement;
use floodgate_engine::domain::entitlement::{Entitlement, id_of};
use floodgate_engine::domain::ids::{EntitlementId, OrderId};
use floodgate_engine::domain::order::{Order, OrderState};
use floodgate_engine::domain::sale::Sale;
use floodgate_ledger::Record;

use crate::check::broken;
use crate::world::World;

/// Every entitlement with its version, as far as the records were read.
#[derive(Default)]
pub struct Works {
    entitlements: BTreeMap<EntitlementId, (u64, Entitlement)>,
    /// Orders that changed since the last commit ended.
    touched: BTreeSet<OrderId>,
}

/// Whether an order of this sale grants something.
pub fn grants(sale: &Sale, order: &Order) -> bool {
    granted(sale, order).next().is_some()
}

fn granted(sale: &Sale, order: &Order) -> impl Iterator<Item = EntitlementId> {
    let items = order.items.iter().filter(|item| {
        let sku = sale.sku(&item.sku);
        sku.is_some_and(|(_, sku)| sku.grant.is_some())
    });
    items.map(|item| id_of(&order.id, &item.sku))
}

impl Works {
    pub fn record(&mut self, world: &World, record: &Record) {
        let next = decode_entitlement(&record.body).expect("an entitlement");
        let (id, version) = (next.id.clone(), record.version);
        let legal = match self.entitlements.get(&id) {
            None => {
                version == 1 && next.revoked_at.is_none() && id == id_of(&next.order, &next.sku)
            }
            Some((before, was)) => {
                version == before + 1
                    && was.revoked_at.is_none()
                    && (&was.order, &was.user, &was.sku, &was.work, was.valid_until)
                        == (
                            &next.order,
                            &next.user,
                            &next.sku,
                            &next.work,
                            next.valid_until,
                        )
            }
        };
        if !legal {
            broken!(
                world,
                "P4 never take back a win: {id} became version {version}: {next:?}"
            );
        }
        self.touched.insert(next.order);
        self.entitlements.insert(id, (version, next));
    }

    pub fn order(&mut self, order: &Order) {
        self.touched.insert(order.id);
    }

    /// A commit ended: whoever paid has what the order grants, and nobody else.
    pub fn commit_ends(&mut self, world: &World, orders: &BTreeMap<OrderId, Order>) {
        for id in std::mem::take(&mut self.touched) {
            let Some(order) = orders.get(&id) else {
                broken!(world, "{id} is granted something and does not exist");
                continue;
            };
            let all: Vec<EntitlementId> = granted(&world.setup.sale, order).collect();
            let has = |id: &EntitlementId| {
                let known = self.entitlements.get(id);
                known.is_some_and(|(_, entitlement)| entitlement.is_live())
            };
            let right = match order.state {
                OrderState::Delivered => all.iter().all(has),
                OrderState::Paid => all.is_empty(),
                OrderState::PendingPayment { .. }
                | OrderState::Closed { .. }
                | OrderState::RefundDue { .. }
                | OrderState::Refunded { .. } => !all.iter().any(has),
            };
            if !right {
                let state = order.state;
                broken!(
                    world,
                    "P5 nothing stays stuck: {id} is {state:?}, and of what it grants {all:?} something is missing or left"
                );
            }
        }
    }
}
