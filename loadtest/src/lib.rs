//! A load harness for Floodgate that is a stranger to it: only HTTP, own wire
//! structs. It sends an open-model stampede, keeps a journal of every answer, and
//! afterwards proves or refutes the promises P1-P8 from that journal
//! and the public and admin APIs. It can also start an engine and the servers around
//! it, as processes, and play a bad day with them.

pub mod answer;
pub mod api;
pub mod audit;
pub mod books;
pub mod buyer;
pub mod chaos;
pub mod cli;
pub mod client;
pub mod demo;
pub mod fire;
pub mod floor;
pub mod journal;
pub mod judge;
pub mod pace;
pub mod pay;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
pub mod scenario;
pub mod servers;
pub mod stats;
pub mod wire;
