//! Before the buyer pays: a session with the provider, and a little more time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::metrics::PaymentMetrics;
use super::mock::Mock;
use super::provider::{Ask, Guarded, Session, Trouble};
use super::sessions::{SESSIONS_MAX, Sessions};
use crate::domain::ids::{Channel, OrderId};
use crate::domain::order::{Order, OrderEvent, OrderState};
use crate::domain::sign::Secrets;
use crate::domain::time::UnixMs;
use crate::sale::{Changed, Selling};

/// To ask sooner helps nobody who has no provider.
const NO_PROVIDER_RETRY: Duration = Duration::from_secs(60);
const FAILED_RETRY: Duration = Duration::from_secs(2);

/// What [`Payments`] is built from.
pub struct PaymentsParts {
    pub secrets: Secrets,
    pub channels: Vec<Channel>,
    /// None: nobody opens sessions here.
    pub provider: Option<Arc<Guarded>>,
    /// The provider, where it is the built-in one.
    pub mock: Option<Arc<Mock>>,
    pub metrics: PaymentMetrics,
}

/// What the public listener knows of payments.
pub struct Payments {
    pub secrets: Secrets,
    pub mock: Option<Arc<Mock>>,
    pub metrics: PaymentMetrics,
    channels: Vec<Channel>,
    provider: Option<Arc<Guarded>>,
    sessions: Mutex<Sessions>,
}

/// What asking for a session came to.
#[derive(Debug)]
pub enum Prepaid {
    Open(Arc<Order>, Session),
    /// The order cannot be paid any more.
    Illegal(Arc<Order>),
    /// Its window ended, and it closes at any moment.
    Over,
    Missing,
    /// Nobody can be asked now.
    Unavailable {
        why: String,
        retry_after: Duration,
    },
    /// It is not known whether the order has its grace.
    Unknown,
}

impl Payments {
    pub fn new(parts: PaymentsParts) -> Self {
        Self {
            secrets: parts.secrets,
            mock: parts.mock,
            metrics: parts.metrics,
            channels: parts.channels,
            provider: parts.provider,
            sessions: Mutex::new(Sessions::new(SESSIONS_MAX)),
        }
    }

    /// Those a buyer may choose from; none without a provider.
    pub fn channels(&self) -> &[Channel] {
        match self.provider {
            Some(_) => &self.channels,
            None => &[],
        }
    }

    /// The channel of this name; without a provider too, so that a wrong name is told.
    pub fn channel(&self, name: &str) -> Result<Channel, String> {
        let found = self.channels.iter().find(|c| c.as_str() == name);
        found.cloned().ok_or_else(|| {
            let known: Vec<_> = self.channels.iter().map(Channel::as_str).collect();
            format!("{name:?} is not known; allowed are {}", known.join(", "))
        })
    }

    /// Where the buyer is paying this order, as far as anybody knows.
    pub fn session(&self, order: OrderId, now: UnixMs) -> Option<(Channel, Session)> {
        self.sessions.lock().newest(order, now).cloned()
    }

    /// Its money came, or it closed: nobody should be sent to pay it.
    pub fn forget(&self, order: OrderId) {
        self.sessions.lock().forget(order);
    }

    /// The session that lives, or a new one; the first one gives the order its grace.
    pub async fn prepay(
        &self,
        selling: &Selling,
        order: Order,
        channel: Channel,
        return_url: Option<String>,
    ) -> Prepaid {
        let now = selling.clock().now();
        let OrderState::PendingPayment { until, grace_used } = order.state else {
            return Prepaid::Illegal(Arc::new(order));
        };
        if until <= now {
            return Prepaid::Over;
        }
        let known = self.sessions.lock().find(order.id, &channel, now).cloned();
        if let Some(session) = known {
            return Prepaid::Open(Arc::new(order), session);
        }
        let Some(provider) = &self.provider else {
            return Prepaid::Unavailable {
                why: "no payment provider is configured".into(),
                retry_after: NO_PROVIDER_RETRY,
            };
        };
        // Before anything changes: an order must not use up its grace on a provider
        // that would not be asked.
        if let Err(retry_after) = provider.look_to_prepay() {
            return resting(retry_after);
        }
        let grace = selling
            .sale(order.sale.as_str())
            .map_or(0, |live| live.sale().payment_grace_ms);
        let order = if grace == 0 || grace_used {
            Arc::new(order)
        } else {
            // First the time, then the session: it should not outlive its order.
            let until = until.plus(Duration::from_millis(grace));
            let event = OrderEvent::PaymentStarted { until };
            match selling.change(order.id, event).await {
                Changed::Stands { order, .. } => order,
                Changed::Illegal(order) | Changed::Unproven(order) => {
                    return Prepaid::Illegal(order);
                }
                Changed::Missing(_) => return Prepaid::Missing,
                Changed::Unknown => return Prepaid::Unknown,
            }
        };
        let ask = Ask {
            order: order.id,
            channel,
            amount: order.pay_amount(),
            currency: order.currency,
            until: order.pay_deadline,
            return_url,
        };
        match provider.prepay(&ask).await {
            Ok(session) => {
                let mut sessions = self.sessions.lock();
                let session = sessions.put(order.id, ask.channel, session, now);
                Prepaid::Open(order, session)
            }
            Err(Trouble::Resting { wait }) => resting(wait),
            Err(Trouble::Failed { why }) => {
                tracing::warn!(order = %order.id, why, "open a payment session");
                Prepaid::Unavailable {
                    why: "the payment provider did not answer".into(),
                    retry_after: FAILED_RETRY,
                }
            }
        }
    }
}

fn resting(retry_after: Duration) -> Prepaid {
    Prepaid::Unavailable {
        why: "the payment provider fails at the moment".into(),
        retry_after,
    }
}
