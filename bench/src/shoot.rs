//! The one generator of every figure over HTTP, and the one purchase it sends.
//!
//! Engine and peer get the same bytes; only the address differs.

use std::future::Future;
use std::time::{Duration, Instant};

use floodgate_loadtest::client::{CallError, Connection, Target};
use floodgate_loadtest::fire::{FireConfig, FireReport, Pace, Requests, fire, fire_with};
use serde::de::DeserializeOwned;

/// The sale and SKU that every server under test sells.
pub const BODY: &str = r#"{"saleId":"bench","items":[{"skuId":"unit","quantity":1}]}"#;
const ANSWER_MAX: Duration = Duration::from_secs(10);
const READY_MAX: Duration = Duration::from_secs(120);

/// How a figure over HTTP is taken.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    pub connections: usize,
    pub seconds: f64,
    /// Before the measured time.
    pub warmup_seconds: f64,
    /// Sends a second, however slow the answers are; none: closed loop.
    pub rate: Option<f64>,
}

/// Runs the generator on one thread of its own.
pub fn run<T>(work: impl Future<Output = T>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(work))
        .map_err(|e| format!("start the generator: {e}"))
}

/// Purchases, each by its own buyer under its own key.
pub fn purchases(shot: Shot, base: &str, path: &str) -> Result<FireReport, String> {
    purchases_from(shot, base, path, 0)
}

/// As [`purchases`], by buyers who are numbered from `first_n` on.
pub fn purchases_from(
    shot: Shot,
    base: &str,
    path: &str,
    first_n: u64,
) -> Result<FireReport, String> {
    let config = FireConfig {
        target: target(&format!("{base}{path}"))?,
        method: "POST".into(),
        headers: vec![
            "content-type: application/json".into(),
            "x-user-id: buyer-{n}".into(),
            "idempotency-key: key-{n}".into(),
        ],
        body: BODY.into(),
        pace: pace(shot, first_n),
    };
    run(fire(&config))?.map_err(|e| e.to_string())
}

fn target(url: &str) -> Result<Target, String> {
    Target::parse(url, false).map_err(|e| e.to_string())
}

fn pace(shot: Shot, first_n: u64) -> Pace {
    Pace {
        connections: shot.connections,
        seconds: shot.seconds,
        warmup_seconds: shot.warmup_seconds,
        rate: shot.rate,
        first_n,
        answer_timeout: ANSWER_MAX,
    }
}

/// The address as a Host header has it.
pub fn host(base: &str) -> Result<String, String> {
    Ok(target(base)?.authority)
}

/// Sends a caller's own requests. They object to every answer that is not the one the
/// question is about, and one objection is too many.
pub async fn send<R: Requests>(shot: Shot, base: &str, requests: R) -> Result<FireReport, String> {
    let report = fire_with(target(base)?.addr, &pace(shot, 0), requests)
        .await
        .map_err(|e| e.to_string())?;
    match report.first_error {
        None => Ok(report),
        Some(first) => Err(format!(
            "{} answers were wrong or missing, first: {first}",
            report.errors
        )),
    }
}

/// Answers a second; all but the first few must have the status that the
/// question is about, or the figure would answer another one.
pub fn rps(shot: Shot, base: &str, path: &str, status: u16) -> Result<f64, String> {
    let report = purchases(shot, base, path)?;
    let right = report.statuses.get(&status).copied().unwrap_or(0);
    if report.errors > 0 || right == 0 || right * 1_000 < report.answers * 999 {
        return Err(format!(
            "{path}: {} answers with status {status} were expected; got {:?}, {} errors, first: {:?}",
            report.answers, report.statuses, report.errors, report.first_error
        ));
    }
    Ok(report.rps)
}

/// Appends one purchase of what the body names.
pub fn write_purchase(out: &mut Vec<u8>, host: &str, user: &str, key: &str, body: &str) {
    write_post(
        out,
        host,
        "/v1/orders",
        &format!("x-user-id: {user}\r\nidempotency-key: {key}\r\n"),
        body,
    );
}

/// Appends a request; each of the further headers ends its line.
pub fn write_post(out: &mut Vec<u8>, host: &str, path: &str, headers: &str, body: &str) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}

/// Appends a request without a body.
pub fn write_get(out: &mut Vec<u8>, host: &str, path: &str, headers: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// Waits until an engine says that it is ready.
pub fn until_ready(admin: &str) -> Result<(), String> {
    let mut line = Line::to(admin)?;
    let request = line.get("/readyz");
    let started = Instant::now();
    run(async {
        while line.call(&request).await.map_err(|e| e.to_string())? != 200 {
            if started.elapsed() > READY_MAX {
                return Err("the engine did not become ready".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    })?
}

/// One connection for single calls.
pub struct Line {
    connection: Connection,
    authority: String,
}

impl Line {
    pub fn to(base: &str) -> Result<Self, String> {
        let target = target(base)?;
        Ok(Self {
            connection: Connection::new(target.addr, ANSWER_MAX),
            authority: target.authority,
        })
    }

    /// The bytes of one purchase.
    pub fn purchase(&self, user: &str, key: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_purchase(&mut bytes, &self.authority, user, key, BODY);
        bytes
    }

    pub fn get(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_get(&mut bytes, &self.authority, path, "");
        bytes
    }

    /// The status of the answer; its body is in [`Line::body`] then.
    pub async fn call(&mut self, request: &[u8]) -> Result<u16, CallError> {
        self.connection.call(request).await.map(|head| head.status)
    }

    pub fn body(&self) -> &[u8] {
        self.connection.body()
    }

    /// The JSON of an answer that must have this status.
    pub async fn json<T: DeserializeOwned>(
        &mut self,
        request: &[u8],
        status: u16,
    ) -> Result<T, String> {
        let got = self.call(request).await.map_err(|e| e.to_string())?;
        if got != status {
            let body = String::from_utf8_lossy(self.body());
            return Err(format!("status {status} was expected; got {got} {body}"));
        }
        serde_json::from_slice(self.body()).map_err(|e| format!("read an answer: {e}"))
    }
}
