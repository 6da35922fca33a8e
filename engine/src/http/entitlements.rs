//! What was paid for: what a buyer has, and licences for devices.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};

use super::call::{Call, Unread};
use super::orders::turned_away;
use super::respond::{Code, Problem, Reply};
use super::routes::Public;
use super::{auth, client, json};
use crate::admission::{Asker, Standing};
use crate::domain::entitlement::{Entitlement, Licensed};
use crate::domain::ids::{DeviceId, IdError, UserId, WorkId};
use crate::domain::time::UnixMs;
use crate::grant::{Denied, Held, LicenseResult, licensable};
use crate::sale::{FactError, Licensing};

pub(super) fn user(public: &Public, call: &Call) -> Result<UserId, Problem> {
    auth::user(&public.config.auth, call.peer, call.headers())
}

pub(super) fn field(name: &str, problem: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidField, format!("{name}: {problem}"))
}

pub(super) fn id<T>(name: &str, parsed: Result<T, IdError>) -> Result<T, Problem> {
    parsed.map_err(|e| field(name, e))
}

pub(super) fn broken(error: &FactError) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}

pub(super) fn answer(body: &impl Serialize) -> Reply {
    Reply::json(StatusCode::OK, body).fixed(CACHE_CONTROL, "no-store")
}

pub(super) fn shown<S: serde::Serializer>(at: &UnixMs, to: S) -> Result<S::Ok, S::Error> {
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
    let asker = Asker {
        user: &user,
        device: Some(&device),
        ip: client::address(call.peer, call.headers(), &public.config.trusted_proxies),
    };
    let mut standing = Standing::default();
    let (result, answer) = licensed(public, &asker, work, &device, &mut standing).await?;
    public.grants.metrics().licensed(result);
    public.policies.told(&standing, answer)
}

/// Only a licence that is new is asked of the desk, which has the last word on it, and
/// only that has a limit: every other answer is cheap, and writes nothing.
async fn licensed(
    public: &Public,
    asker: &Asker<'_>,
    work: WorkId,
    device: &DeviceId,
    standing: &mut Standing,
) -> Result<(LicenseResult, Result<Reply, Problem>), Problem> {
    let no = |why| (LicenseResult::Denied, Err(denied(why)));
    let held = public.grants.held_by(asker.user).map_err(|e| broken(&e))?;
    let now = public.grants.clock().now();
    let own = held.iter().map(|h| &h.entitlement);
    let entitlement = match licensable(own, &work, device, now) {
        Ok(entitlement) => entitlement,
        Err(why) => return Ok(no(why)),
    };
    let has =
        |stands: &Entitlement, kicked: Option<&DeviceId>| Ok(has_licence(stands, device, kicked));
    if entitlement.has(device) {
        return Ok((LicenseResult::Already, has(entitlement, None)));
    }
    let (order, id) = (entitlement.order, entitlement.id.clone());
    let said = public
        .selling
        .license(order, id, device.clone(), asker, standing)
        .await;
    let (licensed, stands) = match said {
        Err(shed) => return Ok((LicenseResult::Limited, Err(turned_away(shed)))),
        Ok(Licensing::Said(licensed, stands)) => (*licensed, stands),
        Ok(Licensing::Missing) => return Ok(no(Denied::NoEntitlement)),
        Ok(Licensing::Unknown) => {
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

pub(super) fn denied(denied: Denied) -> Problem {
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
