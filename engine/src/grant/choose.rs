//! Which of a buyer's entitlements counts: a work may have been bought twice.

use crate::domain::entitlement::{Entitlement, Status, WhenFull};
use crate::domain::ids::{DeviceId, WorkId};
use crate::domain::time::UnixMs;

/// Why there is none. What comes later got further, and is what the buyer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    NoEntitlement,
    Revoked,
    Expired,
    DeviceNotLicensed,
}

impl Denied {
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEntitlement => "NO_ENTITLEMENT",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
            Self::DeviceNotLicensed => "DEVICE_NOT_LICENSED",
        }
    }
}

/// The one under which this device may use the work: of several, the one that is valid
/// longest.
pub fn usable<'a>(
    own: impl IntoIterator<Item = &'a Entitlement>,
    work: &WorkId,
    device: &DeviceId,
    now: UnixMs,
) -> Result<&'a Entitlement, Denied> {
    let active = active(own, work, now)?;
    active
        .into_iter()
        .filter(|e| e.has(device))
        .max_by_key(|e| e.valid_until)
        .ok_or(Denied::DeviceNotLicensed)
}

/// The one to ask for a licence: one that the device has, else one with room, else one
/// that makes room, else one that will say no; of several, the one that is valid longest.
pub fn licensable<'a>(
    own: impl IntoIterator<Item = &'a Entitlement>,
    work: &WorkId,
    device: &DeviceId,
    now: UnixMs,
) -> Result<&'a Entitlement, Denied> {
    let rank = |e: &Entitlement| match e.when_full {
        _ if e.has(device) => 3,
        _ if e.has_room() => 2,
        WhenFull::KickOldest => 1,
        WhenFull::Refuse => 0,
    };
    let active = active(own, work, now)?;
    active
        .into_iter()
        .max_by_key(|e| (rank(e), e.valid_until))
        .ok_or(Denied::NoEntitlement)
}

/// At least one, or why there is none.
fn active<'a>(
    own: impl IntoIterator<Item = &'a Entitlement>,
    work: &WorkId,
    now: UnixMs,
) -> Result<Vec<&'a Entitlement>, Denied> {
    let mut denied = Denied::NoEntitlement;
    let mut active = Vec::new();
    for entitlement in own.into_iter().filter(|e| e.work == *work) {
        match entitlement.status(now) {
            Status::Active => active.push(entitlement),
            Status::Revoked => denied = denied.max(Denied::Revoked),
            Status::Expired => denied = denied.max(Denied::Expired),
        }
    }
    if active.is_empty() {
        return Err(denied);
    }
    Ok(active)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{EntitlementId, OrderId, SkuId, UserId};

    const NOW: UnixMs = UnixMs(1_000);

    fn work() -> WorkId {
        WorkId::parse("w").expect("valid")
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::parse(name).expect("valid")
    }

    fn one(id: &str, until: u64, places: u32, kick: bool, devices: &[&str]) -> Entitlement {
        Entitlement {
            id: EntitlementId::parse(id).expect("valid"),
            order: OrderId::parse("01a17720-ca00-8003-8001-c01000900005").expect("valid"),
            user: UserId::parse("ana").expect("valid"),
            sku: SkuId::parse("s").expect("valid"),
            work: work(),
            granted_at: UnixMs(1),
            valid_until: UnixMs(until),
            devices_max: places,
            when_full: if kick {
                WhenFull::KickOldest
            } else {
                WhenFull::Refuse
            },
            devices: devices.iter().map(|d| (device(d), UnixMs(2))).collect(),
            revoked_at: None,
        }
    }

    #[test]
    fn a_device_plays_under_what_it_is_licensed_for_and_valid_longest() {
        let own = [
            one("a", 5_000, 2, false, &["tv"]),
            one("b", 9_000, 2, false, &["tv", "pad"]),
            one("c", 99_000, 2, false, &[]),
            one("d", 1_000, 2, false, &["tv", "old"]),
        ];
        let usable = |name: &str| {
            usable(&own, &work(), &device(name), NOW).map(|e| e.id.as_str().to_owned())
        };
        assert_eq!(usable("tv").as_deref(), Ok("b"));
        assert_eq!(usable("pad").as_deref(), Ok("b"));
        assert_eq!(usable("old"), Err(Denied::DeviceNotLicensed));
    }

    #[test]
    fn why_not_is_what_got_furthest() {
        let why = |own: &[Entitlement]| {
            let used = usable(own, &work(), &device("tv"), NOW).map(|_| ());
            let licensed = licensable(own, &work(), &device("tv"), NOW).map(|_| ());
            (used, licensed)
        };
        let expired = one("e", 1_000, 1, false, &["tv"]);
        let revoked = Entitlement {
            revoked_at: Some(UnixMs(3)),
            ..one("r", 9_000, 1, false, &["tv"])
        };
        let other = Entitlement {
            work: WorkId::parse("x").expect("valid"),
            ..one("o", 9_000, 1, false, &["tv"])
        };
        let twice = |denied| (Err(denied), Err(denied));
        assert_eq!(why(&[]), twice(Denied::NoEntitlement));
        assert_eq!(
            why(std::slice::from_ref(&other)),
            twice(Denied::NoEntitlement)
        );
        assert_eq!(why(&[other, revoked.clone()]), twice(Denied::Revoked));
        assert_eq!(
            why(&[expired.clone(), revoked.clone()]),
            twice(Denied::Expired)
        );
        let active = one("a", 9_000, 1, false, &[]);
        let not_yet = (Err(Denied::DeviceNotLicensed), Ok(()));
        assert_eq!(why(&[expired, active, revoked]), not_yet);
    }

    #[test]
    fn a_licence_is_asked_where_it_costs_nobody_else() {
        let mut own = vec![one("full", 9_000, 1, false, &["x"])];
        let mut expect = |more: Option<Entitlement>, id: &str| {
            own.splice(0..0, more);
            let chosen = licensable(&own, &work(), &device("tv"), NOW).expect("active");
            assert_eq!(chosen.id.as_str(), id);
        };
        expect(None, "full");
        expect(Some(one("kick", 8_000, 1, true, &["x"])), "kick");
        expect(Some(one("room", 7_000, 2, false, &["x"])), "room");
        expect(Some(one("longer", 7_500, 2, false, &["x"])), "longer");
        expect(Some(one("has", 6_000, 1, false, &["tv"])), "has");
    }
}
