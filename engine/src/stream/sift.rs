//! Sifting a refused batch: which of its rows are at fault?
//!
//! By halves, because a store need not be able to tell: "not this batch" is
//! enough. The mark stands still meanwhile, so a crash in here costs nothing but
//! doing it again; rows that were taken are taken a second time without harm.

use std::collections::BTreeSet;

use super::row::{Row, RowKind};
use super::store::{Batch, Mark, OrderStore, Put, StoreError};

/// A row that the store refuses even when it comes alone.
pub(super) struct Refused {
    pub row: Row,
    pub why: String,
}

pub(super) enum Sifted {
    /// Everything but these rows is in the store, and of which kinds that is.
    Done {
        taken: BTreeSet<RowKind>,
        refused: Vec<Refused>,
    },
    /// Somebody else moved the mark; it stands here.
    MarkMoved(Option<Mark>),
}

pub(super) fn sift(
    store: &dyn OrderStore,
    node: u16,
    rows: Vec<Row>,
    mark: &Mark,
) -> Result<Sifted, StoreError> {
    let mut taken = BTreeSet::new();
    let mut refused = Vec::new();
    // What comes first lies on top: rows are asked about in the ledger's order.
    let mut todo = vec![rows];
    while let Some(rows) = todo.pop() {
        let batch = Batch {
            rows,
            ..Batch::default()
        };
        let why = match store.put(node, &batch, Some(mark), mark) {
            Ok(Put::Advanced) => {
                taken.extend(batch.rows.iter().map(Row::kind));
                continue;
            }
            Ok(Put::MarkMoved(actual)) => return Ok(Sifted::MarkMoved(actual)),
            Err(error) => error.refusal()?,
        };
        let mut left = batch.rows;
        let right = left.split_off(left.len().div_ceil(2));
        match left.pop() {
            Some(row) if left.is_empty() && right.is_empty() => refused.push(Refused { row, why }),
            Some(row) => {
                left.push(row);
                todo.push(right);
                todo.push(left);
            }
            // A store that refuses nothing at all is not one to go on with.
            None => return Err(StoreError::Damaged(format!("an empty batch: {why}"))),
        }
    }
    Ok(Sifted::Done { taken, refused })
}
