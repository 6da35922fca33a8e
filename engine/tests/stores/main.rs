//! The order store keeps its word, and the stream carries the ledger into it.
//!
//! Every case is written against the seam and a [`places::Place`] where a store lives,
//! so that each kind of store answers to the same list, which ends each module; see
//! `places/`.
//! Held here: snapshots by version, every event once, rows and mark together or
//! not at all, and a stream that would rather stop than skip or overwrite.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

#[macro_use]
#[path = "../places/mod.rs"]
mod places;
#[path = "../till/mod.rs"]
mod till;

mod orders;
mod purchases;

// The store.
mod marks;
mod pages;
mod pairs;
mod payments;
mod schema;
mod snapshots;
mod told;

// The stream.
mod absence;
mod backups;
mod carrying;
mod letters;
mod strangers;
