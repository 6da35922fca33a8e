//! What the buyers remember, gathered from their journals.

use std::collections::HashMap;

use super::{Findings, Promise};
use crate::answer::{Meaning, Outcome};
use crate::journal::{Act, Journal};
use crate::plan::Variant;
use crate::wire::{Order, Status};

/// One win that was told, as it was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub journal: usize,
    pub attempt: u32,
    pub variant: Variant,
    pub order: Order,
    pub answered_us: u64,
}

/// Per attempt, what its purchases were answered.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    pub(super) sent: bool,
    pub(super) unknown: bool,
    pub(super) won: bool,
}

pub struct Memory {
    pub told: Vec<Told>,
    /// (journal, attempt) → the earliest told win, as a position in `told`.
    pub(super) first_told: HashMap<(usize, u32), usize>,
    pub(super) heard: Vec<Vec<Heard>>,
    /// Orders whose cancel was sent, and whether "canceled" was told.
    pub(super) cancels: HashMap<u128, bool>,
    pub(super) outcomes: HashMap<Outcome, u64>,
    pub n_sends: u64,
}

impl Memory {
    pub(super) fn of(
        journals: &[Journal],
        findings: &mut Findings,
        notes: &mut Vec<String>,
    ) -> Self {
        let mut memory = Self {
            told: Vec::new(),
            first_told: HashMap::new(),
            heard: Vec::new(),
            cancels: HashMap::new(),
            outcomes: HashMap::new(),
            n_sends: 0,
        };
        for (at, journal) in journals.iter().enumerate() {
            memory
                .heard
                .push(vec![Heard::default(); journal.header.attempts as usize]);
            memory.gather_wins(at, journal, findings, notes);
            memory.gather_cancels(at, journal, findings);
            if !journal.whole {
                notes.push(format!(
                    "journal {} has no end: the run was stopped or killed, and who was still \
                     owed an answer is not judged by it",
                    at + 1
                ));
            }
        }
        memory
    }

    /// Only the wins that can be read, for choosing which to look up.
    pub fn told_only(journals: &[Journal]) -> Vec<Told> {
        Self::of(journals, &mut Findings::default(), &mut Vec::new()).told
    }

    fn gather_wins(
        &mut self,
        at: usize,
        journal: &Journal,
        findings: &mut Findings,
        notes: &mut Vec<String>,
    ) {
        let plan = &journal.header.plan;
        let mut strange = None;
        for entry in journal.entries() {
            self.n_sends += 1;
            *self.outcomes.entry(entry.outcome).or_default() += 1;
            if matches!(
                entry.outcome,
                Outcome::Unexpected | Outcome::Unreadable | Outcome::ServerError
            ) {
                strange.get_or_insert_with(|| {
                    let body = String::from_utf8_lossy(&entry.body[..entry.body.len().min(200)])
                        .into_owned();
                    format!("{} {} {body}", entry.outcome.name(), entry.status)
                });
            }
            let Act::Buy(variant) = entry.act else {
                continue;
            };
            let heard = &mut self.heard[at][entry.attempt as usize];
            heard.sent = true;
            match entry.outcome.meaning() {
                Meaning::Unknown => heard.unknown = true,
                Meaning::Refused | Meaning::Shed => {}
                Meaning::Win => {
                    heard.won = true;
                    match Order::parse(entry.body) {
                        Ok(order) => {
                            let answered_us = entry.answered_us();
                            self.told.push(Told { journal: at, attempt: entry.attempt, variant, order, answered_us });
                            let position = self.told.len() - 1;
                            let first = self.first_told.entry((at, entry.attempt)).or_insert(position);
                            if answered_us < self.told[*first].answered_us {
                                *first = position;
                            }
                        }
                        Err(error) => findings.add(Promise::P2, || {
                            let (user, key) = (plan.user_text(entry.attempt), plan.key_text(entry.attempt));
                            format!("user {user}, key {key} was told {} but the order cannot be read: {error}", entry.status)
                        }),
                    }
                }
            }
        }
        if let Some(strange) = strange {
            notes.push(format!(
                "answers outside the contract, the first: {strange}"
            ));
        }
    }

    fn gather_cancels(&mut self, at: usize, journal: &Journal, findings: &mut Findings) {
        for entry in journal.entries().filter(|entry| entry.act == Act::Cancel) {
            let Some(&first) = self.first_told.get(&(at, entry.attempt)) else {
                continue;
            };
            let id = self.told[first].order.id;
            let told = entry.outcome == Outcome::Canceled;
            *self.cancels.entry(id).or_default() |= told;
            if told {
                let closed = Order::parse(entry.body)
                    .is_ok_and(|order| order.id == id && order.status == Status::Closed);
                if !closed {
                    findings.add(Promise::P4, || {
                        let body = String::from_utf8_lossy(entry.body);
                        format!(
                            "order {} was canceled, and the answer shows something else: {body}",
                            crate::wire::show_id(id)
                        )
                    });
                }
            }
        }
    }

    pub(super) fn heard(&self, journal: usize, attempt: u32) -> Heard {
        self.heard[journal]
            .get(attempt as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Outcomes and their counts, for evidence.
    pub(super) fn census(&self) -> String {
        let counts = Outcome::all().filter_map(|outcome| {
            let count = self.outcomes.get(&outcome)?;
            Some(format!("{}: {count}", outcome.name()))
        });
        counts.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }
}
