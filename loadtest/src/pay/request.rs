//! Callbacks and refunds as bytes on the wire.
//!
//! A copy of a callback has the id and the body of the first, as a provider's retries do;
//! timestamp and signature are of the moment it is sent.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Bill, Callback, Refund, Secret, Till};
use crate::client::Target;
use crate::plan::Plan;

pub struct Provider {
    secret: Secret,
    host: String,
    started_at: Timestamp,
}

impl Provider {
    /// `public` is where callbacks go; `started_unix_ms` is the run's start.
    pub fn new(till: &Till, public: &Target, started_unix_ms: i64) -> Self {
        Self {
            secret: till.secret.clone(),
            host: public.authority.clone(),
            started_at: Timestamp::from_millisecond(started_unix_ms)
                .unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    fn at(&self, since_start_us: u64) -> Timestamp {
        let since = i64::try_from(since_start_us).unwrap_or(i64::MAX);
        self.started_at
            .saturating_add(SignedDuration::from_micros(since))
            .unwrap_or(Timestamp::MAX)
    }

    fn body(&self, plan: &Plan, attempt: u32, callback: &Callback, bill: &Bill) -> String {
        let paid_at = self.at(bill.won_us + 1_000 * callback.after_ms);
        json!({
            "channel": plan.channel(attempt, callback.txn),
            "orderId": bill.order,
            "channelTxnNo": plan.txn_text(attempt, callback.txn),
            "status": callback.claim.status(),
            "amountCent": callback.claim.amount(bill.amount_cent),
            "currency": callback.claim.currency(&bill.currency),
            "paidAt": format!("{paid_at:.3}"),
        })
        .to_string()
    }

    pub fn write(
        &self,
        plan: &Plan,
        attempt: u32,
        callback: &Callback,
        bill: &Bill,
        now_us: u64,
        out: &mut Vec<u8>,
    ) {
        let body = self.body(plan, attempt, callback, bill);
        let id = format!("evt_{}-{}", plan.key_text(attempt), callback.no);
        let unix_s = self.at(now_us).as_second();
        let signature = self.secret.sign(&id, unix_s, body.as_bytes());
        let head = format!(
            "POST /v1/payments/callback HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             webhook-id: {id}\r\nwebhook-timestamp: {unix_s}\r\nwebhook-signature: {signature}\r\n\
             content-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
    }
}

/// Gives money back through the admin API.
pub struct Operator {
    pub admin: Target,
    token: Option<String>,
}

impl Operator {
    pub fn new(till: &Till) -> Self {
        Self {
            admin: till.admin.clone(),
            token: till.token.clone(),
        }
    }

    pub fn write(&self, order: &str, refund: Refund, out: &mut Vec<u8>) {
        let body = json!({"restock": refund.restock, "reason": "changed my mind"}).to_string();
        let bearer = match &self.token {
            Some(token) => format!("authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let whole = format!(
            "POST /admin/v1/orders/{order}/refund HTTP/1.1\r\nhost: {}\r\n{bearer}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.admin.authority,
            body.len()
        );
        out.extend_from_slice(whole.as_bytes());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pay::plan::tests::paying;
    use crate::pay::{Claim, Lie};

    fn till() -> Till {
        Till {
            secret: Secret::parse("whsec_c2VjcmV0").unwrap(),
            admin: Target::parse("http://127.0.0.1:8081", false).unwrap(),
            token: Some("hush".into()),
        }
    }

    fn callback(claim: Claim) -> Callback {
        Callback {
            no: 2,
            txn: 1,
            claim,
            after_ms: 250,
            n_copies: 1,
        }
    }

    fn sent(claim: Claim, now_us: u64) -> (String, serde_json::Value) {
        let public = Target::parse("http://127.0.0.1:8080", false).unwrap();
        let provider = Provider::new(&till(), &public, 1_800_000_000_000);
        let bill = Bill {
            order: "the-order".into(),
            amount_cent: 450,
            currency: "EUR".into(),
            won_us: 1_000_000,
        };
        let mut out = Vec::new();
        provider.write(&paying(), 7, &callback(claim), &bill, now_us, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_callback_says_what_the_plan_dealt_and_is_signed() {
        let (head, body) = sent(Claim::Success, 3_000_000);
        assert_eq!(body["orderId"], "the-order");
        assert_eq!(body["channelTxnNo"], "k7-7-1");
        assert_eq!(body["status"], "SUCCESS");
        assert_eq!(
            (&body["amountCent"], &body["currency"]),
            (&450.into(), &"EUR".into())
        );
        assert_eq!(body["paidAt"], "2027-01-15T08:00:01.250Z");
        assert!(head.contains("webhook-id: evt_k7-7-2\r\n"), "{head}");
        assert!(head.contains("webhook-timestamp: 1800000003\r\n"), "{head}");
        let signature =
            till()
                .secret
                .sign("evt_k7-7-2", 1_800_000_003, body.to_string().as_bytes());
        assert!(
            head.contains(&format!("webhook-signature: {signature}\r\n")),
            "{head}"
        );
        let (_, lie) = sent(Claim::Lie(Lie::LessMoney), 0);
        assert_eq!(
            (&lie["status"], &lie["amountCent"]),
            (&"SUCCESS".into(), &449.into())
        );
        assert_eq!(sent(Claim::Failed, 0).1["status"], "FAILED");
    }

    #[test]
    fn a_copy_has_the_same_body_and_a_timestamp_of_its_own() {
        let (first, later) = (sent(Claim::Success, 0), sent(Claim::Success, 9_000_000));
        assert_eq!(first.1, later.1);
        assert_ne!(first.0, later.0);
    }

    #[test]
    fn an_operator_says_who_and_what_becomes_of_the_units() {
        let mut out = Vec::new();
        let refund = Refund {
            after_ms: 0,
            restock: true,
        };
        Operator::new(&till()).write("the-order", refund, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("POST /admin/v1/orders/the-order/refund "),
            "{text}"
        );
        assert!(text.contains("authorization: Bearer hush\r\n"), "{text}");
        assert!(text.contains("\"restock\":true"), "{text}");
    }
}
