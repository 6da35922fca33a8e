//! An engine with one sale of tea, and a provider who knows its secret.

#![allow(dead_code)] // Each test file uses its own part of this.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use floodgate_engine::domain::sign::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Answer, Engine, call};

pub struct Shop {
    pub engine: Engine,
    pub secret: Secret,
    pub folder: TempDir,
    units: u32,
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

fn config(units: u32, payment: &str) -> String {
    format!(
        r#"
[auth]
mode = "demo"
[[sales]]
id = "tea"
name = "tea"
startsAt = "2020-01-01T00:00:00Z"
endsAt = "2099-01-01T00:00:00Z"
unitsPerUser = 2
paymentGraceSeconds = 60
buckets = 2
skus = [{{ id = "unit", name = "unit", priceCent = 100, currency = "EUR", units = {units} }}]
{payment}
"#
    )
}

fn own_secret(engine: &Engine) -> Secret {
    let file = engine.data.join("payment-secret");
    let text = std::fs::read_to_string(file).expect("the engine made one");
    Secret::parse(text.trim()).expect("a secret")
}

/// With the mock provider.
pub fn shop(units: u32, more: &str) -> Shop {
    let folder = tempfile::tempdir().expect("a folder");
    let payment = format!("[payment]\nprovider = \"mock\"\n{more}");
    Shop::open(folder, units, &payment, None)
}

pub fn shop_without_provider(units: u32) -> Shop {
    let folder = tempfile::tempdir().expect("a folder");
    Shop::open(folder, units, "", None)
}

impl Shop {
    pub fn secret(n: u8) -> Secret {
        Secret::from_key([n; 32])
    }

    /// With the engine's own secret, unless there is another one.
    pub fn open(folder: TempDir, units: u32, payment: &str, secret: Option<Secret>) -> Self {
        let engine = Engine::start(&folder, &config(units, payment));
        Self {
            secret: secret.unwrap_or_else(|| own_secret(&engine)),
            engine,
            folder,
            units,
        }
    }

    /// A provider for an engine that runs already, with the secret it made itself.
    pub fn at(engine: Engine, folder: TempDir) -> Self {
        Self {
            secret: own_secret(&engine),
            engine,
            folder,
            units: 0,
        }
    }

    /// The engine is killed, if it did not fall before, and started again.
    pub fn killed_and_started(self, config: &str) -> Self {
        self.killed_and_started_with(config, "")
    }

    /// As [`Self::killed_and_started`], to fall again.
    pub fn killed_and_started_with(self, config: &str, failpoints: &str) -> Self {
        let Self { engine, folder, .. } = self;
        engine.kill();
        let any = "127.0.0.1:0";
        let engine = Engine::start_on(&folder, config, any, any, failpoints);
        Self::at(engine.expect("it starts"), folder)
    }

    /// The same folder, with a provider from here on; the secret is the same.
    pub fn again_with_provider(self, more: &str) -> Self {
        let Self {
            engine,
            secret,
            folder,
            units,
        } = self;
        assert!(engine.stop());
        let payment = format!("[payment]\nprovider = \"mock\"\n{more}");
        let shop = Self::open(folder, units, &payment, None);
        assert_eq!(shop.secret, secret, "it is kept over restarts");
        shop
    }

    /// Killed, and back at its address after what happens `meanwhile`.
    pub fn at_the_same_address(self, meanwhile: impl FnOnce()) -> Self {
        let Self { engine, folder, .. } = self;
        let at = engine.public.clone();
        engine.kill();
        meanwhile();
        let config = folder.path().join("floodgate.toml");
        let config = std::fs::read_to_string(config).expect("its configuration");
        let engine = Engine::start_on(&folder, &config, &at, "127.0.0.1:0", "");
        Self::at(engine.expect("its address is free"), folder)
    }

    /// Stopped, started again, and what is done to its folder between.
    pub fn meanwhile(self, work: impl FnOnce(&Path)) -> Self {
        let Self { engine, folder, .. } = self;
        assert!(engine.stop());
        work(folder.path());
        let config = folder.path().join("floodgate.toml");
        let config = std::fs::read_to_string(config).expect("its configuration");
        let engine = Engine::start(&folder, &config);
        Self::at(engine, folder)
    }

    pub fn win(&self, user: &str, key: &str) -> String {
        let one = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
        let won = self.engine.buy(user, key, one);
        assert_eq!(won.status, 201, "{}", won.body);
        won.json["orderId"].as_str().expect("an id").to_owned()
    }

    pub fn order(&self, user: &str, order: &str) -> Value {
        self.engine.get(user, &format!("/v1/orders/{order}")).json
    }

    pub fn prepay(&self, user: &str, order: &str, body: &str) -> Answer {
        let headers = [("x-user-id", user), ("content-type", "application/json")];
        let path = format!("/v1/payments/{order}/prepay");
        call(&self.engine.public, "POST", &path, &headers, body)
    }

    /// A capture that fits the order, but for what is changed.
    pub fn body(&self, order: &str, txn: &str, change: &[(&str, Value)]) -> String {
        let mut body = json!({
            "channel": "card", "orderId": order, "channelTxnNo": txn, "status": "SUCCESS",
            "amountCent": 100, "currency": "EUR", "paidAt": "2026-01-01T00:00:00Z",
        });
        for (field, value) in change {
            body[*field] = value.clone();
        }
        body.to_string()
    }

    pub fn tell(&self, body: &str) -> Answer {
        self.tell_by(&self.secret, body)
    }

    pub fn tell_by(&self, secret: &Secret, body: &str) -> Answer {
        let at = now();
        let headers = [
            ("webhook-id", "msg_test"),
            ("webhook-timestamp", &at.to_string()),
            (
                "webhook-signature",
                &secret.sign("msg_test", at, body.as_bytes()),
            ),
        ];
        call(
            &self.engine.public,
            "POST",
            "/v1/payments/callback",
            &headers,
            body,
        )
    }

    #[track_caller]
    pub fn told(&self, body: &str, status: &str, replayed: bool) -> Value {
        let answer = self.tell(body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        let heard = (&answer.json["status"], &answer.json["replayed"]);
        assert_eq!(heard, (&json!(status), &json!(replayed)), "{body}");
        answer.json
    }

    /// As the admin API lists them.
    pub fn payments(&self, query: &str) -> Vec<Value> {
        let page = self
            .engine
            .admin("GET", &format!("/admin/v1/payments{query}"), "");
        page.json["payments"].as_array().expect("a list").clone()
    }

    pub fn payment(&self, txn: &str) -> Value {
        let all = self.payments("");
        let found = all.into_iter().find(|p| p["channelTxnNo"] == txn);
        found.expect("it was told")
    }

    pub fn until(&self, txn: &str, status: &str) {
        self.wait(&format!("{txn} is {status}"), || {
            self.payment(txn)["status"] == status
        });
    }

    /// Looks until it is so; how long that takes is nobody's business.
    pub fn wait(&self, what: &str, so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while !so() {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A pass that compared all of the only sale with the order store; what it found.
    pub fn compared(&self) -> Value {
        let pass = || self.engine.admin("POST", "/admin/v1/reconcile", "").json;
        self.wait("the store has everything", || {
            let sale = &pass()["sales"][0];
            sale["storeCompared"] == true && sale["storeLagRecords"] == 0
        });
        pass()["differences"].clone()
    }

    pub fn metric(&self, name: &str) -> u64 {
        let metrics = call(&self.engine.admin, "GET", "/metrics", &[], "").body;
        let line = metrics
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("{name} is missing"))
    }
}
