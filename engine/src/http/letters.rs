//! Dead letters for people with the token: which orders, payments and entitlements the
//! order store refuses, and another try once the reason is gone.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::admin::Admin;
use super::call::Call;
use super::respond::{Code, Problem, Reply};
use crate::stream::{Letter, LetterError, Letters, Replayed, StoreError};

/// A replay costs two fsyncs: a page of them is done within seconds.
const PAGE_MAX: usize = 1_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LetterOut {
    seq: u64,
    /// What `id` is of: `order`, `payment` or `entitlement`.
    kind: &'static str,
    id: String,
    /// The order it belongs to; null of a payment for which none of ours was named.
    order_id: Option<String>,
    sale_id: Option<String>,
    /// A 64-bit number as text: JSON readers lose digits of such numbers.
    version: String,
    why: String,
    at: String,
}

impl From<Letter> for LetterOut {
    fn from(letter: Letter) -> Self {
        Self {
            seq: letter.seq,
            kind: letter.row.kind().name(),
            id: letter.row.id().to_string(),
            order_id: letter.row.order().map(|id| id.to_string()),
            sale_id: letter.row.sale().map(ToString::to_string),
            version: letter.row.version().to_string(),
            why: letter.why,
            at: letter.at.rfc3339(),
        }
    }
}

#[derive(Serialize)]
struct RefusedOut {
    seq: u64,
    why: String,
}

pub(super) fn problem(error: LetterError) -> Problem {
    match error {
        LetterError::Store(StoreError::Away(_)) | LetterError::Busy => {
            Problem::new(Code::NotReady, error.to_string())
        }
        LetterError::Store(
            StoreError::Poison { .. } | StoreError::Newer { .. } | StoreError::Damaged(_),
        )
        | LetterError::Read(_)
        | LetterError::Note { .. }
        | LetterError::Write(_)
        | LetterError::Mark(_) => Problem::new(Code::Internal, error.to_string()),
    }
}

/// Where the page begins and how long it may be.
fn page_of(call: &Call) -> Result<(u64, usize), Problem> {
    let field =
        |name: &str, what: String| Problem::new(Code::InvalidField, format!("{name}: {what}"));
    let after = match call.query("cursor") {
        None | Some("") => 0,
        Some(text) => text
            .parse()
            .map_err(|_| field("cursor", "not one that a page gave".into()))?,
    };
    let limit = match call.query("limit") {
        None => PAGE_MAX,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=PAGE_MAX).contains(n))
            .ok_or_else(|| field("limit", format!("allowed are 1 to {PAGE_MAX}")))?,
    };
    Ok((after, limit))
}

fn next_after(page: &[Letter], limit: usize) -> Option<String> {
    let last = page.last().filter(|_| page.len() == limit)?;
    Some(last.seq.to_string())
}

impl Admin {
    /// Letters read and write disks: not on a thread that serves buyers.
    async fn with_letters<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Letters) -> Result<T, LetterError> + Send + 'static,
    ) -> Result<T, Problem> {
        let letters = Arc::clone(&self.letters);
        tokio::task::spawn_blocking(move || work(&letters))
            .await
            .map_err(|e| Problem::new(Code::Internal, e.to_string()))?
            .map_err(problem)
    }

    pub(super) async fn dead_letters(&self, call: &Call) -> Result<Reply, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            dead_letters: Vec<LetterOut>,
            next_cursor: Option<String>,
        }
        let (after, limit) = page_of(call)?;
        let page = self.with_letters(move |l| l.page(after, limit)).await?;
        Ok(Reply::json(
            StatusCode::OK,
            &Page {
                next_cursor: next_after(&page, limit),
                dead_letters: page.into_iter().map(LetterOut::from).collect(),
            },
        ))
    }

    pub(super) async fn replay(&self, seq: &str) -> Result<Reply, Problem> {
        #[derive(Serialize)]
        struct Done {
            replayed: u64,
        }
        let missing = || Problem::new(Code::NotFound, "there is no dead letter with this seq");
        let seq: u64 = seq.parse().map_err(|_| missing())?;
        match self.with_letters(move |l| l.replay(seq)).await? {
            Replayed::Taken => Ok(Reply::json(StatusCode::OK, &Done { replayed: seq })),
            Replayed::Refused(why) => Err(Problem::new(Code::StillRefused, why)),
            Replayed::Missing => Err(missing()),
        }
    }

    /// One page of letters; what is refused again stays, and is named.
    pub(super) async fn replay_all(&self, call: &Call) -> Result<Reply, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Done {
            replayed: Vec<u64>,
            refused: Vec<RefusedOut>,
            next_cursor: Option<String>,
        }
        let (after, limit) = page_of(call)?;
        let done = self
            .with_letters(move |letters| {
                let page = letters.page(after, limit)?;
                let mut done = Done {
                    replayed: Vec::new(),
                    refused: Vec::new(),
                    next_cursor: next_after(&page, limit),
                };
                for Letter { seq, .. } in page {
                    match letters.replay(seq)? {
                        Replayed::Taken => done.replayed.push(seq),
                        Replayed::Refused(why) => done.refused.push(RefusedOut { seq, why }),
                        // Somebody else was faster.
                        Replayed::Missing => {}
                    }
                }
                Ok(done)
            })
            .await?;
        Ok(Reply::json(StatusCode::OK, &done))
    }
}
