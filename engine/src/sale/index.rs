//! The index: (sale, user) → that user's keys, fingerprints, order ids, live units.
//!
//! It answers "do we know this key?" before anything else is asked, and it is
//! the guard's memory of users: filled from ledger facts alone, never from what
//! the stock host says. Keys under way stand in the same map as keys that won,
//! so claiming a key, joining it and replaying it are decided under one lock.
//!
//! The map is asked once a purchase: a claim keeps its buyer at hand, and what
//! comes later (placed, won, refused) goes there without another look-up.
//!
//! Only winners stay, and the units of a sale bound them; the map gets its size
//! and its memory before the sale opens, because growing a map of millions stalls
//! every buyer, and the first touch of a page costs more than the rest of a claim.

use std::sync::Arc;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::answer::{Answer, Refusal};
use crate::domain::ids::{Fingerprint, IdemKey, OrderId, UserId};

/// Many small maps: one that must grow after all stalls nobody for long.
const SHARDS: usize = 256;
/// One in so many entries is written, to touch the memory of all.
const TOUCH: usize = 16;

#[derive(Debug, Default)]
struct Buyer {
    units_live: u32,
    slots: SmallVec<[Slot; 1]>,
    /// Out of the map, or about to be: whoever comes now makes another.
    gone: bool,
}

type Cell = Arc<Mutex<Buyer>>;

#[derive(Debug)]
struct Slot {
    key: IdemKey,
    fingerprint: Fingerprint,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    /// On its way; these wait for the same answer.
    Pending(Vec<oneshot::Sender<Answer>>),
    /// Held and handed to the ledger: counts for the guard, not told yet.
    Placed(OrderId, Vec<oneshot::Sender<Answer>>),
    /// Durable.
    Won(OrderId),
}

/// What the index says about a key.
#[derive(Debug)]
pub enum Known {
    Won(OrderId),
    Reused,
    /// Somebody is asking this very thing now; this is their answer to come. It
    /// fails when they gave up before any stock was touched: look again.
    Join(oneshot::Receiver<Answer>),
}

#[derive(Debug)]
pub enum Claimed {
    Mine(Claim),
    Known(Known),
    Refused(Refusal),
}

/// Limits of one user in one sale.
#[derive(Debug, Clone, Copy)]
pub struct UserLimits {
    pub units_max: u32,
    pub orders_max: u32,
}

impl UserLimits {
    /// Every order made counts, closed ones and those under way included.
    fn allow(self, buyer: &Buyer, units: u32) -> bool {
        (buyer.units_live.saturating_add(units) <= self.units_max || fail_ignore_limits())
            && buyer.slots.len() < self.orders_max as usize
    }
}

#[derive(Debug)]
pub struct Index {
    buyers: DashMap<UserId, Cell, RandomState>,
    limits: UserLimits,
}

impl Index {
    /// `winners`: as many buyers as can hold units at once.
    pub fn new(limits: UserLimits, winners: usize) -> Arc<Self> {
        let state = RandomState::default();
        let buyers = DashMap::with_capacity_and_hasher_and_shard_amount(winners, state, SHARDS);
        let nobody = Cell::default();
        // A page of memory has room for a hundred: some of them touch them all.
        for n in (0..winners).step_by(TOUCH) {
            let user = UserId::parse(&n.to_string()).expect("digits are an id");
            buyers.insert(user, Arc::clone(&nobody));
        }
        // The map keeps its memory, which now is memory.
        buyers.clear();
        Arc::new(Self { buyers, limits })
    }

    fn cell(&self, user: &UserId) -> Option<Cell> {
        self.buyers.get(user).map(|cell| Arc::clone(&cell))
    }

    /// Whoever is last to leave a buyer, or finds one left, takes it out.
    fn forget(&self, user: &UserId, cell: &Cell) {
        self.buyers
            .remove_if(user, |_, there| Arc::ptr_eq(there, cell));
    }

    /// Looks without claiming: the way of replays, and of buyers who come too late.
    pub fn look(&self, user: &UserId, key: &IdemKey, fingerprint: Fingerprint) -> Option<Known> {
        if fail_ignore_keys() {
            return None;
        }
        let cell = self.cell(user)?;
        let mut buyer = cell.lock();
        let slot = buyer.slots.iter_mut().find(|s| s.key == *key)?;
        Some(slot.known(fingerprint))
    }

    /// Takes the key for one purchase of `units`, or says what is known of it.
    pub fn claim(
        self: &Arc<Self>,
        user: &UserId,
        key: &IdemKey,
        fingerprint: Fingerprint,
        units: u32,
    ) -> Claimed {
        // Whoever never wins leaves nothing behind.
        let allowed_at_all = self.limits.allow(&Buyer::default(), units);
        loop {
            let cell = if allowed_at_all {
                let entry = self.buyers.entry(user.clone());
                Arc::clone(&entry.or_default())
            } else if let Some(cell) = self.cell(user) {
                cell
            } else {
                return Claimed::Refused(Refusal::OverLimit);
            };
            let buyer = cell.lock();
            if buyer.gone {
                drop(buyer);
                self.forget(user, &cell);
                continue;
            }
            if let Some(no) = self.take_key(buyer, key, fingerprint, units) {
                return no;
            }
            return Claimed::Mine(Claim {
                index: Arc::clone(self),
                cell,
                user: user.clone(),
                key: key.clone(),
                fingerprint,
                settled: false,
            });
        }
    }

    fn take_key(
        &self,
        mut buyer: MutexGuard<'_, Buyer>,
        key: &IdemKey,
        fingerprint: Fingerprint,
        units: u32,
    ) -> Option<Claimed> {
        if let Some(slot) = buyer.slots.iter_mut().find(|s| s.key == *key)
            && !fail_ignore_keys()
        {
            return Some(Claimed::Known(slot.known(fingerprint)));
        }
        if !self.limits.allow(&buyer, units) {
            return Some(Claimed::Refused(Refusal::OverLimit));
        }
        buyer.slots.push(Slot {
            key: key.clone(),
            fingerprint,
            standing: Standing::Pending(Vec::new()),
        });
        None
    }

    /// Units a user has in live orders, orders on their way to the ledger included.
    pub fn units_live(&self, user: &UserId) -> u32 {
        self.cell(user).map_or(0, |cell| cell.lock().units_live)
    }

    /// What [`Index::claim`] would say of the limits now; nothing is claimed.
    pub fn allows(&self, user: &UserId, units: u32) -> bool {
        match self.cell(user) {
            Some(cell) => self.limits.allow(&cell.lock(), units),
            None => self.limits.allow(&Buyer::default(), units),
        }
    }

    /// From the ledger, at start. Returns what the user has live by now.
    pub fn restore(
        &self,
        user: &UserId,
        key: &IdemKey,
        fingerprint: Fingerprint,
        order: OrderId,
        units_live: u32,
    ) -> u32 {
        let cell = Arc::clone(&self.buyers.entry(user.clone()).or_default());
        let mut buyer = cell.lock();
        buyer.units_live += units_live;
        buyer.slots.push(Slot {
            key: key.clone(),
            fingerprint,
            standing: Standing::Won(order),
        });
        buyer.units_live
    }

    /// Fresh units for an order whose payment came after it closed, if the limit lets
    /// its user have them. The order itself was counted when it was made.
    pub fn take_again(&self, user: &UserId, units: u32) -> bool {
        let Some(cell) = self.cell(user) else {
            return false;
        };
        let mut buyer = cell.lock();
        let live = buyer.units_live.saturating_add(units);
        if live > self.limits.units_max && !fail_ignore_limits() && !fail_ignore_late_limits() {
            return false;
        }
        buyer.units_live = live;
        true
    }

    /// Units of an order that closed count no longer; the key stays for ever.
    pub fn release(&self, user: &UserId, units: u32) {
        if let Some(cell) = self.cell(user) {
            let mut buyer = cell.lock();
            buyer.units_live = buyer.units_live.saturating_sub(units);
        }
    }
}

impl Slot {
    fn known(&mut self, fingerprint: Fingerprint) -> Known {
        if self.fingerprint != fingerprint {
            return Known::Reused;
        }
        match &mut self.standing {
            Standing::Won(order) => Known::Won(*order),
            Standing::Pending(waiters) | Standing::Placed(_, waiters) => {
                let (tell, hear) = oneshot::channel();
                waiters.push(tell);
                Known::Join(hear)
            }
        }
    }
}

/// The right to answer for one key. Dropped without an answer (the buyer left
/// while waiting for admission), the key is free again and those who joined look anew.
#[derive(Debug)]
pub struct Claim {
    index: Arc<Index>,
    cell: Cell,
    user: UserId,
    key: IdemKey,
    fingerprint: Fingerprint,
    settled: bool,
}

impl Claim {
    pub fn user(&self) -> &UserId {
        &self.user
    }

    pub fn key(&self) -> &IdemKey {
        &self.key
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The guard's check of user limit and key, from ledger facts alone; on
    /// `true` the units count from now on.
    pub fn place(&self, order: OrderId, units: u32) -> bool {
        let mut buyer = self.cell.lock();
        if buyer.units_live.saturating_add(units) > self.index.limits.units_max
            && !fail_ignore_limits()
        {
            return false;
        }
        let Some(standing) = buyer.standing(&self.key, |s| matches!(s, Standing::Pending(_)))
        else {
            return false;
        };
        let Standing::Pending(waiters) = standing else {
            return false;
        };
        *standing = Standing::Placed(order, std::mem::take(waiters));
        buyer.units_live += units;
        true
    }

    /// The order is durable: the key answers replays from here on.
    pub fn won(mut self, answer: &Answer) {
        self.settled = true;
        let waiters = {
            let mut buyer = self.cell.lock();
            let Some(standing) = buyer.standing(&self.key, |s| matches!(s, Standing::Placed(..)))
            else {
                return;
            };
            let Standing::Placed(order, waiters) = standing else {
                return;
            };
            let (order, waiters) = (*order, std::mem::take(waiters));
            *standing = Standing::Won(order);
            waiters
        };
        tell(waiters, answer);
    }

    /// Nothing was set aside: the key may be used again, by anyone of this user.
    pub fn refused(mut self, answer: &Answer) {
        self.settled = true;
        tell(self.free(), answer);
    }

    /// The outcome is not known and nobody will learn it in this process: the
    /// key stays taken, so that no second order can come of it.
    pub fn abandon(mut self) {
        self.settled = true;
    }

    fn free(&self) -> Vec<oneshot::Sender<Answer>> {
        let mut buyer = self.cell.lock();
        let found = buyer
            .slots
            .iter()
            .position(|s| s.key == self.key && matches!(s.standing, Standing::Pending(_)));
        let waiters = match found.map(|at| buyer.slots.remove(at).standing) {
            Some(Standing::Pending(waiters) | Standing::Placed(_, waiters)) => waiters,
            Some(Standing::Won(_)) | None => Vec::new(),
        };
        buyer.gone = buyer.slots.is_empty();
        let gone = buyer.gone;
        drop(buyer);
        if gone {
            self.index.forget(&self.user, &self.cell);
        }
        waiters
    }
}

impl Buyer {
    fn standing(&mut self, key: &IdemKey, wanted: fn(&Standing) -> bool) -> Option<&mut Standing> {
        self.slots
            .iter_mut()
            .find(|s| s.key == *key && wanted(&s.standing))
            .map(|s| &mut s.standing)
    }
}

fn tell(waiters: Vec<oneshot::Sender<Answer>>, answer: &Answer) {
    for waiter in waiters {
        // A buyer who left meanwhile finds the answer under the same key later.
        let _ = waiter.send(answer.clone());
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled {
            // Dropping the senders tells those who joined to look again.
            drop(self.free());
        }
    }
}

/// Broken on purpose, for the test that proves the audit notices lost idempotency.
fn fail_ignore_keys() -> bool {
    fail::fail_point!("index-ignore-keys", |_| true);
    false
}

/// As above, for the limit of units.
fn fail_ignore_limits() -> bool {
    fail::fail_point!("index-ignore-limits", |_| true);
    false
}

/// And where units are taken again for late money.
fn fail_ignore_late_limits() -> bool {
    fail::fail_point!("late-no-limit", |_| true);
    false
}

#[cfg(test)]
mod tests;
