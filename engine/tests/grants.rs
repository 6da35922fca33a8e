//! Grants: from the definition of a sale to the device that plays.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use floodgate_engine::config::{TokenKey, TokenKeys};
use floodgate_engine::domain::entitlement::id_of;
use floodgate_engine::domain::ids::{DeviceId, OrderId, SkuId, UserId, WorkId};
use floodgate_engine::domain::sign::Secret;
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::grant::token::{Claims, Keys, Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::{Answer, Engine, call, open_sale};

const DEFINITION: &str = r#"{"id":"films","name":"Films","startsAt":"2020-01-01T00:00:00Z",
    "endsAt":"2099-01-01T00:00:00Z","unitsPerUser":9,"skus":[
    {"id":"book","name":"Book","priceCent":100,"currency":"EUR","units":9},
    {"id":"film","name":"Film","priceCent":100,"currency":"EUR","units":9,"grant":GRANT}]}"#;

fn engine() -> (TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 1, 1, ""));
    (folder, engine)
}
#[test]
fn a_sale_says_what_its_skus_grant() {
    let (_folder, engine) = engine();
    let create = |grant: &str| {
        let body = DEFINITION.replace("GRANT", grant);
        engine.admin("POST", "/admin/v1/sales", &body)
    };
    for (grant, code, said) in [
        (
            r#"["film",30,5,"refuse"]"#,
            "MALFORMED_BODY",
            "expected an object",
        ),
        (
            r#"{"validDays":30}"#,
            "MALFORMED_BODY",
            "missing field `workId`",
        ),
        (
            r#"{"workId":"a/b","validDays":30}"#,
            "INVALID_FIELD",
            "skus[1].grant.workId: has a character that is not allowed",
        ),
        (
            r#"{"workId":"w","validDays":0}"#,
            "INVALID_FIELD",
            "skus[1].grant.validDays: 0 is out of range; allowed are 1 to 3650",
        ),
        (
            r#"{"workId":"w","validDays":1,"whenFull":"drop"}"#,
            "INVALID_FIELD",
            "allowed are \"refuse\" and \"kick_oldest\"",
        ),
    ] {
        let answer = create(grant);
        assert_eq!(answer.code(), (400, code), "{answer:?}");
        let detail = answer.json["detail"].as_str().expect("a detail");
        assert!(detail.contains(said), "{detail}");
    }
    let made = create(r#"{"workId":"w","validDays":30}"#);
    assert_eq!(made.status, 201, "{made:?}");
    let whole = r#"{"workId":"w","validDays":30,"devicesMax":5,"whenFull":"refuse"}"#;
    assert_eq!(create(whole).status, 200, "the same, with its defaults");
    let other = create(r#"{"workId":"w","validDays":31}"#);
    assert_eq!(other.code(), (409, "SALE_EXISTS"), "{other:?}");
    let shown = engine.get("ana", "/v1/sales/films").json;
    assert!(shown["skus"][0].get("grant").is_none(), "{shown}");
    let whole: serde_json::Value = serde_json::from_str(whole).expect("JSON");
    assert_eq!(shown["skus"][1]["grant"], whole);
}

/// An engine with a film that ana paid for.
struct Shop {
    engine: Engine,
    folder: TempDir,
    order: String,
}

const GRANT: &str = r#"{ workId = "w1", validDays = 30, devicesMax = 5, whenFull = "refuse" }"#;

fn films(grant: &str) -> String {
    format!(
        r#"
[auth]
mode = "demo"
[grant]
play_url = "https://cdn.example/{{workId}}/main.m3u8"
[[sales]]
id = "films"
name = "Films"
startsAt = "2020-01-01T00:00:00Z"
endsAt = "2099-01-01T00:00:00Z"
unitsPerUser = 9
skus = [{{ id = "film", name = "Film", priceCent = 100, currency = "EUR", units = 9, grant = {grant} }}]
"#
    )
}

const FILM: &str = r#"{"saleId":"films","items":[{"skuId":"film","quantity":1}]}"#;

/// The order of somebody who bought the film.
fn won(engine: &Engine, user: &str) -> String {
    let won = engine.buy(user, "k", FILM);
    assert_eq!(won.status, 201, "{won:?}");
    won.json["orderId"].as_str().expect("an id").to_owned()
}

impl Shop {
    /// Paid for, and these devices have licences.
    fn open(grant: &str, devices: &[&str]) -> Self {
        Self::open_with(&films(grant), devices)
    }

    fn open_with(config: &str, devices: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::start(&folder, config);
        let order = won(&engine, "ana");
        let shop = Self {
            engine,
            folder,
            order,
        };
        shop.pay(&shop.order);
        for device in devices {
            assert_eq!(shop.license("ana", "w1", device).status, 200);
        }
        shop
    }

    /// As a payment provider tells it.
    fn pay(&self, order: &str) {
        let body = json!({
            "channel": "card", "orderId": order, "channelTxnNo": order, "status": "SUCCESS",
            "amountCent": 100, "currency": "EUR", "paidAt": "2026-01-01T00:00:00Z",
        });
        let body = body.to_string();
        let secret = std::fs::read_to_string(self.engine.data.join("payment-secret"));
        let secret = Secret::parse(secret.expect("a file").trim()).expect("a secret");
        let seconds = now().0 / 1_000;
        let headers = [
            ("webhook-id", "m"),
            ("webhook-timestamp", &seconds.to_string()),
            (
                "webhook-signature",
                &secret.sign("m", seconds, body.as_bytes()),
            ),
        ];
        let path = "/v1/payments/callback";
        let heard = call(&self.engine.public, "POST", path, &headers, &body);
        assert_eq!(heard.json["status"], "APPLIED", "{heard:?}");
        let order = self
            .engine
            .get("ana", &format!("/v1/orders/{}", self.order));
        assert_eq!(order.json["status"], "DELIVERED", "{order:?}");
    }

    fn on(&self, user: &str, device: &str, path: &str) -> Answer {
        let headers = [("x-user-id", user), ("x-device-id", device)];
        call(&self.engine.public, "GET", path, &headers, "")
    }

    fn play_token(&self) -> String {
        let answer = self.on("ana", "tv", "/v1/play/auth/w1");
        let token = answer.json["playToken"].as_str();
        token.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// What a CDN asks, and hears.
    fn check(&self, token: &str, device: &str, work: &str) -> (u16, String) {
        let path = format!("/v1/play/check?token={token}&device={device}&work={work}");
        let answer = call(&self.engine.public, "GET", &path, &[], "");
        (answer.status, answer.code().1.to_owned())
    }

    fn beat(&self, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        let path = "/v1/play/heartbeat";
        call(&self.engine.public, "POST", path, &json, &body.to_string())
    }

    /// Signed as the engine signs, whatever it says.
    fn signed(&self, kind: Kind, device: &str, expires_at: UnixMs) -> String {
        let key = std::fs::read_to_string(self.engine.data.join("grant-key")).expect("its key");
        let keys = Keys::new(&TokenKeys {
            newest: TokenKey::parse(key.trim()).expect("a key"),
            others: Vec::new(),
        });
        let order = OrderId::parse(&self.order).expect("an order id");
        let sku = SkuId::parse("film").expect("valid");
        keys.sign(&Claims {
            kind,
            entitlement: &id_of(&order, &sku),
            user: &UserId::parse("ana").expect("valid"),
            device: &DeviceId::parse(device).expect("valid"),
            work: &WorkId::parse("w1").expect("valid"),
            expires_at,
            run: 0,
        })
    }
}

fn now() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    UnixMs(u64::try_from(since.as_millis()).expect("before 9999"))
}

#[test]
fn who_paid_for_nothing_plays_nothing() {
    let shop = Shop::open(GRANT, &["tv"]);
    let auth = shop.on("bob", "tv", "/v1/play/auth/w1");
    assert_eq!(auth.status, 200, "{auth:?}");
    assert_eq!(
        auth.json,
        json!({"allowed": false, "reason": "NO_ENTITLEMENT"})
    );
    assert_eq!(auth.header("cache-control"), Some("no-store"));
    let other = shop.on("ana", "pad", "/v1/play/auth/w1");
    assert_eq!(other.json["reason"], "DEVICE_NOT_LICENSED");
    for (user, device) in [("bob", "tv"), ("ana", "pad")] {
        let answer = shop.on(user, device, "/v1/download-tokens/w1");
        assert_eq!(answer.code(), (403, "FORBIDDEN"), "{answer:?}");
    }
    let mine = shop.engine.get("bob", "/v1/me/entitlements");
    assert_eq!((mine.status, mine.json), (200, json!({"entitlements": []})));
    for path in ["/v1/play/auth/w1", "/v1/download-tokens/w1"] {
        let nameless = shop.engine.get("ana", path);
        assert_eq!(nameless.code(), (400, "INVALID_FIELD"), "{nameless:?}");
        let detail = nameless.json["detail"].as_str().expect("a detail");
        assert!(detail.contains("X-Device-Id"), "{detail}");
        for bad in ["", "a b", "a/b", &"x".repeat(65)] {
            let answer = shop.on("ana", bad, path);
            assert_eq!(answer.code(), (400, "INVALID_FIELD"), "{bad:?} {answer:?}");
        }
        let unknown = call(
            &shop.engine.public,
            "GET",
            path,
            &[("x-device-id", "tv")],
            "",
        );
        assert_eq!(unknown.code(), (401, "UNAUTHENTICATED"), "{unknown:?}");
        let headers = [
            ("x-user-id", "ana"),
            ("x-device-id", "tv"),
            ("x-device-id", "pad"),
        ];
        let twice = call(&shop.engine.public, "GET", path, &headers, "");
        assert_eq!(twice.code(), (400, "INVALID_FIELD"), "{twice:?}");
    }
    let odd = shop.on("ana", "tv", "/v1/play/auth/a%20b");
    assert_eq!(odd.code(), (400, "INVALID_FIELD"), "{odd:?}");
}

#[test]
fn what_was_paid_for_plays_and_downloads_on_its_device() {
    let shop = Shop::open(GRANT, &["tv"]);
    let mine = shop.engine.get("ana", "/v1/me/entitlements").json;
    let one = &mine["entitlements"][0];
    for (field, value) in [
        ("orderId", json!(shop.order)),
        ("saleId", json!("films")),
        ("skuId", json!("film")),
        ("workId", json!("w1")),
        ("status", json!("ACTIVE")),
        ("devicesMax", json!(5)),
    ] {
        assert_eq!(one[field], value, "{mine}");
    }
    assert_eq!(one["devices"][0]["deviceId"], "tv");
    let time = |value: &Value| {
        let text = value.as_str().expect("a time");
        UnixMs::parse_rfc3339(text).expect("RFC 3339")
    };
    let days = time(&one["validUntil"]).since(time(&one["grantedAt"]));
    assert_eq!(days, Duration::from_secs(30 * 86_400));

    let auth = shop.on("ana", "tv", "/v1/play/auth/w1").json;
    assert_eq!(
        (&auth["allowed"], &auth["reason"]),
        (&json!(true), &json!("OK"))
    );
    let token = auth["playToken"].as_str().expect("a token");
    assert_eq!(
        auth["playUrl"],
        format!("https://cdn.example/w1/main.m3u8?token={token}")
    );
    assert!(time(&auth["expireAt"]).since(now()) <= Duration::from_secs(180));

    assert_eq!(shop.check(token, "tv", "w1"), (204, String::new()));
    assert_eq!(shop.check(token, "pad", "w1"), (403, "FORBIDDEN".into()));
    assert_eq!(shop.check(token, "tv", "w2"), (403, "FORBIDDEN".into()));
    let by_header = |headers: &[(&str, &str)]| {
        call(
            &shop.engine.public,
            "GET",
            "/v1/play/check?work=w1",
            headers,
            "",
        )
        .status
    };
    assert_eq!(
        by_header(&[("x-play-token", token), ("x-device-id", "tv")]),
        204
    );
    assert_eq!(
        by_header(&[("x-play-token", token), ("x-device-id", "pad")]),
        403
    );
    assert_eq!(by_header(&[("x-play-token", token)]), 403);
    assert_eq!(by_header(&[("x-device-id", "tv")]), 401);
    let twice = [
        ("x-play-token", token),
        ("x-play-token", token),
        ("x-device-id", "tv"),
    ];
    assert_eq!(
        by_header(&twice),
        401,
        "a server in front hands on only this"
    );
    let twice = [
        ("x-play-token", token),
        ("x-device-id", "tv"),
        ("x-device-id", "pad"),
    ];
    assert_eq!(by_header(&twice), 403);

    let got = shop.on("ana", "tv", "/v1/download-tokens/w1").json;
    let download = got["downloadToken"].as_str().expect("a token");
    assert_eq!(got["downloadUrl"], format!("/download/w1?token={download}"));
    assert!(time(&got["expireAt"]).since(now()) <= Duration::from_secs(60));
    assert_eq!(shop.check(download, "tv", "w1").0, 401, "it plays nothing");
    let fetch = |token: &str| {
        let path = format!("/v1/download/check?token={token}&device=tv&work=w1");
        call(&shop.engine.public, "GET", &path, &[], "").status
    };
    assert_eq!((fetch(download), fetch(token)), (204, 401));
}

#[test]
fn a_token_that_was_tampered_with_opens_nothing() {
    let shop = Shop::open(GRANT, &["tv"]);
    let token = shop.play_token();
    for at in [0, 1, 30, token.len() - 1] {
        let mut letters: Vec<char> = token.chars().collect();
        letters[at] = if letters[at] == 'A' { 'B' } else { 'A' };
        let other: String = letters.into_iter().collect();
        assert_eq!(shop.check(&other, "tv", "w1").0, 401, "{at}");
    }
    for other in [
        "",
        "x",
        "%41",
        &token[1..],
        &format!("{token}="),
        &"A".repeat(6_000),
    ] {
        assert_eq!(shop.check(other, "tv", "w1").0, 401, "{other}");
    }
    // As long as no head may be.
    let long = "A".repeat(600_000);
    let headers = [("x-play-token", long.as_str()), ("x-device-id", "tv")];
    let path = "/v1/play/check?work=w1";
    let status = call(&shop.engine.public, "GET", path, &headers, "").status;
    assert!([400, 431].contains(&status), "{status}");
    assert_eq!(
        shop.check(&token, "tv", "w1").0,
        204,
        "and the engine goes on"
    );
    let post = call(
        &shop.engine.public,
        "POST",
        "/v1/play/check?work=w1",
        &[],
        "",
    );
    assert_eq!(post.code(), (405, "METHOD_NOT_ALLOWED"), "{post:?}");
}

/// Example 6 of the requirements: expired token → 401, client refreshes.
#[test]
fn example_06_an_expired_token_is_refused_and_a_fresh_one_plays() {
    let shop = Shop::open(GRANT, &["tv"]);
    let expired = shop.signed(Kind::Play, "tv", UnixMs(now().0 - 1));
    assert_eq!(
        shop.check(&expired, "tv", "w1"),
        (401, "UNAUTHENTICATED".into())
    );
    let body = json!({"playToken": expired, "sessionId": "s", "sequence": 1});
    assert_eq!(shop.beat(&body).code(), (401, "UNAUTHENTICATED"));
    let fresh = shop.play_token();
    assert_eq!(shop.check(&fresh, "tv", "w1").0, 204);
    // One that an engine whose clock was ahead made is none either.
    let early = shop.signed(Kind::Play, "tv", UnixMs(now().0 + 600_000));
    assert_eq!(shop.check(&early, "tv", "w1").0, 401);
}

#[test]
fn players_play_on_over_a_restart() {
    let shop = Shop::open(GRANT, &["tv"]);
    let token = shop.play_token();
    let shop = shop.restarted(GRANT);
    assert_eq!(shop.check(&token, "tv", "w1").0, 204);
    assert_eq!(shop.check(&token, "pad", "w1").0, 403);
}

#[test]
fn heartbeats_count_once_and_say_what_is_wrong() {
    let shop = Shop::open(GRANT, &["tv"]);
    let token = shop.play_token();
    let beat = |n: Value| {
        let body = json!({"playToken": token, "sessionId": "s1", "sequence": n, "positionMs": 5});
        shop.beat(&body)
    };
    let heard = |sequence, duplicate| json!({"sessionId": "s1", "sequence": sequence, "duplicate": duplicate});
    for (n, sequence, duplicate) in [(0, 0, false), (2, 2, false), (2, 2, true), (1, 2, true)] {
        let answer = beat(json!(n));
        assert_eq!(
            (answer.status, answer.json),
            (200, heard(sequence, duplicate))
        );
    }
    for (n, code) in [
        (json!(-1), "INVALID_FIELD"),
        (json!(9_007_199_254_740_992_u64), "INVALID_FIELD"),
        (json!("3"), "MALFORMED_BODY"),
    ] {
        let answer = beat(n);
        assert_eq!(answer.code(), (400, code), "{answer:?}");
    }
    for (body, status, code) in [
        (
            json!({"sessionId": "s", "sequence": 1}),
            400,
            "MALFORMED_BODY",
        ),
        (
            json!({"playToken": token, "sessionId": "a b", "sequence": 1}),
            400,
            "INVALID_FIELD",
        ),
        (
            json!({"playToken": "x", "sessionId": "s", "sequence": 1}),
            401,
            "UNAUTHENTICATED",
        ),
        (
            json!({"playToken": token, "sessionId": "s", "sequence": 1, "positionMs": -1}),
            400,
            "INVALID_FIELD",
        ),
    ] {
        let answer = shop.beat(&body);
        assert_eq!(answer.code(), (status, code), "{answer:?}");
    }
}

impl Shop {
    fn license(&self, user: &str, work: &str, device: &str) -> Answer {
        let headers = [("x-user-id", user), ("content-type", "application/json")];
        let body = json!({"workId": work, "deviceId": device}).to_string();
        call(&self.engine.public, "POST", "/v1/licenses", &headers, &body)
    }

    fn devices(&self) -> Vec<String> {
        let mine = self.engine.get("ana", "/v1/me/entitlements").json;
        let devices = mine["entitlements"][0]["devices"].as_array().cloned();
        let name = |d: Value| d["deviceId"].as_str().expect("a name").to_owned();
        devices.expect("a list").into_iter().map(name).collect()
    }

    fn restarted(self, grant: &str) -> Self {
        let Self {
            engine,
            folder,
            order,
        } = self;
        engine.kill();
        let engine = Engine::start(&folder, &films(grant));
        Self {
            engine,
            folder,
            order,
        }
    }
}

const FIVE: [&str; 5] = ["d1", "d2", "d3", "d4", "d5"];

/// Example 5 of the requirements, refused: five devices have a licence, the sixth has not.
#[test]
fn example_05_the_sixth_device_is_refused() {
    let shop = Shop::open(GRANT, &[]);
    for device in FIVE {
        let answer = shop.license("ana", "w1", device);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json["deviceId"], device);
        assert!(answer.json.get("kicked").is_none(), "{answer:?}");
        assert_eq!(
            shop.on("ana", device, "/v1/play/auth/w1").json["allowed"],
            true
        );
    }
    let sixth = shop.license("ana", "w1", "d6");
    assert_eq!(sixth.code(), (403, "DEVICE_LIMIT"), "{sixth:?}");
    let auth = shop.on("ana", "d6", "/v1/play/auth/w1").json;
    assert_eq!(
        auth,
        json!({"allowed": false, "reason": "DEVICE_NOT_LICENSED"})
    );
    let again = shop.license("ana", "w1", "d3");
    assert_eq!(again.status, 200, "it has one: {again:?}");
    assert_eq!(shop.devices(), FIVE);
    let shop = shop.restarted(GRANT);
    assert_eq!(shop.devices(), FIVE, "a licence that was told is kept");
    assert_eq!(
        shop.license("ana", "w1", "d6").code(),
        (403, "DEVICE_LIMIT")
    );
    let metrics = call(&shop.engine.admin, "GET", "/metrics", &[], "").body;
    let full = "floodgate_licenses_total{result=\"full\"} 1";
    assert!(metrics.contains(full), "{full} is missing");
}

/// Example 5 of the requirements, kicked: the sixth device takes the place of the first.
#[test]
fn example_05_the_sixth_device_kicks_the_oldest() {
    let kick = GRANT.replace("refuse", "kick_oldest");
    let shop = Shop::open(&kick, &[]);
    for device in FIVE {
        assert_eq!(shop.license("ana", "w1", device).status, 200);
    }
    let again = shop.license("ana", "w1", "d1");
    assert!(
        again.status == 200 && again.json.get("kicked").is_none(),
        "{again:?}"
    );
    let sixth = shop.license("ana", "w1", "d6");
    assert_eq!(
        (sixth.status, &sixth.json["kicked"]),
        (200, &json!("d1")),
        "{sixth:?}"
    );
    assert_eq!(shop.devices(), ["d2", "d3", "d4", "d5", "d6"]);
    let of_answer = sixth.json["devices"].as_array().expect("a list");
    assert_eq!(of_answer.len(), 5);
    let kicked = shop.on("ana", "d1", "/v1/play/auth/w1").json;
    assert_eq!(kicked["reason"], "DEVICE_NOT_LICENSED");
    assert_eq!(
        shop.on("ana", "d6", "/v1/play/auth/w1").json["allowed"],
        true
    );
}

#[test]
fn a_licence_is_for_who_paid_and_for_a_device_that_has_a_name() {
    let shop = Shop::open(GRANT, &[]);
    for (user, work) in [("bob", "w1"), ("ana", "w2")] {
        let answer = shop.license(user, work, "d1");
        assert_eq!(answer.code(), (403, "FORBIDDEN"), "{answer:?}");
    }
    for (work, device) in [("w1", ""), ("w1", "a b"), ("", "d1"), ("w/1", "d1")] {
        let answer = shop.license("ana", work, device);
        assert_eq!(answer.code(), (400, "INVALID_FIELD"), "{answer:?}");
    }
    let headers = [("x-user-id", "ana"), ("content-type", "application/json")];
    for body in [
        "",
        "{}",
        r#"["w1","d1"]"#,
        r#"{"workId":"w1","deviceId":"d","x":1}"#,
    ] {
        let answer = call(&shop.engine.public, "POST", "/v1/licenses", &headers, body);
        assert_eq!(answer.code(), (400, "MALFORMED_BODY"), "{answer:?}");
    }
    assert_eq!(shop.devices(), [""; 0]);
}

/// Each new device may kick one, and is a record: so they come at a rate.
#[test]
fn a_user_who_asks_for_licences_without_end_hears_when_to_come_back() {
    let kick = films(&GRANT.replace("refuse", "kick_oldest"));
    // They come back in an hour, so no clock decides.
    let rate = "[limits]\nlicenses_per_user = { rate = 1, seconds = 3600, burst = 20 }";
    let shop = Shop::open_with(&format!("{kick}{rate}"), &[]);
    let bobs = won(&shop.engine, "bob");
    shop.pay(&bobs);
    let left = |answer: &Answer| answer.header("ratelimit").map(ToOwned::to_owned);
    for n in 0..20 {
        let answer = shop.license("ana", "w1", &format!("d{n}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let policy = answer.header("ratelimit-policy");
        assert_eq!(policy, Some(r#""licenses";q=20;w=72000"#));
        let said = left(&answer).expect("what is left");
        let is = format!(r#""licenses";r={};t="#, 19 - n);
        assert!(said.starts_with(&is), "{said}");
    }
    let five = ["d15", "d16", "d17", "d18", "d19"];
    assert_eq!(shop.devices(), five);
    for device in ["d20", "d0"] {
        let limited = shop.license("ana", "w1", device);
        assert_eq!(limited.code(), (429, "RATE_LIMITED"), "{limited:?}");
        let said = left(&limited).expect("what is left");
        let wait = said.strip_prefix(r#""licenses";r=0;t="#).expect("nothing");
        assert_eq!(limited.header("retry-after"), Some(wait));
    }
    assert_eq!(shop.devices(), five, "nobody was kicked");
    // What changes nothing costs nothing, and passes.
    let again = shop.license("ana", "w1", "d17");
    assert_eq!((again.status, left(&again)), (200, None), "{again:?}");
    let foreign = shop.license("ana", "w2", "d17");
    assert_eq!((foreign.status, left(&foreign)), (403, None));
    // Others have a limit of their own, and so have purchases.
    assert_eq!(shop.license("bob", "w1", "d1").status, 200);
    assert_eq!(shop.engine.buy("ana", "k2", FILM).status, 201);
    let metrics = call(&shop.engine.admin, "GET", "/metrics", &[], "").body;
    for counted in [
        "floodgate_licenses_total{result=\"limited\"} 2",
        "floodgate_shed_total{reason=\"license_limit\"} 2",
    ] {
        assert!(metrics.contains(counted), "{counted} is missing");
    }
}

#[test]
fn twenty_licences_at_once_and_one_a_second_where_nobody_says_otherwise() {
    let shop = Shop::open(GRANT, &[]);
    let first = shop.license("ana", "w1", "d1");
    let said = ["ratelimit-policy", "ratelimit"].map(|name| first.header(name));
    let is = [r#""licenses";q=20;w=20"#, r#""licenses";r=19;t=1"#];
    assert_eq!(said, is.map(Some), "{first:?}");
}

/// Twenty devices at once: as many as allowed get a licence, whoever comes first.
#[test]
fn devices_that_ask_at_once_stay_within_the_quota() {
    let shop = Shop::open(GRANT, &[]);
    let statuses: Vec<u16> = std::thread::scope(|s| {
        let asking: Vec<_> = (0..20)
            .map(|n| {
                let shop = &shop;
                s.spawn(move || shop.license("ana", "w1", &format!("d{n}")).status)
            })
            .collect();
        let heard = asking.into_iter().map(|a| a.join().expect("an answer"));
        heard.collect()
    });
    let n = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((n(200), n(403)), (5, 15), "{statuses:?}");
    assert_eq!(shop.devices().len(), 5);
}

/// Nobody waits for a token to expire: a refund ends those that are about, also over a
/// restart, and whoever asks hears why.
#[test]
fn a_refund_ends_what_was_granted_and_every_token_of_it() {
    let shop = Shop::open(GRANT, &["tv"]);
    let token = shop.play_token();
    let download = shop.on("ana", "tv", "/v1/download-tokens/w1").json;
    let download = download["downloadToken"].as_str().expect("a token");
    let refund = format!("/admin/v1/orders/{}/refund", shop.order);
    let refunded = shop
        .engine
        .admin("POST", &refund, r#"{"restock":true,"reason":"asked"}"#);
    assert_eq!(refunded.status, 200, "{refunded:?}");
    let ended = |shop: &Shop| {
        assert_eq!(shop.check(&token, "tv", "w1"), (403, "FORBIDDEN".into()));
        let fetch = format!("/v1/download/check?token={download}&device=tv&work=w1");
        assert_eq!(
            call(&shop.engine.public, "GET", &fetch, &[], "").status,
            403
        );
        let body = json!({"playToken": token, "sessionId": "s", "sequence": 1});
        assert_eq!(shop.beat(&body).code(), (403, "FORBIDDEN"));
        let auth = shop.on("ana", "tv", "/v1/play/auth/w1").json;
        assert_eq!(auth, json!({"allowed": false, "reason": "REVOKED"}));
        let answer = shop.on("ana", "tv", "/v1/download-tokens/w1");
        assert_eq!(answer.code(), (403, "FORBIDDEN"), "{answer:?}");
        assert_eq!(shop.license("ana", "w1", "pad").code(), (403, "FORBIDDEN"));
        let mine = shop.engine.get("ana", "/v1/me/entitlements").json;
        assert_eq!(mine["entitlements"][0]["status"], "REVOKED", "{mine}");
    };
    ended(&shop);
    ended(&shop.restarted(GRANT));
}
