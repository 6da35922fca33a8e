//! From journals on disk and an engine that runs to a verdict: reads the ones, fetches
//! the books of the other until they are quiet, hands both to the audit.

use std::path::PathBuf;
use std::time::Duration;

use crate::api::Api;
use crate::audit::{Memory, Verdict, audit};
use crate::books::{Fetcher, Probe};
use crate::cli::Failure;
use crate::journal::Journal;

/// Books of a sale that still moves are fetched again; differences that stay are real.
const FETCHES_MAX: usize = 4;
const LOOKUPS: usize = 400;

/// The store has `patience` to catch up.
pub async fn judge(
    paths: &[PathBuf],
    public: Api,
    admin: Api,
    patience: Duration,
) -> Result<Verdict, Failure> {
    let journals = paths
        .iter()
        .map(|path| Journal::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(first) = journals.first() else {
        return Err("no journal given".into());
    };
    let sale_id = first.header.plan.sale_id.clone();
    if let Some(other) = journals
        .iter()
        .find(|journal| journal.header.plan.sale_id != sale_id)
    {
        return Err(format!(
            "journals of two sales: {sale_id} and {}",
            other.header.plan.sale_id
        )
        .into());
    }
    let probes = probes(&journals);
    let money = journals.iter().any(|j| j.header.plan.pay.is_some());
    let mut fetcher = Fetcher {
        public,
        admin,
        sale_id,
        quiet_timeout: patience,
        money,
    };
    let mut n_fetched = 0;
    loop {
        let books = fetcher.fetch(&probes).await?;
        let verdict = audit(&journals, &books);
        n_fetched += 1;
        let moved =
            books.ledger_seq != books.sale.durable_seq || books.store_mark < books.sale.durable_seq;
        if verdict.passed() || !moved || books.stuck.is_some() || n_fetched == FETCHES_MAX {
            return Ok(verdict);
        }
    }
}

/// Wins to look up, spread evenly over all that were told.
fn probes(journals: &[Journal]) -> Vec<Probe> {
    let memory = Memory::told_only(journals);
    let step = memory.len().div_ceil(LOOKUPS).max(1);
    let told = memory.iter().step_by(step);
    told.map(|told| Probe {
        id: told.order.id,
        user: journals[told.journal].header.plan.user_text(told.attempt),
    })
    .collect()
}
