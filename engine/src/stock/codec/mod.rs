//! Orders and verdicts to arguments and back; see `lua/README.md` for the shapes.

mod calls;
mod shapes;
mod written;

pub use self::shapes::{
    AuditReply, Counters, HoldRequest, RowKind, SettleMove, SettleRequest, Settled, Side, Verdict,
};
pub use self::written::{Hold, Row};
