//! What a SQLSTATE means for the stream. Pure.
//!
//! Classes 22 and 23 are about the rows and would be so again; a conflict with
//! somebody else's transaction is tried again at once; a database that says its own
//! files are broken needs a person. Everything else heals without us: a server that is
//! away, full, read-only after a failover, or whose tables are being restored.

use tokio_postgres::error::SqlState;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A row is at fault.
    Poison,
    /// Two transactions met; the same batch again, at once.
    Again,
    /// The line is given up, and drawn anew later.
    Away,
    /// Going on could spread what is broken.
    Damaged,
}

pub(super) fn verdict(state: &SqlState) -> Verdict {
    if *state == SqlState::T_R_SERIALIZATION_FAILURE || *state == SqlState::T_R_DEADLOCK_DETECTED {
        return Verdict::Again;
    }
    if *state == SqlState::DATA_CORRUPTED || *state == SqlState::INDEX_CORRUPTED {
        return Verdict::Damaged;
    }
    match state.code().get(..2) {
        Some("22" | "23") => Verdict::Poison,
        Some(_) | None => Verdict::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_blamed_for_their_own_faults_only() {
        let by_code = |code: &str| verdict(&SqlState::from_code(code));
        for code in [
            "22001", "22021", "22P02", "22P05", "23502", "23505", "23514",
        ] {
            assert_eq!(by_code(code), Verdict::Poison, "{code}");
        }
        for code in ["40001", "40P01"] {
            assert_eq!(by_code(code), Verdict::Again, "{code}");
        }
        for code in ["XX001", "XX002"] {
            assert_eq!(by_code(code), Verdict::Damaged, "{code}");
        }
        // Away, full, time is up, read-only, log-in, tables gone, shutting down.
        for code in [
            "08006", "53100", "53300", "57014", "25006", "28P01", "3D000", "42P01", "42501",
            "57P01", "57P03", "58030", "XX000", "25P02",
        ] {
            assert_eq!(by_code(code), Verdict::Away, "{code}");
        }
    }
}
