//! Paying: a session for an order, how it stands, and what the provider tells.

use std::time::Instant;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName};
use serde::{Deserialize, Serialize};

use super::call::{Call, Unread};
use super::json;
use super::orders::{broken, not_found, user};
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use super::wire::PaymentOut;
use crate::domain::callback::{Callback, RawCallback};
use crate::domain::ids::{OrderId, PaymentId};
use crate::domain::order::Order;
use crate::domain::payment::{Payment, PaymentState};
use crate::domain::sign::{self, Signed};
use crate::payment::{CallbackResult, Prepaid, Session};
use crate::sale::Captured;

const RETURN_URL_BYTES_MAX: usize = 2_048;

static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PrepayIn {
    channel: String,
    #[serde(default)]
    return_url: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionOut<'a> {
    channel: &'a str,
    prepay_token: &'a str,
    pay_url: &'a str,
    expire_at: String,
}

impl<'a> SessionOut<'a> {
    fn of(channel: &'a str, session: &'a Session) -> Self {
        Self {
            channel,
            prepay_token: &session.token,
            pay_url: &session.pay_url,
            expire_at: session.expires_at.rfc3339(),
        }
    }
}

/// The buyer's own order.
fn own(public: &Public, call: &Call, id: &str) -> Result<Order, Problem> {
    let user = user(public, call)?;
    let id = OrderId::parse(id).ok_or_else(not_found)?;
    let order = public.selling.order(&user, id).map_err(|e| broken(&e))?;
    order.ok_or_else(not_found)
}

/// A page that a browser may be sent to afterwards: nothing that runs in it.
fn return_url(text: Option<String>) -> Result<Option<String>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let lower = text.get(..8).unwrap_or(&text).to_ascii_lowercase();
    let fits = (lower.starts_with("https://") || lower.starts_with("http://"))
        && text.len() <= RETURN_URL_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(Some(text));
    }
    Err(Problem::new(
        Code::InvalidField,
        format!(
            "returnUrl: allowed is an address that begins with https:// or http://, of at most \
             {RETURN_URL_BYTES_MAX} ASCII characters without spaces"
        ),
    ))
}

pub(super) async fn prepay(
    public: &Public,
    call: &Call,
    body: Unread,
    id: &str,
) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        order_id: String,
        #[serde(flatten)]
        session: SessionOut<'a>,
        amount_cent: u64,
        currency: &'a str,
        pay_deadline_at: String,
    }
    user(public, call)?;
    let body = body.json(call.headers()).await?;
    let asked: PrepayIn = json::read(&body)?;
    let channel = public
        .payments
        .channel(&asked.channel)
        .map_err(|e| Problem::new(Code::InvalidField, format!("channel: {e}")))?;
    let return_url = return_url(asked.return_url)?;
    let order = own(public, call, id)?;
    let prepaid = public
        .payments
        .prepay(&public.selling, order, channel.clone(), return_url)
        .await;
    match prepaid {
        Prepaid::Open(order, session) => {
            let out = Out {
                order_id: order.id.to_string(),
                session: SessionOut::of(channel.as_str(), &session),
                amount_cent: order.pay_amount().0,
                currency: order.currency.as_str(),
                pay_deadline_at: order.pay_deadline.rfc3339(),
            };
            Ok(Reply::json(StatusCode::OK, &out).fixed(CACHE_CONTROL, "no-store"))
        }
        Prepaid::Illegal(order) => Err(Problem::new(
            Code::OrderStateInvalid,
            format!("an order that is {} cannot be paid", order.state.name()),
        )),
        Prepaid::Over => Err(Problem::new(
            Code::OrderStateInvalid,
            "the time to pay this order is over",
        )),
        Prepaid::Missing => Err(not_found()),
        Prepaid::Unavailable { why, retry_after } => {
            Err(Problem::new(Code::PaymentUnavailable, why).retry_after(retry_after))
        }
        Prepaid::Unknown => Err(Problem::new(
            Code::OutcomeUnknown,
            "the order may have got its time to pay; ask again",
        )),
    }
}

pub(super) fn status(public: &Public, call: &Call, id: &str) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        order_id: String,
        order_status: &'static str,
        in_progress: bool,
        payments: Vec<PaymentOut<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<SessionOut<'a>>,
        /// Those one may choose from; none where nobody takes payments.
        channels: Vec<&'a str>,
    }
    let order = own(public, call, id)?;
    let payments = payments_of(public, &order)?;
    let now = public.selling.clock().now();
    let waits = order.state.is_held();
    let session = public.payments.session(order.id, now).filter(|_| waits);
    let out = Out {
        order_id: order.id.to_string(),
        order_status: order.state.name(),
        in_progress: session.is_some(),
        payments: payments.iter().map(PaymentOut::of).collect(),
        session: session.as_ref().map(|(c, s)| SessionOut::of(c.as_str(), s)),
        channels: public
            .payments
            .channels()
            .iter()
            .map(|c| c.as_str())
            .collect(),
    };
    Ok(Reply::json(StatusCode::OK, &out).fixed(CACHE_CONTROL, "no-store"))
}

fn payments_of(public: &Public, order: &Order) -> Result<Vec<Payment>, Problem> {
    let mut payments = public
        .selling
        .payments_of(order.id)
        .map_err(|e| broken(&e))?;
    payments.sort_by(|a, b| (a.received_at, &a.id).cmp(&(b.received_at, &b.id)));
    Ok(payments)
}

/// What a provider tells. Nothing is read from it before its signature is right, and
/// whatever is told twice is answered twice.
pub(super) async fn callback(public: &Public, call: &Call, body: Unread) -> Result<Reply, Problem> {
    let started = Instant::now();
    let answer = answer_callback(public, call, body).await;
    let metrics = &public.payments.metrics;
    metrics
        .callback_seconds
        .observe(started.elapsed().as_secs_f64());
    let (result, answer) = match answer {
        Ok((result, reply)) => (result, Ok(reply)),
        Err((result, problem)) => (result, Err(problem)),
    };
    metrics.callback(result);
    answer
}

type Answered = Result<(CallbackResult, Reply), (CallbackResult, Problem)>;

async fn answer_callback(public: &Public, call: &Call, body: Unread) -> Answered {
    // Whoever sent it, nobody could look at the signature.
    let unread = |problem| (CallbackResult::Unread, problem);
    let body = body.whole().await.map_err(unread)?;
    // The sender's clock is held against the machine's, which may be right by now.
    let now = public.selling.clock().wall();
    let header = |name: &HeaderName| {
        // Two of one header are none: another reader may take the other one.
        let mut all = call.headers().get_all(name).iter();
        all.next()
            .filter(|_| all.next().is_none())
            .map(|v| v.as_bytes())
    };
    let signed = Signed {
        id: header(&WEBHOOK_ID),
        timestamp: header(&WEBHOOK_TIMESTAMP),
        signature: header(&WEBHOOK_SIGNATURE),
    };
    if let Err(error) = sign::verify(&public.payments.secrets, signed, &body, now) {
        // An alarm by metric, not a line for each guess.
        tracing::debug!(%error, peer = %call.peer, "a callback is not believed");
        let problem = Problem::new(Code::Unauthenticated, error.to_string());
        return Err((CallbackResult::Unsigned, problem));
    }
    let callback = read(&body).map_err(|problem| {
        // Money may have moved, and this is all that is known of it here.
        let id = signed.id.map(|id| String::from_utf8_lossy(id).into_owned());
        tracing::warn!(webhook = id, why = %problem.detail, "a signed callback cannot be read");
        (CallbackResult::Malformed, problem)
    })?;
    if !callback.success {
        let id = callback.payment_id();
        let out = Told::of(&callback, &id, "IGNORED", false);
        return Ok((CallbackResult::Ignored, Reply::json(StatusCode::OK, &out)));
    }
    capture(public, &callback).await
}

fn read(body: &[u8]) -> Result<Callback, Problem> {
    let raw: RawCallback<'_> = json::read(body)?;
    raw.check()
        .map_err(|e| Problem::new(Code::InvalidField, e.to_string()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    payment_id: &'a str,
    order_id: &'a str,
    status: &'static str,
    replayed: bool,
}

impl<'a> Told<'a> {
    fn of(
        callback: &'a Callback,
        payment: &'a PaymentId,
        status: &'static str,
        replayed: bool,
    ) -> Self {
        Self {
            payment_id: payment.as_str(),
            order_id: &callback.order_text,
            status,
            replayed,
        }
    }
}

async fn capture(public: &Public, callback: &Callback) -> Answered {
    let now = public.selling.clock().now();
    let (payment, replayed) = match public.selling.capture(callback.captured(now)).await {
        Captured::Stands { payment, replayed } => (payment, replayed),
        // A capture is never refused; whoever hears this says it again.
        Captured::Illegal(_) | Captured::Missing | Captured::Unknown => {
            let detail = "it is not known whether the payment is recorded; tell it again";
            let problem = Problem::new(Code::OutcomeUnknown, detail);
            return Err((CallbackResult::Unknown, problem));
        }
    };
    let payments = &public.payments;
    // Told again, it says nothing of a session that was opened since.
    if let Some(order) = payment.order.filter(|_| !replayed) {
        payments.forget(order);
    }
    let result = if replayed {
        match callback.conflict(&payment) {
            None => CallbackResult::Replayed,
            Some(what) => {
                tracing::warn!(
                    payment = %payment.id, channel = %payment.channel, txn = %callback.txn, what,
                    "a transaction is told again, and something else this time; the first counts"
                );
                CallbackResult::Conflict
            }
        }
    } else {
        let delay = now.since(callback.paid_at).as_secs_f64();
        payments.metrics.callback_delay_seconds.observe(delay);
        match payment.state {
            PaymentState::Applied => CallbackResult::Applied,
            PaymentState::RefundDue => CallbackResult::RefundDue,
            PaymentState::Refunded => CallbackResult::Refunded,
            PaymentState::Captured | PaymentState::Review => {
                tracing::warn!(payment = %payment.id, why = payment.note, "a payment needs a person");
                CallbackResult::Review
            }
        }
    };
    let out = Told::of(callback, &payment.id, payment.state.name(), replayed);
    Ok((result, Reply::json(StatusCode::OK, &out)))
}
