//! Benchmarks: one question each, answered within one run.
//!
//! Every figure comes from the same generator on the same machine in the same
//! run, alternating, so that a slow minute hits all of them. Each measurement
//! checks what it was told besides timing it: a fast wrong answer is no figure.

pub mod report;
pub mod shoot;

pub mod echo;
pub mod engine;
pub mod peer;

pub mod compare;
pub mod components;
pub mod crowd;
pub mod paid;
pub mod rate;
pub mod ratios;
pub mod windows;
