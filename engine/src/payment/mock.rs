//! The built-in provider: sessions with a page of their own, buttons that pay, fail, lie
//! and pay twice, and callbacks that are signed and sent like a real one's. It moves no
//! money, forgets its sessions when the engine ends, and is there for demos, tests and
//! pages under construction. Never in front of buyers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::runtime::Handle;

use super::deliver::{Deliverer, Message};
use super::plan::{Plan, Press};
use super::provider::{Answered, Ask, Provider, ProviderError, Refund, Session};
use super::table::Table;
use crate::config::MockConfig;
use crate::domain::payment::Payment;
use crate::domain::time::{Clock, UnixMs};

/// Some 500 bytes each.
const SESSIONS_MAX: usize = 100_000;

pub struct Mock {
    table: Mutex<Table>,
    plan: Plan,
    prepays_fail: Failing,
    refunds_fail: Failing,
    clock: Arc<dyn Clock>,
    deliverer: Arc<Deliverer>,
    /// Where messages are sent from: not the thread that serves whoever presses.
    runtime: Handle,
    /// Draws a token that nobody guesses.
    token: Box<dyn Fn() -> Option<u128> + Send + Sync>,
}

/// Calls that fail before the first one is heard.
struct Failing(AtomicU32);

impl Failing {
    fn first(n: u32) -> Self {
        Self(AtomicU32::new(n))
    }

    /// One call less is left to fail.
    fn call(&self) -> Result<(), ProviderError> {
        let fails = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match fails {
            Ok(_) => Err(ProviderError("the plan says so".into())),
            Err(_) => Ok(()),
        }
    }
}

/// What a press came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pressed {
    /// So many messages are on their way.
    Sent(usize),
    /// No such session, or it ended.
    Missing,
    /// Too many messages are under way.
    Busy,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    channel: &'a str,
    order_id: String,
    channel_txn_no: &'a str,
    status: &'static str,
    amount_cent: u64,
    currency: &'a str,
    paid_at: String,
}

impl Mock {
    pub fn new(
        config: &MockConfig,
        clock: Arc<dyn Clock>,
        deliverer: Deliverer,
        runtime: Handle,
        token: impl Fn() -> Option<u128> + Send + Sync + 'static,
    ) -> Self {
        Self {
            table: Mutex::new(Table::new(SESSIONS_MAX)),
            plan: Plan::of(config),
            prepays_fail: Failing::first(config.prepays_fail),
            refunds_fail: Failing::first(config.refunds_fail),
            clock,
            deliverer: Arc::new(deliverer),
            runtime,
            token: Box::new(token),
        }
    }

    /// What the configuration says; a press may change it.
    pub fn plan(&self) -> Plan {
        self.plan.clone()
    }

    /// What is to be paid with this token.
    pub fn find(&self, token: &str) -> Option<Ask> {
        self.table.lock().find(token, self.clock.now()).cloned()
    }

    pub fn press(&self, token: &str, press: Press, plan: &Plan) -> Pressed {
        let now = self.clock.now();
        let Some((ask, n_before)) = self.table.lock().press(token, now) else {
            return Pressed::Missing;
        };
        let messages = messages(token, n_before, &ask, now, press, plan);
        let n = messages.len();
        let Some(places) = self.deliverer.places(n) else {
            return Pressed::Busy;
        };
        for (message, place) in messages.into_iter().zip(places) {
            let deliverer = Arc::clone(&self.deliverer);
            self.runtime
                .spawn(async move { deliverer.deliver(message, place).await });
        }
        Pressed::Sent(n)
    }
}

/// The callbacks of one press, each as often as the plan says.
fn messages(
    token: &str,
    n_before: u32,
    ask: &Ask,
    now: UnixMs,
    press: Press,
    plan: &Plan,
) -> Vec<Message> {
    let mut messages = Vec::new();
    for tell in plan.tells(press, ask.amount) {
        // A token is 32 characters, so this is an id.
        let txn = format!("mock-{token}-{n_before}-{}", tell.attempt);
        let status = if tell.success { "SUCCESS" } else { "FAILED" };
        let told = Told {
            channel: ask.channel.as_str(),
            order_id: ask.order.to_string(),
            channel_txn_no: &txn,
            status,
            amount_cent: tell.amount.0,
            currency: ask.currency.as_str(),
            paid_at: now.rfc3339(),
        };
        let body = serde_json::to_vec(&told).expect("texts and numbers are JSON");
        let message = Message {
            id: format!("msg-{txn}-{status}"),
            body: body.into(),
            after: tell.after,
        };
        messages.extend(std::iter::repeat_n(message, tell.times as usize));
    }
    messages
}

impl Provider for Mock {
    fn prepay<'a>(&'a self, ask: &'a Ask) -> Answered<'a, Session> {
        Box::pin(async move {
            self.prepays_fail.call()?;
            let token = (self.token)()
                .map(|random| format!("{random:032x}"))
                .ok_or_else(|| ProviderError("no random numbers".into()))?;
            let session = || Session {
                pay_url: format!("/mock-pay/{token}"),
                token: token.clone(),
                expires_at: ask.until,
            };
            self.table
                .lock()
                .open(ask, self.clock.now(), session)
                .ok_or_else(|| ProviderError("too many sessions".into()))
        })
    }

    /// The number is made from the payment's id, so the same refund is the same one
    /// after a restart as well.
    fn refund<'a>(&'a self, payment: &'a Payment) -> Answered<'a, Refund> {
        Box::pin(async move {
            self.refunds_fail.call()?;
            let refund_no = format!("mock-refund-{}", payment.id);
            Ok(Refund::Refunded { refund_no })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::callback::RawCallback;
    use crate::payment::testing;

    #[test]
    fn what_is_told_is_a_callback_of_the_order() {
        let config = MockConfig {
            delay: std::time::Duration::from_millis(5),
            repeat: 3,
            reorder: true,
            fail: false,
            lie_cent: 0,
            prepays_fail: 0,
            refunds_fail: 0,
        };
        let ask = testing::ask(7, "card", UnixMs(1_000));
        let token = "0123456789abcdef0123456789abcdef";
        let plan = Plan::of(&config);
        let all = messages(token, 4, &ask, UnixMs(500), Press::Pay, &plan);
        assert_eq!(all.len(), 6);
        let mut success = 0;
        for message in &all {
            let raw: RawCallback<'_> = serde_json::from_slice(&message.body).expect("JSON");
            let callback = raw.check().expect("one of ours");
            assert_eq!(callback.order, Some(ask.order));
            assert_eq!(callback.txn.as_str(), format!("mock-{token}-4-0"));
            assert_eq!(
                (callback.amount, callback.paid_at),
                (ask.amount, UnixMs(500))
            );
            success += usize::from(callback.success);
        }
        assert_eq!(success, 3);
        let other = messages(token, 5, &ask, UnixMs(500), Press::Pay, &plan);
        assert_ne!(
            other[0].body, all[0].body,
            "another press, another transaction"
        );
    }
}
