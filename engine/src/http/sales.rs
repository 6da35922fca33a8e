//! The promotion page, and sales as everybody sees them.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG};
use serde::Serialize;

use super::call::Call;
use super::fixed::Fixed;
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use super::wire::SaleOut;

static PAGE: Fixed = Fixed::new(
    "text/html; charset=utf-8",
    include_bytes!("page/index.html"),
);
const POLICY: &str = include_str!("page/csp.txt");

pub(super) fn page(call: &Call) -> Reply {
    PAGE.answer(call)
        .fixed(CONTENT_SECURITY_POLICY, POLICY.trim_ascii_end())
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
    let reply = if call.has(&tag) {
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
