//! Refill: for a store that is older than the oldest record kept, or empty.
//!
//! What it lacks is in the ledger no more as records, but every order is, as it
//! stands now. All of them are put, from one view of the ledger, and only then does
//! the mark move to that view's tip; a crash in between costs doing it again. What
//! the store has already stays, by version. Of an order's past only its newest
//! event is told: the others went with their records. Dead letters stay, because
//! a replay brings the event they carry.

use floodgate_ledger::Ledger;

use super::aside::Aside;
use super::row::{ORDER, OrderRow};
use super::sift::{Sifted, sift};
use super::store::{Batch, Mark, OrderStore, Put};
use super::worker::Halt;

pub(super) enum Refilled {
    /// The store has every order, and this mark.
    Done(Mark),
    /// Somebody else moved the mark; it stands here.
    MarkMoved(Option<Mark>),
    /// There was no more time; the mark has not moved.
    Stopped,
}

pub(super) struct Refill<'a> {
    pub ledger: &'a Ledger,
    pub store: &'a dyn OrderStore,
    pub node: u16,
    pub rows_max: usize,
}

impl Refill<'_> {
    /// Asks `go_on` after each batch, telling how many orders it carried.
    pub fn run(
        &self,
        aside: &mut Aside,
        mark: Option<&Mark>,
        mut go_on: impl FnMut(usize) -> bool,
    ) -> Result<Refilled, Halt> {
        let stand = match aside.stand_on(mark)? {
            Ok(stand) => stand,
            Err(actual) => return Ok(Refilled::MarkMoved(actual)),
        };
        let unreadable = |e: &dyn std::fmt::Display| Halt::Stop(e.to_string());
        let view = self.ledger.view().map_err(|e| unreadable(&e))?;
        let tip = view.tip();
        tracing::warn!(
            mark = stand.seq.0,
            tip = tip.seq.0,
            "the order store is older than the oldest record kept: it gets every order as it is \
             now; earlier events of orders that it lacks are not told"
        );
        let mut orders = view.entities(None, Some(ORDER), false);
        loop {
            let mut rows = Vec::new();
            for found in orders.by_ref().take(self.rows_max) {
                let found = found.map_err(|e| unreadable(&e))?;
                let row = OrderRow::read(found.seq.0, &found.body)
                    .map_err(|e| unreadable(&format!("record {}: {e}", found.seq.0)))?;
                rows.push(row);
            }
            if rows.is_empty() {
                break;
            }
            let n_carried = rows.len();
            match sift(self.store, self.node, rows, &stand)? {
                Sifted::Done { n_taken, refused } => aside.bury(n_taken, &refused)?,
                Sifted::MarkMoved(actual) => return Ok(Refilled::MarkMoved(actual)),
            }
            if !go_on(n_carried) {
                return Ok(Refilled::Stopped);
            }
        }
        let to = Mark {
            ledger: self.ledger.id(),
            seq: tip.seq,
            hash: tip.hash,
        };
        let nothing = Batch::default();
        Ok(
            match self.store.put(self.node, &nothing, Some(&stand), &to)? {
                Put::Advanced => Refilled::Done(to),
                Put::MarkMoved(actual) => Refilled::MarkMoved(actual),
            },
        )
    }
}
