//! Money at the desk, one question a test: what becomes of a capture, whenever and however
//! often it comes, and of a refund. On both stock hosts, with a clock that tests set.

#[path = "../common/mod.rs"]
mod common;

mod captures;
mod crowds;
#[cfg(feature = "failpoints")]
mod grants;
mod lines;
mod refunds;
mod shop;
mod taken;
