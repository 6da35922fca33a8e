//! A scenario file: what to sell, how buyers come, how they misbehave.
//!
//! `raw.rs` mirrors the TOML and refuses unknown keys; `checked.rs` is what the
//! harness uses and exists only once every relation held.

mod checked;
mod raw;

pub use checked::{Overrides, SaleDefinition, Scenario, ScenarioError};
