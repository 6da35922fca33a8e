//! What was paid for: what a buyer has, licences for devices, tokens to play and to
//! download, and the questions of whoever serves the works.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName};
use serde::{Deserialize, Serialize};

use super::call::{Call, Unread};
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use super::{auth, json};
use crate::domain::entitlement::{Entitlement, Licensed};
use crate::domain::ids::{DeviceId, IdError, SessionId, UserId, WorkId};
use crate::domain::time::UnixMs;
use crate::grant::{Beat, Denied, Held, Kind, LicenseResult, Refused, TokenError, licensable};
use crate::sale::{FactError, Licensing};

const DEVICE: HeaderName = HeaderName::from_static("x-device-id");
const PLAY_TOKEN: HeaderName = HeaderName::from_static("x-play-token");
const DOWNLOAD_TOKEN: HeaderName = HeaderName::from_static("x-download-token");
/// Whole numbers that every reader of JSON keeps.
const NUMBER_MAX: u64 = (1 << 53) - 1;

fn user(public: &Public, call: &Call) -> Result<UserId, Problem> {
    auth::user(&public.config.auth, call.peer, call.headers())
}

fn field(name: &str, problem: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidField, format!("{name}: {problem}"))
}

fn id<T>(name: &str, parsed: Result<T, IdError>) -> Result<T, Problem> {
    parsed.map_err(|e| field(name, e))
}

fn broken(error: &FactError) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}

/// A header that may stand there once.
fn single<'a>(call: &'a Call, name: &HeaderName) -> Result<Option<&'a [u8]>, Problem> {
    let mut values = call.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.as_bytes())),
        (Some(_), Some(_)) => Err(field(name.as_str(), "stands there twice")),
    }
}

fn device(call: &Call) -> Result<DeviceId, Problem> {
    let value = single(call, &DEVICE)?
        .ok_or_else(|| field("X-Device-Id", "the header is missing; it names the device"))?;
    id("X-Device-Id", DeviceId::parse_bytes(value))
}

fn answer(body: &impl Serialize) -> Reply {
    Reply::json(StatusCode::OK, body).fixed(CACHE_CONTROL, "no-store")
}

fn shown<S: serde::Serializer>(at: &UnixMs, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceOut<'a> {
    device_id: &'a str,
    #[serde(serialize_with = "shown")]
    since: UnixMs,
}

fn devices(entitlement: &Entitlement) -> Vec<DeviceOut<'_>> {
    entitlement
        .devices
        .iter()
        .map(|(id, since)| DeviceOut {
            device_id: id.as_str(),
            since: *since,
        })
        .collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntitlementOut<'a> {
    entitlement_id: &'a str,
    order_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sale_id: Option<&'a str>,
    sku_id: &'a str,
    work_id: &'a str,
    status: &'static str,
    #[serde(serialize_with = "shown")]
    granted_at: UnixMs,
    #[serde(serialize_with = "shown")]
    valid_until: UnixMs,
    devices_max: u32,
    devices: Vec<DeviceOut<'a>>,
}

impl<'a> EntitlementOut<'a> {
    fn of(held: &'a Held, now: UnixMs) -> Self {
        let e = &held.entitlement;
        Self {
            entitlement_id: e.id.as_str(),
            order_id: e.order.to_string(),
            sale_id: held.sale.as_ref().map(|sale| sale.as_str()),
            sku_id: e.sku.as_str(),
            work_id: e.work.as_str(),
            status: e.status(now).name(),
            granted_at: e.granted_at,
            valid_until: e.valid_until,
            devices_max: e.devices_max,
            devices: devices(e),
        }
    }
}

pub(super) fn mine(public: &Public, call: &Call) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    struct Mine<'a> {
        entitlements: Vec<EntitlementOut<'a>>,
    }
    let user = user(public, call)?;
    let held = public.grants.held_by(&user).map_err(|e| broken(&e))?;
    let now = public.grants.clock().now();
    Ok(answer(&Mine {
        entitlements: held.iter().map(|h| EntitlementOut::of(h, now)).collect(),
    }))
}

/// A "no" is an answer here: the page shows why.
pub(super) fn play(public: &Public, call: &Call, work: &str) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Allowed<'a> {
        allowed: bool,
        reason: &'static str,
        play_token: &'a str,
        play_url: &'a str,
        #[serde(serialize_with = "shown")]
        expire_at: UnixMs,
    }
    #[derive(Serialize)]
    struct NotAllowed {
        allowed: bool,
        reason: &'static str,
    }
    let user = user(public, call)?;
    let device = device(call)?;
    let work = id("workId", WorkId::parse(work))?;
    let issued = public.grants.issue(Kind::Play, &user, &device, &work);
    Ok(match issued.map_err(|e| broken(&e))? {
        Ok(issued) => answer(&Allowed {
            allowed: true,
            reason: "OK",
            play_token: &issued.token,
            play_url: &issued.url,
            expire_at: issued.expires_at,
        }),
        Err(denied) => answer(&NotAllowed {
            allowed: false,
            reason: denied.name(),
        }),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LicenseIn<'a> {
    #[serde(borrow)]
    work_id: Cow<'a, str>,
    #[serde(borrow)]
    device_id: Cow<'a, str>,
}

pub(super) async fn license(public: &Public, call: &Call, body: Unread) -> Result<Reply, Problem> {
    let user = user(public, call)?;
    let body = body.json(call.headers()).await?;
    let asked: LicenseIn<'_> = json::read(&body)?;
    let work = id("workId", WorkId::parse(&asked.work_id))?;
    let device = id("deviceId", DeviceId::parse(&asked.device_id))?;
    let (result, answer) = licensed(public, &user, work, device).await?;
    public.grants.metrics().licensed(result);
    answer
}

/// Only a licence that is new is asked of the desk, which has the last word on it.
async fn licensed(
    public: &Public,
    user: &UserId,
    work: WorkId,
    device: DeviceId,
) -> Result<(LicenseResult, Result<Reply, Problem>), Problem> {
    let no = |why| (LicenseResult::Denied, Err(denied(why)));
    let held = public.grants.held_by(user).map_err(|e| broken(&e))?;
    let now = public.grants.clock().now();
    let own = held.iter().map(|h| &h.entitlement);
    let entitlement = match licensable(own, &work, &device, now) {
        Ok(entitlement) => entitlement,
        Err(why) => return Ok(no(why)),
    };
    let has =
        |stands: &Entitlement, kicked: Option<&DeviceId>| Ok(has_licence(stands, &device, kicked));
    if entitlement.has(&device) {
        return Ok((LicenseResult::Already, has(entitlement, None)));
    }
    let (order, id) = (entitlement.order, entitlement.id.clone());
    let said = public.selling.license(order, id, device.clone()).await;
    let (licensed, stands) = match said {
        Licensing::Said(licensed, stands) => (*licensed, stands),
        Licensing::Missing => return Ok(no(Denied::NoEntitlement)),
        Licensing::Unknown => {
            let detail = "the device may have its licence by now; ask again";
            let problem = Problem::new(Code::OutcomeUnknown, detail);
            return Ok((LicenseResult::Unknown, Err(problem)));
        }
    };
    Ok(match licensed {
        Licensed::Already => (LicenseResult::Already, has(&stands, None)),
        Licensed::Added { kicked: None, .. } => (LicenseResult::Added, has(&stands, None)),
        Licensed::Added {
            kicked: Some(gone), ..
        } => (LicenseResult::Kicked, has(&stands, Some(&gone))),
        Licensed::Full => {
            let n = stands.devices.len();
            let detail = format!("{n} devices have a licence for this work, and no more may");
            let problem = Problem::new(Code::DeviceLimit, detail);
            (LicenseResult::Full, Err(problem))
        }
        Licensed::Revoked => no(Denied::Revoked),
        Licensed::Expired => no(Denied::Expired),
    })
}

fn has_licence(stands: &Entitlement, device: &DeviceId, kicked: Option<&DeviceId>) -> Reply {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Has<'a> {
        work_id: &'a str,
        device_id: &'a str,
        #[serde(serialize_with = "shown")]
        since: UnixMs,
        devices: Vec<DeviceOut<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        kicked: Option<&'a str>,
    }
    let own = stands.devices.iter().find(|(id, _)| id == device);
    answer(&Has {
        work_id: stands.work.as_str(),
        device_id: device.as_str(),
        since: own.map_or(stands.granted_at, |(_, since)| *since),
        devices: devices(stands),
        kicked: kicked.map(DeviceId::as_str),
    })
}

fn denied(denied: Denied) -> Problem {
    let detail = match denied {
        Denied::NoEntitlement => "you have nothing that entitles you to this work",
        Denied::Revoked => "what entitled you to this work was given back",
        Denied::Expired => "what entitled you to this work has expired",
        Denied::DeviceNotLicensed => {
            "this device has no licence for this work; ask for one with POST /v1/licenses"
        }
    };
    Problem::new(Code::Forbidden, detail)
}

pub(super) fn download(public: &Public, call: &Call, work: &str) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Download<'a> {
        download_token: &'a str,
        download_url: &'a str,
        #[serde(serialize_with = "shown")]
        expire_at: UnixMs,
    }
    let user = user(public, call)?;
    let device = device(call)?;
    let work = id("workId", WorkId::parse(work))?;
    let issued = public.grants.issue(Kind::Download, &user, &device, &work);
    let issued = issued.map_err(|e| broken(&e))?.map_err(self::denied)?;
    Ok(answer(&Download {
        download_token: &issued.token,
        download_url: &issued.url,
        expire_at: issued.expires_at,
    }))
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Token(error) => Problem::new(
            Code::Unauthenticated,
            match error {
                TokenError::Forged => "the token is none of ours",
                TokenError::Kind => "the token is good for something else",
                TokenError::Expired => "the token has expired; ask for a new one",
                TokenError::Early => "the token is of another time; ask for a new one",
            },
        ),
        Refused::Foreign => {
            Problem::new(Code::Forbidden, "the token is for another device or work")
        }
        Refused::Revoked => {
            Problem::new(Code::Forbidden, "what entitled to this work was given back")
        }
    }
}

/// What a server of works asks about a request that came to it, in the query or in
/// headers (a subrequest hands on those of the request).
pub(super) fn check(public: &Public, call: &Call, kind: Kind) -> Result<Reply, Problem> {
    let header = match kind {
        Kind::Play => &PLAY_TOKEN,
        Kind::Download => &DOWNLOAD_TOKEN,
    };
    // A server that has nothing to fill in leaves it empty.
    let query = |name| call.query(name).filter(|value| !value.is_empty());
    let token = match query("token") {
        Some(token) => Some(token.as_bytes()),
        None => single(call, header)?,
    };
    let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
        Problem::new(
            Code::Unauthenticated,
            "neither ?token= nor its header is there",
        )
    })?;
    // Whoever names no device has another one than the token is for.
    let device = match query("device") {
        Some(device) => device.as_bytes(),
        None => single(call, &DEVICE)?.unwrap_or_default(),
    };
    let work = query("work")
        .ok_or_else(|| field("work", "is missing; it is the work that is asked for"))?;
    let checked = public.grants.check(kind, token, device, work.as_bytes());
    match checked.map_err(|e| broken(&e))? {
        Ok(()) => Ok(Reply::empty(StatusCode::NO_CONTENT).fixed(CACHE_CONTROL, "no-store")),
        Err(why) => Err(refused(why)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeartbeatIn<'a> {
    #[serde(borrow)]
    play_token: Cow<'a, str>,
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    sequence: i64,
    #[serde(default)]
    position_ms: Option<i64>,
}

pub(super) async fn heartbeat(
    public: &Public,
    call: &Call,
    body: Unread,
) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Heard<'a> {
        session_id: &'a str,
        sequence: u64,
        duplicate: bool,
    }
    let body = body.json(call.headers()).await?;
    let said: HeartbeatIn<'_> = json::read(&body)?;
    let number = |name: &str, n: i64| {
        u64::try_from(n)
            .ok()
            .filter(|n| *n <= NUMBER_MAX)
            .ok_or_else(|| {
                field(
                    name,
                    format!("{n} is out of range; allowed are 0 to {NUMBER_MAX}"),
                )
            })
    };
    let session = id("sessionId", SessionId::parse(&said.session_id))?;
    let sequence = number("sequence", said.sequence)?;
    if let Some(position) = said.position_ms {
        number("positionMs", position)?;
    }
    let beat = public
        .grants
        .beat(said.play_token.as_bytes(), &session, sequence);
    let (sequence, duplicate) = match beat.map_err(|e| broken(&e))?.map_err(refused)? {
        Beat::Counted => (sequence, false),
        // What stands, so that a player that lost count finds on.
        Beat::Duplicate { last } => (last, true),
    };
    Ok(answer(&Heard {
        session_id: session.as_str(),
        sequence,
        duplicate,
    }))
}
