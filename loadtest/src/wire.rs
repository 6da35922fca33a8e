//! The HTTP contract as a customer understands it: own structs, nothing shared
//! with the engine, so an accidental change of the contract shows up here.
//!
//! Fields we do not know are ignored; fields we need and miss are an error.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("{what}: {why}")]
pub struct WireError {
    pub what: &'static str,
    pub why: String,
}

fn wrong(what: &'static str, why: impl std::fmt::Display) -> WireError {
    WireError {
        what,
        why: why.to_string(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    PendingPayment,
    Paid,
    Delivered,
    Closed,
    RefundDue,
    Refunded,
}

impl Status {
    /// Live orders hold units of stock.
    pub fn is_live(self) -> bool {
        match self {
            Self::PendingPayment | Self::Paid | Self::Delivered => true,
            Self::Closed | Self::RefundDue | Self::Refunded => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClosedReason {
    Timeout,
    Canceled,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub sku_id: CompactString,
    pub quantity: u32,
    pub price_cent: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOrder {
    order_id: CompactString,
    sale_id: CompactString,
    status: Status,
    items: Vec<Item>,
    pay_amount_cent: i64,
    currency: CompactString,
    pay_deadline_at: jiff::Timestamp,
    created_at: jiff::Timestamp,
    closed_reason: Option<ClosedReason>,
    // Only in enumerations.
    user_id: Option<CompactString>,
    idempotency_key: Option<CompactString>,
    version: Option<CompactString>,
    events: Option<u32>,
}

/// An order as any of the APIs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The UUID's 128 bits.
    pub id: u128,
    pub sale_id: CompactString,
    pub status: Status,
    pub items: Vec<Item>,
    pub amount_cent: i64,
    pub currency: CompactString,
    /// Microseconds since 1970.
    pub created_us: i64,
    pub deadline_us: i64,
    pub closed: Option<ClosedReason>,
    /// Empty where the API does not show it.
    pub user: CompactString,
    pub key: CompactString,
    pub version: u64,
    pub events: Option<u32>,
}

impl Order {
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        serde_json::from_slice::<RawOrder>(body)
            .map_err(|e| wrong("order document", e))?
            .check()
    }

    /// What a buyer was told and may never change: content, price, times.
    pub fn same_deal(&self, other: &Self) -> bool {
        self.id == other.id
            && self.items == other.items
            && self.amount_cent == other.amount_cent
            && self.currency == other.currency
            && self.created_us == other.created_us
            && self.deadline_us == other.deadline_us
    }

    /// The same deal as was told. Where money moves the buyer may have got more time since:
    /// for a payment that had begun, or for one that came late.
    pub fn keeps_deal(&self, told: &Self, money: bool) -> bool {
        let longer = money && self.deadline_us > told.deadline_us;
        let deadline_us = if longer {
            told.deadline_us
        } else {
            self.deadline_us
        };
        let now = Self {
            deadline_us,
            ..self.clone()
        };
        now.same_deal(told)
    }
}

impl RawOrder {
    fn check(self) -> Result<Order, WireError> {
        let id = parse_id(&self.order_id)
            .ok_or_else(|| wrong("orderId", format_args!("{:?} is not a UUID", self.order_id)))?;
        let version = match &self.version {
            Some(text) => text.parse().map_err(|e| wrong("version", e))?,
            None => 0,
        };
        Ok(Order {
            id,
            sale_id: self.sale_id,
            status: self.status,
            items: self.items,
            amount_cent: self.pay_amount_cent,
            currency: self.currency,
            created_us: self.created_at.as_microsecond(),
            deadline_us: self.pay_deadline_at.as_microsecond(),
            closed: self.closed_reason,
            user: self.user_id.unwrap_or_default(),
            key: self.idempotency_key.unwrap_or_default(),
            version,
            events: self.events,
        })
    }
}

/// One page of an enumeration.
#[derive(Debug)]
pub struct OrderPage {
    pub orders: Vec<Order>,
    pub next_cursor: Option<String>,
    /// Ledger: its durable seq. Store: the store's mark.
    pub seq: u64,
}

impl OrderPage {
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            orders: Vec<RawOrder>,
            next_cursor: Option<String>,
            seq: u64,
        }
        let raw: Raw = serde_json::from_slice(body).map_err(|e| wrong("page of orders", e))?;
        let orders = raw
            .orders
            .into_iter()
            .map(RawOrder::check)
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(order) = orders
            .iter()
            .find(|order| order.user.is_empty() || order.key.is_empty())
        {
            return Err(wrong(
                "page of orders",
                format_args!("order {} lacks userId or idempotencyKey", show_id(order.id)),
            ));
        }
        Ok(Self {
            orders,
            next_cursor: raw.next_cursor,
            seq: raw.seq,
        })
    }
}

/// Stock of one SKU as the admin API shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Stock {
    pub opened: i64,
    pub available: i64,
    pub held: i64,
    pub sold: i64,
    pub withdrawn: i64,
    pub transfer: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SaleSku {
    pub id: CompactString,
    pub price_cent: i64,
    pub currency: CompactString,
    pub stock: Stock,
}

/// A sale as the admin API shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sale {
    pub id: CompactString,
    pub phase: CompactString,
    pub units_per_user: Option<u32>,
    pub server_time: jiff::Timestamp,
    pub durable_seq: u64,
    pub skus: Vec<SaleSku>,
}

impl Sale {
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        serde_json::from_slice(body).map_err(|e| wrong("sale document", e))
    }
}

/// Of the list of all sales, the ids of those in one phase.
pub fn sales_in_phase(body: &[u8], phase: &str) -> Result<Vec<String>, WireError> {
    #[derive(Deserialize)]
    struct Listed {
        id: String,
        phase: CompactString,
    }
    #[derive(Deserialize)]
    struct List {
        sales: Vec<Listed>,
    }
    let list: List = serde_json::from_slice(body).map_err(|e| wrong("list of sales", e))?;
    let there = list.sales.into_iter().filter(|sale| sale.phase == phase);
    Ok(there.map(|sale| sale.id).collect())
}

/// What the engine's own reconciler says.
#[derive(Clone, Debug, Deserialize)]
pub struct Reconciliation {
    pub differences: u64,
    #[serde(default)]
    pub detail: Vec<String>,
}

impl Reconciliation {
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        serde_json::from_slice(body).map_err(|e| wrong("reconciliation", e))
    }
}

/// `8-4-4-4-12` hexadecimal digits.
pub fn parse_id(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    bytes
        .iter()
        .enumerate()
        .try_fold(0u128, |id, (at, &byte)| match at {
            8 | 13 | 18 | 23 => (byte == b'-').then_some(id),
            _ => char::from(byte)
                .to_digit(16)
                .map(|digit| id << 4 | u128::from(digit)),
        })
}

pub fn show_id(id: u128) -> String {
    let hex = format!("{id:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_order_document_reads_as_the_contract_says() {
        let body = br#"{"orderId":"01932b7e-0000-8000-8000-00000000000a","saleId":"tea","status":"CLOSED",
            "items":[{"skuId":"green","quantity":2,"priceCent":450}],"payAmountCent":900,"currency":"EUR",
            "payDeadlineAt":"2026-11-11T00:15:00Z","createdAt":"2026-11-11T00:00:00.001Z",
            "closedReason":"timeout","updatedAt":"2026-11-11T00:15:00Z"}"#;
        let order = Order::parse(body).unwrap();
        assert_eq!(
            (order.status, order.closed),
            (Status::Closed, Some(ClosedReason::Timeout))
        );
        assert_eq!(order.deadline_us - order.created_us, 900_000_000 - 1_000);
        assert_eq!(show_id(order.id), "01932b7e-0000-8000-8000-00000000000a");
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = Order::parse(br#"{"orderId":"x"}"#).unwrap_err().to_string();
        assert!(error.contains("saleId"), "{error}");
        assert_eq!(parse_id("01932b7e-0000-8000-8000-00000000000"), None);
        assert_eq!(parse_id("01932b7e+0000-8000-8000-00000000000a"), None);
    }
}
