//! A request as both listeners see it: its head, its body within limits, its
//! id, and what every answer to it carries. No route is known here.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CONTENT_TYPE, HOST, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Version};
use smallvec::SmallVec;
use tokio::time::error::Elapsed;

use super::respond::{Code, Problem, Reply};
use crate::domain::ids::DeviceId;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The head of a request.
pub(super) struct Call {
    pub head: Parts,
    pub peer: IpAddr,
}

/// The path between its slashes; ours have at most five segments.
pub(super) type Segments<'a> = SmallVec<[&'a str; 6]>;

impl Call {
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub fn segments(&self) -> Segments<'_> {
        self.head.uri.path().split('/').skip(1).collect()
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.head
            .uri
            .query()?
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn is_get(&self) -> bool {
        self.head.method == Method::GET || self.head.method == Method::HEAD
    }

    pub fn is_post(&self) -> bool {
        self.head.method == Method::POST
    }

    /// Whether the asker has what this tag names (RFC 9110, 13.1.2). Our tags have no
    /// comma, so a list may be cut at every one of them.
    pub fn has(&self, tag: &str) -> bool {
        let lines = self.headers().get_all(IF_NONE_MATCH).iter();
        let mut asked = lines.flat_map(|l| l.as_bytes().split(|b| *b == b','));
        asked.any(|asked| {
            let asked = asked.trim_ascii();
            let opaque = asked.strip_prefix(b"W/").unwrap_or(asked);
            asked == b"*" || opaque == tag.as_bytes()
        })
    }

    /// Whoever stands in front of us may read another head out of one that has two hosts
    /// (RFC 9112, 3.2) or codings that we would not undo (6.1). A Content-Length beside a
    /// Transfer-Encoding is not here any more: hyper goes by the chunks and closes the
    /// line behind the answer (6.3), so nothing that follows counts as a request.
    pub fn check_head(&self) -> Result<(), Problem> {
        self.check_host()?;
        let mut codings = self.headers().get_all(TRANSFER_ENCODING).iter();
        match (codings.next(), codings.next()) {
            (None, _) => Ok(()),
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
            (Some(_), _) => Err(Problem::new(
                Code::InvalidField,
                "Transfer-Encoding may be chunked, once, and nothing else",
            )),
        }
    }

    fn check_host(&self) -> Result<(), Problem> {
        let mut hosts = self.headers().get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(_), None) => Ok(()),
            (None, _) if self.head.version < Version::HTTP_11 => Ok(()),
            (None, _) => Err(Problem::new(
                Code::InvalidField,
                "the Host header is missing",
            )),
            (Some(_), Some(_)) => Err(Problem::new(
                Code::InvalidField,
                "the Host header stands there twice",
            )),
        }
    }

    /// What every answer carries: the request's id, in a problem also in its body.
    pub fn answer(&self, run_id: u32, answer: Result<Reply, Problem>) -> Reply {
        let id = self.request_id(run_id);
        let id_text = || id.to_str().unwrap_or_default();
        let mut reply = match answer {
            Ok(reply) => reply,
            Err(problem) => {
                if problem.code == Code::Internal {
                    tracing::error!(
                        request_id = id_text(),
                        path = self.head.uri.path(),
                        detail = &*problem.detail,
                        "a fault of ours"
                    );
                }
                Reply::problem(&problem, id_text())
            }
        };
        tracing::debug!(
            request_id = id_text(),
            path = self.head.uri.path(),
            status = reply.response.status().as_u16(),
            location = ?reply.response.headers().get(LOCATION),
            "answered"
        );
        reply.response.headers_mut().insert(REQUEST_ID, id);
        reply
    }

    /// The caller's own id where it is one, else ours.
    fn request_id(&self, run_id: u32) -> HeaderValue {
        match self.headers().get(REQUEST_ID) {
            Some(id) if DeviceId::parse_bytes(id.as_bytes()).is_ok() => id.clone(),
            Some(_) | None => fresh_id(run_id),
        }
    }
}

/// `{run:08x}-{n:x}`. Both listeners count together: an id names one request of
/// the run, whichever port it came to.
fn fresh_id(run_id: u32) -> HeaderValue {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let (text, length) = id_text(run_id, REQUESTS.fetch_add(1, Ordering::Relaxed));
    HeaderValue::from_bytes(&text[..length]).expect("hex digits and a dash are header text")
}

fn id_text(run_id: u32, n: u64) -> ([u8; 25], usize) {
    let mut text = [b'-'; 25];
    let digit = |number: u64, place: u32| HEX[(number >> (4 * place) & 15) as usize];
    for (to, place) in text[..8].iter_mut().zip((0..8).rev()) {
        *to = digit(u64::from(run_id), place);
    }
    let n_digits = (u64::BITS - n.leading_zeros()).div_ceil(4).max(1);
    for (to, place) in text[9..].iter_mut().zip((0..n_digits).rev()) {
        *to = digit(n, place);
    }
    (text, 9 + n_digits as usize)
}

/// How much of a body is read, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub bytes_max: usize,
    pub time_max: Duration,
}

/// A body that nobody has read yet.
pub(super) struct Unread {
    body: Incoming,
    limits: BodyLimits,
}

impl Unread {
    pub fn new(body: Incoming, limits: BodyLimits) -> Self {
        Self { body, limits }
    }

    /// The whole body, within its limits.
    pub async fn whole(self) -> Result<Bytes, Problem> {
        let BodyLimits {
            bytes_max,
            time_max,
        } = self.limits;
        let too_large =
            || Problem::new(Code::BodyTooLarge, format!("allowed are {bytes_max} bytes"));
        if self.body.is_end_stream() {
            return Ok(Bytes::new());
        }
        // An announced length says enough; waiting for the bytes would hold a place.
        if self.body.size_hint().lower() > bytes_max as u64 {
            return Err(too_large());
        }
        let reading = pin!(Limited::new(self.body, bytes_max).collect());
        match soon_or_within(time_max, reading).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::new(Code::MalformedBody, "the body ended early")),
            Err(_) => Err(Problem::new(
                Code::RequestTimeout,
                format!("the body did not arrive within {} ms", time_max.as_millis()),
            )),
        }
    }

    /// The body of a call that takes JSON, and says so.
    pub async fn json(self, headers: &HeaderMap) -> Result<Bytes, Problem> {
        check_json(headers)?;
        self.whole().await
    }

    /// For a call that reads nothing from its body: one that comes all the same
    /// must be JSON, and off the wire before the answer.
    pub async fn empty_or_json(self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.whole().await?.is_empty() {
            return Ok(());
        }
        check_json(headers)
    }
}

/// As a timeout, but one that sets no timer for what is there already: hyper hands a
/// body over only after it was asked for, so the first look at one never finds it.
async fn soon_or_within<F: Future + Unpin>(
    time_max: Duration,
    mut future: F,
) -> Result<F::Output, Elapsed> {
    let mut looks = 0;
    let soon = poll_fn(|cx| {
        looks += 1;
        match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if looks == 1 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(None),
        }
    });
    match soon.await {
        Some(output) => Ok(output),
        None => tokio::time::timeout(time_max, future).await,
    }
}

fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let json = match (kinds.next(), kinds.next()) {
        (Some(kind), None) => kind
            .as_bytes()
            .split(|b| *b == b';')
            .next()
            .is_some_and(|e| e.trim_ascii().eq_ignore_ascii_case(b"application/json")),
        (None, _) | (Some(_), Some(_)) => false,
    };
    if json {
        return Ok(());
    }
    Err(Problem::new(
        Code::MediaType,
        "the Content-Type must be application/json",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_run_and_number_in_hex() {
        for (run, n) in [
            (0, 0),
            (0x1f, 15),
            (u32::MAX, 16),
            (7, 255),
            (7, 256),
            (1, u64::MAX),
        ] {
            let (text, length) = id_text(run, n);
            assert_eq!(
                std::str::from_utf8(&text[..length]).expect("ASCII"),
                format!("{run:08x}-{n:x}")
            );
        }
    }
}
