//! Floodgate: a flash-sale edge engine.
//!
//! A request walks one way: `http` → `admission` → `sale` (desk: batch, script,
//! guard) → ledger → 201; `stream` carries what the ledger holds to the order
//! store. Imports go down only, in the order in which the rooms stand here.

pub mod admission;
pub mod config;
pub mod domain;
pub mod sale;
pub mod stock;
pub mod stream;
