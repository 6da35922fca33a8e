//! What machines ask the admin listener, without a token: does the engine live,
//! may it be sent buyers, what do its numbers say.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::StatusCode;
use prometheus::{Encoder, TextEncoder};

use super::admin::Admin;
use super::respond::{Code, Problem, Reply};
use crate::stream::StreamState;

/// A machine's clock is put right by little all the time.
const CLOCK_SKEW_TOLD_MS: i64 = 2_000;

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    Reply::bytes(status, "text/plain; charset=utf-8", body.into())
}

pub(super) fn livez() -> Reply {
    text(StatusCode::OK, "alive\n")
}

impl Admin {
    pub(super) fn readyz(&self, verbose: bool) -> Reply {
        let mut lines = Vec::new();
        let mut ready = self.ready.load(Ordering::Relaxed);
        lines.push(format!(
            "engine: {}",
            if ready {
                "ready"
            } else {
                "starting or stopping"
            }
        ));
        match self.selling.ledger().failure() {
            None => lines.push(format!(
                "ledger: ok, record {}",
                self.selling.ledger().tip().seq.0
            )),
            Some(failure) => {
                ready = false;
                lines.push(format!("ledger: shut: {}", failure.why));
            }
        }
        match self.stream.state() {
            StreamState::Running => lines.push("order store: ok".to_owned()),
            // Sales do not wait for the store: not ready would be a lie.
            StreamState::Waiting(why) => lines.push(format!("order store: waiting: {why}")),
            StreamState::Stopped(why) => lines.push(format!("order store: stopped: {why}")),
        }
        match self.letters.count() {
            0 => {}
            n => lines.push(format!("dead letters: {n} wait for a replay")),
        }
        if self.selling.is_disk_low() {
            ready = false;
            lines.push(
                "disk: low, less is free than ledger.low_water_mb: all sales are paused".to_owned(),
            );
        }
        let skew_ms = self.selling.clock_skew_ms();
        if skew_ms.abs() >= CLOCK_SKEW_TOLD_MS {
            lines.push(format!(
                "clock: the machine's is {} s {} the one that counts since the start (it was put, \
                 or the machine slept); phases and pay windows go by the latter until the next one",
                skew_ms.abs() / 1_000,
                if skew_ms > 0 { "ahead of" } else { "behind" },
            ));
        }
        for live in self.selling.sales().values() {
            let (silent, all) = (live.n_silent(), usize::from(live.sale().buckets));
            if silent > 0 {
                // Where some buckets sell, buyers should come.
                ready &= silent < all;
                lines.push(format!(
                    "sale {}: the stock of {silent} of {all} buckets does not answer, and their \
                     buyers are told to come again",
                    live.sale().id
                ));
            }
            if live.is_broken() {
                ready = false;
                lines.push(format!(
                    "sale {}: selling stopped, the stock does not add up",
                    live.sale().id
                ));
            }
        }
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let body = if verbose {
            lines.join("\n")
        } else {
            (if ready { "ready" } else { "not ready" }).to_owned()
        };
        text(status, format!("{body}\n"))
    }

    pub(super) fn metrics(&self) -> Result<Reply, Problem> {
        self.selling.refresh_metrics();
        let mut body = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut body)
            .map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
        Ok(Reply::bytes(
            StatusCode::OK,
            "text/plain; version=0.0.4",
            body.into(),
        ))
    }
}
