//! The seam: "put these rows with this mark".
//!
//! Methods block: SQLite does, and a server is waited for. The worker and the admin
//! API call them from threads that may; an async task may not. One transaction
//! carries rows and mark, so the mark never says more than the rows hold.

use floodgate_ledger::{ChainHash, Ledger, LedgerId, Seq, Tip};

use super::fact::{EntitlementFact, PaymentFact};
use super::row::{Row, RowId};
use crate::domain::codec::decode_order;
use crate::domain::ids::{EntitlementId, OrderId, PaymentId, SaleId, SkuId};
use crate::domain::order::{Order, Status, Version};

/// How far the store has durably come, and in which ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub ledger: LedgerId,
    pub seq: Seq,
    /// The ledger's chain at that seq: two ledgers that agree here agree before.
    pub hash: ChainHash,
}

impl Mark {
    /// Of a store that has everything through there.
    #[must_use]
    pub fn at(ledger: &Ledger, tip: Tip) -> Self {
        Self {
            ledger: ledger.id(),
            seq: tip.seq,
            hash: tip.hash,
        }
    }

    /// Of a store that has nothing of this ledger yet.
    #[must_use]
    pub fn genesis(ledger: &Ledger) -> Self {
        Self {
            ledger: ledger.id(),
            seq: Seq(0),
            hash: ledger.id().genesis(),
        }
    }
}

#[derive(Debug, Default)]
pub struct Batch {
    /// By ledger position, oldest first.
    pub rows: Vec<Row>,
    /// Versions that are only told, as event and message: what they are of stands, as
    /// it is now, among `rows` or in the store.
    pub events: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    Advanced,
    /// Somebody else moved the mark; nothing was written. It stands here.
    MarkMoved(Option<Mark>),
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Worth trying again.
    #[error("the order store: {0}")]
    Away(String),
    /// A row of this batch is refused, and would be again; which one, a store may
    /// know or not.
    #[error("the order store refuses {}: {why}", of(.row.as_ref()))]
    Poison { row: Option<RowId>, why: String },
    #[error("the order store was written by a newer engine: schema {found}, known is {known}")]
    Newer { found: i64, known: i64 },
    #[error("the order store holds what is not ours: {0}")]
    Damaged(String),
}

fn of(row: Option<&RowId>) -> String {
    row.map_or_else(
        || "the batch".into(),
        |id| format!("{} {id}", id.kind().name()),
    )
}

impl StoreError {
    /// What the store has against the rows; anything else stays an error.
    pub(super) fn refusal(self) -> Result<String, Self> {
        match self {
            Self::Poison { why, .. } => Ok(why),
            Self::Away(_) | Self::Newer { .. } | Self::Damaged(_) => Err(self),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrder {
    pub order: Order,
    pub n_events: u64,
}

impl StoredOrder {
    /// From a row. The columns are what others read: they must say what the order says.
    pub(super) fn read(
        snapshot: &[u8],
        version: i64,
        status: &str,
        n_events: i64,
    ) -> Result<Self, StoreError> {
        let order = decode_order(snapshot).map_err(|e| StoreError::Damaged(e.to_string()))?;
        if version.cast_unsigned() != order.version.0 || status != order.state.name() {
            let why = format!("columns and snapshot of order {} differ", order.id);
            return Err(StoreError::Damaged(why));
        }
        Ok(Self {
            order,
            n_events: n_events.cast_unsigned(),
        })
    }
}

/// A page and the mark it was read at, from one transaction.
#[derive(Debug)]
pub struct StoredPage {
    pub orders: Vec<StoredOrder>,
    pub next: Option<OrderId>,
    pub mark: Option<Mark>,
}

impl StoredPage {
    /// A full page may have a next one.
    pub(super) fn of(orders: Vec<StoredOrder>, limit: usize, mark: Option<Mark>) -> Self {
        let next = orders.last().filter(|_| orders.len() == limit);
        Self {
            next: next.map(|o| o.order.id),
            orders,
            mark,
        }
    }
}

/// Part of what the store has of one kind, and the mark it was read at, from one
/// transaction. An empty one is the end.
#[derive(Debug)]
pub struct FactPage<T> {
    pub facts: Vec<T>,
    pub mark: Option<Mark>,
}

/// An order as its columns tell it, which is what others read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFact {
    pub id: OrderId,
    pub version: Version,
    pub status: Status,
    /// Units by SKU, sorted.
    pub items: Vec<(SkuId, u64)>,
}

impl OrderFact {
    pub fn of(order: &Order) -> Self {
        let items = order.items.iter();
        Self {
            id: order.id,
            version: order.version,
            status: order.state.status(),
            items: items
                .map(|item| (item.sku.clone(), u64::from(item.quantity)))
                .collect(),
        }
    }

    pub(super) fn no_id(id: impl std::fmt::Display) -> StoreError {
        StoreError::Damaged(format!("{id} is no id of an order of ours"))
    }

    /// From one row for each item, and one without for an order that has none. Rows of an
    /// order stand together, sorted by SKU.
    pub(super) fn add(
        facts: &mut Vec<Self>,
        (id, version, status): (OrderId, i64, &str),
        item: Option<(&str, i64)>,
    ) -> Result<(), StoreError> {
        let damaged = |why: &dyn std::fmt::Display| {
            StoreError::Damaged(format!("the columns of order {id}: {why}"))
        };
        if facts.last().is_none_or(|fact| fact.id != id) {
            facts.push(Self {
                id,
                version: Version(version.cast_unsigned()),
                status: Status::named(status)
                    .ok_or_else(|| damaged(&format_args!("no state is called {status:?}")))?,
                items: Vec::with_capacity(1),
            });
        }
        if let (Some(fact), Some((sku, quantity))) = (facts.last_mut(), item) {
            let sku = SkuId::parse(sku).map_err(|e| damaged(&e))?;
            let units = u64::try_from(quantity).map_err(|e| damaged(&e))?;
            fact.items.push((sku, units));
        }
        Ok(())
    }
}

pub trait OrderStore: Send + Sync {
    fn mark(&self, node: u16) -> Result<Option<Mark>, StoreError>;

    /// Snapshots by version, events once, and the mark from `from` to `to`, all
    /// or nothing.
    fn put(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
    ) -> Result<Put, StoreError>;

    /// `put`, and `next` behind it: a store that can writes both at the same time. Either
    /// is all or nothing with a mark of its own, and `next` never goes in first. True:
    /// `next` is in too. False says nothing about it, and it may be put again.
    fn put_with_next(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
        _next: (&Batch, &Mark),
    ) -> Result<(Put, bool), StoreError> {
        Ok((self.put(node, batch, from, to)?, false))
    }

    /// Every sale that a row is of.
    fn sales(&self) -> Result<Vec<SaleId>, StoreError>;

    fn orders_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<StoredPage, StoreError>;

    /// The payments of a sale; without one, those for which no order of ours was named.
    /// In an order of their ids that is the store's own.
    fn payments_page(
        &self,
        node: u16,
        sale: Option<&SaleId>,
        after: Option<&PaymentId>,
        limit: usize,
    ) -> Result<FactPage<PaymentFact>, StoreError>;

    /// In an order of their ids that is the store's own.
    fn entitlements_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<&EntitlementId>,
        limit: usize,
    ) -> Result<FactPage<EntitlementFact>, StoreError>;

    /// The columns of `limit` orders.
    fn order_facts_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<FactPage<OrderFact>, StoreError>;
}
