//! The words of a sale, as values: ids, money, sales, orders, payments.
//!
//! Everything here is pure: no clock, no I/O, no randomness of its own. What is
//! parsed at the door is trusted inside: ids and amounts can only be made by
//! checking, and whatever comes from outside becomes a sale by being checked.

pub mod allotment;
pub mod callback;
pub mod codec;
pub mod entitlement;
pub mod ids;
pub mod ip;
pub mod money;
pub mod order;
pub mod payment;
pub mod sale;
pub mod sign;
pub mod steering;
pub mod time;
