//! What the room counts; labels are closed sets.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::token::Kind;

macro_rules! results {
    ($(#[$doc:meta])* $list:ident: $($name:ident $text:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $list { $($name),+ }
        impl $list {
            const ALL: &'static [&'static str] = &[$($text),+];
        }
    };
}

results! {
    /// What became of a token that was shown.
    CheckResult:
    Ok "ok",
    Forged "forged",
    Kind "kind",
    Expired "expired",
    Early "early",
    Foreign "foreign",
    Revoked "revoked",
}

results! {
    /// What became of a device's wish for a licence.
    LicenseResult:
    Already "already",
    Added "added",
    Kicked "kicked",
    Full "full",
    Denied "denied",
    Limited "limited",
    Unknown "unknown",
}

results! {
    BeatResult:
    Counted "counted",
    Duplicate "duplicate",
}

/// Handles are resolved at the start: a check only adds.
#[derive(Clone)]
pub struct GrantMetrics {
    checks: [Vec<IntCounter>; 2],
    licenses: Vec<IntCounter>,
    beats: Vec<IntCounter>,
}

impl GrantMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let checks = family(
            "floodgate_token_checks_total",
            "Play and download tokens that were shown",
            &["kind", "result"],
        )?;
        let licenses = family(
            "floodgate_licenses_total",
            "Devices that asked for a licence",
            &["result"],
        )?;
        let beats = family(
            "floodgate_heartbeats_total",
            "Heartbeats of players",
            &["result"],
        )?;
        let of_kind = |kind: Kind| {
            let results = CheckResult::ALL.iter();
            results
                .map(|r| checks.with_label_values(&[kind.name(), r]))
                .collect()
        };
        let single = |family: &IntCounterVec, results: &[&str]| {
            results
                .iter()
                .map(|r| family.with_label_values(&[*r]))
                .collect()
        };
        Ok(Self {
            checks: Kind::ALL.map(of_kind),
            licenses: single(&licenses, LicenseResult::ALL),
            beats: single(&beats, BeatResult::ALL),
        })
    }

    pub fn checked(&self, kind: Kind, result: CheckResult) {
        let at = match kind {
            Kind::Play => 0,
            Kind::Download => 1,
        };
        self.checks[at][result as usize].inc();
    }

    pub fn licensed(&self, result: LicenseResult) {
        self.licenses[result as usize].inc();
    }

    pub fn beat(&self, result: BeatResult) {
        self.beats[result as usize].inc();
    }
}
