//! The one generator of every figure over HTTP, and the one purchase it sends.
//!
//! Engine and peer get the same bytes; only the address differs.

use std::future::Future;
use std::time::Duration;

use floodgate_loadtest::client::{CallError, Connection, Target};
use floodgate_loadtest::fire::{FireConfig, FireReport, fire};

/// The sale and SKU that every server under test sells.
const BODY: &str = r#"{"saleId":"bench","items":[{"skuId":"unit","quantity":1}]}"#;
const ANSWER_MAX: Duration = Duration::from_secs(10);

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
    let target = Target::parse(&format!("{base}{path}"), false).map_err(|e| e.to_string())?;
    let config = FireConfig {
        target,
        method: "POST".into(),
        headers: vec![
            "content-type: application/json".into(),
            "x-user-id: buyer-{n}".into(),
            "idempotency-key: key-{n}".into(),
        ],
        body: BODY.into(),
        connections: shot.connections,
        seconds: shot.seconds,
        warmup_seconds: shot.warmup_seconds,
        rate: shot.rate,
        first_n,
        answer_timeout: ANSWER_MAX,
    };
    run(fire(&config))?.map_err(|e| e.to_string())
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

/// One connection for single calls.
pub struct Line {
    connection: Connection,
    authority: String,
}

impl Line {
    pub fn to(base: &str) -> Result<Self, String> {
        let target = Target::parse(base, false).map_err(|e| e.to_string())?;
        Ok(Self {
            connection: Connection::new(target.addr, ANSWER_MAX),
            authority: target.authority,
        })
    }

    /// The bytes of one purchase.
    pub fn purchase(&self, user: &str, key: &str) -> Vec<u8> {
        format!(
            "POST /v1/orders HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             x-user-id: {user}\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{BODY}",
            self.authority,
            BODY.len()
        )
        .into_bytes()
    }

    pub fn get(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.authority).into_bytes()
    }

    /// The status of the answer; its body is in [`Line::body`] then.
    pub async fn call(&mut self, request: &[u8]) -> Result<u16, CallError> {
        self.connection.call(request).await.map(|head| head.status)
    }

    pub fn body(&self) -> &[u8] {
        self.connection.body()
    }
}
