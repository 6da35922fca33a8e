//! Payments put together: the provider that the configuration names, its sessions, and
//! the task that gives money back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::Handle;

use crate::config::{PaymentConfig, ProviderConfig};
use crate::domain::payment::{Payment, PaymentState};
use crate::domain::sign::Secrets;
use crate::payment::{
    BreakerLimits, Deliverer, DeskError, Done, Guarded, Mock, PaymentMetrics, Payments,
    PaymentsParts, Provider, RefundDesk, Refunder, RefunderConfig,
};
use crate::sale::{Captured, OwedList, Selling};

/// Longest a provider may think about one call.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What the listeners need, and who gives money back while it is run.
pub fn build(
    config: &PaymentConfig,
    secrets: Secrets,
    selling: &Arc<Selling>,
    owed: OwedList,
    public: SocketAddr,
    seed: u64,
    registry: &Registry,
) -> Result<(Arc<Payments>, Refunder), prometheus::Error> {
    let metrics = PaymentMetrics::register(registry)?;
    let mock = match &config.provider {
        ProviderConfig::None => None,
        ProviderConfig::Mock(mock) => {
            tracing::warn!("payments are mocked: buyers can say that they paid");
            let clock = Arc::clone(selling.clock());
            let secret = secrets.newest().clone();
            let deliverer = Deliverer::new(public, secret, Arc::clone(&clock), seed);
            let token = || {
                let mut random = [0_u8; 16];
                getrandom::fill(&mut random).ok()?;
                Some(u128::from_be_bytes(random))
            };
            let runtime = Handle::current();
            Some(Arc::new(Mock::new(mock, clock, deliverer, runtime, token)))
        }
    };
    let provider = mock.clone().map(|mock| {
        let provider: Arc<dyn Provider> = mock;
        let breaker = BreakerLimits::default();
        Arc::new(Guarded::new(provider, breaker, ANSWER_MAX))
    });
    let refunder = Refunder::new(
        Arc::new(Desk(Arc::clone(selling))),
        owed,
        provider.clone(),
        metrics.clone(),
        RefunderConfig {
            seed,
            ..RefunderConfig::default()
        },
    );
    let payments = Payments::new(PaymentsParts {
        secrets,
        channels: config.channels.clone(),
        provider,
        mock,
        metrics,
    });
    Ok((Arc::new(payments), refunder))
}

/// The desks, as whoever gives money back sees them.
struct Desk(Arc<Selling>);

impl RefundDesk for Desk {
    fn due(&self, max: usize) -> Result<Vec<Payment>, DeskError> {
        let owed = self.0.payments_owed(max);
        owed.map_err(|e| DeskError(e.to_string()))
    }

    fn refunded<'a>(&'a self, payment: &'a Payment, refund_no: String) -> Done<'a, ()> {
        Box::pin(async move {
            let why = match self.0.refunded(payment, refund_no).await {
                Captured::Stands { payment, .. } if payment.state == PaymentState::Refunded => {
                    return Ok(());
                }
                Captured::Stands { payment, .. } | Captured::Illegal(payment) => {
                    format!("the payment is {}", payment.state.name())
                }
                Captured::Missing => "there is no such payment".to_owned(),
                Captured::Unknown => "it is not known whether it is durable".to_owned(),
            };
            Err(DeskError(why))
        })
    }
}
