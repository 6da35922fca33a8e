//! Is another build faster? Both run at once and are shot at in turn.
//!
//! A machine that is shared has slow and fast minutes, and they differ by more than most
//! changes do. So a turn takes half a second, a ratio takes two neighbours, and who goes
//! first changes from round to round. The other stands still meanwhile: its stream would
//! catch up just then.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::engine::{Server, binary};
use crate::paid::{Goods, Till, orders_of};
use crate::peer::Redis;
use crate::report::Report;
use crate::shoot::{Shot, purchases_from};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Wins on the embedded host
    Wins,
    /// Wins on a Redis for each build
    Redis,
    /// Payment callbacks
    Callbacks,
}

pub struct Compare {
    /// The engine of the other build.
    pub other: PathBuf,
    pub figure: Figure,
    pub rounds: u16,
    pub shot: Shot,
}

/// Nobody sells as many a second.
const WINS_PER_S: f64 = 150_000.0;
/// Shorter turns measure how a line begins; longer ones take the machine's minutes in.
const SECONDS: RangeInclusive<f64> = 0.1..=5.0;

/// One build under fire.
enum Side {
    Selling {
        engine: Server,
        /// After the engine: nobody is left to ask a Redis that is gone.
        _redis: Option<Redis>,
    },
    Paid(Till),
}

impl Side {
    fn engine(&self) -> &Server {
        match self {
            Self::Selling { engine, .. } => engine,
            Self::Paid(till) => till.engine(),
        }
    }
}

pub fn measure(ask: &Compare, out: &Path, report: &mut Report) -> Result<(), String> {
    if !SECONDS.contains(&ask.shot.seconds) {
        let (min, max) = (SECONDS.start(), SECONDS.end());
        let seconds = ask.shot.seconds;
        return Err(format!("a turn of {seconds} s: allowed are {min} to {max}"));
    }
    let (this, other) = (ask.side(&binary()?, out)?, ask.side(&ask.other, out)?);
    this.engine().pause()?;
    other.engine().pause()?;
    for round in 0..ask.rounds {
        let (mine, theirs) = if round % 2 == 0 {
            let mine = ask.turn(&this, round)?;
            (mine, ask.turn(&other, round)?)
        } else {
            let theirs = ask.turn(&other, round)?;
            (ask.turn(&this, round)?, theirs)
        };
        report.push("this_rps", mine);
        report.push("other_rps", theirs);
        report.push("this_over_other", mine / theirs);
    }
    Ok(())
}

impl Compare {
    fn side(&self, binary: &Path, out: &Path) -> Result<Side, String> {
        let units = u32::from(self.rounds) * self.units();
        Ok(match self.figure {
            Figure::Wins => Side::Selling {
                engine: Server::build(binary, out, units, "")?,
                _redis: None,
            },
            Figure::Redis => {
                let redis = Redis::start()?;
                Side::Selling {
                    engine: Server::build(binary, out, units, &redis.stock())?,
                    _redis: Some(redis),
                }
            }
            Figure::Callbacks => Side::Paid(Till::open(binary, out, units, Goods::Parcel)?),
        })
    }

    /// Enough for one turn.
    fn units(&self) -> u32 {
        match self.figure {
            Figure::Wins | Figure::Redis => {
                ((self.shot.seconds + self.shot.warmup_seconds) * WINS_PER_S) as u32
            }
            Figure::Callbacks => orders_of(self.shot),
        }
    }

    fn turn(&self, side: &Side, round: u16) -> Result<f64, String> {
        side.engine().go_on()?;
        let rps = self.shoot_at(side, round)?;
        side.engine().pause()?;
        Ok(rps)
    }

    fn shoot_at(&self, side: &Side, round: u16) -> Result<f64, String> {
        let first = u32::from(round) * self.units();
        match side {
            Side::Selling { engine, .. } => {
                let (base, path) = (engine.public(), "/v1/orders");
                let report = purchases_from(self.shot, base, path, u64::from(first))?;
                match report.statuses.get(&201) {
                    Some(n) if *n == report.answers && report.errors == 0 => Ok(report.rps),
                    _ => Err(format!("not all of them won: {:?}", report.statuses)),
                }
            }
            Side::Paid(till) => till.callbacks(self.shot, first),
        }
    }
}
