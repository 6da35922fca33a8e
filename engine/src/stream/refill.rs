//! Refill: for a store that is older than the oldest record kept, or empty.
//!
//! What it lacks is in the ledger no more as records, but every order, payment and
//! entitlement is, as it stands now. All of them are put, from one view of the ledger,
//! and only then does the mark move to that view's tip; a crash in between costs doing it again. What
//! the store has already stays, by version. Of the past only the newest event of
//! each is told: the others went with their records. Dead letters stay, because
//! a replay brings the event they carry.

use floodgate_ledger::Ledger;

use super::aside::Aside;
use super::row::Row;
use super::sift::{Sifted, sift};
use super::store::{Batch, Mark, OrderStore, Put};
use super::stride::Stride;
use super::worker::Halt;

pub(super) enum Refilled {
    /// The store has everything, and this mark.
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
    pub stride: &'a mut Stride,
}

impl Refill<'_> {
    /// Asks `go_on` after each batch, telling how many rows it carried.
    pub fn run(
        self,
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
            "the order store is older than the oldest record kept: it gets everything as it is \
             now; earlier events of what it lacks are not told"
        );
        let mut rows = view.entities(None, None, false).filter_map(|found| {
            let found = match found {
                Ok(found) => found,
                Err(error) => return Some(Err(unreadable(&error))),
            };
            let row = Row::of_snapshot(&found).transpose()?;
            let said = |e| unreadable(&format_args!("record {}: {e}", found.seq.0));
            Some(row.map_err(said))
        });
        loop {
            let batch = rows.by_ref().take(self.stride.now());
            let rows = batch.collect::<Result<Vec<Row>, Halt>>()?;
            if rows.is_empty() {
                break;
            }
            let n_carried = rows.len();
            self.stride.ask(n_carried);
            match sift(self.store, self.node, rows, &stand)? {
                Sifted::Done { taken, refused } => aside.bury(&taken, &refused)?,
                Sifted::MarkMoved(actual) => return Ok(Refilled::MarkMoved(actual)),
            }
            self.stride.grow();
            if !go_on(n_carried) {
                return Ok(Refilled::Stopped);
            }
        }
        let to = Mark::at(self.ledger, tip);
        let nothing = Batch::default();
        Ok(
            match self.store.put(self.node, &nothing, Some(&stand), &to)? {
                Put::Advanced => Refilled::Done(to),
                Put::MarkMoved(actual) => Refilled::MarkMoved(actual),
            },
        )
    }
}
