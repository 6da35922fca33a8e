//! From text to a definition: every number in its range, every name and time readable,
//! and what must hold between them.

use std::ops::RangeInclusive;

use super::super::entitlement::WhenFull;
use super::super::ids::{SaleId, SkuId, WorkId};
use super::super::money::{Cents, Currency};
use super::super::time::UnixMs;
use super::{Grant, RawGrant, RawSale, RawSku, Sale, Sku, allowed};

pub const SKUS_MAX: usize = 10_000;

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
