//! `fire`: how many answers a second, and how fast, from any one URL.
//!
//! The same client as the stampede, without plan, journal or audit, so that a
//! bare echo, wins and sold-out answers are measured with the same generator.
//! Closed loop by default (every line sends as soon as it was answered): that is
//! a ceiling, not a latency a buyer would feel. With a rate it is an open model.
//! What is sent is a template, in which `{n}` in headers, path and body becomes a number
//! no other request has, or whatever a caller's [`Requests`] write.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use thiserror::Error;

use crate::client::{CallError, Connection, Target};
use crate::stats::{Latency, Percentiles};

/// What is sent, and what an answer to it may be.
pub trait Requests: Send + Sync + 'static {
    /// Writes request number `n` into the empty buffer; `false`: there are no more, and
    /// the shot is over.
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool;

    /// Looks at every answer, measured or not. What it objects to counts as an error.
    fn answered(&self, _answer: &Answered<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// For a caller who wants to look at them afterwards.
impl<R: Requests> Requests for Arc<R> {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        R::write(self, n, out)
    }

    fn answered(&self, answer: &Answered<'_>) -> Result<(), String> {
        R::answered(self, answer)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Of the request.
    pub n: u64,
    pub status: u16,
    pub body: &'a [u8],
    /// When the request was to leave.
    pub intended: Instant,
    pub at: Instant,
}

/// The same request again and again, but for its number.
#[derive(Clone, Debug)]
pub struct FireConfig {
    pub target: Target,
    pub method: String,
    pub headers: Vec<String>,
    pub body: String,
    pub pace: Pace,
}

/// How requests leave, whatever they are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub connections: usize,
    pub seconds: f64,
    /// Not measured, before the measured time.
    pub warmup_seconds: f64,
    /// Requests a second over all lines; none: as fast as answers come.
    pub rate: Option<f64>,
    /// Where numbers begin, so that two shots do not repeat each other's keys.
    pub first_n: u64,
    pub answer_timeout: Duration,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FireReport {
    pub rps: f64,
    /// Measured: less than was asked for when there were no more requests.
    pub seconds: f64,
    pub answers: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    /// Answers by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    #[serde(flatten)]
    pub latency: Percentiles,
    /// Open model: sends that were due and could not leave, because every line still
    /// waited for an answer when the time was over.
    pub dropped: u64,
    /// The first unused `{n}`.
    pub next_n: u64,
}

/// A send that is due at the very end may leave this much later: the timer goes by
/// whole milliseconds, and a line must be given a processor.
const LEAVES_LATE: Duration = Duration::from_millis(20);

#[derive(Debug, Error)]
pub enum FireError {
    #[error("{field}: {value} is not allowed; {allowed}")]
    Value {
        field: &'static str,
        value: String,
        allowed: &'static str,
    },
    #[error("a line ended early: {0}")]
    Line(#[from] tokio::task::JoinError),
}

struct Tally {
    latency: Latency,
    statuses: BTreeMap<u16, u64>,
    errors: u64,
    first_error: Option<String>,
    dropped: u64,
    next_n: u64,
    ends: Instant,
}

struct Shot<R> {
    requests: R,
    tally: Mutex<Tally>,
    began: Instant,
    measure_from: Instant,
    interval_s: Option<f64>,
    first_n: u64,
}

pub async fn fire(config: &FireConfig) -> Result<FireReport, FireError> {
    check(config)?;
    let template = Template(pieces(config));
    fire_with(config.target.addr, &config.pace, template).await
}

/// As [`fire`], with requests of the caller's own.
pub async fn fire_with<R: Requests>(
    to: SocketAddr,
    pace: &Pace,
    requests: R,
) -> Result<FireReport, FireError> {
    check_pace(pace)?;
    let began = Instant::now();
    let measure_from = began + Duration::from_secs_f64(pace.warmup_seconds);
    let shot = Arc::new(Shot {
        requests,
        tally: Mutex::new(Tally {
            latency: Latency::default(),
            statuses: BTreeMap::new(),
            errors: 0,
            first_error: None,
            dropped: 0,
            next_n: pace.first_n,
            ends: measure_from + Duration::from_secs_f64(pace.seconds),
        }),
        began,
        measure_from,
        interval_s: pace.rate.map(|rate| 1.0 / rate),
        first_n: pace.first_n,
    });
    let lines: Vec<_> = (0..pace.connections)
        .map(|_| {
            let connection = Connection::new(to, pace.answer_timeout);
            tokio::spawn(serve_line(shot.clone(), connection))
        })
        .collect();
    for line in lines {
        line.await?;
    }
    let mut tally = shot.tally.lock();
    let latency = tally.latency.percentiles();
    let seconds = tally.ends.saturating_duration_since(measure_from);
    let seconds = seconds.as_secs_f64();
    Ok(FireReport {
        // Nothing is measured in no time.
        rps: if seconds > 0.0 {
            latency.n as f64 / seconds
        } else {
            0.0
        },
        seconds,
        answers: latency.n,
        errors: tally.errors,
        first_error: tally.first_error.take(),
        statuses: std::mem::take(&mut tally.statuses),
        dropped: tally.dropped,
        latency,
        next_n: tally.next_n,
    })
}

fn wrong(field: &'static str, value: String, allowed: &'static str) -> Result<(), FireError> {
    Err(FireError::Value {
        field,
        value,
        allowed,
    })
}

fn check_pace(pace: &Pace) -> Result<(), FireError> {
    if !(1..=15_000).contains(&pace.connections) {
        return wrong(
            "connections",
            pace.connections.to_string(),
            "use 1 to 15,000",
        );
    }
    for (field, seconds) in [("seconds", pace.seconds), ("warmup", pace.warmup_seconds)] {
        if !(0.0..=86_400.0).contains(&seconds) {
            return wrong(field, seconds.to_string(), "use 0 to 86,400");
        }
    }
    match pace.rate {
        Some(rate) if !(0.001..=10_000_000.0).contains(&rate) => {
            wrong("rate", rate.to_string(), "use 0.001 to 10,000,000")
        }
        Some(_) | None => Ok(()),
    }
}

fn check(config: &FireConfig) -> Result<(), FireError> {
    let token =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !token(&config.method) {
        return wrong(
            "method",
            config.method.clone(),
            "use a word such as GET or POST",
        );
    }
    for header in &config.headers {
        if !header.contains(':') || header.contains(['\r', '\n']) {
            return wrong("header", header.clone(), "write it as 'name: value'");
        }
    }
    Ok(())
}

/// The request, split where a number goes. Content-Length needs the body's final
/// size, so the body's numbers are padded to a fixed width.
fn pieces(config: &FireConfig) -> Vec<Vec<u8>> {
    let n_in_body = config.body.matches("{n}").count();
    let body_len = config.body.len() - n_in_body * "{n}".len() + n_in_body * N_DIGITS;
    let mut text = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\n",
        config.method, config.target.path, config.target.authority
    );
    for header in &config.headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if body_len > 0 || config.method == "POST" {
        text.push_str(&format!("content-length: {body_len}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&config.body);
    text.split("{n}")
        .map(|piece| piece.as_bytes().to_vec())
        .collect()
}

const N_DIGITS: usize = 12;

/// The request, in pieces with a number between each two.
struct Template(Vec<Vec<u8>>);

impl Requests for Template {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        write_request(&self.0, n, out);
        true
    }
}

fn write_request(pieces: &[Vec<u8>], n: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; N_DIGITS];
    let mut rest = n;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(&digits);
        }
        out.extend_from_slice(piece);
    }
}

impl<R: Requests> Shot<R> {
    /// When this request was meant to leave, once that has come; none after the end.
    async fn turn(&self, n: u64, ends: Instant) -> Option<Instant> {
        let now = Instant::now();
        let intended = match self.interval_s {
            None => now,
            Some(interval_s) => {
                let since = Duration::from_secs_f64(interval_s * (n - self.first_n) as f64);
                self.began + since
            }
        };
        if intended >= ends {
            return None;
        }
        if intended > now {
            tokio::time::sleep_until(intended.into()).await;
        }
        Some(intended)
    }

    fn book(&self, answer: &Answered<'_>) {
        let objection = self.requests.answered(answer).err();
        let mut tally = self.tally.lock();
        if let Some(objection) = objection {
            tally.errors += 1;
            tally.first_error.get_or_insert(objection);
        }
        // Closed loop: only what was answered within the measured time counts. Open
        // model: whatever was due in it, however late the answer.
        let counts = match self.interval_s {
            Some(_) => answer.intended,
            None => answer.at,
        };
        if (self.measure_from..tally.ends).contains(&counts) {
            let took = answer.at - answer.intended;
            tally.latency.record(took.as_micros() as u64);
            *tally.statuses.entry(answer.status).or_default() += 1;
        }
    }

    fn book_failure(&self, error: &CallError) {
        let mut tally = self.tally.lock();
        tally.errors += 1;
        tally.first_error.get_or_insert_with(|| error.to_string());
    }

    /// There are no more requests: what comes from now on is the tail of a shot, with
    /// fewer and fewer lines.
    fn end(&self) {
        let mut tally = self.tally.lock();
        tally.ends = tally.ends.min(Instant::now());
    }
}

async fn serve_line<R: Requests>(shot: Arc<Shot<R>>, mut connection: Connection) {
    let mut request = Vec::with_capacity(1024);
    loop {
        let (n, ends) = {
            let mut tally = shot.tally.lock();
            let n = tally.next_n;
            tally.next_n += 1;
            (n, tally.ends)
        };
        let Some(intended) = shot.turn(n, ends).await else {
            return;
        };
        if Instant::now() >= ends + LEAVES_LATE {
            shot.tally.lock().dropped += 1;
            continue;
        }
        request.clear();
        if !shot.requests.write(n, &mut request) {
            shot.end();
            return;
        }
        match connection.call(&request).await {
            Ok(head) => shot.book(&Answered {
                n,
                status: head.status,
                body: connection.body(),
                intended,
                at: Instant::now(),
            }),
            Err(error) => {
                shot.book_failure(&error);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(headers: &[&str], body: &str) -> FireConfig {
        FireConfig {
            target: Target::parse("http://127.0.0.1:9/v1/orders", false).unwrap(),
            method: "POST".into(),
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            body: body.into(),
            pace: PACE,
        }
    }

    const PACE: Pace = Pace {
        connections: 1,
        seconds: 1.0,
        warmup_seconds: 0.0,
        rate: None,
        first_n: 0,
        answer_timeout: Duration::from_secs(1),
    };

    #[test]
    fn every_request_gets_its_own_number_and_the_right_length() {
        let pieces = pieces(&config(&["x-user-id: u{n}"], "{\"n\":\"{n}\"}"));
        let mut out = Vec::new();
        write_request(&pieces, 42, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("x-user-id: u000000000042\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "{\"n\":\"000000000042\"}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let bad = config(&["no colon"], "");
        assert!(check(&bad).unwrap_err().to_string().starts_with("header"));
        let bad = Pace {
            connections: 0,
            ..PACE
        };
        let error = check_pace(&bad).unwrap_err().to_string();
        assert!(error.starts_with("connections"), "{error}");
    }

    /// Three requests, and an objection to the second.
    struct Three(Mutex<Vec<(u64, u16, Vec<u8>)>>);

    impl Requests for Three {
        fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
            out.extend_from_slice(format!("GET /{n} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
            n < 10 + 3
        }

        fn answered(&self, answer: &Answered<'_>) -> Result<(), String> {
            let seen = (answer.n, answer.status, answer.body.to_vec());
            self.0.lock().push(seen);
            (answer.n != 11).then_some(()).ok_or("not this one".into())
        }
    }

    #[tokio::test]
    async fn a_callers_requests_end_the_shot_and_every_answer_is_looked_at() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut line, _) = server.accept().await.unwrap();
            let mut asked = [0; 256];
            while let Ok(n @ 1..) = line.read(&mut asked).await {
                // The path, as its own answer.
                let path = &asked[5..asked[..n].iter().position(|b| *b == b'H').unwrap() - 1];
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", path.len());
                let answer = [head.as_bytes(), path].concat();
                line.write_all(&answer).await.unwrap();
            }
        });
        let three = Arc::new(Three(Mutex::new(Vec::new())));
        let pace = Pace {
            first_n: 10,
            // Far beyond what three requests take: they end it.
            seconds: 3_600.0,
            answer_timeout: Duration::from_secs(60),
            ..PACE
        };
        let report = fire_with(to, &pace, Arc::clone(&three)).await.unwrap();
        let seen = three.0.lock().clone();
        let expected: Vec<_> = (10..13)
            .map(|n: u64| (n, 200, n.to_string().into_bytes()))
            .collect();
        assert_eq!(seen, expected);
        assert_eq!((report.answers, report.errors), (3, 1));
        assert_eq!(report.first_error.as_deref(), Some("not this one"));
        assert!(report.seconds < 3_600.0, "{}", report.seconds);
    }
}
