//! A committer without a thread: whoever holds it decides when a commit happens.
//!
//! For simulations, where one seed must order everything. It commits by the same
//! code as the thread does.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::committer::{AtTheEnd, Committer};
use crate::work::Work;

/// What a turn of the committer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Nothing had been handed over.
    Idle,
    Committed,
    /// Told to stop, or latched shut: there will be no further commit.
    Ended,
}

/// Commits when told to. Dropping it ends the ledger as a crash does: what was
/// handed over and not committed hears "closed".
pub struct Driver {
    committer: Committer,
    carry: Option<Work>,
    handed: Arc<Notify>,
    _end: AtTheEnd,
}

impl Driver {
    pub(crate) fn new(committer: Committer, handed: Arc<Notify>) -> Self {
        let end = committer.at_the_end();
        Self {
            committer,
            carry: None,
            handed,
            _end: end,
        }
    }

    /// Resolves once something was handed over since the last time.
    pub async fn handed(&mut self) {
        self.handed.notified().await;
    }

    /// Commits one batch of what is queued now.
    pub fn step(&mut self) -> Stepped {
        self.committer.turn(&mut self.carry, false)
    }
}
