//! A consistent cut: does the order store have the orders, payments and entitlements of
//! a sale as the ledger has them?
//!
//! The store's mark is read first, then a view of the ledger is taken. What the view has
//! from a record up to the mark was in the store before anybody looked: it must be there,
//! in that version or in one that the ledger knows by now. What changed after the mark is
//! on its way, and the next cut's. So a sale is compared while it sells, and every
//! difference is one.
//!
//! What the store has is read page by page and looked up in the view; what it lacks is
//! known by number alone, and by its units.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{self, AtomicBool};
use std::thread;
use std::time::Instant;

use floodgate_ledger::{Ledger, ReadError, Seq, View};

use crate::domain::codec::{CodecError, decode_order};
use crate::domain::payment::NO_SALE;
use crate::domain::sale::Sale;
use crate::stream::{
    EntitlementFact, FactPage, Mark, OrderFact, OrderStore, PaymentFact, RowId, RowKind, Source,
    StoreError,
};

/// Read together.
const PAGE: usize = 1_000;

/// What two tellings of one kind differ in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Drift {
    pub n: u64,
    /// One of them, where it is known by name.
    pub first: Option<String>,
}

impl Drift {
    fn add(&mut self, id: &RowId) {
        self.n += 1;
        self.first.get_or_insert_with(|| id.to_string());
    }

    /// In words, if there is anything to say.
    pub fn said(&self, kind: RowKind) -> Option<String> {
        let first = self.first.as_ref().map(|id| format!(", {id} among them"));
        (self.n > 0).then(|| {
            format!(
                "ledger and order store differ in {} of the {}s{}",
                self.n,
                kind.name(),
                first.unwrap_or_default()
            )
        })
    }
}

/// Live units of one SKU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Units {
    pub held: u64,
    pub sold: u64,
}

impl Units {
    pub fn abs_diff(self, other: Self) -> u64 {
        self.held.abs_diff(other.held) + self.sold.abs_diff(other.sold)
    }
}

/// What a cut found of a sale's orders; lists are by position of the SKU.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub drift: Drift,
    /// Live units that only one of ledger and store has.
    pub drift_units: Vec<u64>,
    /// What the ledger has in the view, on its way or not.
    pub ledger: Vec<Units>,
}

/// One version of something, as ledger or store tell it.
trait Fact: Sized + PartialEq {
    const KIND: RowKind;
    fn id(&self) -> RowId;
    fn version(&self) -> u64;
    fn read(source: &Source<'_>) -> Result<Self, CodecError>;
    fn page(cut: &Cut<'_>, after: Option<&Self>) -> Result<FactPage<Self>, StoreError>;
}

pub(super) struct Cut<'a> {
    ledger: &'a Ledger,
    view: View<'a>,
    store: &'a dyn OrderStore,
    node: u16,
    /// None: the payments for which no order of ours was named.
    sale: Option<&'a Sale>,
    /// Where the store stood before the view was taken.
    mark: &'a Mark,
    /// What the store refuses; it is compared when it was replayed.
    dead: &'a BTreeSet<RowId>,
    /// Rests after each page, per time that it took.
    rests: u32,
    is_over: &'a AtomicBool,
}

impl<'a> Cut<'a> {
    /// `dead` was asked for after `mark`: a letter is written before the mark passes it.
    pub fn new(
        ledger: &'a Ledger,
        (store, node): (&'a dyn OrderStore, u16),
        sale: Option<&'a Sale>,
        mark: &'a Mark,
        dead: &'a BTreeSet<RowId>,
        (rests, is_over): (u32, &'a AtomicBool),
    ) -> Result<Self, ReadError> {
        Ok(Self {
            ledger,
            view: ledger.view()?,
            store,
            node,
            sale,
            mark,
            dead,
            rests,
            is_over,
        })
    }

    /// The newest record of the view.
    pub fn tip(&self) -> Seq {
        self.view.tip().seq
    }

    /// `None`: the store was put back meanwhile.
    pub fn orders(&self, sale: &Sale) -> Result<Option<Orders>, Error> {
        let mut ledger = vec![Units::default(); sale.skus.len()];
        let mut lacking = ledger.clone();
        let mut drift_units = vec![0; sale.skus.len()];
        let n_settled = self.settled(|order: &OrderFact, is_settled| {
            each_sku(sale, order, |at, units| {
                ledger[at].held += units.held;
                ledger[at].sold += units.sold;
                if is_settled {
                    lacking[at].held += units.held;
                    lacking[at].sold += units.sold;
                }
            });
        })?;
        let drift = self.drift(n_settled, |ours: Option<&OrderFact>, theirs, differs| {
            if let Some(ours) = ours {
                each_sku(sale, ours, |at, units| {
                    lacking[at].held = lacking[at].held.saturating_sub(units.held);
                    lacking[at].sold = lacking[at].sold.saturating_sub(units.sold);
                });
            }
            if differs {
                for (at, units) in difference(sale, ours, theirs) {
                    drift_units[at] += units;
                }
            }
        })?;
        for (drift, lacks) in drift_units.iter_mut().zip(lacking) {
            *drift += lacks.held + lacks.sold;
        }
        Ok(drift.map(|drift| Orders {
            drift,
            drift_units,
            ledger,
        }))
    }

    /// `None`: the store was put back meanwhile.
    pub fn payments(&self) -> Result<Option<Drift>, Error> {
        let n_settled = self.settled(|_: &PaymentFact, _| {})?;
        self.drift(n_settled, |_: Option<&PaymentFact>, _, _| {})
    }

    /// `None`: the store was put back meanwhile.
    pub fn entitlements(&self) -> Result<Option<Drift>, Error> {
        let n_settled = self.settled(|_: &EntitlementFact, _| {})?;
        self.drift(n_settled, |_: Option<&EntitlementFact>, _, _| {})
    }

    fn group(&self) -> &'a [u8] {
        self.sale.map_or(NO_SALE, |sale| sale.id.as_bytes())
    }

    /// How many of a kind the store must have. Each of the view is shown, and whether it
    /// is one of these.
    fn settled<T: Fact>(&self, mut see: impl FnMut(&T, bool)) -> Result<u64, Error> {
        let mut n = 0;
        let kind = Some(T::KIND.kind());
        let mut began = Instant::now();
        let all = self.view.entities(Some(self.group()), kind, false);
        for (at, found) in all.enumerate() {
            if at % PAGE == PAGE - 1 {
                self.rest(&mut began)?;
            }
            let found = found?;
            let fact = T::read(&Source::of_snapshot(&found)).ok();
            let is_dead = fact.as_ref().is_some_and(|fact| self.is_dead(fact));
            let is_settled = found.seq <= self.mark.seq && !is_dead;
            n += u64::from(is_settled);
            if let Some(fact) = fact {
                see(&fact, is_settled);
            }
        }
        Ok(n)
    }

    /// Shows each settled fact of the store, as the ledger has it and as the store has it,
    /// and what the ledger never heard of.
    fn drift<T: Fact>(
        &self,
        n_settled: u64,
        mut see: impl FnMut(Option<&T>, &T, bool),
    ) -> Result<Option<Drift>, Error> {
        let mut drift = Drift::default();
        let (mut n_known, mut last) = (0_u64, None);
        let mut began = Instant::now();
        loop {
            let FactPage { mut facts, mark } = T::page(self, last.as_ref())?;
            if !self.is_at_least_here(mark) {
                return Ok(None);
            }
            for theirs in facts.iter().filter(|fact| !self.is_dead(*fact)) {
                let id = theirs.id();
                let found = self
                    .view
                    .entity(self.group(), T::KIND.kind(), id.as_bytes())?;
                let (ours, differs) = match found {
                    Some(found) if found.seq > self.mark.seq => continue,
                    Some(found) => {
                        n_known += 1;
                        let ours = T::read(&Source::of_snapshot(&found)).ok();
                        let same = ours.as_ref() == Some(theirs);
                        (ours, !same && !self.came_since(found.version, theirs)?)
                    }
                    None if self.came_since(0, theirs)? => continue,
                    None => (None, true),
                };
                if differs {
                    drift.add(&id);
                }
                see(ours.as_ref(), theirs, differs);
            }
            match facts.pop() {
                Some(fact) => last = Some(fact),
                None => break,
            }
            self.rest(&mut began)?;
        }
        drift.n += n_settled.saturating_sub(n_known);
        Ok(Some(drift))
    }

    fn rest(&self, began: &mut Instant) -> Result<(), Error> {
        thread::sleep(began.elapsed() * self.rests);
        *began = Instant::now();
        if self.is_over.load(atomic::Ordering::Relaxed) {
            return Err(Error::Over);
        }
        Ok(())
    }

    /// A version after `version`, and one that the ledger has had by now.
    fn came_since<T: Fact>(&self, version: u64, theirs: &T) -> Result<bool, ReadError> {
        if theirs.version() <= version {
            return Ok(false);
        }
        let id = theirs.id();
        let now = self
            .ledger
            .entity(self.group(), T::KIND.kind(), id.as_bytes())?;
        Ok(
            now.is_some_and(|now| match now.version.cmp(&theirs.version()) {
                Ordering::Less => false,
                Ordering::Equal => {
                    T::read(&Source::of_snapshot(&now)).is_ok_and(|now| now == *theirs)
                }
                Ordering::Greater => true,
            }),
        )
    }

    /// Orders and entitlements are all of a sale.
    fn nothing<T>(&self) -> FactPage<T> {
        FactPage {
            facts: Vec::new(),
            mark: Some(self.mark.clone()),
        }
    }

    fn is_dead<T: Fact>(&self, fact: &T) -> bool {
        !self.dead.is_empty() && self.dead.contains(&fact.id())
    }

    fn is_at_least_here(&self, mark: Option<Mark>) -> bool {
        let mark = mark.unwrap_or_else(|| Mark::genesis(self.ledger));
        mark.ledger == self.mark.ledger && mark.seq >= self.mark.seq
    }
}

fn each_sku(sale: &Sale, order: &OrderFact, mut see: impl FnMut(usize, Units)) {
    for (sku, n) in &order.items {
        // One that the sale does not know has no place; its order is told of all the same.
        if let Some((at, _)) = sale.sku(sku) {
            let if_so = |so: bool| if so { *n } else { 0 };
            let (held, sold) = (order.status.is_held(), order.status.is_sold());
            let (held, sold) = (if_so(held), if_so(sold));
            see(at, Units { held, sold });
        }
    }
}

/// Live units that one telling of an order has and the other has not, by SKU.
fn difference(
    sale: &Sale,
    ours: Option<&OrderFact>,
    theirs: &OrderFact,
) -> impl Iterator<Item = (usize, u64)> {
    let mut both: BTreeMap<usize, [Units; 2]> = BTreeMap::new();
    for (telling, order) in ours.into_iter().map(|o| (0, o)).chain([(1, theirs)]) {
        each_sku(sale, order, |at, units| {
            both.entry(at).or_default()[telling] = units;
        });
    }
    let each = both.into_iter();
    each.map(|(at, [ours, theirs])| (at, ours.abs_diff(theirs)))
}

impl Fact for OrderFact {
    const KIND: RowKind = RowKind::Order;

    fn id(&self) -> RowId {
        RowId::Order(self.id)
    }

    fn version(&self) -> u64 {
        self.version.0
    }

    fn read(source: &Source<'_>) -> Result<Self, CodecError> {
        decode_order(source.body).map(|order| Self::of(&order))
    }

    fn page(cut: &Cut<'_>, after: Option<&Self>) -> Result<FactPage<Self>, StoreError> {
        let Some(sale) = cut.sale else {
            return Ok(cut.nothing());
        };
        let after = after.map(|fact| fact.id);
        cut.store.order_facts_page(cut.node, &sale.id, after, PAGE)
    }
}

impl Fact for PaymentFact {
    const KIND: RowKind = RowKind::Payment;

    fn id(&self) -> RowId {
        RowId::Payment(self.payment.id.clone())
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn read(source: &Source<'_>) -> Result<Self, CodecError> {
        Self::read(source)
    }

    fn page(cut: &Cut<'_>, after: Option<&Self>) -> Result<FactPage<Self>, StoreError> {
        let (sale, after) = (cut.sale.map(|s| &s.id), after.map(|fact| &fact.payment.id));
        cut.store.payments_page(cut.node, sale, after, PAGE)
    }
}

impl Fact for EntitlementFact {
    const KIND: RowKind = RowKind::Entitlement;

    fn id(&self) -> RowId {
        RowId::Entitlement(self.entitlement.id.clone())
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn read(source: &Source<'_>) -> Result<Self, CodecError> {
        Self::read(source)
    }

    fn page(cut: &Cut<'_>, after: Option<&Self>) -> Result<FactPage<Self>, StoreError> {
        let Some(sale) = cut.sale else {
            return Ok(cut.nothing());
        };
        let after = after.map(|fact| &fact.entitlement.id);
        cut.store.entitlements_page(cut.node, &sale.id, after, PAGE)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the engine stops")]
    Over,
}

#[cfg(test)]
mod tests;
