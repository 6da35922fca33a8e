//! What a payment provider tells: one attempt to pay, and what came of it.
//!
//! The signature was checked over the bytes before anything is read here. Unknown
//! fields are ignored, unlike everywhere else: providers add fields when they like, and
//! a capture must not be lost over a word nobody asked for.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ids::{Channel, ChannelTxnNo, OrderId, PaymentId};
use super::money::{Cents, Currency};
use super::payment::{Payment, PaymentState, Raw};
use super::time::UnixMs;

/// Longest `orderId` that is kept where it is not one of ours; ours have 36 bytes.
pub const ORDER_BYTES_MAX: usize = 128;
/// What JSON readers that know only doubles still read exactly.
pub const AMOUNT_CENT_MAX: u64 = (1 << 53) - 1;

/// The body as text says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawCallback<'a> {
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    #[serde(borrow)]
    pub order_id: Cow<'a, str>,
    #[serde(borrow)]
    pub channel_txn_no: Cow<'a, str>,
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    pub amount_cent: i64,
    #[serde(borrow)]
    pub currency: Cow<'a, str>,
    #[serde(borrow)]
    pub paid_at: Cow<'a, str>,
    /// Kept word for word: the provider signed these bytes.
    #[serde(borrow, default)]
    pub raw: Option<&'a RawValue>,
}

/// A body that was checked. Whether there is such an order, and whether amount and
/// currency are its own, is for the desk to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    pub channel: Channel,
    /// None: what `order_text` names is no order id of ours.
    pub order: Option<OrderId>,
    /// As the provider wrote it, for the note that a person reads.
    pub order_text: String,
    pub txn: ChannelTxnNo,
    /// Money was captured. Otherwise this attempt came to nothing.
    pub success: bool,
    pub amount: Cents,
    pub currency: Currency,
    pub paid_at: UnixMs,
    /// What the provider adds in its own words: a text as it is, anything else as JSON;
    /// empty when there is nothing.
    pub raw: String,
}

impl Callback {
    /// The same transaction of a channel is the same payment, for ever.
    pub fn payment_id(&self) -> PaymentId {
        Payment::id_of(&self.channel, &self.txn)
    }

    /// What a capture is before anybody has judged it.
    pub fn captured(&self, received_at: UnixMs) -> Payment {
        Payment {
            id: self.payment_id(),
            order: self.order,
            channel: self.channel.clone(),
            channel_txn_no: self.txn.clone(),
            amount: self.amount,
            currency: self.currency,
            state: PaymentState::Captured,
            paid_at: self.paid_at,
            received_at,
            // Whoever has to find out whose money this is needs every word.
            note: match self.order {
                Some(_) => String::new(),
                None => format!(
                    "it names order {:?}, which is none of ours",
                    self.order_text
                ),
            },
            refund_no: String::new(),
            raw: Raw::of(&self.raw),
        }
    }

    /// Whether the same transaction was something else before; says what.
    pub fn conflict(&self, known: &Payment) -> Option<&'static str> {
        if self.amount != known.amount {
            Some("amount")
        } else if self.currency != known.currency {
            Some("currency")
        } else if known.order.is_some() && self.order != known.order {
            Some("order")
        } else {
            None
        }
    }
}

/// Names the field, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct CallbackError {
    pub field: &'static str,
    pub problem: String,
}

fn fail<T>(field: &'static str, problem: impl Into<String>) -> Result<T, CallbackError> {
    Err(CallbackError {
        field,
        problem: problem.into(),
    })
}

impl RawCallback<'_> {
    pub fn check(&self) -> Result<Callback, CallbackError> {
        let order = &*self.order_id;
        if order.is_empty() || order.len() > ORDER_BYTES_MAX || order.contains(char::is_control) {
            return fail(
                "orderId",
                format!("allowed are 1 to {ORDER_BYTES_MAX} bytes without control characters"),
            );
        }
        let amount = u64::try_from(self.amount_cent)
            .ok()
            .filter(|cents| *cents <= AMOUNT_CENT_MAX)
            .map_or_else(
                || {
                    fail(
                        "amountCent",
                        format!(
                            "{} is out of range; allowed are 0 to {AMOUNT_CENT_MAX}",
                            self.amount_cent
                        ),
                    )
                },
                Ok,
            )?;
        let currency = Currency::parse(&self.currency).map_or_else(
            || {
                let problem = "is not three letters A-Z as in ISO 4217";
                fail("currency", format!("{:?} {problem}", self.currency))
            },
            Ok,
        )?;
        Ok(Callback {
            channel: Channel::parse(&self.channel).or_else(|e| fail("channel", e.to_string()))?,
            order: OrderId::parse(order),
            order_text: order.to_owned(),
            txn: ChannelTxnNo::parse(&self.channel_txn_no)
                .or_else(|e| fail("channelTxnNo", e.to_string()))?,
            success: match &*self.status {
                "SUCCESS" => true,
                "FAILED" => false,
                other => {
                    return fail(
                        "status",
                        format!("{other:?} is not known; allowed are SUCCESS and FAILED"),
                    );
                }
            },
            amount: Cents(amount),
            currency,
            paid_at: UnixMs::read_rfc3339(&self.paid_at)
                .or_else(|e| fail("paidAt", format!("{:?} {e}", self.paid_at)))?,
            raw: self.raw.map_or_else(String::new, in_its_own_words),
        })
    }
}

fn in_its_own_words(raw: &RawValue) -> String {
    let json = raw.get();
    // Half of a pair of surrogates is JSON and no text: it is kept as JSON.
    let text = json
        .starts_with('"')
        .then(|| serde_json::from_str(json).ok());
    text.flatten().unwrap_or_else(|| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "019a0000-0000-8000-8000-000000000001";

    fn body(change: &[(&str, serde_json::Value)]) -> String {
        let mut body = serde_json::json!({
            "channel": "card", "orderId": ORDER, "channelTxnNo": "t-1", "status": "SUCCESS",
            "amountCent": 12_900, "currency": "EUR", "paidAt": "2026-11-11T00:00:01Z",
        });
        for (field, value) in change {
            body[*field] = value.clone();
        }
        body.to_string()
    }

    fn read(change: &[(&str, serde_json::Value)]) -> Result<Callback, String> {
        let body = body(change);
        let raw: RawCallback<'_> = serde_json::from_str(&body).map_err(|e| e.to_string())?;
        raw.check().map_err(|e| e.to_string())
    }

    #[test]
    fn a_capture_is_read_whole() {
        let callback = read(&[]).expect("valid");
        assert_eq!(callback.order, OrderId::parse(ORDER));
        assert_eq!(
            (callback.channel.as_str(), callback.txn.as_str()),
            ("card", "t-1")
        );
        assert_eq!(callback.amount, Cents(12_900));
        assert_eq!(callback.currency.as_str(), "EUR");
        assert!(callback.success && callback.raw.is_empty());
        assert_eq!(callback.paid_at.rfc3339(), "2026-11-11T00:00:01Z");
        assert!(!read(&[("status", "FAILED".into())]).expect("valid").success);
    }

    #[test]
    fn what_a_provider_adds_is_passed_over_and_raw_is_kept() {
        let added = read(&[
            ("fee", 12.into()),
            ("risk", serde_json::json!({"score": 3})),
        ]);
        assert_eq!(added, read(&[]));
        let raw = |value| read(&[("raw", value)]).expect("valid").raw;
        assert_eq!(raw("as it is".into()), "as it is");
        assert_eq!(raw(serde_json::json!({"a": [1]})), "{\"a\":[1]}");
        assert_eq!(raw(serde_json::Value::Null), "");
        let at = |body: &str| {
            let raw: RawCallback<'_> = serde_json::from_str(body).expect("JSON");
            raw.check().expect("valid").raw
        };
        let whole = body(&[("raw", "X".into())]);
        let with = |json: &str| at(&whole.replace("\"X\"", json));
        assert_eq!(with("{ \"a\" : 1e2 }"), "{ \"a\" : 1e2 }");
        assert_eq!(with(r#""\ud800""#), r#""\ud800""#);
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(with(&deep), deep);
    }

    #[test]
    fn a_payment_is_named_by_channel_and_transaction_alone() {
        let id = |change: &[(&str, serde_json::Value)]| {
            read(change).expect("valid").payment_id().to_string()
        };
        // printf 'card\0t-1' | sha256sum | cut -c1-32
        assert_eq!(id(&[]), "pay_8cf2c3b26369e021a362650917c2827a");
        assert_eq!(
            id(&[("amountCent", 1.into()), ("status", "FAILED".into())]),
            id(&[])
        );
        let first = read(&[]).expect("valid").captured(UnixMs(7));
        let conflict = |field, value: serde_json::Value| {
            read(&[(field, value)]).expect("valid").conflict(&first)
        };
        assert_eq!(conflict("paidAt", "2027-01-01T00:00:00Z".into()), None);
        assert_eq!(conflict("amountCent", 1.into()), Some("amount"));
        assert_eq!(conflict("currency", "USD".into()), Some("currency"));
        assert_eq!(conflict("orderId", "4711".into()), Some("order"));
        assert_ne!(id(&[("channel", "wallet".into())]), id(&[]));
        assert_ne!(id(&[("channelTxnNo", "t-2".into())]), id(&[]));
    }

    #[test]
    fn an_order_of_nobody_is_kept_as_text() {
        for foreign in ["4711", "019a0000-0000-7000-8000-000000000001", "é"] {
            let callback = read(&[("orderId", foreign.into())]).expect(foreign);
            assert_eq!(
                (callback.order, callback.order_text.as_str()),
                (None, foreign)
            );
        }
    }

    #[test]
    fn what_cannot_be_is_told_with_its_field() {
        for (field, value, said) in [
            ("channel", "".into(), "channel: is empty"),
            ("channel", "a card".into(), "channel: has a character"),
            ("orderId", "".into(), "orderId: allowed are 1 to 128"),
            ("orderId", "a\nb".into(), "orderId: allowed are"),
            ("orderId", "x".repeat(129).into(), "orderId: allowed are"),
            (
                "channelTxnNo",
                "x".repeat(65).into(),
                "channelTxnNo: has 65 bytes",
            ),
            ("status", "success".into(), "allowed are SUCCESS and FAILED"),
            (
                "amountCent",
                serde_json::json!(-1),
                "amountCent: -1 is out of range",
            ),
            (
                "amountCent",
                serde_json::json!(AMOUNT_CENT_MAX + 1),
                "is out of range",
            ),
            (
                "amountCent",
                serde_json::json!(1.5),
                "invalid type: floating point",
            ),
            ("amountCent", "12900".into(), "invalid type: string"),
            (
                "currency",
                "eur".into(),
                "currency: \"eur\" is not three letters",
            ),
            (
                "paidAt",
                "yesterday".into(),
                "paidAt: \"yesterday\" is not an RFC 3339 time",
            ),
        ] {
            let problem = read(&[(field, value)]).expect_err(said);
            assert!(problem.contains(said), "{problem}");
        }
        let without = body(&[]).replace("\"currency\":\"EUR\",", "");
        let missing = serde_json::from_str::<RawCallback<'_>>(&without).expect_err("missing");
        assert!(missing.to_string().contains("missing field `currency`"));
    }
}
