//! What a buyer does after an answer: a pure function, no clock, no socket.
//!
//! The rule of the contract: as long as the outcome is unknown the same key is
//! tried again, and a definite answer ends it.

use crate::answer::{Meaning, Outcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A definite answer: the buyer knows.
    Settled,
    /// The same key and body again, after a pause.
    Again { after_ms: u64 },
    /// Patience is over; whether an order exists stays unknown.
    GiveUp,
}

#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a buyer keeps asking for one definite answer.
    pub outage_ms: u64,
    /// Whether "try later" is obeyed, or taken as the final word.
    pub retry_shed: bool,
}

const PAUSE_MS_FIRST: u64 = 25;
const PAUSE_MS_MAX: u64 = 1_000;

/// `outcome` is none when the request could not even be sent.
pub fn next(
    outcome: Option<Outcome>,
    n_tries: u32,
    waited_ms: u64,
    retry_after_s: Option<u32>,
    jitter_ms: u64,
    patience: Patience,
) -> Next {
    let pause_ms = (PAUSE_MS_FIRST << n_tries.min(6)).min(PAUSE_MS_MAX) / 2 + jitter_ms;
    let after_ms = match outcome {
        None => pause_ms,
        // Their train came out of the tunnel.
        Some(Outcome::OwnCut) => jitter_ms,
        Some(outcome) => match outcome.meaning() {
            Meaning::Win | Meaning::Refused => return Next::Settled,
            // An engine that is starting is an outage, not a verdict.
            Meaning::Shed if !patience.retry_shed && outcome != Outcome::NotReady => {
                return Next::Settled;
            }
            Meaning::Shed => retry_after_s.map_or(pause_ms, |s| u64::from(s) * 1_000 + jitter_ms),
            // A first lost connection may just be an idle one closed by the server.
            Meaning::Unknown if n_tries == 0 && outcome == Outcome::Cut => jitter_ms,
            Meaning::Unknown => pause_ms,
        },
    };
    if waited_ms + after_ms > patience.outage_ms {
        Next::GiveUp
    } else {
        Next::Again { after_ms }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        outage_ms: 10_000,
        retry_shed: false,
    };

    fn after(outcome: Option<Outcome>, n_tries: u32, waited_ms: u64) -> Next {
        next(outcome, n_tries, waited_ms, None, 3, PATIENCE)
    }

    #[test]
    fn definite_answers_end_it_and_unknown_ones_do_not() {
        assert_eq!(after(Some(Outcome::Won), 0, 0), Next::Settled);
        assert_eq!(after(Some(Outcome::SoldOut), 0, 0), Next::Settled);
        assert_eq!(after(Some(Outcome::Throttled), 0, 0), Next::Settled);
        assert_eq!(
            after(Some(Outcome::OwnCut), 0, 0),
            Next::Again { after_ms: 3 }
        );
        for outcome in [
            Outcome::OutcomeUnknown,
            Outcome::InProgress,
            Outcome::TimedOut,
            Outcome::ServerError,
        ] {
            assert_eq!(after(Some(outcome), 0, 0), Next::Again { after_ms: 15 });
        }
        assert_eq!(after(None, 60, 0), Next::Again { after_ms: 503 });
    }

    #[test]
    fn patience_ends() {
        assert_eq!(after(None, 3, 9_990), Next::GiveUp);
        assert_eq!(after(Some(Outcome::Won), 3, 99_990), Next::Settled);
    }

    #[test]
    fn a_patient_buyer_obeys_retry_after() {
        let patience = Patience {
            retry_shed: true,
            ..PATIENCE
        };
        let next = |retry_after| next(Some(Outcome::Throttled), 0, 0, retry_after, 3, patience);
        assert_eq!(next(Some(2)), Next::Again { after_ms: 2_003 });
        assert_eq!(next(None), Next::Again { after_ms: 15 });
    }
}
