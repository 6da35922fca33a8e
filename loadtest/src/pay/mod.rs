//! The other side of the counter: winners who pay, the payment provider that tells the
//! engine of it, and the operator who gives money back.
//!
//! `plan.rs` deals who does what, `sign.rs` and `request.rs` say it on the wire, `wire.rs`
//! reads what the engine answers. When it is sent is the floor's business.

mod plan;
mod request;
mod sign;
pub mod wire;

use compact_str::CompactString;

#[cfg(test)]
pub(crate) use plan::tests;
pub use plan::{Callback, Claim, Lie, Pay, Payer, Refund};
pub use request::{Operator, Provider};
pub use sign::{Secret, SecretError};

use crate::client::Target;

/// What it takes to move money: the provider's secret and the operator's way in.
#[derive(Clone)]
pub struct Till {
    pub secret: Secret,
    pub admin: Target,
    pub token: Option<String>,
}

/// What a winner owes, as the win said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    pub order: String,
    pub amount_cent: i64,
    pub currency: CompactString,
    /// When the win was told, since the run's start.
    pub won_us: u64,
}
