//! The day itself: one fault after the other, each when it is due, and after each the
//! question whether buyers win again.

use std::time::{Duration, Instant};

use super::Args;
use super::buyers::{BUCKETS, Buyers, Shop, sale_name};
use super::operator;
use super::plan::{Kind, Setting, faults};
use super::stage::Stage;
use super::verdict::{Chaos, Played};
use crate::cli::{Failure, block_on};
use crate::servers::StoreKind;

/// First-hand wins that show that a sale goes on.
const WINS: u64 = 20;
/// A machine that does other things may stand still for a minute or two.
pub(super) const STUCK: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(20);

pub(super) struct Day<'a> {
    pub args: &'a Args,
    pub shop: &'a Shop,
    pub buyers: &'a Buyers,
    pub began: Instant,
    pub chaos: &'a mut Chaos,
}

impl Day<'_> {
    /// From the first win to the last fault.
    pub fn play(&mut self, seed: u64, stage: &mut Stage) -> Result<(), Failure> {
        let setting = Setting {
            servers: self.args.servers,
            with_store: self.args.store == StoreKind::Postgres,
            ms_max: self.args.still_ms,
        };
        let count = match self.args.each_once {
            true => Kind::all(setting).count(),
            false => usize::MAX,
        };
        self.until_wins("the first buyer came");
        let every = Duration::from_secs_f64(self.args.every);
        let ends = Duration::from_secs(self.args.seconds);
        for (no, fault) in (0u32..).zip(faults(seed, setting)).take(count) {
            let due = every * no;
            if !self.args.each_once {
                if due + every > ends {
                    break;
                }
                self.until(due);
            }
            if self.buyers.are_stopped() || !self.chaos.findings.is_empty() {
                break;
            }
            stage.remember()?;
            if fault.kind.needs_other_copy() {
                if !operator::stock_is_whole(self.shop)? {
                    let why = format!("differences stayed before {}", fault.kind.name());
                    self.chaos.findings.push(why);
                    break;
                }
                if !self.store_is_even("before", fault.kind)? {
                    break;
                }
            }
            if fault.kind.ends_engine() {
                self.chaos.buckets_rebuilt += rebuilds(self.shop)?;
            }
            let at = self.began.elapsed();
            let bucket = self.a_bucket(fault.bytes);
            stage.play(&fault, &bucket, &|| self.buyers.are_stopped())?;
            if fault.kind.needs_other_copy() {
                operator::resume_sales(self.shop)?;
            }
            if fault.kind == Kind::RowsRefused {
                // What was refused is a letter by then.
                if !self.store_is_even("after", fault.kind)? {
                    break;
                }
                stage.engine.replay_letters()?;
            }
            let over = self.began.elapsed();
            self.until_wins(fault.kind.name());
            if let Some(ended) = stage.engine.ended() {
                let why = format!("the engine {ended} by itself after {}", fault.kind.name());
                self.chaos.findings.push(why);
            }
            let again = self.began.elapsed() - over;
            println!(
                "{:>6.1} s  {:<16} took {:>5} ms, selling again after {:>5} ms",
                at.as_secs_f64(),
                fault.kind.name(),
                (over - at).as_millis(),
                again.as_millis()
            );
            self.chaos.played.push(Played {
                kind: fault.kind.name(),
                server: fault.server,
                ms: fault.ms,
                bytes: fault.bytes,
                at_ms: at.as_millis() as u64,
                took_ms: (over - at).as_millis() as u64,
                selling_again_ms: again.as_millis() as u64,
            });
        }
        if !self.args.each_once {
            self.until(ends);
        }
        Ok(())
    }

    /// The common part of the keys of a bucket that sells.
    fn a_bucket(&self, roll: u64) -> String {
        let sale = sale_name(0, self.buyers.number());
        format!("{{fg:{sale}:{}}}", roll % BUCKETS)
    }

    fn until(&self, moment: Duration) {
        while self.began.elapsed() < moment && !self.buyers.are_stopped() {
            std::thread::sleep(POLL);
        }
    }

    /// Whether the order store came even in a time that forgives much; else it is a finding.
    fn store_is_even(&mut self, when: &str, kind: Kind) -> Result<bool, Failure> {
        let is_even = operator::store_is_even(self.shop)?;
        if !is_even {
            let why = format!("the order store never came even {when} {}", kind.name());
            self.chaos.findings.push(why);
        }
        Ok(is_even)
    }

    /// Until buyers win who had not won before; a sale that does not go on is a finding.
    fn until_wins(&mut self, after: &str) {
        let (wins, began) = (self.buyers.wins(), Instant::now());
        while self.buyers.wins() < wins + WINS && !self.buyers.are_stopped() {
            if began.elapsed() >= STUCK {
                let why = format!("nobody won within {} s after {after}", STUCK.as_secs());
                self.chaos.findings.push(why);
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Buckets that this engine made anew since its start.
pub(super) fn rebuilds(shop: &Shop) -> Result<u64, Failure> {
    let (_, mut admin) = shop.apis()?;
    block_on(async {
        let (_, body) = admin.call("GET", "/metrics", None, "").await?;
        let counts = String::from_utf8_lossy(body)
            .lines()
            .filter(|line| line.starts_with("floodgate_bucket_rebuilds_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        Ok(counts)
    })
}
