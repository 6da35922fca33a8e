//! `fire`: how many answers a second, and how fast, from any one URL.
//!
//! The same client as the stampede, without plan, journal or audit, so that a
//! bare echo, wins and sold-out answers are measured with the same generator.
//! Closed loop by default (every line sends as soon as it was answered): that is
//! a ceiling, not a latency a buyer would feel. With a rate it is an open model.
//! `{n}` in headers, path and body becomes a number no other request has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use thiserror::Error;

use crate::client::{CallError, Connection, Target};
use crate::stats::{Latency, Percentiles};

#[derive(Clone, Debug)]
pub struct FireConfig {
    pub target: Target,
    pub method: String,
    pub headers: Vec<String>,
    pub body: String,
    pub connections: usize,
    pub seconds: f64,
    /// Not measured, before the measured time.
    pub warmup_seconds: f64,
    /// Requests a second over all lines; none: as fast as answers come.
    pub rate: Option<f64>,
    /// Where `{n}` begins, so that two shots do not repeat each other's keys.
    pub first_n: u64,
    pub answer_timeout: Duration,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FireReport {
    pub rps: f64,
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
}

struct Shot {
    pieces: Vec<Vec<u8>>,
    tally: Mutex<Tally>,
    began: Instant,
    measure_from: Instant,
    ends: Instant,
    interval_s: Option<f64>,
    first_n: u64,
}

pub async fn fire(config: &FireConfig) -> Result<FireReport, FireError> {
    check(config)?;
    let began = Instant::now();
    let measure_from = began + Duration::from_secs_f64(config.warmup_seconds);
    let shot = Arc::new(Shot {
        pieces: pieces(config),
        tally: Mutex::new(Tally {
            latency: Latency::default(),
            statuses: BTreeMap::new(),
            errors: 0,
            first_error: None,
            dropped: 0,
            next_n: config.first_n,
        }),
        began,
        measure_from,
        ends: measure_from + Duration::from_secs_f64(config.seconds),
        interval_s: config.rate.map(|rate| 1.0 / rate),
        first_n: config.first_n,
    });
    let lines: Vec<_> = (0..config.connections)
        .map(|_| {
            tokio::spawn(serve_line(
                shot.clone(),
                Connection::new(config.target.addr, config.answer_timeout),
            ))
        })
        .collect();
    for line in lines {
        line.await?;
    }
    let mut tally = shot.tally.lock();
    let latency = tally.latency.percentiles();
    Ok(FireReport {
        rps: latency.n as f64 / config.seconds,
        seconds: config.seconds,
        answers: latency.n,
        errors: tally.errors,
        first_error: tally.first_error.take(),
        statuses: std::mem::take(&mut tally.statuses),
        dropped: tally.dropped,
        latency,
        next_n: tally.next_n,
    })
}

fn check(config: &FireConfig) -> Result<(), FireError> {
    let wrong = |field, value: String, allowed| {
        Err(FireError::Value {
            field,
            value,
            allowed,
        })
    };
    if !(1..=15_000).contains(&config.connections) {
        return wrong(
            "connections",
            config.connections.to_string(),
            "use 1 to 15,000",
        );
    }
    for (field, seconds) in [
        ("seconds", config.seconds),
        ("warmup", config.warmup_seconds),
    ] {
        if !(0.0..=86_400.0).contains(&seconds) {
            return wrong(field, seconds.to_string(), "use 0 to 86,400");
        }
    }
    if let Some(rate) = config.rate
        && !(0.001..=10_000_000.0).contains(&rate)
    {
        return wrong("rate", rate.to_string(), "use 0.001 to 10,000,000");
    }
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

fn write_request(pieces: &[Vec<u8>], n: u64, out: &mut Vec<u8>) {
    out.clear();
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

impl Shot {
    /// When this request was meant to leave, once that has come; none after the end.
    async fn turn(&self, n: u64) -> Option<Instant> {
        let now = Instant::now();
        let intended = match self.interval_s {
            None => now,
            Some(interval_s) => {
                let since = Duration::from_secs_f64(interval_s * (n - self.first_n) as f64);
                self.began + since
            }
        };
        if intended >= self.ends {
            return None;
        }
        if intended > now {
            tokio::time::sleep_until(intended.into()).await;
        }
        Some(intended)
    }

    fn book(&self, result: Result<u16, CallError>, intended: Instant, now: Instant) {
        let mut tally = self.tally.lock();
        match result {
            // Closed loop: only what was answered within the measured time counts. Open
            // model: whatever was due in it, however late the answer.
            Ok(status)
                if (self.measure_from..self.ends).contains(if self.interval_s.is_some() {
                    &intended
                } else {
                    &now
                }) =>
            {
                tally.latency.record((now - intended).as_micros() as u64);
                *tally.statuses.entry(status).or_default() += 1;
            }
            Ok(_) => {}
            Err(error) => {
                tally.errors += 1;
                tally.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

async fn serve_line(shot: Arc<Shot>, mut connection: Connection) {
    let mut request = Vec::with_capacity(1024);
    loop {
        let n = {
            let mut tally = shot.tally.lock();
            let n = tally.next_n;
            tally.next_n += 1;
            n
        };
        let Some(intended) = shot.turn(n).await else {
            return;
        };
        if Instant::now() >= shot.ends + LEAVES_LATE {
            shot.tally.lock().dropped += 1;
            continue;
        }
        write_request(&shot.pieces, n, &mut request);
        let result = connection.call(&request).await;
        let now = Instant::now();
        let failed = result.is_err();
        shot.book(result.map(|head| head.status), intended, now);
        if failed {
            tokio::time::sleep(Duration::from_millis(10)).await;
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
            connections: 1,
            seconds: 1.0,
            warmup_seconds: 0.0,
            rate: None,
            first_n: 0,
            answer_timeout: Duration::from_secs(1),
        }
    }

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
        let bad = FireConfig {
            connections: 0,
            ..config(&[], "")
        };
        assert!(
            check(&bad)
                .unwrap_err()
                .to_string()
                .starts_with("connections")
        );
    }
}
