//! Admission: who may go on to the desks, and when.
//!
//! It knows nothing of stock or ledger. What it lets through is an
//! [`Admitted`], which only [`Gate::admit`] can make and only a desk can use up.

mod bucket;
mod gate;

pub use bucket::{Pass, TokenBucket};
pub use gate::{Admitted, Gate, GateLimits, Shed};
