//! Payments and entitlements as a customer understands them: own structs, like those of
//! orders in `crate::wire`.

use compact_str::CompactString;
use serde::Deserialize;

use crate::wire::{WireError, parse_id};

fn wrong(what: &'static str, why: impl std::fmt::Display) -> WireError {
    WireError {
        what,
        why: why.to_string(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentStatus {
    Captured,
    Applied,
    RefundDue,
    Refunded,
    Review,
}

/// What a callback is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Told {
    Applied,
    RefundDue,
    Refunded,
    Review,
    /// A failed attempt: nothing is kept.
    Ignored,
}

impl Told {
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        #[derive(Deserialize)]
        struct Raw {
            status: Told,
        }
        let raw: Raw =
            serde_json::from_slice(body).map_err(|e| wrong("answer to a callback", e))?;
        Ok(raw.status)
    }
}

/// A payment as the admin API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    pub id: CompactString,
    pub order: Option<u128>,
    pub channel: CompactString,
    pub txn: CompactString,
    pub status: PaymentStatus,
    pub amount_cent: i64,
    pub currency: CompactString,
}

#[derive(Debug)]
pub struct PaymentPage {
    pub payments: Vec<Payment>,
    pub next: Option<String>,
}

impl PaymentPage {
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            payment_id: CompactString,
            order_id: Option<CompactString>,
            channel: CompactString,
            channel_txn_no: CompactString,
            status: PaymentStatus,
            amount_cent: i64,
            currency: CompactString,
        }
        #[derive(Deserialize)]
        struct Page {
            payments: Vec<Raw>,
            next: Option<String>,
        }
        let page: Page = serde_json::from_slice(body).map_err(|e| wrong("page of payments", e))?;
        let payments = page.payments.into_iter().map(|raw| {
            let order = raw.order_id.as_deref().map(order_id).transpose()?;
            Ok(Payment {
                id: raw.payment_id,
                order,
                channel: raw.channel,
                txn: raw.channel_txn_no,
                status: raw.status,
                amount_cent: raw.amount_cent,
                currency: raw.currency,
            })
        });
        Ok(Self {
            payments: payments.collect::<Result<_, WireError>>()?,
            next: page.next,
        })
    }
}

fn order_id(text: &str) -> Result<u128, WireError> {
    parse_id(text).ok_or_else(|| wrong("orderId", format_args!("{text:?} is not a UUID")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntitlementStatus {
    Active,
    Revoked,
    Expired,
}

/// What a buyer was granted, `GET /v1/me/entitlements`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    pub id: CompactString,
    pub order: u128,
    pub sale: Option<CompactString>,
    pub sku: CompactString,
    pub work: CompactString,
    pub status: EntitlementStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntitlement {
    entitlement_id: CompactString,
    // An order says it once for all.
    order_id: Option<CompactString>,
    sale_id: Option<CompactString>,
    sku_id: CompactString,
    work_id: CompactString,
    status: EntitlementStatus,
}

#[derive(Deserialize)]
struct RawEntitlements {
    entitlements: Vec<RawEntitlement>,
}

impl Entitlement {
    /// A buyer's list.
    pub fn parse_all(body: &[u8]) -> Result<Vec<Self>, WireError> {
        Self::parse(body, None)
    }

    /// Of an order as an operator sees it.
    pub fn parse_of_order(body: &[u8], order: u128) -> Result<Vec<Self>, WireError> {
        Self::parse(body, Some(order))
    }

    fn parse(body: &[u8], of: Option<u128>) -> Result<Vec<Self>, WireError> {
        let all: RawEntitlements =
            serde_json::from_slice(body).map_err(|e| wrong("list of entitlements", e))?;
        let entitlements = all.entitlements.into_iter().map(|raw| {
            let named = raw.order_id.as_deref().map(order_id).transpose()?;
            Ok(Self {
                id: raw.entitlement_id,
                order: named
                    .or(of)
                    .ok_or_else(|| wrong("list of entitlements", "missing field `orderId`"))?,
                sale: raw.sale_id,
                sku: raw.sku_id,
                work: raw.work_id,
                status: raw.status,
            })
        });
        entitlements.collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: &str = "01932b7e-0000-8000-8000-00000000000a";

    #[test]
    fn payments_and_entitlements_read_as_the_contract_says() {
        let body = format!(
            r#"{{"payments":[{{"paymentId":"pay_1","orderId":"{ID}","saleId":"tea","channel":"card",
            "channelTxnNo":"t-1","status":"REFUND_DUE","amountCent":450,"currency":"EUR",
            "paidAt":"2026-11-11T00:00:00Z","receivedAt":"2026-11-11T00:00:01Z","note":"","refundNo":""}}],
            "next":"c"}}"#
        );
        let page = PaymentPage::parse(body.as_bytes()).unwrap();
        assert_eq!(page.next.as_deref(), Some("c"));
        assert_eq!(page.payments[0].order, parse_id(ID));
        assert_eq!(page.payments[0].status, PaymentStatus::RefundDue);
        let body = format!(
            r#"{{"entitlements":[{{"entitlementId":"ent_1","orderId":"{ID}","skuId":"film","workId":"w",
            "status":"ACTIVE","grantedAt":"2026-11-11T00:00:00Z","validUntil":"2027-11-11T00:00:00Z",
            "devicesMax":5,"devices":[]}}]}}"#
        );
        let all = Entitlement::parse_all(body.as_bytes()).unwrap();
        assert_eq!(all[0].status, EntitlementStatus::Active);
        let body =
            br#"{"orderId":"of the whole","entitlements":[{"entitlementId":"ent_1","skuId":"film",
            "workId":"w","status":"REVOKED"}]}"#;
        let of_order = Entitlement::parse_of_order(body, 7).unwrap();
        assert_eq!(
            (of_order[0].order, of_order[0].status),
            (7, EntitlementStatus::Revoked)
        );
        let error = Entitlement::parse_all(body).unwrap_err().to_string();
        assert!(error.contains("orderId"), "{error}");
        let told = Told::parse(br#"{"paymentId":"pay_1","status":"IGNORED","replayed":false}"#);
        assert_eq!(told.unwrap(), Told::Ignored);
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let error = PaymentPage::parse(br#"{"payments":[{"paymentId":"x"}]}"#).unwrap_err();
        assert!(error.to_string().contains("channel"), "{error}");
        let error = Told::parse(br#"{"status":"FINE"}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("FINE"), "{error}");
    }
}
