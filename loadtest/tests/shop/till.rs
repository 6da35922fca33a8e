//! The shop's till: signed callbacks, payments, refunds, and what is granted.

use floodgate_loadtest::pay::Secret;
use serde_json::{Value, json};

use super::{Lie, Order, Request, Shop, problem};

pub(crate) const SECRET: &str = "whsec_c2hvcC1zZWNyZXQ=";

pub(super) struct Payment {
    order: usize,
    channel: String,
    txn: String,
    status: &'static str,
    amount: i64,
    currency: String,
}

impl Order {
    pub(super) fn is_live(&self) -> bool {
        self.closed.is_none() && self.refunded.is_none()
    }
}

impl Shop {
    pub(super) fn window(&self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(self.sale["payWindowSeconds"].as_i64().unwrap_or(900))
    }

    pub(super) fn close_windows(&mut self) {
        let now = jiff::Timestamp::now();
        for order in &mut self.orders {
            if !order.paid && order.closed.is_none() && order.deadline <= now {
                order.closed = Some("timeout");
            }
        }
    }

    fn grants(&self) -> bool {
        !self.sale["skus"][0]["grant"].is_null()
    }

    pub(super) fn status(&self, order: &Order) -> &'static str {
        match (order.closed, order.refunded, order.paid) {
            (Some(_), _, _) => "CLOSED",
            (None, Some(_), _) => "REFUNDED",
            (None, None, true) if self.grants() => "DELIVERED",
            (None, None, true) => "PAID",
            (None, None, false) => "PENDING_PAYMENT",
        }
    }

    pub(super) fn n_events(&self, order: &Order) -> u64 {
        let paid = u64::from(order.paid) * (1 + u64::from(self.grants()));
        1 + u64::from(order.closed.is_some()) + paid + 2 * u64::from(order.refunded.is_some())
    }

    pub(super) fn sold(&self) -> i64 {
        let sold = self.orders.iter().filter(|o| o.paid && o.is_live());
        sold.map(|order| order.quantity).sum()
    }

    pub(super) fn withdrawn(&self) -> i64 {
        let gone = self.orders.iter().filter(|o| o.refunded == Some(false));
        gone.map(|order| order.quantity).sum()
    }

    pub(super) fn callback(&mut self, request: &Request) -> (u16, Value) {
        let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
        let secret = Secret::parse(SECRET).unwrap();
        let unix_s = header("webhook-timestamp").parse().unwrap();
        let signed = secret.sign(header("webhook-id"), unix_s, &request.body);
        let now_s = jiff::Timestamp::now().as_second();
        if header("webhook-signature") != signed || now_s.abs_diff(unix_s) > 300 {
            return problem(401, "UNAUTHENTICATED");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let _: jiff::Timestamp = text("paidAt").parse().unwrap();
        let told = |status| (200, json!({"status": status, "replayed": false}));
        if text("status") == "FAILED" {
            return told("IGNORED");
        }
        let (channel, txn) = (text("channel"), text("channelTxnNo"));
        let same = |payment: &&Payment| (&payment.channel, &payment.txn) == (&channel, &txn);
        if let Some(known) = self.payments.iter().find(same) {
            return told(known.status);
        }
        let mut orders = self.orders.iter();
        let Some(at) = orders.position(|order| order.id == text("orderId")) else {
            return problem(400, "INVALID_FIELD");
        };
        let amount = body["amountCent"].as_i64().unwrap();
        let owed = self.show(at)["payAmountCent"].as_i64().unwrap();
        let order = &mut self.orders[at];
        let status = if amount != owed || text("currency") != "EUR" {
            "REVIEW"
        } else if order.is_live() && !order.paid {
            order.paid = true;
            "APPLIED"
        } else if self.lie == Lie::SitsOnMoney {
            "REFUND_DUE"
        } else {
            "REFUNDED"
        };
        let forgotten = self.lie == Lie::ForgetsPayments && self.payments.len() == 2;
        if !forgotten || self.forgot {
            self.payments.push(Payment {
                order: at,
                channel,
                txn,
                status,
                amount,
                currency: text("currency"),
            });
        } else {
            self.forgot = true;
        }
        told(status)
    }

    pub(super) fn refund(&mut self, path: &str, request: &Request) -> (u16, Value) {
        let mut orders = self.orders.iter();
        let Some(at) = orders.position(|order| path.contains(&order.id)) else {
            return problem(404, "NOT_FOUND");
        };
        if !self.orders[at].paid {
            return problem(423, "ORDER_STATE_INVALID");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let restock = body["restock"].as_bool().unwrap();
        self.orders[at].refunded.get_or_insert(restock);
        for payment in &mut self.payments {
            if payment.order == at && payment.status == "APPLIED" {
                payment.status = "REFUNDED";
            }
        }
        (200, self.show(at))
    }

    /// Pages of seven, as everywhere in this shop.
    pub(super) fn list_payments(&self, path: &str) -> Value {
        let cursor = path.split("cursor=").nth(1);
        let start: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let end = (start + 7).min(self.payments.len());
        let rows: Vec<Value> = self.payments[start..end]
            .iter()
            .zip(start..)
            .map(|(payment, number)| {
                json!({"paymentId": format!("pay_{number}"), "orderId": self.orders[payment.order].id,
                    "channel": payment.channel, "channelTxnNo": payment.txn, "status": payment.status,
                    "amountCent": payment.amount, "currency": payment.currency})
            })
            .collect();
        let next = (end < self.payments.len()).then(|| end.to_string());
        json!({"payments": rows, "next": next})
    }

    pub(super) fn entitlements(&self, user: &str) -> Value {
        let bought = self.orders.iter().filter(|o| o.user == user && o.paid);
        let rows: Vec<Value> = bought
            .filter(|_| self.grants())
            .map(|order| {
                let gone = order.refunded.is_some() && self.lie != Lie::KeepsGrants;
                json!({"entitlementId": format!("ent_{}", order.id), "orderId": order.id,
                    "saleId": self.sale["id"], "skuId": "green",
                    "workId": self.sale["skus"][0]["grant"]["workId"],
                    "status": if gone { "REVOKED" } else { "ACTIVE" }})
            })
            .collect();
        json!({"entitlements": rows})
    }
}
