//! The stream: from the ledger to the order store, behind the sales' backs.
//!
//! It knows records and rows, not HTTP and not stock. The store's own mark says
//! where it stands; everything it does may be done twice without harm.

mod again;
mod aside;
mod fact;
mod lag;
mod letters;
mod load;
mod message;
mod metrics;
mod note;
mod open;
mod pace;
mod postgres;
mod refill;
pub mod retention;
mod row;
mod sift;
mod signs;
mod sqlite;
mod store;
mod stride;
pub mod witness;
mod worker;

pub use fact::{EntitlementFact, PaymentFact, Source};
pub use letters::{LetterError, Letters, Replayed};
pub use message::OutboxRow;
pub use metrics::StreamMetrics;
pub use note::Letter;
pub use open::open;
pub use postgres::PostgresStore;
pub use row::{EntitlementRow, OrderRow, PaymentRow, Row, RowId, RowKind, rows_of};
pub use signs::Busy;
pub use sqlite::SqliteStore;
pub use store::{
    Batch, FactPage, Mark, OrderFact, OrderStore, Put, StoreError, StoredOrder, StoredPage,
};
pub use worker::{StreamState, StreamWorker, WorkerConfig};
