//! Payments and entitlements of a sale: does the order store have them as the ledger
//! does?
//!
//! Only for a store that stands where the ledger does, so every difference is one. What
//! the store has is read page by page and looked up in the ledger; what it lacks is
//! known by number alone.

use std::collections::BTreeSet;

use floodgate_ledger::{Kind, Ledger, ReadError, Snapshot};

use crate::domain::ids::{EntitlementId, PaymentId, SaleId};
use crate::domain::payment::NO_SALE;
use crate::stream::{
    EntitlementFact, FactPage, Mark, OrderStore, PaymentFact, RowId, RowKind, Source, StoreError,
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

pub(super) struct After<'a> {
    pub ledger: &'a Ledger,
    pub store: &'a dyn OrderStore,
    pub node: u16,
    /// What the store refuses; it is compared when it was replayed.
    pub dead: &'a BTreeSet<RowId>,
    /// None: the payments for which no order of ours was named.
    pub sale: Option<&'a SaleId>,
    /// Where the store stood when it was first asked.
    pub mark: Option<&'a Mark>,
}

impl After<'_> {
    /// `None`: the store has moved on meanwhile.
    pub fn payments(&self) -> Result<Option<Drift>, Error> {
        self.drift(
            RowKind::Payment,
            |after: Option<&PaymentFact>| {
                let after: Option<&PaymentId> = after.map(|fact| &fact.payment.id);
                self.store.payments_page(self.node, self.sale, after, PAGE)
            },
            |fact| RowId::Payment(fact.payment.id.clone()),
            |found, fact| {
                PaymentFact::read(&Source::of_snapshot(found)).is_ok_and(|ours| ours == *fact)
            },
        )
    }

    pub fn entitlements(&self) -> Result<Option<Drift>, Error> {
        let Some(sale) = self.sale else {
            return Ok(Some(Drift::default()));
        };
        self.drift(
            RowKind::Entitlement,
            |after: Option<&EntitlementFact>| {
                let after: Option<&EntitlementId> = after.map(|fact| &fact.entitlement.id);
                self.store.entitlements_page(self.node, sale, after, PAGE)
            },
            |fact| RowId::Entitlement(fact.entitlement.id.clone()),
            |found, fact| {
                EntitlementFact::read(&Source::of_snapshot(found)).is_ok_and(|ours| ours == *fact)
            },
        )
    }

    fn drift<T>(
        &self,
        kind: RowKind,
        page: impl Fn(Option<&T>) -> Result<FactPage<T>, StoreError>,
        id: impl Fn(&T) -> RowId,
        is_same: impl Fn(&Snapshot, &T) -> bool,
    ) -> Result<Option<Drift>, Error> {
        let group = self.sale.map_or(NO_SALE, SaleId::as_bytes);
        let mut drift = Drift::default();
        let (mut n_known, mut last) = (0_u64, None);
        loop {
            let FactPage { mut facts, mark } = page(last.as_ref())?;
            if mark.as_ref() != self.mark {
                return Ok(None);
            }
            for fact in &facts {
                let id = id(fact);
                if self.dead.contains(&id) {
                    continue;
                }
                let found = self.ledger.entity(group, kind.kind(), id.as_bytes())?;
                n_known += u64::from(found.is_some());
                if !found.is_some_and(|found| is_same(&found, fact)) {
                    drift.add(&id);
                }
            }
            match facts.pop() {
                Some(fact) => last = Some(fact),
                None => break,
            }
        }
        let n_ours = count(self.ledger, group, kind.kind())?;
        let n_dead = self.dead.iter().filter(|id| id.kind() == kind).count() as u64;
        drift.n += n_ours.saturating_sub(n_known + n_dead);
        Ok(Some(drift))
    }
}

fn count(ledger: &Ledger, group: &[u8], kind: Kind) -> Result<u64, ReadError> {
    let mut n = 0;
    for found in ledger.entities(Some(group), Some(kind), false) {
        found?;
        n += 1;
    }
    Ok(n)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
}
