//! Floodgate: a flash-sale edge engine.
//!
//! A request walks one way: `http` → `admission` → `sale` (desk: batch, script,
//! guard) → ledger → 201; `stream` carries what the ledger holds to the order
//! store. Imports go down only; `tests/tidy.rs` holds that.

pub mod admission;
pub mod app;
pub mod cli;
pub mod config;
pub mod descriptors;
pub mod disk;
pub mod domain;
pub mod grant;
pub mod http;
pub mod ledger_cli;
pub mod own_file;
mod paying;
pub mod payment;
pub mod reconcile;
pub mod recover;
pub mod sale;
pub mod stock;
pub mod stream;
pub mod workers;
