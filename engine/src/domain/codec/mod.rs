//! Bytes of the record bodies: protobuf messages with fixed tags, one a kind of
//! record (`ledger/FORMAT.md` lists the kinds).
//!
//! These bytes outlive every version of the engine. A new field gets a new tag;
//! `golden.rs` pins what is written today.

mod after;
#[cfg(test)]
mod golden;
mod order;
mod sale;
mod stock;
mod wire;

pub use after::{decode_entitlement, decode_payment, encode_entitlement, encode_payment};
pub use order::{OrderEncoder, decode_order, encode_order};
pub use sale::{decode_action, decode_rate, decode_sale, encode_action, encode_rate, encode_sale};
pub use stock::{decode_allotment, decode_transfer, encode_allotment, encode_transfer};

/// A body that does not say what this kind of record must say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("not a protobuf message of this kind: {0}")]
    Wire(#[from] prost::DecodeError),
    #[error("field {0} is missing or out of range")]
    Field(&'static str),
}
