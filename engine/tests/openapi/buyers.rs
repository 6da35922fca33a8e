//! What buyers do, and what they hear.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::common::Engine;
use super::errands::{ANA, Errands, Headers, JSON, ONE, definition};

impl Errands {
    pub fn pages_and_sales(&mut self, engine: &Engine) {
        for path in [
            "/",
            "/sales/tea",
            "/openapi.json",
            "/v1/sales",
            "/v1/sales/tea",
        ] {
            let answer = self.expect(engine, ("GET", path), &[], "", (200, ""));
            let tag = answer.header("etag").expect("a tag");
            self.expect(
                engine,
                ("GET", path),
                &[("if-none-match", tag)],
                "",
                (304, ""),
            );
        }
        self.expect(
            engine,
            ("GET", "/v1/sales/none"),
            &[],
            "",
            (404, "NOT_FOUND"),
        );
    }

    pub fn purchases(&mut self, engine: &Engine) {
        let (two, three) = (ONE.replace(":1}", ":2}"), ONE.replace(":1}", ":3}"));
        let (no_sale, no_sku) = (ONE.replace("tea", "none"), ONE.replace("unit", "none"));
        let none = ONE.replace(":1}", ":0}");
        for path in ["/v1/orders", "/v1/orders/preview"] {
            let key = ("idempotency-key", "bad");
            let mut say = |headers: Headers<'_>, body: &str, is| {
                self.expect(engine, ("POST", path), headers, body, is);
            };
            say(&[ANA, key, JSON], "{", (400, "MALFORMED_BODY"));
            say(&[ANA, key, JSON], &none, (400, "INVALID_FIELD"));
            say(&[key, JSON], ONE, (401, "UNAUTHENTICATED"));
            say(&[ANA, key, JSON], &no_sale, (404, "NOT_FOUND"));
            say(&[ANA, key, JSON], &no_sku, (404, "SKU_UNKNOWN"));
            say(&[ANA, key], ONE, (415, "MEDIA_TYPE"));
        }
        let buying = ("POST", "/v1/orders");
        self.expect(
            engine,
            buying,
            &[ANA, JSON],
            ONE,
            (400, "IDEMPOTENCY_KEY_MISSING"),
        );
        self.buy(engine, "ana", "a{b}", ONE, (400, "IDEMPOTENCY_KEY_INVALID"));
        self.expect(
            engine,
            ("POST", "/v1/orders/preview"),
            &[ANA, JSON],
            &two,
            (200, ""),
        );
        self.buy(engine, "ana", "k1", ONE, (201, ""));
        self.buy(engine, "ana", "k1", ONE, (200, ""));
        self.buy(engine, "ana", "k1", &two, (422, "IDEMPOTENCY_KEY_REUSED"));
        self.buy(engine, "ana", "k2", &three, (422, "LIMIT_EXCEEDED"));

        let later = definition("later", json!({"startsAt": "2098-01-01T00:00:00Z"}));
        for sale in [later, definition("few", json!({}))] {
            self.operate(engine, ("POST", "/admin/v1/sales"), &sale, (201, ""));
        }
        let of = |sale: &str| ONE.replace("tea", sale);
        self.buy(engine, "ana", "k1", &of("later"), (409, "SALE_NOT_OPEN"));
        self.buy(engine, "ana", "k1", &of("few"), (201, ""));
        self.buy(engine, "bob", "k1", &of("few"), (422, "STOCK_NOT_ENOUGH"));
        self.operate(engine, ("POST", "/admin/v1/sales/tea/pause"), "", (200, ""));
        self.buy(engine, "bob", "k1", ONE, (409, "SALE_PAUSED"));
        self.operate(
            engine,
            ("POST", "/admin/v1/sales/tea/resume"),
            "",
            (200, ""),
        );
        self.operate(engine, ("POST", "/admin/v1/sales/few/end"), "", (200, ""));
        self.buy(engine, "bob", "k1", &of("few"), (409, "SALE_ENDED"));

        // One a second at most: the second of two gets no place, unless a second passed.
        let narrow = json!({
            "admission": {"rate": 1, "burst": 1, "queueMax": 0, "waitMs": 0},
            "skus": [{"id": "unit", "name": "u", "priceCent": 1, "currency": "EUR", "units": 100}],
        });
        let narrow = definition("narrow", narrow);
        self.operate(engine, ("POST", "/admin/v1/sales"), &narrow, (201, ""));
        let shed = (0..100).any(|n| {
            let user = format!("user-{n}");
            let headers = [("x-user-id", &*user), ("idempotency-key", "k"), JSON];
            let answer = self.ask(engine, "POST", "/v1/orders", &headers, &of("narrow"));
            answer.code() == (503, "FLASH_SALE_THROTTLED")
        });
        assert!(shed, "nobody was turned away");
    }

    pub fn own_orders(&mut self, engine: &Engine) {
        let won = self.buy(engine, "cid", "k1", ONE, (201, ""));
        let order = won.header("location").expect("a place").to_owned();
        let cid = [("x-user-id", "cid")];
        let cancel = format!("{order}/cancel");
        self.expect(engine, ("GET", &order), &cid, "", (200, ""));
        self.expect(engine, ("GET", &order), &[], "", (401, "UNAUTHENTICATED"));
        self.expect(engine, ("GET", &order), &[ANA], "", (404, "NOT_FOUND"));
        self.expect(engine, ("POST", &cancel), &[], "", (401, "UNAUTHENTICATED"));
        self.expect(engine, ("POST", &cancel), &[ANA], "", (404, "NOT_FOUND"));
        self.expect(engine, ("POST", &cancel), &cid, "", (200, ""));
        for path in ["?limit=1", "?status=CLOSED", "?cursor="] {
            let path = format!("/v1/me/orders{path}");
            self.expect(engine, ("GET", &path), &cid, "", (200, ""));
        }
        let mine = ("GET", "/v1/me/orders?limit=0");
        self.expect(engine, mine, &cid, "", (400, "INVALID_FIELD"));
        self.expect(engine, mine, &[], "", (401, "UNAUTHENTICATED"));

        let short = definition("short", json!({"payWindowSeconds": 1}));
        self.operate(engine, ("POST", "/admin/v1/sales"), &short, (201, ""));
        let won = self.buy(engine, "cid", "k1", &ONE.replace("tea", "short"), (201, ""));
        let order = won.header("location").expect("a place").to_owned();
        // Looking again until the engine's own timer closed it.
        while self.ask(engine, "GET", &order, &cid, "").json["status"] != "CLOSED" {
            thread::sleep(Duration::from_millis(10));
        }
        let cancel = format!("{order}/cancel");
        self.expect(
            engine,
            ("POST", &cancel),
            &cid,
            "",
            (423, "ORDER_STATE_INVALID"),
        );
    }

    pub fn limits(&mut self, engine: &Engine) {
        self.buy(engine, "ana", "k1", ONE, (201, ""));
        self.buy(engine, "ana", "k2", ONE, (429, "RATE_LIMITED"));
        self.buy(engine, "eve", "k1", ONE, (403, "FORBIDDEN"));
    }

    /// Every write takes longer than a buyer waits.
    pub fn slow_disk(&mut self, engine: &Engine) {
        let mut buy = |user: &str| {
            let headers = [("x-user-id", user), ("idempotency-key", "k"), JSON];
            self.ask(engine, "POST", "/v1/orders", &headers, ONE)
        };
        // On a machine that stood still for a while the write may have been first.
        let users: Vec<String> = (0..9).map(|n| format!("user-{n}")).collect();
        let waiting = users.iter().find(|user| {
            buy(user).code() == (503, "OUTCOME_UNKNOWN")
                && buy(user).code() == (409, "KEY_IN_PROGRESS")
        });
        let user = waiting.expect("a slow disk");
        let order = loop {
            if let Some(place) = buy(user).header("location") {
                break place.to_owned();
            }
        };
        let cancel = format!("{order}/cancel");
        let headers = [("x-user-id", user.as_str())];
        let unknown = (503, "OUTCOME_UNKNOWN");
        self.expect(engine, ("POST", &cancel), &headers, "", unknown);
    }
}
