//! The crash seam: "write these synced".
//!
//! The committer knows no disk, only this. The real one is `RocksDevice`; a test
//! hands in one that fails, or that forgets what was not synced.

/// The tables of a ledger; the keys and values are drawn in `FORMAT.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Records,
    Entities,
    Uniques,
    ByOwner,
    DeadLetters,
    Meta,
}

impl Table {
    pub(crate) const ALL: [Self; 6] = [
        Self::Records,
        Self::Entities,
        Self::Uniques,
        Self::ByOwner,
        Self::DeadLetters,
        Self::Meta,
    ];

    /// The column family's name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Entities => "entities",
            Self::Uniques => "uniques",
            Self::ByOwner => "by_owner",
            Self::DeadLetters => "dead_letters",
            Self::Meta => "meta",
        }
    }
}

/// One change, borrowed from whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write<'a> {
    Put {
        table: Table,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        table: Table,
        key: &'a [u8],
    },
    /// From inclusive, to exclusive.
    DeleteRange {
        table: Table,
        from: &'a [u8],
        to: &'a [u8],
    },
}

/// The disk refused; what it holds now is unknown until it is opened again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(pub String);

pub trait Device: Send {
    /// Writes all or nothing, and returns only once it would survive a power
    /// cut. After an error it is never called again.
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError>;
}
