//! What an answer means, read without parsing JSON.
//!
//! Outcomes are a closed set with fixed numbers, because the journal stores them.

/// How one send ended, as the buyer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// 201: a new order.
    Won = 1,
    /// 200: the order this key already has.
    Replayed = 2,
    /// 200 to a cancel.
    Canceled = 3,
    /// 2xx to a callback of the payment provider.
    Taken = 4,
    /// 200 to an operator's refund.
    GivenBack = 5,
    SoldOut = 10,
    OverLimit = 11,
    KeyReused = 12,
    NotOpen = 13,
    Paused = 14,
    Ended = 15,
    /// 423: the order is not in a state that can be canceled.
    StateInvalid = 16,
    Throttled = 20,
    RateLimited = 21,
    NotReady = 22,
    /// 202: a queue ticket.
    Queued = 23,
    InProgress = 30,
    OutcomeUnknown = 31,
    /// The connection went away after sending, by the server's doing.
    Cut = 32,
    /// The buyer's own cut.
    OwnCut = 33,
    TimedOut = 34,
    /// Something that is not HTTP, or not what the contract says.
    Unreadable = 35,
    /// A 5xx the contract does not name.
    ServerError = 36,
    /// Any other 4xx: the harness or the engine broke the contract.
    Unexpected = 40,
}

/// What an outcome says about the key it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The key owns the order in the body.
    Win,
    /// This send made no order, and says so for good.
    Refused,
    /// Turned away before stock was touched.
    Shed,
    /// An order may or may not exist.
    Unknown,
}

/// Rows of the report; every outcome belongs to one.
pub const CLASSES: [&str; 9] = [
    "won",
    "replayed",
    "sold out",
    "limit",
    "other refusals",
    "shed",
    "unknown or cut",
    "errors",
    "payments",
];

const ALL: [Outcome; 24] = [
    Outcome::Won,
    Outcome::Replayed,
    Outcome::Canceled,
    Outcome::Taken,
    Outcome::GivenBack,
    Outcome::SoldOut,
    Outcome::OverLimit,
    Outcome::KeyReused,
    Outcome::NotOpen,
    Outcome::Paused,
    Outcome::Ended,
    Outcome::StateInvalid,
    Outcome::Throttled,
    Outcome::RateLimited,
    Outcome::NotReady,
    Outcome::Queued,
    Outcome::InProgress,
    Outcome::OutcomeUnknown,
    Outcome::Cut,
    Outcome::OwnCut,
    Outcome::TimedOut,
    Outcome::Unreadable,
    Outcome::ServerError,
    Outcome::Unexpected,
];

impl Outcome {
    /// Of an answer to `POST /v1/orders`.
    pub fn of_purchase(status: u16, body: &[u8]) -> Self {
        match status {
            201 => Self::Won,
            200 => Self::Replayed,
            202 => Self::Queued,
            _ => Self::of_problem(status, body),
        }
    }

    /// Of an answer to `POST /v1/orders/{id}/cancel`.
    pub fn of_cancel(status: u16, body: &[u8]) -> Self {
        match status {
            200 => Self::Canceled,
            _ => Self::of_problem(status, body),
        }
    }

    /// Of an answer to `POST /v1/payments/callback`.
    pub fn of_callback(status: u16, body: &[u8]) -> Self {
        match status {
            200..=299 => Self::Taken,
            _ => Self::of_problem(status, body),
        }
    }

    /// Of an answer to `POST /admin/v1/orders/{id}/refund`.
    pub fn of_refund(status: u16, body: &[u8]) -> Self {
        match status {
            200 => Self::GivenBack,
            _ => Self::of_problem(status, body),
        }
    }

    fn of_problem(status: u16, body: &[u8]) -> Self {
        match problem_code(body) {
            Some(b"STOCK_NOT_ENOUGH") => Self::SoldOut,
            Some(b"LIMIT_EXCEEDED") => Self::OverLimit,
            Some(b"IDEMPOTENCY_KEY_REUSED") => Self::KeyReused,
            Some(b"SALE_NOT_OPEN") => Self::NotOpen,
            Some(b"SALE_PAUSED") => Self::Paused,
            Some(b"SALE_ENDED") => Self::Ended,
            Some(b"ORDER_STATE_INVALID") => Self::StateInvalid,
            Some(b"FLASH_SALE_THROTTLED") => Self::Throttled,
            Some(b"RATE_LIMITED") => Self::RateLimited,
            Some(b"NOT_READY") => Self::NotReady,
            Some(b"KEY_IN_PROGRESS") => Self::InProgress,
            Some(b"OUTCOME_UNKNOWN") => Self::OutcomeUnknown,
            // The server gave up reading; what it read before may have been enough.
            Some(_) | None if status == 408 => Self::TimedOut,
            Some(_) | None if status >= 500 => Self::ServerError,
            Some(_) | None => Self::Unexpected,
        }
    }

    pub fn meaning(self) -> Meaning {
        match self {
            Self::Won | Self::Replayed => Meaning::Win,
            Self::Canceled
            | Self::Taken
            | Self::GivenBack
            | Self::SoldOut
            | Self::OverLimit
            | Self::KeyReused
            | Self::NotOpen
            | Self::Paused
            | Self::Ended
            | Self::StateInvalid
            | Self::Unexpected => Meaning::Refused,
            Self::Throttled | Self::RateLimited | Self::NotReady | Self::Queued => Meaning::Shed,
            Self::InProgress
            | Self::OutcomeUnknown
            | Self::Cut
            | Self::OwnCut
            | Self::TimedOut
            | Self::Unreadable
            | Self::ServerError => Meaning::Unknown,
        }
    }

    /// Position in [`CLASSES`].
    pub fn class(self) -> usize {
        match self {
            Self::Won => 0,
            Self::Replayed => 1,
            Self::SoldOut => 2,
            Self::OverLimit => 3,
            Self::Canceled
            | Self::KeyReused
            | Self::NotOpen
            | Self::Paused
            | Self::Ended
            | Self::StateInvalid => 4,
            Self::Throttled | Self::RateLimited | Self::NotReady | Self::Queued => 5,
            Self::InProgress | Self::OutcomeUnknown | Self::Cut | Self::OwnCut | Self::TimedOut => {
                6
            }
            Self::Unreadable | Self::ServerError | Self::Unexpected => 7,
            Self::Taken | Self::GivenBack => 8,
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        ALL.into_iter().find(|outcome| *outcome as u8 == number)
    }

    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Replayed => "replayed",
            Self::Canceled => "canceled",
            Self::Taken => "callback taken",
            Self::GivenBack => "refund taken",
            Self::SoldOut => "sold out",
            Self::OverLimit => "over the limit",
            Self::KeyReused => "key reused, refused",
            Self::NotOpen => "not open",
            Self::Paused => "paused",
            Self::Ended => "ended",
            Self::StateInvalid => "state invalid",
            Self::Throttled => "throttled",
            Self::RateLimited => "rate limited",
            Self::NotReady => "not ready",
            Self::Queued => "queue ticket",
            Self::InProgress => "key in progress",
            Self::OutcomeUnknown => "outcome unknown",
            Self::Cut => "connection lost",
            Self::OwnCut => "cut by the buyer",
            Self::TimedOut => "timed out",
            Self::Unreadable => "unreadable answer",
            Self::ServerError => "server error",
            Self::Unexpected => "unexpected answer",
        }
    }
}

/// The `code` of a problem document. A quote inside a JSON string is escaped, so
/// the searched bytes cannot appear inside another field's text.
pub fn problem_code(body: &[u8]) -> Option<&[u8]> {
    text_field(body, b"code")
}

/// The `status` of an answer to a callback.
pub fn status(body: &[u8]) -> Option<&[u8]> {
    text_field(body, b"status")
}

/// The order id of an order document, as text.
pub fn order_id(body: &[u8]) -> Option<&str> {
    text_field(body, b"orderId").and_then(|id| std::str::from_utf8(id).ok())
}

fn text_field<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut from = 0;
    while let Some(step) = body[from..].iter().position(|&byte| byte == b'"') {
        let at = from + step + 1;
        let Some(rest) = body[at..]
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(b"\""))
        else {
            from = at;
            continue;
        };
        let rest = rest.trim_ascii_start();
        let Some(value) = rest.strip_prefix(b":") else {
            from = at;
            continue;
        };
        let value = value.trim_ascii_start().strip_prefix(b"\"")?;
        return value
            .iter()
            .position(|&byte| byte == b'"')
            .map(|end| &value[..end]);
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_wherever_they_stand() {
        let body = br#"{"type":"urn:x","title":"say \"code\":\"NO\"","status":422, "code" : "STOCK_NOT_ENOUGH"}"#;
        assert_eq!(problem_code(body), Some(&b"STOCK_NOT_ENOUGH"[..]));
        assert_eq!(problem_code(b"{\"title\":\"code\"}"), None);
        assert_eq!(problem_code(b"<html>"), None);
        assert_eq!(order_id(br#"{"orderId":"0190"}"#), Some("0190"));
    }

    #[test]
    fn the_contracts_answers_mean_what_it_says() {
        let code = |code: &str| format!("{{\"code\":\"{code}\"}}").into_bytes();
        assert_eq!(Outcome::of_purchase(201, b"{}").meaning(), Meaning::Win);
        assert_eq!(
            Outcome::of_purchase(422, &code("STOCK_NOT_ENOUGH")),
            Outcome::SoldOut
        );
        assert_eq!(
            Outcome::of_purchase(503, &code("OUTCOME_UNKNOWN")).meaning(),
            Meaning::Unknown
        );
        assert_eq!(
            Outcome::of_purchase(503, &code("FLASH_SALE_THROTTLED")).meaning(),
            Meaning::Shed
        );
        assert_eq!(Outcome::of_purchase(500, b"oops"), Outcome::ServerError);
        assert_eq!(
            Outcome::of_purchase(401, &code("UNAUTHENTICATED")),
            Outcome::Unexpected
        );
        assert_eq!(
            Outcome::of_cancel(423, &code("ORDER_STATE_INVALID")),
            Outcome::StateInvalid
        );
        assert_eq!(Outcome::of_callback(204, b""), Outcome::Taken);
        assert_eq!(
            Outcome::of_callback(401, &code("UNAUTHENTICATED")),
            Outcome::Unexpected
        );
        assert_eq!(
            Outcome::of_refund(423, &code("ORDER_STATE_INVALID")),
            Outcome::StateInvalid
        );
    }

    #[test]
    fn numbers_lead_back_to_outcomes() {
        for outcome in Outcome::all() {
            assert_eq!(Outcome::from_number(outcome as u8), Some(outcome));
        }
        assert_eq!(Outcome::from_number(0), None);
    }
}
