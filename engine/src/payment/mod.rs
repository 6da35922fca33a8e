//! Payments: sessions with a provider, what it tells, and money that must go back.
//!
//! This room asks providers and remembers sessions; what a payment does to an order is
//! decided and written by the desks (`sale/`), and what a callback's signature must be
//! stands in `domain/sign.rs`.

mod backoff;
mod breaker;
mod deliver;
mod desk;
mod due;
mod metrics;
mod mock;
mod plan;
mod prepay;
mod provider;
mod refunder;
mod sessions;
mod table;
#[cfg(test)]
mod testing;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerLimits};
pub use deliver::Deliverer;
pub use desk::{DeskError, Done, RefundDesk};
pub use metrics::{CallbackResult, PaymentMetrics, RefundResult};
pub use mock::{Mock, Pressed};
pub use plan::{Plan, PlanError, Press};
pub use prepay::{Payments, PaymentsParts, Prepaid};
pub use provider::{Answered, Ask, Guarded, Provider, ProviderError, Refund, Session, Trouble};
pub use refunder::{Refunder, RefunderConfig};
