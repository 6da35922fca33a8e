//! Time as a value: milliseconds since the Unix epoch, and the seam it comes through.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub u64);

/// 9999-12-31T23:59:59Z: what RFC 3339 can still write with four digits of year.
const MS_MAX: u64 = 253_402_300_799_000;

impl UnixMs {
    pub fn plus(self, wait: Duration) -> Self {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms).min(MS_MAX))
    }

    /// How long from `earlier` to here; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339, UTC, as in `2026-11-11T00:00:00.125Z`.
    pub fn rfc3339(self) -> String {
        let ms = i64::try_from(self.0.min(MS_MAX)).expect("MS_MAX fits i64");
        Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| t.to_string())
    }

    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let stamp: Timestamp = text.parse().ok()?;
        u64::try_from(stamp.as_millisecond())
            .ok()
            .filter(|ms| *ms <= MS_MAX)
            .map(Self)
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl fmt::Debug for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Where time comes from. Tests hand in a clock that moves only when told.
pub trait Clock: Send + Sync {
    fn now(&self) -> UnixMs;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips() {
        for text in [
            "2026-11-11T00:00:00Z",
            "2026-11-11T00:00:00.125Z",
            "1970-01-01T00:00:00Z",
        ] {
            assert_eq!(UnixMs::parse_rfc3339(text).expect("valid").rfc3339(), text);
        }
        assert_eq!(
            UnixMs::parse_rfc3339("2026-11-11T08:00:00+08:00"),
            UnixMs::parse_rfc3339("2026-11-11T00:00:00Z")
        );
        assert_eq!(UnixMs::parse_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(UnixMs::parse_rfc3339("yesterday"), None);
    }
}
