//! Orders: buy, look, cancel. Every read is by (user, order): another's is 404.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, LOCATION};
use serde::Serialize;

use super::call::{Call, Unread};
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use super::wire::{LimitOut, OrderIn, OrderOut, PreviewItemOut, PreviewOut};
use super::{auth, client, json};
use crate::admission::{Limit, Shed, Standing};
use crate::domain::ids::{IdemKey, OrderId, UserId};
use crate::domain::money::Cents;
use crate::domain::order::{Order, OrderEvent};
use crate::sale::{Bought, Changed, FactError, LiveSale, Purchase, Refusal};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const PAGE_MAX: usize = 100;
/// Orders that one call reads to find those with a status.
const READ_MAX: usize = 500;

pub(super) fn user(public: &Public, call: &Call) -> Result<UserId, Problem> {
    auth::user(&public.config.auth, call.peer, call.headers())
}

fn key(call: &Call) -> Result<IdemKey, Problem> {
    let mut values = call.headers().get_all(KEY).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Problem::new(
            Code::KeyMissing,
            "send an Idempotency-Key: one per purchase, the same on retries",
        )),
        (Some(_), Some(_)) => Err(Problem::new(
            Code::KeyInvalid,
            "the Idempotency-Key stands there twice",
        )),
        (Some(value), None) => IdemKey::parse_bytes(value.as_bytes())
            .map_err(|e| Problem::new(Code::KeyInvalid, format!("the Idempotency-Key {e}"))),
    }
}

fn parse<'a>(public: &Public, body: &'a [u8]) -> Result<(OrderIn<'a>, Arc<LiveSale>), Problem> {
    let order: OrderIn<'a> = json::read(body)?;
    crate::domain::ids::SaleId::parse(&order.sale_id)
        .map_err(|e| Problem::new(Code::InvalidField, format!("saleId: {e}")))?;
    let live = public
        .selling
        .sale(&order.sale_id)
        .ok_or_else(|| Problem::new(Code::NotFound, "saleId: there is no sale with this id"))?;
    Ok((order, live))
}

fn one(status: StatusCode, order: &Order) -> Reply {
    Reply::json(status, &OrderOut::of(order)).fixed(CACHE_CONTROL, "no-store")
}

/// With the path under which the order is found from now on.
fn located(status: StatusCode, order: &Order) -> Reply {
    const FOLDER: &[u8] = b"/v1/orders/";
    let mut path = [0_u8; FOLDER.len() + 36];
    let (folder, id) = path.split_at_mut(FOLDER.len());
    folder.copy_from_slice(FOLDER);
    id.copy_from_slice(order.id.text().as_bytes());
    one(status, order).header(LOCATION, &path)
}

/// Room on a disk is made by people: to ask every second helps nobody.
const NO_ROOM_RETRY: Duration = Duration::from_secs(10);

/// Whatever the cause (start, end, a desk that closed, a lease of ids that ran out
/// while the process was frozen): nothing happened, so the same key is safe.
fn not_ready() -> Problem {
    Problem::new(
        Code::NotReady,
        "the engine is not ready; ask again with the same key",
    )
}

pub(super) async fn create(public: &Public, call: &Call, body: Unread) -> Result<Reply, Problem> {
    let user = user(public, call)?;
    let key = key(call)?;
    let body = body.json(call.headers()).await?;
    let (order, live) = parse(public, &body)?;
    let units = order.units(live.sale())?;
    let device = order.device()?;
    if !public.ready.load(Ordering::Relaxed) {
        return Err(not_ready());
    }
    let purchase = Purchase {
        user,
        key,
        units,
        device,
        ip: client::address(call.peer, call.headers(), &public.config.trusted_proxies),
    };
    let mut standing = Standing::default();
    let bought = public.selling.buy(&live, purchase, &mut standing).await;
    let answer = match bought {
        Bought::New(order) => Ok(located(StatusCode::CREATED, &order)),
        Bought::Replay(order) => Ok(located(StatusCode::OK, &order).fixed(REPLAYED, "true")),
        Bought::Refused(refusal) => Err(refused(refusal, &live)),
        Bought::Shed(shed) => Err(turned_away(shed)),
        Bought::InProgress => Err(Problem::new(
            Code::KeyInProgress,
            "ask again with the same key",
        )),
        Bought::Unknown => Err(Problem::new(
            Code::OutcomeUnknown,
            "units may have been set aside; only the same key tells",
        )),
        Bought::NoRoom => Err(Problem::new(
            Code::NotReady,
            "sales are paused: the engine's disk is nearly full; nothing was set aside, ask \
             again later with the same key",
        )
        .retry_after(NO_ROOM_RETRY)),
        Bought::NotReady(why) => {
            tracing::debug!(why, "not ready");
            Err(not_ready())
        }
    };
    public.policies.told(&standing, answer)
}

pub(super) fn turned_away(shed: Shed) -> Problem {
    let later = |retry_after| {
        Problem::new(Code::Throttled, "nothing was set aside; ask again later")
            .retry_after(retry_after)
    };
    match shed {
        Shed::Throttled { retry_after }
        | Shed::QueueFull { retry_after }
        | Shed::Busy { retry_after } => later(retry_after),
        Shed::Limited { limit, retry_after } => {
            const NOTHING: &str = "nothing was set aside";
            let (who, what) = match limit {
                Limit::User => ("this buyer asks", NOTHING),
                Limit::Device => ("this device asks", NOTHING),
                Limit::Ip => ("buyers at this address ask", NOTHING),
                Limit::Licenses => ("this buyer asks for licences", "no device got or lost one"),
            };
            let detail = format!("{who} too often; {what}, ask again later");
            Problem::new(Code::RateLimited, detail).retry_after(retry_after)
        }
        Shed::Denied => Problem::new(Code::Forbidden, "this buyer or address may not buy here"),
        Shed::Stopping => not_ready(),
    }
}

fn refused(refusal: Refusal, live: &LiveSale) -> Problem {
    let sale = live.sale();
    match refusal {
        Refusal::NotOpen => Problem::new(Code::SaleNotOpen, format!("opens at {}", sale.starts_at)),
        Refusal::Paused => Problem::new(Code::SalePaused, "units are safe; ask again later"),
        Refusal::Ended => Problem::new(Code::SaleEnded, "no more orders are taken"),
        Refusal::NotEnough => Problem::new(
            Code::StockNotEnough,
            "fewer units are left than were asked for",
        ),
        Refusal::OverLimit => Problem::new(
            Code::LimitExceeded,
            format!(
                "a buyer may have {} units in {} orders",
                sale.units_per_user, sale.orders_per_user_max
            ),
        ),
        Refusal::KeyReused => Problem::new(
            Code::KeyReused,
            "this key named another SKU, quantity or device before",
        ),
    }
}

pub(super) async fn preview(public: &Public, call: &Call, body: Unread) -> Result<Reply, Problem> {
    let user = user(public, call)?;
    let body = body.json(call.headers()).await?;
    let (order, live) = parse(public, &body)?;
    let units = order.units(live.sale())?;
    order.device()?;
    let sale = live.sale();
    let asked: u32 = units.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n));
    let amount = units.iter().try_fold(Cents(0), |sum, (at, n)| {
        sum.plus(sale.skus[*at].price.times(*n)?)
    });
    let preview = PreviewOut {
        sale_id: sale.id.as_str(),
        phase: live.phase(public.selling.clock().now()).name(),
        items: units
            .iter()
            .map(|(at, n)| PreviewItemOut {
                sku_id: sale.skus[*at].id.as_str(),
                quantity: *n,
                price_cent: sale.skus[*at].price.0,
                enough: live.available(*at) >= u64::from(*n),
            })
            .collect(),
        pay_amount_cent: amount
            .ok_or_else(|| Problem::new(Code::InvalidField, "items: the amount is too large"))?
            .0,
        currency: sale.skus[0].currency.as_str(),
        limit: LimitOut {
            units_per_user: sale.units_per_user,
            units_used: live.units_of(&user),
            allowed: live.allows(&user, asked),
        },
    };
    Ok(Reply::json(StatusCode::OK, &preview).fixed(CACHE_CONTROL, "no-store"))
}

pub(super) fn not_found() -> Problem {
    Problem::new(Code::NotFound, "you have no order with this id")
}

pub(super) fn broken(error: &FactError) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}

pub(super) fn show(public: &Public, call: &Call, id: &str) -> Result<Reply, Problem> {
    let user = user(public, call)?;
    let id = OrderId::parse(id).ok_or_else(not_found)?;
    let order = public
        .selling
        .order(&user, id)
        .map_err(|e| broken(&e))?
        .ok_or_else(not_found)?;
    Ok(one(StatusCode::OK, &order))
}

pub(super) async fn cancel(
    public: &Public,
    call: &Call,
    body: Unread,
    id: &str,
) -> Result<Reply, Problem> {
    let user = user(public, call)?;
    // Nothing is read from it, but it must be off the wire before the answer.
    body.whole().await?;
    let id = OrderId::parse(id).ok_or_else(not_found)?;
    public
        .selling
        .order(&user, id)
        .map_err(|e| broken(&e))?
        .ok_or_else(not_found)?;
    match public.selling.change(id, OrderEvent::Cancel).await {
        Changed::Stands { order, .. } => Ok(one(StatusCode::OK, &order)),
        Changed::Illegal(order) | Changed::Unproven(order) => Err(Problem::new(
            Code::OrderStateInvalid,
            format!("an order that is {} cannot be canceled", order.state.name()),
        )),
        Changed::Missing(_) => Err(not_found()),
        Changed::Unknown => Err(Problem::new(
            Code::OutcomeUnknown,
            "look at the order again",
        )),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MineOut<'a> {
    orders: Vec<OrderOut<'a>>,
    next_cursor: Option<String>,
}

pub(super) fn mine(public: &Public, call: &Call) -> Result<Reply, Problem> {
    let user = user(public, call)?;
    let field =
        |name: &str, what: &str| Problem::new(Code::InvalidField, format!("{name}: {what}"));
    let limit = match call.query("limit") {
        None => 20,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|n| (1..=PAGE_MAX).contains(n))
            .ok_or_else(|| field("limit", &format!("allowed are 1 to {PAGE_MAX}")))?,
    };
    let before = match call.query("cursor") {
        None | Some("") => None,
        Some(text) => {
            Some(OrderId::parse(text).ok_or_else(|| field("cursor", "not one that a page gave"))?)
        }
    };
    let status = call.query("status").filter(|s| !s.is_empty());
    if let Some(status) = status
        && ![
            "PENDING_PAYMENT",
            "PAID",
            "DELIVERED",
            "CLOSED",
            "REFUND_DUE",
            "REFUNDED",
        ]
        .contains(&status)
    {
        return Err(field(
            "status",
            "allowed are PENDING_PAYMENT, PAID, DELIVERED, CLOSED, REFUND_DUE, REFUNDED",
        ));
    }
    // A page that a filter leaves short, or empty, has a cursor as long as there is more.
    let read_max = if status.is_some() { READ_MAX } else { limit };
    let own = public
        .selling
        .orders_of(&user, before, limit, read_max, |order| {
            status.is_none_or(|s| order.state.name() == s)
        })
        .map_err(|e| broken(&e))?;
    let out = MineOut {
        orders: own.orders.iter().map(OrderOut::of).collect(),
        next_cursor: own.next.map(|id| id.to_string()),
    };
    Ok(Reply::json(StatusCode::OK, &out).fixed(CACHE_CONTROL, "no-store"))
}
