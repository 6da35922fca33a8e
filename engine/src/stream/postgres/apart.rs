//! Whether two batches may be written at the same time. Pure.
//!
//! Every row that a batch writes belongs to one order, payment or entitlement. Where two
//! batches share none they share no row, and neither waits for the other's.

use std::collections::HashSet;

use crate::stream::row::{Row, RowId};
use crate::stream::store::Batch;

pub(super) fn are_apart(one: &Batch, other: &Batch) -> bool {
    let ids: HashSet<RowId> = all_of(one).map(Row::id).collect();
    all_of(other).all(|row| !ids.contains(&row.id()))
}

fn all_of(batch: &Batch) -> impl Iterator<Item = &Row> {
    batch.rows.iter().chain(&batch.events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{BucketNo, NodeNo, OrderIdParts, SaleId, SaleNo};
    use crate::domain::ids::{Fingerprint, IdemKey, OrderId, UserId};
    use crate::domain::money::Currency;
    use crate::domain::order::{Items, Order, OrderState, Version};
    use crate::domain::time::UnixMs;
    use crate::stream::message::of_order;
    use crate::stream::row::OrderRow;

    fn row(n: u16, version: u64) -> Row {
        let sale = SaleId::parse("tea").unwrap();
        let order = Order {
            id: OrderId::from_parts(OrderIdParts {
                ms: 1,
                bucket: BucketNo(0),
                sale: SaleNo(1),
                node: NodeNo(0),
                counter: n,
                random: 0,
            }),
            user: UserId::parse("ana").unwrap(),
            key: IdemKey::parse("k").unwrap(),
            fingerprint: Fingerprint::of(&sale, std::iter::empty()),
            sale,
            items: Items::new(),
            currency: Currency::parse("EUR").unwrap(),
            state: OrderState::Paid,
            version: Version(version),
            created_at: UnixMs(1),
            updated_at: UnixMs(1),
            pay_deadline: UnixMs(2),
            device: None,
        };
        Row::Order(OrderRow {
            seq: 1,
            outbox: of_order(&order),
            order,
            body: Vec::new(),
        })
    }

    fn batch(rows: Vec<Row>, events: Vec<Row>) -> Batch {
        Batch { rows, events }
    }

    #[test]
    fn batches_are_apart_unless_they_tell_of_the_same() {
        let one = || batch(vec![row(1, 1), row(2, 1)], vec![row(3, 1)]);
        assert!(are_apart(&one(), &Batch::default()));
        assert!(are_apart(&Batch::default(), &one()));
        assert!(are_apart(&one(), &batch(vec![row(4, 1)], vec![row(5, 1)])));
        for (rows, events) in [
            (vec![row(4, 1), row(2, 2)], vec![]),
            (vec![row(3, 2)], vec![]),
            (vec![], vec![row(1, 2)]),
            (vec![], vec![row(3, 1)]),
        ] {
            let other = batch(rows, events);
            assert!(!are_apart(&one(), &other), "{other:?}");
            assert!(!are_apart(&other, &one()), "{other:?}");
        }
    }
}
