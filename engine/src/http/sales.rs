//! The promotion page, and sales as everybody sees them.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH};
use serde::Serialize;

use super::call::Call;
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use super::wire::SaleOut;

const PAGE: &[u8] = include_bytes!("page/index.html");
const POLICY: &str = include_str!("page/csp.txt");

pub(super) fn page(call: &Call) -> Reply {
    let reply = if has(call, page_tag()) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        Reply::bytes(
            StatusCode::OK,
            "text/html; charset=utf-8",
            Bytes::from_static(PAGE),
        )
    };
    reply
        .fixed(CONTENT_SECURITY_POLICY, POLICY.trim_ascii_end())
        .fixed(CACHE_CONTROL, "no-cache")
        .fixed(ETAG, page_tag())
}

/// Whether the asker has what this tag names (RFC 9110, 13.1.2). Our tags have no
/// comma, so a list may be cut at every one of them.
fn has(call: &Call, tag: &str) -> bool {
    let lines = call.headers().get_all(IF_NONE_MATCH).iter();
    let mut asked = lines.flat_map(|l| l.as_bytes().split(|b| *b == b','));
    asked.any(|asked| {
        let asked = asked.trim_ascii();
        let opaque = asked.strip_prefix(b"W/").unwrap_or(asked);
        asked == b"*" || opaque == tag.as_bytes()
    })
}

fn page_tag() -> &'static str {
    static TAG: OnceLock<String> = OnceLock::new();
    TAG.get_or_init(|| format!("\"{:x}\"", xxhash_rust::xxh3::xxh3_64(PAGE)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SalesOut {
    sales: Vec<SaleOut>,
    server_time: Option<String>,
}

/// The tag leaves out the time, or no answer would ever be "not modified".
fn tagged(call: &Call, tag: u64, body: &impl Serialize) -> Reply {
    let tag = format!("\"{tag:016x}\"");
    let reply = if has(call, &tag) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        Reply::json(StatusCode::OK, body)
    };
    reply
        .header(ETAG, tag.as_bytes())
        .fixed(CACHE_CONTROL, "max-age=1")
}

fn tag_of(sale: &mut SaleOut) -> u64 {
    let time = sale.server_time.take();
    let bytes = serde_json::to_vec(sale).unwrap_or_default();
    sale.server_time = time;
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

pub(super) fn list(public: &Public, call: &Call) -> Result<Reply, Problem> {
    let now = public.selling.clock().now();
    let mut sales: Vec<SaleOut> = public
        .selling
        .sales()
        .values()
        .map(|live| SaleOut::of(live, now))
        .collect();
    sales.sort_by(|a, b| a.starts_at.cmp(&b.starts_at).then_with(|| a.id.cmp(&b.id)));
    let tag = sales
        .iter_mut()
        .fold(0_u64, |sum, sale| sum.rotate_left(7) ^ tag_of(sale));
    Ok(tagged(
        call,
        tag,
        &SalesOut {
            sales,
            server_time: Some(now.rfc3339()),
        },
    ))
}

pub(super) fn show(public: &Public, call: &Call, id: &str) -> Result<Reply, Problem> {
    let live = public
        .selling
        .sale(id)
        .ok_or_else(|| Problem::new(Code::NotFound, "there is no sale with this id"))?;
    let mut sale = SaleOut::of(&live, public.selling.clock().now());
    Ok(tagged(call, tag_of(&mut sale), &sale))
}
