//! How long clients may keep the engine waiting: the times of the table `[http]`.

use std::time::Duration;

use super::raw::RawConfig;
use crate::domain::sale::Sale;

/// How long a connection may keep the engine waiting, each time anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the next request to begin.
    pub idle: Duration,
    /// From the first byte of a request to the end of its head.
    pub header: Duration,
    /// For the whole body.
    pub body: Duration,
    /// From the head of a request to the end of its answer.
    pub request: Duration,
    /// For room to write more of an answer.
    pub write: Duration,
}

/// The longest request is one that uses up every limit in between; the limit of the
/// whole must leave it room, or it would cut off answers that are on their way.
pub fn check(raw: &RawConfig, sales: &[Sale]) -> Result<Patience, String> {
    let ms = |n: u32| Duration::from_millis(u64::from(n));
    let patience = Patience {
        idle: ms(raw.http.idle_ms),
        header: ms(raw.http.header_ms),
        body: ms(raw.http.body_ms),
        request: ms(raw.http.request_ms),
        write: ms(raw.http.write_ms),
    };
    let in_line = sales.iter().map(|s| ms(s.admission.wait_ms)).max();
    let parts = patience.body + in_line.unwrap_or_default() + ms(raw.limits.answer_ms);
    if patience.request <= parts {
        return Err(format!(
            "{} is too short: http.body_ms, the longest admission.waitMs of a sale and \
             limits.answer_ms are {} together, and a request may take as long",
            patience.request.as_millis(),
            parts.as_millis()
        ));
    }
    Ok(patience)
}
