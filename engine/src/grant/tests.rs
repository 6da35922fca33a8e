//! The room on a real ledger, with a clock that is set by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use floodgate_ledger::{Draft, Group, LedgerConfig};
use prometheus::Registry;
use tempfile::TempDir;

use super::*;
use crate::config::{TokenKey, UrlTemplate};
use crate::domain::entitlement::WhenFull;
use crate::domain::ids::{EntitlementId, OrderId, SkuId};

const T: u64 = 1_793_000_000_000;
const MINUTE: u64 = 60_000;

struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::SeqCst))
    }
}

struct Room {
    ledger: Ledger,
    clock: Arc<Hand>,
    /// Of the run that is on.
    revoked: Arc<Revoked>,
    registry: Registry,
    _folder: TempDir,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = LedgerConfig::new(folder.path().join("ledger"));
        config.memtable_bytes = 4 << 20;
        Self {
            ledger: Ledger::open(config).expect("a ledger"),
            clock: Arc::new(Hand(AtomicU64::new(T))),
            registry: Registry::new(),
            revoked: Arc::default(),
            _folder: folder,
        }
    }

    /// A run of the engine on this ledger; each has the same key.
    fn run(&mut self, run: u64) -> Grants {
        self.registry = Registry::new();
        self.revoked = Arc::default();
        Grants::new(GrantParts {
            config: GrantConfig {
                keys: None,
                play_life: Duration::from_secs(180),
                download_life: Duration::from_secs(60),
                play_url: UrlTemplate::parse("https://cdn.example/{workId}").expect("valid"),
                download_url: UrlTemplate::parse("/get/{workId}").expect("valid"),
            },
            keys: TokenKeys {
                newest: TokenKey::new([7; 32]),
                others: Vec::new(),
            },
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            revoked: Arc::clone(&self.revoked),
            metrics: GrantMetrics::register(&self.registry).expect("metrics"),
            run,
            seed: 9,
        })
    }

    /// As a desk does, once it is durable.
    fn revoke(&self, id: &str) {
        let id = EntitlementId::parse(id).expect("valid");
        self.revoked.add(&id, self.clock.now());
    }

    fn later(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn put(&self, e: &Entitlement, version: u64) {
        let group = Group::one(Draft {
            kind: ENTITLEMENT,
            group: Bytes::from_static(b"films"),
            id: Bytes::copy_from_slice(e.id.as_bytes()),
            version,
            live: e.revoked_at.is_none(),
            owner: Some(Bytes::copy_from_slice(e.user.as_bytes())),
            uniques: Vec::new(),
            at_ms: T,
            body: codec::encode_entitlement(e).into(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let receipt = self.ledger.append(group).await.expect("handed over");
            receipt.await.expect("durable");
        });
    }

    fn count(&self, name: &str, labels: &[&str]) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name);
        let metrics = family.expect("a family").get_metric();
        let found = metrics.iter().find(|m| {
            labels
                .iter()
                .all(|text| m.get_label().iter().any(|l| l.value() == *text))
        });
        found.expect("a metric").get_counter().get_value() as u64
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("valid")
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("valid")
}

fn work(name: &str) -> WorkId {
    WorkId::parse(name).expect("valid")
}

/// Of ana, for the work `film`, with a licence for the device `tv`.
fn entitlement() -> Entitlement {
    Entitlement {
        id: EntitlementId::parse("ent_1").expect("valid"),
        order: OrderId::parse("01a17720-ca00-8003-8001-c01000900005").expect("valid"),
        user: user("ana"),
        sku: SkuId::parse("sku").expect("valid"),
        work: work("film"),
        granted_at: UnixMs(T),
        valid_until: UnixMs(T + 60 * MINUTE),
        devices_max: 2,
        when_full: WhenFull::Refuse,
        devices: vec![(device("tv"), UnixMs(T))],
        revoked_at: None,
    }
}

fn revoked() -> Entitlement {
    Entitlement {
        revoked_at: Some(UnixMs(T)),
        ..entitlement()
    }
}

fn token(grants: &Grants, kind: Kind) -> Issued {
    grants
        .issue(kind, &user("ana"), &device("tv"), &work("film"))
        .expect("the ledger reads")
        .expect("ana may")
}

fn denied(grants: &Grants, who: &str, on: &str, what: &str) -> Option<Denied> {
    let issued = grants.issue(Kind::Play, &user(who), &device(on), &work(what));
    issued.expect("the ledger reads").err()
}

fn check(grants: &Grants, kind: Kind, token: &Issued, on: &str, what: &str) -> Option<Refused> {
    grants
        .check(kind, token.token.as_bytes(), on.as_bytes(), what.as_bytes())
        .expect("the ledger reads")
        .err()
}

#[test]
fn a_token_opens_its_work_on_its_device_until_it_ends() {
    let mut room = Room::new();
    let grants = room.run(1);
    room.put(&entitlement(), 1);
    let play = token(&grants, Kind::Play);
    assert_eq!(play.expires_at, UnixMs(T + 3 * MINUTE));
    assert_eq!(
        play.url,
        format!("https://cdn.example/film?token={}", play.token)
    );
    assert_eq!(check(&grants, Kind::Play, &play, "tv", "film"), None);
    for (on, what) in [("pad", "film"), ("tv", "other"), ("", ""), ("TV", "film")] {
        let heard = check(&grants, Kind::Play, &play, on, what);
        assert_eq!(heard, Some(Refused::Foreign), "{on} {what}");
    }
    let kind = Some(Refused::Token(TokenError::Kind));
    assert_eq!(check(&grants, Kind::Download, &play, "tv", "film"), kind);
    let download = token(&grants, Kind::Download);
    assert_eq!(download.expires_at, UnixMs(T + MINUTE));
    assert_eq!(
        check(&grants, Kind::Download, &download, "tv", "film"),
        None
    );
    assert_eq!(check(&grants, Kind::Play, &download, "tv", "film"), kind);

    room.later(MINUTE);
    let expired = Some(Refused::Token(TokenError::Expired));
    assert_eq!(
        check(&grants, Kind::Download, &download, "tv", "film"),
        expired
    );
    assert_eq!(check(&grants, Kind::Play, &play, "tv", "film"), None);
    room.later(2 * MINUTE);
    assert_eq!(check(&grants, Kind::Play, &play, "tv", "film"), expired);
    // Also where it could be told from its words that it is foreign.
    assert_eq!(check(&grants, Kind::Play, &play, "pad", "film"), expired);

    let checks = |kind, result| room.count("floodgate_token_checks_total", &[kind, result]);
    assert_eq!(
        ["ok", "foreign", "kind", "expired", "forged"].map(|r| checks("play", r)),
        [2, 4, 1, 2, 0]
    );
    assert_eq!(
        ["ok", "foreign", "kind", "expired"].map(|r| checks("download", r)),
        [1, 0, 1, 1]
    );
}

#[test]
fn no_token_outlives_what_it_is_for() {
    let mut room = Room::new();
    let grants = room.run(1);
    room.put(&entitlement(), 1);
    room.later(59 * MINUTE);
    assert_eq!(
        token(&grants, Kind::Play).expires_at,
        UnixMs(T + 60 * MINUTE)
    );
    room.later(MINUTE);
    assert_eq!(denied(&grants, "ana", "tv", "film"), Some(Denied::Expired));
}

#[test]
fn who_has_nothing_gets_nothing_and_hears_why() {
    let mut room = Room::new();
    let grants = room.run(1);
    room.put(&entitlement(), 1);
    for (who, on, what, why) in [
        ("bob", "tv", "film", Denied::NoEntitlement),
        ("an", "tv", "film", Denied::NoEntitlement),
        ("ana-", "tv", "film", Denied::NoEntitlement),
        ("ana", "tv", "fil", Denied::NoEntitlement),
        ("ana", "pad", "film", Denied::DeviceNotLicensed),
    ] {
        assert_eq!(
            denied(&grants, who, on, what),
            Some(why),
            "{who} {on} {what}"
        );
    }
    assert!(grants.held_by(&user("bob")).expect("reads").is_empty());
    let held = grants.held_by(&user("ana")).expect("reads");
    assert_eq!(held[0].entitlement, entitlement());
    assert_eq!(held[0].sale.as_ref().map(SaleId::as_str), Some("films"));
}

#[test]
fn a_revocation_ends_tokens_that_are_about() {
    let mut room = Room::new();
    let grants = room.run(1);
    room.put(&entitlement(), 1);
    let play = token(&grants, Kind::Play);
    room.put(&revoked(), 2);
    assert_eq!(denied(&grants, "ana", "tv", "film"), Some(Denied::Revoked));
    room.revoke("ent_1");
    assert_eq!(
        check(&grants, Kind::Play, &play, "tv", "film"),
        Some(Refused::Revoked)
    );
    room.later(3 * MINUTE - 1);
    // As long as it lives, whatever else is revoked meanwhile.
    room.revoke("ent_2");
    assert_eq!(
        check(&grants, Kind::Play, &play, "tv", "film"),
        Some(Refused::Revoked)
    );
}

#[test]
fn a_restart_forgets_no_revocation_and_stops_no_player() {
    let mut room = Room::new();
    let before = room.run(1);
    room.put(&entitlement(), 1);
    let play = token(&before, Kind::Play);
    let after = room.run(2);
    assert_eq!(check(&after, Kind::Play, &play, "tv", "film"), None);
    room.put(&revoked(), 2);
    // Told to the run that is over, or to nobody.
    assert_eq!(
        check(&after, Kind::Play, &play, "tv", "film"),
        Some(Refused::Revoked)
    );
    assert_eq!(
        check(&before, Kind::Play, &play, "tv", "film"),
        None,
        "its memory"
    );
}

#[test]
fn a_token_of_another_ledger_is_worth_nothing_here() {
    let (mut theirs, mut ours) = (Room::new(), Room::new());
    let other = theirs.run(1);
    theirs.put(&entitlement(), 1);
    let play = token(&other, Kind::Play);
    let mut near = entitlement();
    near.id = EntitlementId::parse("ent_0").expect("valid");
    let grants = ours.run(2);
    ours.put(&near, 1);
    assert_eq!(
        check(&grants, Kind::Play, &play, "tv", "film"),
        Some(Refused::Revoked)
    );
}

#[test]
fn heartbeats_count_once_a_session_over_fresh_tokens() {
    let mut room = Room::new();
    let grants = room.run(1);
    let mut both = entitlement();
    both.devices.push((device("pad"), UnixMs(T)));
    room.put(&both, 1);
    let beat = |token: &Issued, session: &str, n| {
        let session = SessionId::parse(session).expect("valid");
        grants
            .beat(token.token.as_bytes(), &session, n)
            .expect("reads")
    };
    let first = token(&grants, Kind::Play);
    assert_eq!(beat(&first, "s", 1), Ok(Beat::Counted));
    assert_eq!(beat(&first, "s", 1), Ok(Beat::Duplicate { last: 1 }));
    room.later(2 * MINUTE);
    let fresh = token(&grants, Kind::Play);
    assert_eq!(beat(&fresh, "s", 1), Ok(Beat::Duplicate { last: 1 }));
    assert_eq!(beat(&fresh, "s", 2), Ok(Beat::Counted));
    // The old one is good as well, and late.
    assert_eq!(beat(&first, "s", 1), Ok(Beat::Duplicate { last: 2 }));
    let pad = grants
        .issue(Kind::Play, &user("ana"), &device("pad"), &work("film"))
        .expect("reads")
        .expect("may");
    assert_eq!(
        beat(&pad, "s", 1),
        Ok(Beat::Counted),
        "another device's own"
    );

    let download = token(&grants, Kind::Download);
    assert_eq!(
        beat(&download, "s", 9),
        Err(Refused::Token(TokenError::Kind))
    );
    room.later(MINUTE);
    assert_eq!(
        beat(&first, "s", 9),
        Err(Refused::Token(TokenError::Expired))
    );
    room.revoke("ent_1");
    assert_eq!(beat(&fresh, "s", 9), Err(Refused::Revoked));
    let beats = |result| room.count("floodgate_heartbeats_total", &[result]);
    assert_eq!(["counted", "duplicate"].map(beats), [3, 3]);
}
