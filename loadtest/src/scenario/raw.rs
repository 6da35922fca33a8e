//! The TOML file, field for field.

use serde::{Deserialize, Serialize};

use crate::pace::Phase;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawScenario {
    #[serde(default = "one")]
    pub(super) seed: u64,
    pub(super) attempts: Option<u64>,
    pub(super) users: Option<u64>,
    #[serde(default = "user_prefix")]
    pub(super) user_prefix: String,
    #[serde(default = "connections")]
    pub(super) connections: u32,
    #[serde(default = "quantity")]
    pub(super) quantity: u32,
    #[serde(default = "drop_after_ms")]
    pub(super) drop_after_ms: u64,
    #[serde(default = "timeout_ms")]
    pub(super) timeout_ms: u64,
    #[serde(default = "outage_seconds")]
    pub(super) outage_seconds: u64,
    #[serde(default = "pending_max")]
    pub(super) pending_max: usize,
    #[serde(default)]
    pub(super) retry_shed: bool,
    #[serde(default)]
    pub(super) mix: RawMix,
    pub(super) pay: Option<RawPay>,
    pub(super) sale: RawSale,
    pub(super) phases: Vec<Phase>,
}

fn one() -> u64 {
    1
}
fn user_prefix() -> String {
    "u".into()
}
fn connections() -> u32 {
    256
}
fn quantity() -> u32 {
    1
}
fn drop_after_ms() -> u64 {
    1_000
}
fn timeout_ms() -> u64 {
    10_000
}
fn outage_seconds() -> u64 {
    60
}
fn pending_max() -> usize {
    1_000_000
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RawMix {
    pub(super) double_click_share: f64,
    pub(super) retry_on_cut_share: f64,
    pub(super) key_reuse_share: f64,
    pub(super) cancel_share: f64,
    pub(super) again_share: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawPay {
    #[serde(default)]
    pub(super) on_time_share: f64,
    #[serde(default)]
    pub(super) late_share: f64,
    #[serde(default)]
    pub(super) twice_share: f64,
    #[serde(default)]
    pub(super) lie_share: f64,
    #[serde(default)]
    pub(super) failed_first_share: f64,
    #[serde(default)]
    pub(super) reorder_share: f64,
    #[serde(default)]
    pub(super) repeats_max: u32,
    #[serde(default)]
    pub(super) refund_share: f64,
    #[serde(default)]
    pub(super) restock_share: f64,
    #[serde(default = "delay_ms")]
    pub(super) delay_ms: u64,
    #[serde(default = "channels")]
    pub(super) channels: Vec<String>,
}

fn delay_ms() -> u64 {
    1_000
}
fn channels() -> Vec<String> {
    vec!["card".into(), "wallet".into()]
}

/// The engine's sale definition; times may be relative to the first attempt.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSale {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) starts_at: Option<jiff::Timestamp>,
    pub(super) starts_in: Option<f64>,
    pub(super) ends_at: Option<jiff::Timestamp>,
    pub(super) ends_in: Option<f64>,
    pub(super) pay_window_seconds: Option<u64>,
    pub(super) payment_grace_seconds: Option<u64>,
    pub(super) units_per_user: Option<u32>,
    pub(super) buckets: Option<u32>,
    pub(super) orders_per_user_max: Option<u32>,
    pub(super) admission: Option<RawAdmission>,
    pub(super) skus: Vec<RawSku>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAdmission {
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSku {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) price_cent: i64,
    pub(super) currency: String,
    pub(super) units: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grant: Option<RawGrant>,
}

/// What a paid order is granted.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawGrant {
    pub(super) work_id: String,
    valid_days: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when_full: Option<String>,
}
