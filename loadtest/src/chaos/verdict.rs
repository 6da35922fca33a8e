//! What a bad day came to: `chaos.json` for machines, some lines for people.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::audit::{Money, Verdict};

pub const FILE: &str = "chaos.json";

/// A fault as it was played.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Played {
    pub kind: &'static str,
    pub server: usize,
    pub ms: u64,
    pub bytes: u64,
    /// Since the buyers came.
    pub at_ms: u64,
    pub took_ms: u64,
    /// From its end until buyers won again.
    pub selling_again_ms: u64,
}

/// One sale's audit.
#[derive(Clone, Debug, Serialize)]
pub struct Audited {
    pub sale: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chaos {
    /// `pass`, `fail` or `interrupted`.
    pub verdict: &'static str,
    pub seed: u64,
    pub servers: usize,
    pub store: &'static str,
    pub seconds: f64,
    pub faults: usize,
    pub by_kind: BTreeMap<&'static str, u64>,
    pub sales: usize,
    pub sends: u64,
    /// Answers by outcome.
    pub answers: BTreeMap<&'static str, u64>,
    /// Calls that reached Redis once more than they were sent.
    pub calls_repeated: u64,
    /// Buckets that the engine made anew, as far as an engine lived to tell.
    pub buckets_rebuilt: u64,
    /// What was wrong besides the audits' findings.
    pub findings: Vec<String>,
    /// `audit: pass`, or the first that is not.
    pub audit: String,
    pub audits: Vec<Audited>,
    pub played: Vec<Played>,
}

impl Chaos {
    pub fn count_kinds(&mut self) {
        for played in &self.played {
            *self.by_kind.entry(played.kind).or_default() += 1;
        }
        self.faults = self.played.len();
    }

    /// Judges what was gathered.
    pub fn judge(&mut self, interrupted: bool) {
        let failed = self.audits.iter().find(|audited| !audited.verdict.passed());
        self.audit = match failed {
            Some(audited) => format!("{} (sale {})", audited.verdict.line(), audited.sale),
            None if self.audits.is_empty() => "audit: fail: nothing was audited".into(),
            None => "audit: pass".into(),
        };
        self.verdict = if self.audit != "audit: pass" || !self.findings.is_empty() {
            "fail"
        } else if interrupted {
            "interrupted"
        } else {
            "pass"
        };
    }

    pub fn passed(&self) -> bool {
        self.verdict == "pass"
    }

    pub fn write(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let path = folder.join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(&path, json)?;
        Ok(path)
    }

    pub fn print(&self) {
        let kinds: Vec<_> = self
            .by_kind
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        println!(
            "{} faults in {:.0} s: {}",
            self.faults,
            self.seconds,
            kinds.join(", ")
        );
        let answers: Vec<_> = self
            .answers
            .iter()
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        println!(
            "{} sends in {} sales: {}",
            self.sends,
            self.sales,
            answers.join(", ")
        );
        println!(
            "{} buckets were made anew, {} calls came again",
            self.buckets_rebuilt, self.calls_repeated
        );
        let told: u64 = self.audits.iter().map(|a| a.verdict.told_wins).sum();
        let orders: u64 = self.audits.iter().map(|a| a.verdict.orders).sum();
        println!("audited: {told} wins told, {orders} orders");
        let money: Vec<_> = self
            .audits
            .iter()
            .filter_map(|a| a.verdict.money.as_ref())
            .collect();
        let sum = |count: fn(&Money) -> u64| money.iter().map(|money| count(money)).sum::<u64>();
        println!(
            "money: {} callbacks taken, {} payments applied, {} refunded, {} under review",
            sum(|money| money.callbacks_taken),
            sum(|money| money.applied),
            sum(|money| money.refunded),
            sum(|money| money.review)
        );
        for audited in &self.audits {
            for finding in &audited.verdict.findings {
                println!(
                    "sale {}: {} is broken, {} times:",
                    audited.sale,
                    finding.promise.name(),
                    finding.count
                );
                for evidence in &finding.evidence {
                    println!("  {evidence}");
                }
            }
        }
        for finding in &self.findings {
            println!("found: {finding}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Finding, Promise};

    fn audited(findings: Vec<Finding>) -> Audited {
        Audited {
            sale: "tea".into(),
            verdict: Verdict {
                findings,
                ..Verdict::default()
            },
        }
    }

    fn judged(findings: &[&str], audits: Vec<Audited>, interrupted: bool) -> Chaos {
        let mut chaos = Chaos {
            findings: findings.iter().map(ToString::to_string).collect(),
            audits,
            ..Chaos::default()
        };
        chaos.judge(interrupted);
        chaos
    }

    #[test]
    fn only_a_whole_day_without_a_finding_passes() {
        assert!(judged(&[], vec![audited(vec![])], false).passed());
        assert_eq!(
            judged(&[], vec![audited(vec![])], true).verdict,
            "interrupted"
        );
        assert_eq!(
            judged(&["stuck"], vec![audited(vec![])], true).verdict,
            "fail"
        );
        assert_eq!(judged(&[], vec![], false).verdict, "fail");
    }

    #[test]
    fn one_bad_sale_fails_the_day_and_is_named() {
        let finding = Finding {
            promise: Promise::P1,
            count: 1,
            evidence: vec!["too many".into()],
        };
        let chaos = judged(&[], vec![audited(vec![]), audited(vec![finding])], false);
        assert_eq!(chaos.verdict, "fail");
        assert!(chaos.audit.contains("P1") && chaos.audit.contains("sale tea"));
    }
}
