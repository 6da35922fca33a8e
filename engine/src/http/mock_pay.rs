//! The mock provider's own page: what is to be paid, and buttons for what a buyer, or a
//! bad day, may do. Plain HTML without a script; there only with `payment.provider =
//! "mock"`.

use std::fmt::Write as _;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use sha2::{Digest, Sha256};

use super::call::{Call, Unread};
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use crate::payment::{Ask, Mock, Press, Pressed};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:12vh auto;\
padding:0 1rem;color:#14232a;background:#f4f6f5}h1{font-size:1.25rem}b{font-size:1.75rem}\
form{display:inline}button{font:inherit;margin:.25rem .25rem .25rem 0;padding:.5rem 1rem;\
border:1px solid #52636b;border-radius:.5rem;background:#fff;cursor:pointer}\
button.pay{background:#0b6478;color:#fff}code{overflow-wrap:anywhere;font-size:.8rem}";

const BUTTONS: [(&str, &str, &str); 4] = [
    ("pay", "pay", "Pay"),
    ("fail", "", "Fail"),
    ("lie", "", "Pay another amount"),
    ("twice", "", "Pay twice"),
];

pub(super) async fn page(
    public: &Public,
    call: &Call,
    body: Unread,
    token: &str,
) -> Result<Reply, Problem> {
    // Nothing is read from it, but it must be off the wire before the answer.
    body.whole().await?;
    let missing = || {
        Problem::new(
            Code::NotFound,
            "there is no such payment, or its time is over",
        )
    };
    let mock: &Mock = public.payments.mock.as_deref().ok_or_else(missing)?;
    let ask = mock.find(token).ok_or_else(missing)?;
    if call.is_get() {
        return Ok(html(&ask, &choices(token)));
    }
    let press = call.query("do").unwrap_or("pay");
    let press = Press::parse(press).ok_or_else(|| {
        let detail = format!("do: {press:?} is not known; allowed are pay, fail, lie, twice");
        Problem::new(Code::InvalidField, detail)
    })?;
    let plan = mock
        .plan()
        .overridden(|key| call.query(key))
        .map_err(|e| Problem::new(Code::InvalidField, e.to_string()))?;
    match mock.press(token, press, &plan) {
        Pressed::Sent(n) => {
            let done = format!("<p>Thank you. {n} messages are on their way to the shop.</p>");
            Ok(html(&ask, &done))
        }
        Pressed::Missing => Err(missing()),
        Pressed::Busy => Err(Problem::new(
            Code::PaymentUnavailable,
            "too many messages are under way",
        )),
    }
}

fn choices(token: &str) -> String {
    let mut text = String::new();
    for (act, class, label) in BUTTONS {
        // Writing to a string cannot fail; a token that was found is hexadecimal.
        let _ = write!(
            text,
            "<form method=\"post\" action=\"/mock-pay/{token}?do={act}\">\
             <button class=\"{class}\">{label}</button></form>"
        );
    }
    text
}

fn html(ask: &Ask, middle: &str) -> Reply {
    let back = ask.return_url.as_deref().map_or(String::new(), |url| {
        format!("<p><a href=\"{}\">Back to the shop</a></p>", escaped(url))
    });
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Mock payment</title><style>{STYLE}</style>\
         <h1>Mock payment by {channel}. No money moves.</h1>\
         <p><b>{whole}.{cents:02} {currency}</b><br><code>{order}</code></p>{middle}{back}</html>",
        channel = ask.channel,
        whole = ask.amount.0 / 100,
        cents = ask.amount.0 % 100,
        currency = ask.currency,
        order = ask.order,
    );
    Reply::bytes(StatusCode::OK, "text/html; charset=utf-8", text.into())
        .fixed(CONTENT_SECURITY_POLICY, policy())
        .fixed(REFERRER_POLICY, "no-referrer")
        .fixed(CACHE_CONTROL, "no-store")
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let style = STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_buyer_wrote_cannot_leave_its_attribute() {
        let url = "https://shop.example/\"><script>alert('1')</script>&x=1";
        let safe = escaped(url);
        assert!(!safe.contains(['"', '<', '>', '\'']), "{safe}");
        assert!(safe.ends_with("&amp;x=1"));
    }
}
