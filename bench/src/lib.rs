//! Benchmarks: one question each, answered as a ratio within one run.
//!
//! Every figure comes from the same generator on the same machine in the same
//! run, alternating, so that a slow minute hits all of them.

pub mod echo;
pub mod engine;
pub mod report;
