//! Tokens: one to play or to download for who has a licence, and the questions of
//! players and of whoever serves the works.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName};
use serde::{Deserialize, Serialize};

use super::call::{Call, Unread};
use super::entitlements::{answer, broken, denied, field, id, shown, user};
use super::json;
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use crate::domain::ids::{DeviceId, SessionId, WorkId};
use crate::domain::time::UnixMs;
use crate::grant::{Beat, Kind, Refused, TokenError};

const DEVICE: HeaderName = HeaderName::from_static("x-device-id");
const PLAY_TOKEN: HeaderName = HeaderName::from_static("x-play-token");
const DOWNLOAD_TOKEN: HeaderName = HeaderName::from_static("x-download-token");
/// Whole numbers that every reader of JSON keeps.
const NUMBER_MAX: u64 = (1 << 53) - 1;

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
    let issued = issued.map_err(|e| broken(&e))?.map_err(denied)?;
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

/// What stands there once. Twice is not there: whoever asks for a client can hand on only
/// "no" to it, and takes a 400 for a fault of its own.
fn only<'a>(call: &'a Call, name: &HeaderName) -> Option<&'a [u8]> {
    single(call, name).ok().flatten()
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
        None => only(call, header),
    };
    let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
        Problem::new(
            Code::Unauthenticated,
            "neither ?token= nor its header is there once",
        )
    })?;
    // Whoever names no device has another one than the token is for.
    let device = match query("device") {
        Some(device) => device.as_bytes(),
        None => only(call, &DEVICE).unwrap_or_default(),
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
