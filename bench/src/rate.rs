//! Midnight as an open model: does the engine keep up with buyers who do not wait?
//!
//! Sends leave at a fixed rate however slow the answers are, a few win and the
//! rest hear "sold out". Latency runs from the moment a send was due, so a
//! stall counts for everybody it kept waiting; a send that was due and could
//! not leave before the end, because every line still waited for an answer, is
//! dropped, and counted. Cold: a line's first send opens its connection. The
//! generator's timer goes by whole milliseconds, so latency says up to one more.

use std::path::Path;

use crate::engine::Server;
use crate::report::{Report, count_name};
use crate::shoot::{Shot, purchases};

#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Sends a second.
    pub rate: u32,
    pub seconds: u32,
    pub connections: usize,
    /// As many buyers win.
    pub units: u32,
}

pub fn measure(ask: &Rate, out: &Path, report: &mut Report) -> Result<(), String> {
    let engine = Server::engine(out, ask.units)?;
    let shot = Shot {
        connections: ask.connections,
        seconds: f64::from(ask.seconds),
        warmup_seconds: 0.0,
        rate: Some(f64::from(ask.rate)),
    };
    let fired = purchases(shot, engine.public(), "/v1/orders")?;
    drop(engine);

    let count = |status: u16| fired.statuses.get(&status).copied().unwrap_or(0);
    let (won, sold_out) = (count(201), count(422));
    if won > u64::from(ask.units) {
        return Err(format!("oversold: {won} won {} units", ask.units));
    }
    let ms = |us: u64| us as f64 / 1e3;
    // Figures carry their rate: `rate_80k_p99_ms`.
    let name = |what: &str| format!("rate_{}_{what}", count_name(ask.rate));
    report.push(&name("answers_per_s"), fired.rps);
    report.push(&name("won"), won as f64);
    report.push(&name("sold_out"), sold_out as f64);
    report.push(
        &name("other_answers"),
        (fired.answers - won - sold_out) as f64,
    );
    report.push(&name("errors"), fired.errors as f64);
    report.push(&name("dropped"), fired.dropped as f64);
    report.push(&name("p50_ms"), ms(fired.latency.p50_us));
    report.push(&name("p99_ms"), ms(fired.latency.p99_us));
    report.push(&name("max_ms"), ms(fired.latency.max_us));
    if let Some(error) = fired.first_error {
        report.note(format!("first error: {error}"));
    }
    Ok(())
}
