//! Admission: who may go on to the desks, and when.
//!
//! It knows nothing of stock or ledger. First the limits of the single buyer make a
//! [`Cleared`], then the gate of the sale makes an [`Admitted`] of it, which only a
//! desk can use up.

mod bucket;
mod gate;
mod limits;
mod metrics;
mod table;

pub use bucket::{Pass, TokenBucket};
pub use gate::{Admitted, Gate, GateLimits, Shed};
pub use limits::{Asker, Cleared, Left, Limit, Limits, Standing};
pub use metrics::AdmissionMetrics;
