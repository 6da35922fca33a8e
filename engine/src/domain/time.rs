//! Time as a value: milliseconds since the Unix epoch, and the seam it comes through.

use std::fmt;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

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
        self.to_string()
    }

    /// [`UnixMs::read_rfc3339`] for whoever need not say why not.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        Self::read_rfc3339(text).ok()
    }

    /// Takes the date-time of RFC 3339 and none of its relatives: no ISO 8601
    /// without hyphens or seconds, no comma, no name of a zone. What is finer than a
    /// millisecond is cut off; a leap second is the second before it.
    pub fn read_rfc3339(text: &str) -> Result<Self, TimeError> {
        let (local, offset) = civil(text).ok_or(TimeError::Form)?;
        let ms = (local.duration_since(EPOCH) - offset).as_millis();
        u64::try_from(ms)
            .ok()
            .filter(|ms| *ms <= MS_MAX)
            .map(Self)
            .ok_or(TimeError::Range)
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`: the time on the clock there, and
/// how far that clock is ahead of UTC.
fn civil(text: &str) -> Option<(DateTime, SignedDuration)> {
    let bytes = text.as_bytes();
    // `form` has a digit wherever the text must have one.
    let fits = |part: &[u8], form: &[u8]| {
        part.iter().zip(form).all(|(b, f)| match f {
            b'0' => b.is_ascii_digit(),
            f => b.eq_ignore_ascii_case(f),
        })
    };
    let (moment, rest) = bytes.split_at_checked(19)?;
    if !fits(moment, b"0000-00-00T00:00:00") {
        return None;
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0_i16, |n, digit| 10 * n + i16::from(digit - b'0'))
    };
    let two = |digits: &[u8]| number(digits) as i8;
    let (ms, zone) = match rest.strip_prefix(b".") {
        None => (0, rest),
        Some(rest) => {
            let n_digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (digits, zone) = rest.split_at(n_digits);
            let mut first = [b'0'; 3];
            for (to, digit) in first.iter_mut().zip(digits) {
                *to = *digit;
            }
            (number(&first), (n_digits > 0).then_some(zone)?)
        }
    };
    let offset = match zone {
        [b'Z' | b'z'] => SignedDuration::ZERO,
        [sign @ (b'+' | b'-'), offset @ ..] if offset.len() == 5 && fits(offset, b"00:00") => {
            let (hours, minutes) = (number(&offset[..2]), number(&offset[3..]));
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead = SignedDuration::from_mins(i64::from(60 * hours + minutes));
            if *sign == b'-' { -ahead } else { ahead }
        }
        _ => return None,
    };
    let second = match two(&moment[17..]) {
        60 => 59,
        second => second,
    };
    let local = DateTime::new(
        number(&moment[..4]),
        two(&moment[5..7]),
        two(&moment[8..10]),
        two(&moment[11..13]),
        two(&moment[14..16]),
        second,
        i32::from(ms) * 1_000_000,
    );
    Some((local.ok()?, offset))
}

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Why a text is not a time; says what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("is not an RFC 3339 time such as 2026-11-11T00:00:00Z")]
    Form,
    #[error("is out of range; allowed are 1970-01-01T00:00:00Z to 9999-12-31T23:59:59Z")]
    Range,
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0.min(MS_MAX)).expect("MS_MAX fits i64");
        // Four times quicker, and each won order writes three; it ends a day early.
        if let Ok(moment) = Timestamp::from_millisecond(ms) {
            return moment.fmt(f);
        }
        let utc = EPOCH
            .checked_add(SignedDuration::from_millis(ms))
            .expect("MS_MAX is the end of the last year that a date can have");
        write!(f, "{utc}Z")
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

    /// What the machine's clock says, which may have been put right since `now` began to
    /// count. For whatever others wrote by their clocks, and never for deadlines.
    fn wall(&self) -> UnixMs {
        self.now()
    }
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
        assert_eq!(UnixMs::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn the_last_moment_can_be_said() {
        let last = UnixMs(5).plus(Duration::MAX);
        assert_eq!(last.rfc3339(), "9999-12-31T23:59:59Z");
        assert_eq!(UnixMs::parse_rfc3339("9999-12-31T23:59:59Z"), Some(last));
    }

    #[test]
    fn only_the_form_of_rfc_3339_is_taken() {
        for (text, ms) in [
            ("1970-01-01t00:00:00.1z", 100),
            ("1970-01-01T00:00:00.0019999999999Z", 1),
            ("1970-01-01T23:59:00+23:59", 0),
            ("1969-12-31T00:01:00-23:59", 0),
            ("1970-01-01T00:00:01-00:00", 1_000),
            ("1970-01-01T00:00:60Z", 59_000),
            ("1972-02-29T00:00:00Z", 68_169_600_000),
        ] {
            assert_eq!(UnixMs::read_rfc3339(text), Ok(UnixMs(ms)), "{text}");
        }
        for text in [
            "",
            "20260101T000000Z",
            "2026-01-01T00Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+25:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+00:60",
            "2026-01-01T00:00:00+0000",
            "2026-01-01T00:00:00+00",
            "2026-01-01T00:00:00+00:00:00",
            "2026-01-01T00:00:00Z[Europe/Berlin]",
            "2026-01-01T00:00:00+01:00[Europe/Berlin]",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00ZZ",
            "2026-01-01T00:00:00\u{e9}",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:61Z",
            "+002026-01-01T00:00:00Z",
            "-002026-01-01T00:00:00Z",
        ] {
            assert_eq!(UnixMs::read_rfc3339(text), Err(TimeError::Form), "{text}");
        }
        for text in [
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(UnixMs::read_rfc3339(text), Err(TimeError::Range), "{text}");
        }
    }

    proptest::proptest! {
        /// The form is one that others read too, digit for digit.
        #[test]
        fn written_as_any_reader_expects(ms in 0_u64..253_402_207_200_000) {
            let stamp = jiff::Timestamp::from_millisecond(ms as i64).expect("in range");
            proptest::prop_assert_eq!(UnixMs(ms).rfc3339(), stamp.to_string());
            proptest::prop_assert_eq!(UnixMs::parse_rfc3339(&stamp.to_string()), Some(UnixMs(ms)));
        }
    }
}
