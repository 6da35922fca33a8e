//! The one place where answers and errors become status codes.
//!
//! Errors are `application/problem+json` (RFC 9457) with a stable `code`; every
//! 429 and 503 carries Retry-After.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

pub type Body = Full<Bytes>;

macro_rules! codes {
    ($($name:ident $text:literal $status:ident $title:literal),+ $(,)?) => {
        /// Every problem the API can answer with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($name),+ }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// As it stands in `code`.
            pub fn text(self) -> &'static str {
                match self { $(Code::$name => $text),+ }
            }
            pub fn status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$status),+ }
            }
            fn urn(self) -> &'static str {
                match self { $(Code::$name => concat!("urn:floodgate:problem:", $text)),+ }
            }
            fn title(self) -> &'static str {
                match self { $(Code::$name => $title),+ }
            }
        }
    };
}

codes! {
    MalformedBody "MALFORMED_BODY" BAD_REQUEST "The body is not the JSON this call takes",
    InvalidField "INVALID_FIELD" BAD_REQUEST "A field has a value that is not allowed",
    KeyMissing "IDEMPOTENCY_KEY_MISSING" BAD_REQUEST "The Idempotency-Key header is missing",
    KeyInvalid "IDEMPOTENCY_KEY_INVALID" BAD_REQUEST "The Idempotency-Key header is not usable",
    Unauthenticated "UNAUTHENTICATED" UNAUTHORIZED "Who is asking is not known",
    Forbidden "FORBIDDEN" FORBIDDEN "Not allowed",
    DeviceLimit "DEVICE_LIMIT" FORBIDDEN "As many devices as allowed have a licence",
    NotFound "NOT_FOUND" NOT_FOUND "There is no such thing",
    SkuUnknown "SKU_UNKNOWN" NOT_FOUND "The sale has no such SKU",
    MethodNotAllowed "METHOD_NOT_ALLOWED" METHOD_NOT_ALLOWED "This method is not offered here",
    RequestTimeout "REQUEST_TIMEOUT" REQUEST_TIMEOUT "The request took too long to arrive",
    BodyTooLarge "BODY_TOO_LARGE" PAYLOAD_TOO_LARGE "The body is too large",
    MediaType "MEDIA_TYPE" UNSUPPORTED_MEDIA_TYPE "The body must be application/json",
    KeyInProgress "KEY_IN_PROGRESS" CONFLICT "The same key is being worked on",
    SaleNotOpen "SALE_NOT_OPEN" CONFLICT "The sale has not opened yet",
    SalePaused "SALE_PAUSED" CONFLICT "The sale is paused",
    SaleEnded "SALE_ENDED" CONFLICT "The sale has ended",
    SaleExists "SALE_EXISTS" CONFLICT "A different sale has this id",
    StillRefused "STILL_REFUSED" CONFLICT "The order store refuses the order again",
    StockNotEnough "STOCK_NOT_ENOUGH" UNPROCESSABLE_ENTITY "Not enough units are left",
    LimitExceeded "LIMIT_EXCEEDED" UNPROCESSABLE_ENTITY "The limit of this buyer is reached",
    KeyReused "IDEMPOTENCY_KEY_REUSED" UNPROCESSABLE_ENTITY "The key was used for another request",
    RateLimited "RATE_LIMITED" TOO_MANY_REQUESTS "Too many requests of one buyer",
    OrderStateInvalid "ORDER_STATE_INVALID" LOCKED "The state of the order does not allow this",
    Throttled "FLASH_SALE_THROTTLED" SERVICE_UNAVAILABLE "Too many buyers at once",
    OutcomeUnknown "OUTCOME_UNKNOWN" SERVICE_UNAVAILABLE "The outcome is not known yet; retry with the same key",
    PaymentUnavailable "PAYMENT_UNAVAILABLE" SERVICE_UNAVAILABLE "Nobody takes payments now",
    NotReady "NOT_READY" SERVICE_UNAVAILABLE "The engine cannot do this now",
    Internal "INTERNAL" INTERNAL_SERVER_ERROR "A fault of ours",
}

/// A detail is for reading; whatever it quotes may be as long as a body.
pub const DETAIL_BYTES_MAX: usize = 1_000;

/// A problem on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem {
    pub code: Code,
    pub detail: Cow<'static, str>,
    pub retry_after: Option<Duration>,
    /// Allow of a 405, WWW-Authenticate of a 401, RateLimit of what has a limit.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The beginning and the end of a text that is longer than `bytes_max`: errors
/// quote in the middle and say at the end what they expected.
pub fn shortened(text: Cow<'static, str>, bytes_max: usize) -> Cow<'static, str> {
    const GAP: &str = " … ";
    if text.len() <= bytes_max {
        return text;
    }
    let kept = bytes_max.saturating_sub(GAP.len());
    let head = text.floor_char_boundary(kept * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - kept / 3);
    format!("{}{GAP}{}", &text[..head], &text[tail..]).into()
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: shortened(detail.into(), DETAIL_BYTES_MAX),
            retry_after: None,
            headers: Vec::new(),
        }
    }

    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(Code::MethodNotAllowed, format!("allowed here: {allow}"))
            .with(hyper::header::ALLOW, allow)
    }

    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// An answer before request id and CORS headers are put on.
#[derive(Debug)]
pub struct Reply {
    pub response: Response<Body>,
    /// What the metrics call it.
    pub problem: Option<Code>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProblemBody<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    request_id: &'a str,
}

impl Reply {
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self::encoded(status, "application/json", body)
    }

    fn encoded(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Self {
        // An order of one SKU fits, and most problems do, so their buffer never grows.
        let mut bytes = Vec::with_capacity(512);
        match serde_json::to_writer(&mut bytes, body) {
            Ok(()) => Self::bytes(status, content_type, bytes.into()),
            Err(e) => {
                tracing::error!(error = %e, "encode answer");
                Self::bytes(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "application/json",
                    Bytes::new(),
                )
            }
        }
    }

    pub fn bytes(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self {
            response,
            problem: None,
        }
    }

    pub fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = status;
        Self {
            response,
            problem: None,
        }
    }

    pub fn problem(problem: &Problem, request_id: &str) -> Self {
        let status = problem.code.status();
        let body = ProblemBody {
            r#type: problem.code.urn(),
            title: problem.code.title(),
            status: status.as_u16(),
            code: problem.code.text(),
            detail: &problem.detail,
            request_id,
        };
        let mut reply = Self::encoded(status, "application/problem+json", &body);
        reply.problem = Some(problem.code);
        let headers = reply.response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in &problem.headers {
            headers.insert(name, value.clone());
        }
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            // Whole seconds, never zero: zero would mean "at once, all of you".
            let wait = problem.retry_after.unwrap_or(Duration::from_secs(1));
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
            );
        }
        reply
    }

    pub fn header(mut self, name: HeaderName, value: &[u8]) -> Self {
        // Values are ids and paths of ours; one that is not header text is left out.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.response.headers_mut().insert(name, value);
        }
        self
    }

    /// A header whose value is a word of ours; costs no copy.
    pub fn fixed(mut self, name: HeaderName, value: &'static str) -> Self {
        self.response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_keeps_its_beginning_and_its_end() {
        for long in ["x".repeat(5_000), "é".repeat(900), "€".repeat(334)] {
            let text = format!("begin {long} end");
            let detail = Problem::new(Code::MalformedBody, text).detail;
            assert!(detail.len() <= DETAIL_BYTES_MAX && detail.len() > 980);
            assert!(detail.starts_with("begin ") && detail.ends_with(" end"));
        }
        let fits = "x".repeat(DETAIL_BYTES_MAX);
        assert_eq!(Problem::new(Code::MalformedBody, fits.clone()).detail, fits);
    }
}
