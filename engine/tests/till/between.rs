//! Stands between the stream and the store, and makes trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use floodgate_engine::domain::ids::{EntitlementId, OrderId, PaymentId, SaleId};
use floodgate_engine::stream::{
    Batch, EntitlementFact, FactPage, Mark, OrderFact, OrderStore, PaymentFact, Put, Row,
    StoreError, StoredPage,
};
use parking_lot::Mutex;

/// What the stream asks of the store, before the store hears of it.
pub struct PutCall<'a> {
    /// Counted from 1.
    pub nth: usize,
    pub node: u16,
    pub batch: &'a Batch,
    pub from: Option<&'a Mark>,
    pub to: &'a Mark,
    store: &'a dyn OrderStore,
}

impl PutCall<'_> {
    pub fn pass(&self) -> Result<Put, StoreError> {
        self.store.put(self.node, self.batch, self.from, self.to)
    }

    /// Nothing is put, and the mark is to stand elsewhere.
    pub fn only_moves_the_mark(&self) -> bool {
        self.batch.rows.is_empty() && self.from.is_some_and(|from| from != self.to)
    }
}

/// From, to and the first row's seq of one `put`.
type Asked = (Option<Mark>, Mark, Option<u64>);

/// Decides what becomes of a `put`.
type OnPut = Box<dyn Fn(&PutCall) -> Result<Put, StoreError> + Send + Sync>;

pub struct Between {
    store: Arc<dyn OrderStore>,
    on_put: OnPut,
    /// Every `put` that got so far, in turn.
    pub asked: Mutex<Vec<Asked>>,
    /// How many of them came with the next batch.
    pub n_pairs: AtomicUsize,
    /// While set, nobody answers at all.
    pub dark: AtomicBool,
    pub n_dark: AtomicUsize,
}

impl Between {
    pub fn new(
        store: Arc<dyn OrderStore>,
        on_put: impl Fn(&PutCall) -> Result<Put, StoreError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            on_put: Box::new(on_put),
            asked: Mutex::new(Vec::new()),
            n_pairs: AtomicUsize::new(0),
            dark: AtomicBool::new(false),
            n_dark: AtomicUsize::new(0),
        })
    }

    pub fn n_puts(&self) -> usize {
        self.asked.lock().len()
    }

    fn light(&self) -> Result<(), StoreError> {
        if self.dark.load(Ordering::SeqCst) {
            self.n_dark.fetch_add(1, Ordering::SeqCst);
            return Err(away());
        }
        Ok(())
    }
}

pub fn away() -> StoreError {
    StoreError::Away("nobody at home".into())
}

impl OrderStore for Between {
    fn mark(&self, node: u16) -> Result<Option<Mark>, StoreError> {
        self.light()?;
        self.store.mark(node)
    }

    fn put(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
    ) -> Result<Put, StoreError> {
        self.light()?;
        let first = batch.rows.first().map(Row::seq);
        let nth = {
            let mut asked = self.asked.lock();
            asked.push((from.cloned(), to.clone(), first));
            asked.len()
        };
        (self.on_put)(&PutCall {
            nth,
            node,
            batch,
            from,
            to,
            store: &*self.store,
        })
    }

    fn put_with_next(
        &self,
        node: u16,
        batch: &Batch,
        from: Option<&Mark>,
        to: &Mark,
        _next: (&Batch, &Mark),
    ) -> Result<(Put, bool), StoreError> {
        self.n_pairs.fetch_add(1, Ordering::SeqCst);
        Ok((self.put(node, batch, from, to)?, false))
    }

    fn sales(&self) -> Result<Vec<SaleId>, StoreError> {
        self.store.sales()
    }

    fn orders_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<StoredPage, StoreError> {
        self.store.orders_page(node, sale, after, limit)
    }

    fn payments_page(
        &self,
        node: u16,
        sale: Option<&SaleId>,
        after: Option<&PaymentId>,
        limit: usize,
    ) -> Result<FactPage<PaymentFact>, StoreError> {
        self.store.payments_page(node, sale, after, limit)
    }

    fn entitlements_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<&EntitlementId>,
        limit: usize,
    ) -> Result<FactPage<EntitlementFact>, StoreError> {
        self.store.entitlements_page(node, sale, after, limit)
    }

    fn order_facts_page(
        &self,
        node: u16,
        sale: &SaleId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<FactPage<OrderFact>, StoreError> {
        self.store.order_facts_page(node, sale, after, limit)
    }
}
