//! Orders as the ledger has them. A read waits for no desk and takes no lock of theirs.

use super::super::facts::{self, FactError};
use super::Selling;
use crate::domain::ids::{OrderId, SaleId, UserId};
use crate::domain::order::Order;

/// A page of all orders of a sale, in the order of their ids.
#[derive(Debug)]
pub struct OrdersPage {
    pub orders: Vec<Order>,
    pub next: Option<OrderId>,
    pub durable_seq: u64,
}

/// A page of one user's orders, the newest first.
#[derive(Debug, Default)]
pub struct OwnOrders {
    pub orders: Vec<Order>,
    /// Where the next page goes on, if there is more to read.
    pub next: Option<OrderId>,
}

impl Selling {
    /// The order, if it is this user's; another's is as good as none.
    pub fn order(&self, user: &UserId, id: OrderId) -> Result<Option<Order>, FactError> {
        let Some(live) = self.sale_of(id) else {
            return Ok(None);
        };
        let order = facts::load_order(&self.tools.ledger, &live.sale().id, id)?;
        Ok(order.filter(|o| o.user == *user))
    }

    /// The order, whoever's it is.
    pub fn any_order(&self, id: OrderId) -> Result<Option<Order>, FactError> {
        match self.sale_of(id) {
            Some(live) => facts::load_order(&self.tools.ledger, &live.sale().id, id),
            None => Ok(None),
        }
    }

    /// A user's orders over all sales that are `wanted`, newest first, before `before`:
    /// at most `limit` of them, and at most `read_max` orders are read for it.
    pub fn orders_of(
        &self,
        user: &UserId,
        before: Option<OrderId>,
        limit: usize,
        read_max: usize,
        wanted: impl Fn(&Order) -> bool,
    ) -> Result<OwnOrders, FactError> {
        let ledger = &self.tools.ledger;
        let refs = ledger.by_owner(
            user.as_bytes(),
            facts::ORDER,
            before.as_ref().map(|id| &id.as_bytes()[..]),
            read_max + 1,
        )?;
        let mut own = OwnOrders::default();
        let mut read = None;
        for (n_read, found) in refs.iter().enumerate() {
            if own.orders.len() == limit || n_read == read_max {
                own.next = read;
                break;
            }
            read = OrderId::from_bytes(&found.id);
            if let Some(snapshot) = ledger.entity(&found.group, facts::ORDER, &found.id)? {
                let order = facts::order_of(&snapshot)?;
                if wanted(&order) {
                    own.orders.push(order);
                }
            }
        }
        Ok(own)
    }

    /// All orders of a sale, as the ledger has them.
    pub fn orders_page(
        &self,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<OrdersPage, FactError> {
        let ledger = &self.tools.ledger;
        // Before the read: what is durable now is certainly in what is read next.
        let durable_seq = ledger.tip().seq.0;
        let after = after.as_ref().map(|id| &id.as_bytes()[..]);
        let snapshots = ledger.entities_page(sale.as_bytes(), facts::ORDER, after, limit)?;
        let orders = snapshots
            .iter()
            .map(facts::order_of)
            .collect::<Result<Vec<_>, _>>()?;
        let next = if orders.len() == limit {
            orders.last().map(|o| o.id)
        } else {
            None
        };
        Ok(OrdersPage {
            orders,
            next,
            durable_seq,
        })
    }
}
