//! The sale: its definition, checked once, and its phase as plain arithmetic.
//!
//! The same fields stand in the configuration (TOML) and in the admin API
//! (JSON): [`RawSale`] mirrors the text, [`Sale`] can only be built by checking.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::entitlement::WhenFull;
use super::ids::{BUCKETS_MAX, SaleId, SaleNo, SkuId, WorkId};
use super::money::{Cents, Currency};
use super::time::UnixMs;

/// The definition as text says it. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSale {
    pub id: String,
    pub name: String,
    pub starts_at: String,
    pub ends_at: String,
    #[serde(default = "default_pay_window")]
    pub pay_window_seconds: u32,
    #[serde(default)]
    pub payment_grace_seconds: u32,
    pub units_per_user: u32,
    #[serde(default = "default_one")]
    pub buckets: u16,
    #[serde(default = "default_orders_per_user")]
    pub orders_per_user_max: u32,
    #[serde(default)]
    pub admission: RawAdmission,
    pub skus: Vec<RawSku>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSku {
    pub id: String,
    pub name: String,
    pub price_cent: u64,
    pub currency: String,
    pub units: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<RawGrant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawGrant {
    pub work_id: String,
    pub valid_days: u32,
    #[serde(default = "default_devices")]
    pub devices_max: u32,
    #[serde(default = "default_when_full")]
    pub when_full: String,
}

/// Token bucket and waiting line in front of the desks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawAdmission {
    /// Purchases admitted a second.
    pub rate: u32,
    /// Purchases admitted at once after a quiet time.
    pub burst: u32,
    /// Requests that may wait for a token.
    pub queue_max: u32,
    /// Longest wait for a token.
    pub wait_ms: u32,
}

impl Default for RawAdmission {
    fn default() -> Self {
        Self {
            rate: 100_000,
            burst: 10_000,
            queue_max: 10_000,
            wait_ms: 1_000,
        }
    }
}

fn default_pay_window() -> u32 {
    900
}
fn default_one() -> u16 {
    1
}
fn default_orders_per_user() -> u32 {
    100
}
fn default_devices() -> u32 {
    5
}
fn default_when_full() -> String {
    WhenFull::Refuse.name().to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sku {
    pub id: SkuId,
    pub name: String,
    pub price: Cents,
    pub currency: Currency,
    pub units: u32,
    pub grant: Option<Grant>,
}

/// What a paid order of this SKU entitles its buyer to, however many units it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub work: WorkId,
    /// From the moment of the grant.
    pub valid_days: u32,
    /// Devices with a licence at once.
    pub devices_max: u32,
    pub when_full: WhenFull,
}

/// A definition that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    pub id: SaleId,
    pub name: String,
    pub starts_at: UnixMs,
    pub ends_at: UnixMs,
    pub pay_window_ms: u64,
    pub payment_grace_ms: u64,
    pub units_per_user: u32,
    pub buckets: u16,
    pub orders_per_user_max: u32,
    pub admission: RawAdmission,
    /// Sorted by id.
    pub skus: Vec<Sku>,
}

pub const SKUS_MAX: usize = 10_000;

/// What the numbers of a definition may be: one list for the configuration and
/// the admin API, so that they cannot tell different stories.
pub mod allowed {
    use super::{BUCKETS_MAX, RangeInclusive};

    pub const PAY_WINDOW_SECONDS: RangeInclusive<u64> = 1..=604_800;
    pub const PAYMENT_GRACE_SECONDS: RangeInclusive<u64> = 0..=3_600;
    pub const UNITS_PER_USER: RangeInclusive<u64> = 1..=1_000_000;
    pub const BUCKETS: RangeInclusive<u64> = 1..=BUCKETS_MAX as u64;
    pub const ORDERS_PER_USER_MAX: RangeInclusive<u64> = 1..=10_000;
    pub const RATE: RangeInclusive<u64> = 1..=10_000_000;
    pub const BURST: RangeInclusive<u64> = 1..=10_000_000;
    pub const QUEUE_MAX: RangeInclusive<u64> = 0..=1_000_000;
    pub const WAIT_MS: RangeInclusive<u64> = 0..=60_000;
    pub const UNITS: RangeInclusive<u64> = 1..=100_000_000;
    /// Up to ten years.
    pub const VALID_DAYS: RangeInclusive<u64> = 1..=3_650;
    pub const DEVICES_MAX: RangeInclusive<u64> = 1..=100;
    /// An order has at most 20 items of 10,000 units: 20 * 10^4 * 10^10 = 2 * 10^15
    /// cents. A page reads `payAmountCent` as a double, exact up to 2^53 - 1 = 9 * 10^15.
    pub const PRICE_CENT: RangeInclusive<u64> = 0..=10_000_000_000;
    const _: () = assert!(*PRICE_CENT.end() * 10_000 * 20 < 1 << 53);
}

/// Names the field, the value and the range that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SaleError {
    pub field: String,
    pub problem: String,
}

fn fail<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, SaleError> {
    Err(SaleError {
        field: field.into(),
        problem: problem.into(),
    })
}

fn in_range<T: Into<u64> + Copy>(
    field: &str,
    value: T,
    allowed: RangeInclusive<u64>,
) -> Result<T, SaleError> {
    let number = value.into();
    if !allowed.contains(&number) {
        return fail(
            field,
            format!(
                "{number} is out of range; allowed are {} to {}",
                allowed.start(),
                allowed.end()
            ),
        );
    }
    Ok(value)
}

fn name(field: &str, text: &str) -> Result<String, SaleError> {
    let n_chars = text.chars().count();
    if n_chars == 0 || n_chars > 200 || text.chars().any(char::is_control) {
        return fail(
            field,
            "allowed are 1 to 200 characters without control characters",
        );
    }
    Ok(text.to_owned())
}

impl RawSale {
    pub fn check(&self) -> Result<Sale, SaleError> {
        let time = |field: &str, text: &str| {
            UnixMs::read_rfc3339(text).or_else(|e| fail(field, format!("{text:?} {e}")))
        };
        let id = SaleId::parse(&self.id).or_else(|e| fail("id", e.to_string()))?;
        let starts_at = time("startsAt", &self.starts_at)?;
        let ends_at = time("endsAt", &self.ends_at)?;
        if ends_at <= starts_at {
            return fail(
                "endsAt",
                format!("{} is not after startsAt {}", self.ends_at, self.starts_at),
            );
        }
        if self.skus.is_empty() || self.skus.len() > SKUS_MAX {
            return fail(
                "skus",
                format!("{} SKUs; allowed are 1 to {SKUS_MAX}", self.skus.len()),
            );
        }
        let gate = &self.admission;
        in_range("admission.rate", gate.rate, allowed::RATE)?;
        in_range("admission.burst", gate.burst, allowed::BURST)?;
        in_range("admission.queueMax", gate.queue_max, allowed::QUEUE_MAX)?;
        in_range("admission.waitMs", gate.wait_ms, allowed::WAIT_MS)?;
        let mut skus = Vec::with_capacity(self.skus.len());
        for (i, raw) in self.skus.iter().enumerate() {
            skus.push(raw.check(&format!("skus[{i}]"))?);
        }
        skus.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = skus.windows(2).find(|p| p[0].id == p[1].id) {
            return fail("skus", format!("the SKU {} stands there twice", pair[0].id));
        }
        if let Some(odd) = skus.iter().find(|s| s.currency != skus[0].currency) {
            return fail(
                "skus",
                format!(
                    "one sale, one currency: {} is in {}, {} in {}",
                    skus[0].id, skus[0].currency, odd.id, odd.currency
                ),
            );
        }
        Ok(Sale {
            id,
            name: name("name", &self.name)?,
            starts_at,
            ends_at,
            pay_window_ms: 1_000
                * u64::from(in_range(
                    "payWindowSeconds",
                    self.pay_window_seconds,
                    allowed::PAY_WINDOW_SECONDS,
                )?),
            payment_grace_ms: 1_000
                * u64::from(in_range(
                    "paymentGraceSeconds",
                    self.payment_grace_seconds,
                    allowed::PAYMENT_GRACE_SECONDS,
                )?),
            units_per_user: in_range("unitsPerUser", self.units_per_user, allowed::UNITS_PER_USER)?,
            buckets: in_range("buckets", self.buckets, allowed::BUCKETS)?,
            orders_per_user_max: in_range(
                "ordersPerUserMax",
                self.orders_per_user_max,
                allowed::ORDERS_PER_USER_MAX,
            )?,
            admission: self.admission.clone(),
            skus,
        })
    }
}

impl RawSku {
    fn check(&self, at: &str) -> Result<Sku, SaleError> {
        Ok(Sku {
            id: SkuId::parse(&self.id).or_else(|e| fail(format!("{at}.id"), e.to_string()))?,
            name: name(&format!("{at}.name"), &self.name)?,
            price: Cents(in_range(
                &format!("{at}.priceCent"),
                self.price_cent,
                allowed::PRICE_CENT,
            )?),
            currency: Currency::parse(&self.currency).map_or_else(
                || {
                    fail(
                        format!("{at}.currency"),
                        format!(
                            "{:?} is not three letters A-Z as in ISO 4217",
                            self.currency
                        ),
                    )
                },
                Ok,
            )?,
            units: in_range(&format!("{at}.units"), self.units, allowed::UNITS)?,
            grant: self
                .grant
                .as_ref()
                .map(|grant| grant.check(&format!("{at}.grant")))
                .transpose()?,
        })
    }
}

impl RawGrant {
    fn check(&self, at: &str) -> Result<Grant, SaleError> {
        Ok(Grant {
            work: WorkId::parse(&self.work_id)
                .or_else(|e| fail(format!("{at}.workId"), e.to_string()))?,
            valid_days: in_range(
                &format!("{at}.validDays"),
                self.valid_days,
                allowed::VALID_DAYS,
            )?,
            devices_max: in_range(
                &format!("{at}.devicesMax"),
                self.devices_max,
                allowed::DEVICES_MAX,
            )?,
            when_full: WhenFull::parse(&self.when_full).map_or_else(
                || {
                    fail(
                        format!("{at}.whenFull"),
                        format!(
                            "{:?} is not known; allowed are \"refuse\" and \"kick_oldest\"",
                            self.when_full
                        ),
                    )
                },
                Ok,
            )?,
        })
    }
}

impl Grant {
    /// Back to text, as [`Sale::to_raw`].
    pub fn to_raw(&self) -> RawGrant {
        RawGrant {
            work_id: self.work.to_string(),
            valid_days: self.valid_days,
            devices_max: self.devices_max,
            when_full: self.when_full.name().to_owned(),
        }
    }
}

impl Sale {
    /// Back to text, sorted: two definitions are the same when these are equal.
    pub fn to_raw(&self) -> RawSale {
        RawSale {
            id: self.id.to_string(),
            name: self.name.clone(),
            starts_at: self.starts_at.rfc3339(),
            ends_at: self.ends_at.rfc3339(),
            // Both came from a u32 of seconds.
            pay_window_seconds: u32::try_from(self.pay_window_ms / 1_000).unwrap_or(u32::MAX),
            payment_grace_seconds: u32::try_from(self.payment_grace_ms / 1_000).unwrap_or(u32::MAX),
            units_per_user: self.units_per_user,
            buckets: self.buckets,
            orders_per_user_max: self.orders_per_user_max,
            admission: self.admission.clone(),
            skus: self
                .skus
                .iter()
                .map(|s| RawSku {
                    id: s.id.to_string(),
                    name: s.name.clone(),
                    price_cent: s.price.0,
                    currency: s.currency.to_string(),
                    units: s.units,
                    grant: s.grant.as_ref().map(Grant::to_raw),
                })
                .collect(),
        }
    }

    pub fn sku(&self, id: &SkuId) -> Option<(usize, &Sku)> {
        let at = self.skus.binary_search_by(|s| s.id.cmp(id)).ok()?;
        Some((at, &self.skus[at]))
    }

    /// What `other` says differently, field by field, for the error message.
    pub fn difference(&self, other: &Sale) -> Vec<String> {
        let (a, b) = (as_json(self), as_json(other));
        let mut out = Vec::new();
        if let (serde_json::Value::Object(a), serde_json::Value::Object(b)) = (a, b) {
            for (field, was) in &a {
                let now = &b[field];
                if was != now {
                    out.push(format!("{field}: is {was}, asked for {now}"));
                }
            }
        }
        out
    }

    /// Units of a SKU, by its place in the list, that a bucket has when the sale opens:
    /// even shares. Few units start in few buckets, or every one of them would have to
    /// be fetched; which buckets, differs from SKU to SKU.
    pub fn share(&self, sku: usize, bucket: u16) -> u32 {
        const UNITS_MIN: u32 = 64;
        let (n, units) = (u32::from(self.buckets), self.skus[sku].units);
        let used = (units / UNITS_MIN).clamp(1, n);
        // A place in the list is below SKUS_MAX.
        let first = (sku as u32).wrapping_mul(used) % n;
        let at = (u32::from(bucket) + n - first) % n;
        if at < used {
            units / used + u32::from(at < units % used)
        } else {
            0
        }
    }

    pub fn units_opened(&self) -> u64 {
        self.skus.iter().map(|s| u64::from(s.units)).sum()
    }
}

fn as_json(sale: &Sale) -> serde_json::Value {
    serde_json::to_value(sale.to_raw()).unwrap_or(serde_json::Value::Null)
}

/// Where a sale stands, for the buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Scheduled,
    Open,
    Paused,
    SoldOut,
    Ended,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Open => "OPEN",
            Self::Paused => "PAUSED",
            Self::SoldOut => "SOLD_OUT",
            Self::Ended => "ENDED",
        }
    }
}

/// What the operator did to a sale; durable beside its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Switches {
    pub paused: bool,
    pub ended: bool,
}

/// The sale as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleRecord {
    pub definition: Sale,
    pub number: SaleNo,
    pub switches: Switches,
}

impl Sale {
    pub fn phase(&self, now: UnixMs, switches: Switches, any_available: bool) -> Phase {
        if switches.ended || now >= self.ends_at {
            Phase::Ended
        } else if now < self.starts_at {
            Phase::Scheduled
        } else if switches.paused {
            Phase::Paused
        } else if any_available {
            Phase::Open
        } else {
            Phase::SoldOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawSale {
        RawSale {
            id: "tea".into(),
            name: "Tea".into(),
            starts_at: "2026-11-11T00:00:00Z".into(),
            ends_at: "2026-11-12T00:00:00Z".into(),
            pay_window_seconds: 900,
            payment_grace_seconds: 0,
            units_per_user: 1,
            buckets: 4,
            orders_per_user_max: 100,
            admission: RawAdmission::default(),
            skus: vec![RawSku {
                id: "t".into(),
                name: "T".into(),
                price_cent: 1,
                currency: "EUR".into(),
                units: 10,
                grant: None,
            }],
        }
    }

    #[test]
    fn a_definition_survives_the_way_to_text_and_back() {
        let sale = raw().check().expect("valid");
        assert_eq!(sale.to_raw().check().expect("valid"), sale);
        assert!(sale.difference(&sale).is_empty());
    }

    fn grant() -> RawGrant {
        RawGrant {
            work_id: "film".into(),
            valid_days: 30,
            devices_max: 2,
            when_full: "kick_oldest".into(),
        }
    }

    #[test]
    fn a_grant_is_part_of_the_definition() {
        let without = raw().check().expect("valid");
        let mut more = raw();
        more.skus[0].grant = Some(grant());
        let with = more.check().expect("valid");
        assert_eq!(with.to_raw().check().expect("valid"), with);
        assert!(with.difference(&with).is_empty());
        let told = without.difference(&with);
        assert!(
            told.len() == 1 && told[0].starts_with("skus: is ") && told[0].contains("film"),
            "{told:?}"
        );
        for (text, spoil) in [
            (
                "skus[0].grant.workId: is empty; allowed are 1 to 64 of A-Z a-z 0-9 _ -",
                (|g| g.work_id.clear()) as fn(&mut RawGrant),
            ),
            (
                "skus[0].grant.validDays: 3651 is out of range; allowed are 1 to 3650",
                |g| g.valid_days = 3_651,
            ),
            (
                "skus[0].grant.devicesMax: 0 is out of range; allowed are 1 to 100",
                |g| g.devices_max = 0,
            ),
            (
                "skus[0].grant.whenFull: \"kick\" is not known; allowed are \"refuse\" and \"kick_oldest\"",
                |g| g.when_full = "kick".into(),
            ),
        ] {
            let mut bad = raw();
            let mut wrong = grant();
            spoil(&mut wrong);
            bad.skus[0].grant = Some(wrong);
            assert_eq!(bad.check().expect_err(text).to_string(), text);
        }
    }

    #[test]
    fn a_grant_says_no_more_than_it_must() {
        let short: RawGrant =
            serde_json::from_str(r#"{"workId":"film","validDays":1}"#).expect("valid");
        assert_eq!((short.devices_max, short.when_full.as_str()), (5, "refuse"));
    }

    #[test]
    fn errors_name_field_value_and_range() {
        type Spoil = fn(&mut RawSale);
        let cases: [(&str, Spoil); 8] = [
            (
                "skus[0].priceCent: 10000000001 is out of range; allowed are 0 to 10000000000",
                |s| s.skus[0].price_cent = 10_000_000_001,
            ),
            (
                "unitsPerUser: 0 is out of range; allowed are 1 to 1000000",
                |s| s.units_per_user = 0,
            ),
            (
                "buckets: 5000 is out of range; allowed are 1 to 4096",
                |s| s.buckets = 5_000,
            ),
            (
                "skus[0].units: 0 is out of range; allowed are 1 to 100000000",
                |s| s.skus[0].units = 0,
            ),
            ("skus: the SKU t stands there twice", |s| {
                s.skus.push(s.skus[0].clone())
            }),
            (
                "endsAt: 2026-11-11T00:00:00Z is not after startsAt 2026-11-11T00:00:00Z",
                |s| {
                    s.ends_at.clone_from(&s.starts_at);
                },
            ),
            (
                "startsAt: \"soon\" is not an RFC 3339 time such as 2026-11-11T00:00:00Z",
                |s| s.starts_at = "soon".into(),
            ),
            (
                "id: has a character that is not allowed at byte 1; allowed are 1 to 64 of A-Z a-z 0-9 _ -",
                |s| {
                    s.id = "a{b".into();
                },
            ),
        ];
        for (text, spoil) in cases {
            let mut bad = raw();
            spoil(&mut bad);
            assert_eq!(bad.check().expect_err(text).to_string(), text);
        }
    }

    #[test]
    fn shares_add_up_and_few_units_stay_together() {
        let mut sale = raw().check().expect("valid");
        for buckets in [1, 3, 4, 64] {
            sale.buckets = buckets;
            for units in [1, 63, 64, 130, 1_000, 20_003] {
                sale.skus[0].units = units;
                let shares: Vec<u32> = (0..buckets).map(|b| sale.share(0, b)).collect();
                assert_eq!(shares.iter().sum::<u32>(), units);
                let used = shares.iter().filter(|s| **s > 0).count();
                assert!(used == 1 || shares.iter().all(|s| *s == 0 || *s >= 64));
            }
        }
    }

    #[test]
    fn phases_follow_clock_switches_and_stock() {
        let sale = raw().check().expect("valid");
        let open = Switches::default();
        let (before, during, after) = (UnixMs(sale.starts_at.0 - 1), sale.starts_at, sale.ends_at);
        assert_eq!(sale.phase(before, open, true), Phase::Scheduled);
        assert_eq!(sale.phase(during, open, true), Phase::Open);
        assert_eq!(sale.phase(during, open, false), Phase::SoldOut);
        assert_eq!(
            sale.phase(
                during,
                Switches {
                    paused: true,
                    ended: false
                },
                true
            ),
            Phase::Paused
        );
        assert_eq!(
            sale.phase(
                during,
                Switches {
                    paused: true,
                    ended: true
                },
                true
            ),
            Phase::Ended
        );
        assert_eq!(sale.phase(after, open, true), Phase::Ended);
    }
}
