//! When each attempt is due: a pure schedule of an open model.
//!
//! Attempt `i` has one intended moment, fixed before the first byte is sent.
//! A slow engine never slows the schedule down, so latency counted from the
//! intended moment contains all the waiting a real buyer would have felt.
//!
//! Not here: clocks, sleeping, dropping (`run.rs`).

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One stretch of the schedule. Rates are attempts a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Phase {
    /// The same rate all along.
    Constant { rate: f64, seconds: f64 },
    /// A straight line from one rate to another.
    Ramp { from: f64, to: f64, seconds: f64 },
    /// Up to a peak, held there, then down for what is left of `seconds`.
    Spike {
        from: f64,
        peak: f64,
        to: f64,
        rise_seconds: f64,
        hold_seconds: f64,
        seconds: f64,
    },
}

#[derive(Debug, Error, PartialEq)]
pub enum PaceError {
    #[error("phases: at least one phase is needed")]
    NoPhase,
    #[error("phases[{index}].{field}: {value} is not allowed; use a number from 0 to {max}")]
    OutOfRange {
        index: usize,
        field: &'static str,
        value: f64,
        max: f64,
    },
    #[error("phases[{index}]: riseSeconds + holdSeconds is longer than seconds")]
    SpikeTooShort { index: usize },
    #[error("phases: together they carry {carried} attempts, attempts asks for {asked}")]
    TooFew { carried: u64, asked: u64 },
    #[error("phases: together they carry no attempt at all")]
    Empty,
}

const RATE_MAX: f64 = 10_000_000.0;
const SECONDS_MAX: f64 = 86_400.0;

/// A straight piece of the rate line; every phase is made of these.
#[derive(Clone, Debug)]
struct Segment {
    /// Attempts due before this piece begins.
    first: f64,
    starts_s: f64,
    seconds: f64,
    from: f64,
    to: f64,
}

impl Segment {
    fn attempts(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }
}

/// The whole schedule.
#[derive(Clone, Debug)]
pub struct Pace {
    segments: Vec<Segment>,
    total: u64,
}

impl Pace {
    /// `attempts` cuts the schedule short; asking for more than it carries is an error.
    pub fn new(phases: &[Phase], attempts: Option<u64>) -> Result<Self, PaceError> {
        if phases.is_empty() {
            return Err(PaceError::NoPhase);
        }
        let mut segments: Vec<Segment> = Vec::new();
        let (mut first, mut starts_s) = (0.0, 0.0);
        for (index, phase) in phases.iter().enumerate() {
            for (from, to, seconds) in lines(index, phase)? {
                if seconds <= 0.0 {
                    continue;
                }
                let segment = Segment {
                    first,
                    starts_s,
                    seconds,
                    from,
                    to,
                };
                first += segment.attempts();
                starts_s += seconds;
                segments.push(segment);
            }
        }
        // Sums of decimal fractions may end a hair below the whole number meant.
        let carried = (first + 1e-6).floor() as u64;
        let total = match attempts {
            Some(asked) if asked > carried => return Err(PaceError::TooFew { carried, asked }),
            Some(asked) => asked,
            None => carried,
        };
        if total == 0 {
            return Err(PaceError::Empty);
        }
        Ok(Self { segments, total })
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn seconds(&self) -> f64 {
        self.segments
            .last()
            .map_or(0.0, |last| last.starts_s + last.seconds)
    }

    /// Microseconds after the start at which attempt `i` is meant to be sent.
    pub fn due_us(&self, i: u64) -> u64 {
        let n = i as f64;
        let at = self
            .segments
            .partition_point(|segment| segment.first <= n)
            .saturating_sub(1);
        let segment = &self.segments[at];
        let left = n - segment.first;
        // Attempts by time t are from*t + slope*t^2; this root stays exact for slope = 0.
        let slope = (segment.to - segment.from) / (2.0 * segment.seconds);
        let root = (segment.from * segment.from + 4.0 * slope * left)
            .max(0.0)
            .sqrt();
        let t = if left <= 0.0 {
            0.0
        } else {
            2.0 * left / (segment.from + root)
        };
        ((segment.starts_s + t.min(segment.seconds)) * 1e6) as u64
    }
}

fn lines(index: usize, phase: &Phase) -> Result<Vec<(f64, f64, f64)>, PaceError> {
    let check = |field: &'static str, value: f64, max: f64| {
        let fine = value.is_finite() && (0.0..=max).contains(&value);
        if fine {
            Ok(value)
        } else {
            Err(PaceError::OutOfRange {
                index,
                field,
                value,
                max,
            })
        }
    };
    match *phase {
        Phase::Constant { rate, seconds } => {
            check("rate", rate, RATE_MAX)?;
            check("seconds", seconds, SECONDS_MAX)?;
            Ok(vec![(rate, rate, seconds)])
        }
        Phase::Ramp { from, to, seconds } => {
            check("from", from, RATE_MAX)?;
            check("to", to, RATE_MAX)?;
            check("seconds", seconds, SECONDS_MAX)?;
            Ok(vec![(from, to, seconds)])
        }
        Phase::Spike {
            from,
            peak,
            to,
            rise_seconds,
            hold_seconds,
            seconds,
        } => {
            check("from", from, RATE_MAX)?;
            check("peak", peak, RATE_MAX)?;
            check("to", to, RATE_MAX)?;
            check("riseSeconds", rise_seconds, SECONDS_MAX)?;
            check("holdSeconds", hold_seconds, SECONDS_MAX)?;
            check("seconds", seconds, SECONDS_MAX)?;
            let fall = seconds - rise_seconds - hold_seconds;
            if fall < 0.0 {
                return Err(PaceError::SpikeTooShort { index });
            }
            Ok(vec![
                (from, peak, rise_seconds),
                (peak, peak, hold_seconds),
                (peak, to, fall),
            ])
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spike() -> Phase {
        Phase::Spike {
            from: 100.0,
            peak: 1000.0,
            to: 0.0,
            rise_seconds: 1.0,
            hold_seconds: 2.0,
            seconds: 5.0,
        }
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let pace = Pace::new(
            &[Phase::Constant {
                rate: 1000.0,
                seconds: 2.0,
            }],
            None,
        )
        .unwrap();
        assert_eq!(pace.total(), 2000);
        assert_eq!(
            (pace.due_us(0), pace.due_us(1), pace.due_us(1999)),
            (0, 1000, 1_999_000)
        );
    }

    #[test]
    fn a_ramp_from_zero_doubles_its_count_with_the_square_of_time() {
        let pace = Pace::new(
            &[Phase::Ramp {
                from: 0.0,
                to: 1000.0,
                seconds: 10.0,
            }],
            None,
        )
        .unwrap();
        assert_eq!(pace.total(), 5000);
        // A quarter of the attempts fall into the first half of the time.
        assert_eq!(pace.due_us(1250), 5_000_000);
    }

    #[test]
    fn a_spike_counts_what_its_area_says_and_never_goes_back_in_time() {
        let pace = Pace::new(
            &[
                spike(),
                Phase::Constant {
                    rate: 10.0,
                    seconds: 1.0,
                },
            ],
            None,
        )
        .unwrap();
        assert_eq!(pace.total(), 550 + 2000 + 1000 + 10);
        let due: Vec<u64> = (0..pace.total()).map(|i| pace.due_us(i)).collect();
        assert!(due.is_sorted());
        let held = due
            .iter()
            .filter(|&&at| (1_000_000..3_000_000).contains(&at))
            .count();
        assert_eq!(held, 2000);
        assert!(due[3559] < 6_000_000 && due[3550] >= 5_000_000);
    }

    #[test]
    fn attempts_cut_the_schedule_and_never_stretch_it() {
        assert_eq!(Pace::new(&[spike()], Some(7)).unwrap().total(), 7);
        let error = Pace::new(&[spike()], Some(4000)).unwrap_err();
        assert_eq!(
            error,
            PaceError::TooFew {
                carried: 3550,
                asked: 4000
            }
        );
    }

    #[test]
    fn impossible_phases_are_refused_by_name() {
        let bad = Phase::Constant {
            rate: -1.0,
            seconds: 1.0,
        };
        let text = Pace::new(&[spike(), bad], None).unwrap_err().to_string();
        assert!(text.contains("phases[1].rate"), "{text}");
        let short = Phase::Spike {
            from: 0.0,
            peak: 1.0,
            to: 0.0,
            rise_seconds: 2.0,
            hold_seconds: 2.0,
            seconds: 3.0,
        };
        assert_eq!(
            Pace::new(&[short], None).unwrap_err(),
            PaceError::SpikeTooShort { index: 0 }
        );
        assert_eq!(Pace::new(&[], None).unwrap_err(), PaceError::NoPhase);
    }
}
