//! The definition as text says it, and back to text.

use serde::{Deserialize, Serialize};

use super::super::entitlement::WhenFull;
use super::{Grant, Sale};

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
}

fn as_json(sale: &Sale) -> serde_json::Value {
    serde_json::to_value(sale.to_raw()).unwrap_or(serde_json::Value::Null)
}
