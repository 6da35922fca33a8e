//! A scenario that makes sense; built only by checking the raw one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use thiserror::Error;

use super::pay::check_pay;
use super::raw::{RawSale, RawScenario};
use crate::buyer::Patience;
use crate::journal::{Defined, DefinedSku};
use crate::pace::{Pace, PaceError, Phase};
use crate::plan::{Mix, Plan};

#[derive(Debug, Error)]
pub enum ScenarioError {
    #[error("scenario {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("scenario: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("scenario: {0}")]
    Pace(#[from] PaceError),
    #[error("scenario: {field}: {value} is not allowed; {allowed}")]
    Value {
        field: String,
        value: String,
        allowed: &'static str,
    },
}

pub(super) fn wrong(
    field: impl Into<String>,
    value: impl ToString,
    allowed: &'static str,
) -> ScenarioError {
    ScenarioError::Value {
        field: field.into(),
        value: value.to_string(),
        allowed,
    }
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub plan: Plan,
    pub pace: Pace,
    pub connections: usize,
    pub drop_after: Duration,
    pub answer_timeout: Duration,
    pub patience: Patience,
    /// Retries and follow-ups waiting for their time, at most.
    pub pending_max: usize,
    pub sale: SaleDefinition,
}

/// Overrides from the command line, for experiments.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub rate: Option<f64>,
    pub seconds: Option<f64>,
    pub connections: Option<u32>,
    pub sale_id: Option<String>,
    pub seed: Option<u64>,
    pub buckets: Option<u32>,
}

impl Scenario {
    pub fn read(path: &Path, overrides: &Overrides) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, overrides)
    }

    pub fn parse(text: &str, overrides: &Overrides) -> Result<Self, ScenarioError> {
        let mut raw: RawScenario = toml::from_str(text)?;
        raw.connections = overrides.connections.unwrap_or(raw.connections);
        raw.seed = overrides.seed.unwrap_or(raw.seed);
        raw.sale.buckets = overrides.buckets.or(raw.sale.buckets);
        if let Some(id) = &overrides.sale_id {
            raw.sale.id.clone_from(id);
        }
        if overrides.rate.is_some() || overrides.seconds.is_some() {
            let rate = overrides
                .rate
                .ok_or_else(|| wrong("--seconds", "alone", "give --rate too"))?;
            let seconds = overrides
                .seconds
                .ok_or_else(|| wrong("--rate", "alone", "give --seconds too"))?;
            raw.phases = vec![Phase::Constant { rate, seconds }];
            raw.attempts = None;
        }
        check(raw)
    }
}

/// One buffer of 8 kB and one socket each.
const CONNECTIONS_MAX: u32 = 15_000;
/// Attempts are numbered with 32 bits; this leaves room to add to them.
const ATTEMPTS_MAX: u64 = 1_000_000_000;

fn check(raw: RawScenario) -> Result<Scenario, ScenarioError> {
    let pace = Pace::new(&raw.phases, raw.attempts)?;
    if pace.total() > ATTEMPTS_MAX {
        return Err(wrong("attempts", pace.total(), "use at most 1,000,000,000"));
    }
    if !(1..=CONNECTIONS_MAX).contains(&raw.connections) {
        return Err(wrong("connections", raw.connections, "use 1 to 15,000"));
    }
    // The other body of a reused key asks for one more.
    if !(1..=9_999).contains(&raw.quantity) {
        return Err(wrong("quantity", raw.quantity, "use 1 to 9,999"));
    }
    if !(1..=600_000).contains(&raw.timeout_ms) {
        return Err(wrong("timeoutMs", raw.timeout_ms, "use 1 to 600,000"));
    }
    if raw.drop_after_ms > 600_000 {
        return Err(wrong("dropAfterMs", raw.drop_after_ms, "use 0 to 600,000"));
    }
    if raw.outage_seconds > 3_600 {
        return Err(wrong("outageSeconds", raw.outage_seconds, "use 0 to 3,600"));
    }
    if raw.pending_max == 0 {
        return Err(wrong("pendingMax", 0, "use at least 1"));
    }
    let users = raw.users.unwrap_or(pace.total());
    if users == 0 {
        return Err(wrong("users", 0, "use at least 1"));
    }
    check_id("userPrefix", &raw.user_prefix, 40)?;
    let mix = check_mix(&raw)?;
    let pay = match &raw.pay {
        Some(pay) => Some(check_pay(pay, raw.sale.pay_window_seconds)?),
        None => None,
    };
    let sale = check_sale(raw.sale)?;
    let plan = Plan {
        seed: raw.seed,
        sale_id: sale.id.clone(),
        skus: sale.defined.skus.iter().map(|sku| sku.id.clone()).collect(),
        quantity: raw.quantity,
        users,
        user_prefix: raw.user_prefix,
        key_prefix: String::new(),
        mix,
        pay,
    };
    Ok(Scenario {
        plan,
        pace,
        connections: raw.connections as usize,
        drop_after: Duration::from_millis(raw.drop_after_ms),
        answer_timeout: Duration::from_millis(raw.timeout_ms),
        patience: Patience {
            outage_ms: raw.outage_seconds * 1_000,
            retry_shed: raw.retry_shed,
        },
        pending_max: raw.pending_max,
        sale,
    })
}

fn check_mix(raw: &RawScenario) -> Result<Mix, ScenarioError> {
    let shares = [
        ("mix.doubleClickShare", raw.mix.double_click_share),
        ("mix.retryOnCutShare", raw.mix.retry_on_cut_share),
        ("mix.keyReuseShare", raw.mix.key_reuse_share),
        ("mix.cancelShare", raw.mix.cancel_share),
        ("mix.againShare", raw.mix.again_share),
    ];
    for (field, share) in shares {
        if !(0.0..=1.0).contains(&share) {
            return Err(wrong(field, share, "use 0 to 1"));
        }
    }
    let sum: f64 = shares[..4].iter().map(|(_, share)| share).sum();
    if sum > 1.0 + 1e-9 {
        return Err(wrong(
            "mix",
            sum,
            "an attempt has one behaviour: the first four shares add up to at most 1",
        ));
    }
    Ok(Mix {
        double_click: raw.mix.double_click_share,
        cut: raw.mix.retry_on_cut_share,
        reuse: raw.mix.key_reuse_share,
        cancel: raw.mix.cancel_share,
        again: raw.mix.again_share,
    })
}

pub(super) fn check_id(field: &str, id: &str, length_max: usize) -> Result<(), ScenarioError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > length_max || !id.bytes().all(plain) {
        return Err(wrong(
            field,
            format!("{id:?}"),
            "use letters, digits, - and _, 1 to 64 of them (prefixes: 40)",
        ));
    }
    Ok(())
}

/// The sale to create; absolute times are made when the run starts.
#[derive(Clone, Debug)]
pub struct SaleDefinition {
    pub id: String,
    pub defined: Defined,
    raw: RawSale,
}

fn check_sale(raw: RawSale) -> Result<SaleDefinition, ScenarioError> {
    check_id("sale.id", &raw.id, 64)?;
    if raw.starts_at.is_some() && raw.starts_in.is_some() {
        return Err(wrong(
            "sale.startsIn",
            "given twice",
            "use startsAt or startsIn, not both",
        ));
    }
    if raw.ends_at.is_some() && raw.ends_in.is_some() {
        return Err(wrong(
            "sale.endsIn",
            "given twice",
            "use endsAt or endsIn, not both",
        ));
    }
    for (field, seconds) in [
        ("sale.startsIn", raw.starts_in),
        ("sale.endsIn", raw.ends_in),
    ] {
        if let Some(seconds) = seconds
            && !(0.0..=31_536_000.0).contains(&seconds)
        {
            return Err(wrong(field, seconds, "use 0 to 31,536,000 seconds"));
        }
    }
    if raw.skus.is_empty() {
        return Err(wrong("sale.skus", "[]", "use at least one SKU"));
    }
    for (at, sku) in raw.skus.iter().enumerate() {
        check_id(&format!("sale.skus[{at}].id"), &sku.id, 64)?;
        if sku.units < 1 {
            return Err(wrong(
                format!("sale.skus[{at}].units"),
                sku.units,
                "use at least 1",
            ));
        }
        if sku.price_cent < 0 {
            return Err(wrong(
                format!("sale.skus[{at}].priceCent"),
                sku.price_cent,
                "use 0 or more",
            ));
        }
        if raw.skus[..at].iter().any(|other| other.id == sku.id) {
            return Err(wrong(
                format!("sale.skus[{at}].id"),
                &sku.id,
                "use every id once",
            ));
        }
    }
    let skus = raw.skus.iter().map(|sku| DefinedSku {
        id: sku.id.clone(),
        price_cent: sku.price_cent,
        currency: sku.currency.clone(),
        units: sku.units,
        work: sku.grant.as_ref().map(|grant| grant.work_id.clone()),
    });
    let defined = Defined {
        units_per_user: raw.units_per_user,
        skus: skus.collect(),
    };
    Ok(SaleDefinition {
        id: raw.id.clone(),
        defined,
        raw,
    })
}

const ENDS_IN_DEFAULT_S: f64 = 3_600.0;

impl SaleDefinition {
    /// The body of `POST /admin/v1/sales`, with times counted from the first attempt.
    pub fn to_json(&self, first_attempt_at: Timestamp) -> Value {
        let after = |seconds: f64| {
            let offset = SignedDuration::from_millis((seconds * 1e3) as i64);
            first_attempt_at
                .saturating_add(offset)
                .unwrap_or(Timestamp::MAX)
                .to_string()
        };
        let sale = &self.raw;
        let starts_in = sale.starts_in.unwrap_or(0.0);
        let starts_at = sale
            .starts_at
            .map_or_else(|| after(starts_in), |at| at.to_string());
        let ends_in = sale.ends_in.unwrap_or(starts_in + ENDS_IN_DEFAULT_S);
        let ends_at = sale
            .ends_at
            .map_or_else(|| after(ends_in), |at| at.to_string());
        let mut body = json!({
            "id": sale.id,
            "name": sale.name.as_deref().unwrap_or(&sale.id),
            "startsAt": starts_at,
            "endsAt": ends_at,
            "skus": sale.skus,
        });
        let optional = [
            ("payWindowSeconds", sale.pay_window_seconds.map(Value::from)),
            (
                "paymentGraceSeconds",
                sale.payment_grace_seconds.map(Value::from),
            ),
            ("unitsPerUser", sale.units_per_user.map(Value::from)),
            ("buckets", sale.buckets.map(Value::from)),
            (
                "ordersPerUserMax",
                sale.orders_per_user_max.map(Value::from),
            ),
            (
                "admission",
                sale.admission.as_ref().map(|admission| json!(admission)),
            ),
        ];
        for (field, value) in optional {
            if let Some(value) = value {
                body[field] = value;
            }
        }
        body
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DOUBLE_ELEVEN: &str = include_str!("../../scenarios/double-eleven.toml");

    fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        Scenario::parse(text, &Overrides::default())
    }

    fn refused(from: &str, to: &str) -> String {
        assert!(
            DOUBLE_ELEVEN.contains(from),
            "the scenario no longer says {from:?}"
        );
        parse(&DOUBLE_ELEVEN.replacen(from, to, 1))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_demo_is_what_the_readme_says() {
        let demo = parse(DOUBLE_ELEVEN).unwrap();
        assert_eq!(demo.pace.total(), 300_000);
        assert_eq!(
            demo.sale
                .defined
                .skus
                .iter()
                .map(|sku| sku.units)
                .sum::<i64>(),
            20_000
        );
        assert_eq!(demo.sale.defined.units_per_user, Some(1));
        assert_eq!(demo.plan.mix.double_click, 0.1);
        assert!(
            (15.0..=20.0).contains(&demo.pace.seconds()),
            "{}",
            demo.pace.seconds()
        );
    }

    #[test]
    fn unknown_keys_are_refused_with_what_is_known() {
        let text = refused("seed =", "sede = 2\nseed =");
        assert!(
            text.contains("sede") && text.contains("seed") && text.contains("dropAfterMs"),
            "{text}"
        );
        let text = refused("doubleClickShare", "doubleClicks");
        assert!(text.contains("retryOnCutShare"), "{text}");
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let text = refused("doubleClickShare = 0.1", "doubleClickShare = 1.1");
        assert!(
            text.contains("mix.doubleClickShare") && text.contains("0 to 1"),
            "{text}"
        );
        let text = refused("attempts = 300000", "attempts = 300001");
        assert!(text.contains("300000") && text.contains("300001"), "{text}");
        let text = refused("units = 20000", "units = 0");
        assert!(text.contains("sale.skus[0].units"), "{text}");
        let text = refused("id = \"double-eleven\"", "id = \"double eleven\"");
        assert!(text.contains("sale.id"), "{text}");
        let text = refused(
            "startsIn = ",
            "startsAt = \"2026-11-11T00:00:00Z\"\nstartsIn = ",
        );
        assert!(text.contains("not both"), "{text}");
    }

    #[test]
    fn relative_times_count_from_the_first_attempt() {
        let demo = parse(DOUBLE_ELEVEN).unwrap();
        let body = demo.sale.to_json("2026-11-11T00:00:00Z".parse().unwrap());
        assert_eq!(body["startsAt"], "2026-11-11T00:00:02Z");
        assert_eq!(body["unitsPerUser"], 1);
        assert_eq!(body["skus"][0]["units"], 20_000);
        assert!(body.get("buckets").is_none());
        let sharded = Overrides {
            buckets: Some(12),
            ..Overrides::default()
        };
        let demo = Scenario::parse(DOUBLE_ELEVEN, &sharded).unwrap();
        let body = demo.sale.to_json(Timestamp::UNIX_EPOCH);
        assert_eq!(body["buckets"], 12);
    }

    #[test]
    fn a_rate_from_the_command_line_replaces_the_phases() {
        let overrides = Overrides {
            rate: Some(100.0),
            seconds: Some(2.0),
            ..Overrides::default()
        };
        assert_eq!(
            Scenario::parse(DOUBLE_ELEVEN, &overrides)
                .unwrap()
                .pace
                .total(),
            200
        );
        let overrides = Overrides {
            rate: Some(100.0),
            ..Overrides::default()
        };
        assert!(
            Scenario::parse(DOUBLE_ELEVEN, &overrides)
                .unwrap_err()
                .to_string()
                .contains("--seconds")
        );
    }
}
