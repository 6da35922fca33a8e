//! Answers that are compiled in: sent as they are, and not sent again to who has them.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG};

use super::call::Call;
use super::respond::Reply;

pub(super) struct Fixed {
    content_type: &'static str,
    bytes: &'static [u8],
    tag: OnceLock<String>,
}

impl Fixed {
    pub const fn new(content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self {
            content_type,
            bytes,
            tag: OnceLock::new(),
        }
    }

    pub fn answer(&'static self, call: &Call) -> Reply {
        let tag = self
            .tag
            .get_or_init(|| format!("\"{:x}\"", xxhash_rust::xxh3::xxh3_64(self.bytes)));
        let reply = if call.has(tag) {
            Reply::empty(StatusCode::NOT_MODIFIED)
        } else {
            Reply::bytes(
                StatusCode::OK,
                self.content_type,
                Bytes::from_static(self.bytes),
            )
        };
        // Another version of the engine has other bytes.
        reply.fixed(CACHE_CONTROL, "no-cache").fixed(ETAG, tag)
    }
}
