//! A scenario file: what to sell, how buyers come, how they misbehave, how they pay.
//!
//! `raw.rs` mirrors the TOML and refuses unknown keys; `checked.rs` is what the
//! harness uses and exists only once every relation held.

mod checked;
mod pay;
mod raw;

pub use checked::{Overrides, SaleDefinition, Scenario, ScenarioError};
