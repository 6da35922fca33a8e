//! HTTP: sockets, requests and the words of the API; no decision about a sale.
//!
//! `accept` lets connections in, `connection` owns one of them and its time limits,
//! `call` reads what is the same for every
//! request, `routes` and `admin` find what is asked for in their lists of `paths`, one file
//! per subject answers it, and `respond` alone turns answers into status codes.

mod accept;
mod admin;
mod admin_payments;
mod audit;
mod auth;
mod call;
mod client;
mod connection;
mod entitlements;
mod fixed;
mod health;
mod json;
mod letters;
mod metrics;
mod mock_pay;
mod openapi;
mod orders;
mod paths;
mod payments;
mod places;
mod ratelimit;
mod respond;
mod routes;
mod sales;
mod tokens;
mod wire;

pub use accept::{Bounds, Listener, serve};
pub use admin::Admin;
pub use metrics::HttpMetrics;
pub use places::{ClientCap, ConnectionMetrics};
pub use ratelimit::Policies;
pub use routes::Public;
