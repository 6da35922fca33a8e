//! JSON as it travels: what is read from buyers, what is told to them.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::json::Object;
use super::respond::{Code, Problem};
use crate::domain::ids::{DeviceId, OrderId, SaleId, SkuId};
use crate::domain::order::{Item, Order, OrderState};
use crate::domain::payment::{Payment, Raw};
use crate::domain::sale::{Grant, RawGrant, Sale};
use crate::domain::time::UnixMs;
use crate::sale::{LiveSale, Units};

pub const ITEMS_MAX: usize = 20;
pub const QUANTITY_MAX: u32 = 10_000;

/// A purchase as the page sends it. No price: the client never sets one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderIn<'a> {
    #[serde(borrow)]
    pub sale_id: Cow<'a, str>,
    #[serde(borrow)]
    pub items: Vec<Object<ItemIn<'a>>>,
    #[serde(borrow, default)]
    pub client: Option<Object<ClientIn<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ItemIn<'a> {
    #[serde(borrow)]
    pub sku_id: Cow<'a, str>,
    pub quantity: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientIn<'a> {
    #[serde(borrow, default)]
    pub device_id: Option<Cow<'a, str>>,
}

impl OrderIn<'_> {
    /// Quantities of a SKU named twice are summed before anything is checked.
    pub fn units(&self, sale: &Sale) -> Result<Units, Problem> {
        let field = |name: String, problem: String| {
            Problem::new(Code::InvalidField, format!("{name}: {problem}"))
        };
        if self.items.is_empty() || self.items.len() > ITEMS_MAX {
            return Err(field(
                "items".into(),
                format!("{} items; allowed are 1 to {ITEMS_MAX}", self.items.len()),
            ));
        }
        let mut units = Units::new();
        for (i, Object(item)) in self.items.iter().enumerate() {
            let quantity = u32::try_from(item.quantity)
                .ok()
                .filter(|q| (1..=QUANTITY_MAX).contains(q))
                .ok_or_else(|| {
                    field(
                        format!("items[{i}].quantity"),
                        format!(
                            "{} is out of range; allowed are 1 to {QUANTITY_MAX}",
                            item.quantity
                        ),
                    )
                })?;
            let sku = SkuId::parse(&item.sku_id)
                .map_err(|e| field(format!("items[{i}].skuId"), e.to_string()))?;
            let (at, _) = sale.sku(&sku).ok_or_else(|| {
                Problem::new(
                    Code::SkuUnknown,
                    format!("items[{i}].skuId: the sale has no SKU {sku}"),
                )
            })?;
            match units.iter_mut().find(|(other, _)| *other == at) {
                Some((_, sum)) => *sum += quantity,
                None => units.push((at, quantity)),
            }
        }
        units.sort_unstable();
        Ok(units)
    }

    pub fn device(&self) -> Result<Option<DeviceId>, Problem> {
        match self.client.as_ref().and_then(|c| c.0.device_id.as_ref()) {
            None => Ok(None),
            Some(text) => DeviceId::parse(text)
                .map(Some)
                .map_err(|e| Problem::new(Code::InvalidField, format!("client.deviceId: {e}"))),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemOut<'a> {
    sku_id: &'a str,
    quantity: u32,
    price_cent: u64,
}

fn shown<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn items_out<S: Serializer>(items: &&[Item], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(items.iter().map(|i| ItemOut {
        sku_id: i.sku.as_str(),
        quantity: i.quantity,
        price_cent: i.price.0,
    }))
}

/// Ids and times are written straight into the answer: every purchase has one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderOut<'a> {
    #[serde(serialize_with = "shown")]
    order_id: OrderId,
    sale_id: &'a str,
    status: &'static str,
    #[serde(serialize_with = "items_out")]
    items: &'a [Item],
    pay_amount_cent: u64,
    currency: &'a str,
    #[serde(serialize_with = "shown")]
    pay_deadline_at: UnixMs,
    #[serde(serialize_with = "shown")]
    created_at: UnixMs,
    #[serde(serialize_with = "shown")]
    updated_at: UnixMs,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_reason: Option<&'static str>,
}

impl<'a> OrderOut<'a> {
    pub fn of(order: &'a Order) -> Self {
        Self {
            order_id: order.id,
            sale_id: order.sale.as_str(),
            status: order.state.name(),
            items: &order.items,
            pay_amount_cent: order.pay_amount().0,
            currency: order.currency.as_str(),
            pay_deadline_at: order.pay_deadline,
            created_at: order.created_at,
            updated_at: order.updated_at,
            closed_reason: order.state.closed_reason(),
        }
    }
}

/// A payment as its buyer sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentOut<'a> {
    payment_id: &'a str,
    channel: &'a str,
    channel_txn_no: &'a str,
    status: &'static str,
    amount_cent: u64,
    currency: &'a str,
    #[serde(serialize_with = "shown")]
    paid_at: UnixMs,
}

impl<'a> PaymentOut<'a> {
    pub fn of(payment: &'a Payment) -> Self {
        Self {
            payment_id: payment.id.as_str(),
            channel: payment.channel.as_str(),
            channel_txn_no: payment.channel_txn_no.as_str(),
            status: payment.state.name(),
            amount_cent: payment.amount.0,
            currency: payment.currency.as_str(),
            paid_at: payment.paid_at,
        }
    }
}

/// What an audit sees of a payment: all of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditPaymentOut<'a> {
    #[serde(flatten)]
    payment: PaymentOut<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sale_id: Option<&'a str>,
    #[serde(serialize_with = "shown")]
    received_at: UnixMs,
    note: &'a str,
    refund_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
}

impl<'a> AuditPaymentOut<'a> {
    pub fn of(payment: &'a Payment, sale: Option<&'a SaleId>) -> Self {
        Self {
            payment: PaymentOut::of(payment),
            order_id: payment.order.map(|id| id.to_string()),
            sale_id: sale.map(SaleId::as_str),
            received_at: payment.received_at,
            note: &payment.note,
            refund_no: &payment.refund_no,
            raw: payment.raw.as_ref().map(Raw::as_str),
        }
    }
}

/// What an audit sees of an order: all of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditOrderOut<'a> {
    #[serde(flatten)]
    pub order: OrderOut<'a>,
    pub user_id: &'a str,
    pub idempotency_key: &'a str,
    /// A 64-bit number as text: JSON readers lose digits of such numbers.
    pub version: String,
    /// Of one that was given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restocked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
}

impl<'a> AuditOrderOut<'a> {
    pub fn of(order: &'a Order, events: Option<u64>) -> Self {
        Self {
            order: OrderOut::of(order),
            user_id: order.user.as_str(),
            idempotency_key: order.key.as_str(),
            version: order.version.0.to_string(),
            restocked: match order.state {
                OrderState::RefundDue { restocked } | OrderState::Refunded { restocked } => {
                    Some(restocked)
                }
                OrderState::PendingPayment { .. }
                | OrderState::Paid
                | OrderState::Delivered
                | OrderState::Closed { .. } => None,
            },
            events,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SaleOut {
    pub id: String,
    pub name: String,
    pub phase: &'static str,
    pub starts_at: String,
    pub ends_at: String,
    pub pay_window_seconds: u64,
    pub units_per_user: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_time: Option<String>,
    pub skus: Vec<SkuOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable_seq: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SkuOut {
    pub id: String,
    pub name: String,
    pub price_cent: u64,
    pub currency: String,
    pub units: u64,
    pub remaining: u64,
    /// What a buyer who pays may play, as the definition says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<RawGrant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stock: Option<StockOut>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StockOut {
    pub opened: u64,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
    pub withdrawn: u64,
    pub transfer: u64,
}

impl SaleOut {
    pub fn of(live: &LiveSale, now: UnixMs) -> Self {
        let sale = live.sale();
        Self {
            id: sale.id.to_string(),
            name: sale.name.clone(),
            phase: live.phase(now).name(),
            starts_at: sale.starts_at.rfc3339(),
            ends_at: sale.ends_at.rfc3339(),
            pay_window_seconds: sale.pay_window_ms / 1_000,
            units_per_user: sale.units_per_user,
            server_time: Some(now.rfc3339()),
            skus: sale
                .skus
                .iter()
                .enumerate()
                .map(|(i, sku)| SkuOut {
                    id: sku.id.to_string(),
                    name: sku.name.clone(),
                    price_cent: sku.price.0,
                    currency: sku.currency.to_string(),
                    units: live.opened(i),
                    remaining: live.available(i),
                    grant: sku.grant.as_ref().map(Grant::to_raw),
                    stock: None,
                })
                .collect(),
            durable_seq: None,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewOut<'a> {
    pub sale_id: &'a str,
    pub phase: &'static str,
    pub items: Vec<PreviewItemOut<'a>>,
    pub pay_amount_cent: u64,
    pub currency: &'a str,
    pub limit: LimitOut,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewItemOut<'a> {
    pub sku_id: &'a str,
    pub quantity: u32,
    pub price_cent: u64,
    pub enough: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitOut {
    pub units_per_user: u32,
    pub units_used: u32,
    pub allowed: bool,
}
