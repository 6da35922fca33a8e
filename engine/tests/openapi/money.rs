//! Money comes, is doubted and goes back, and what was paid for is used.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use floodgate_engine::domain::sign::Secret;
use serde_json::{Value, json};

use super::common::{Answer, Engine};
use super::errands::{ANA, Errands, Headers, JSON, ONE, definition};

const MESSAGE: &str = "msg_test";
const CALLBACK: (&str, &str) = ("POST", "/v1/payments/callback");
const CARD: &str = r#"{"channel":"card"}"#;
const WHY: &str = r#"{"reason":"as agreed"}"#;
const PHONE: (&str, &str) = ("x-device-id", "phone");

/// What a provider tells of 100 cents for an order.
fn capture(order: &str, txn: &str) -> Value {
    json!({
        "channel": "card", "orderId": order, "channelTxnNo": txn, "status": "SUCCESS",
        "amountCent": 100, "currency": "EUR", "paidAt": "2026-01-01T00:00:00Z",
    })
}

impl Errands {
    fn tell(&mut self, engine: &Engine, body: &str) -> Answer {
        let secret = std::fs::read_to_string(engine.data.join("payment-secret"));
        let secret = Secret::parse(secret.expect("the engine made one").trim()).expect("a secret");
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = since.expect("after 1970").as_secs();
        let signed = secret.sign(MESSAGE, at, body.as_bytes());
        let at = at.to_string();
        let headers = [
            JSON,
            ("webhook-id", MESSAGE),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signed.as_str()),
        ];
        self.ask(engine, CALLBACK.0, CALLBACK.1, &headers, body)
    }

    fn told(&mut self, engine: &Engine, body: &Value, status: &str) -> String {
        let answer = self.tell(engine, &body.to_string());
        assert_eq!(answer.json["status"], status, "{answer:?}");
        let id = answer.json["paymentId"].as_str().expect("an id");
        id.to_owned()
    }

    fn win(&mut self, engine: &Engine, user: &str, body: &str) -> String {
        let won = self.buy(engine, user, "money", body, (201, ""));
        won.json["orderId"].as_str().expect("an id").to_owned()
    }

    pub fn payments(&mut self, engine: &Engine) {
        let order = self.win(engine, "ana", ONE);
        let prepay = format!("/v1/payments/{order}/prepay");
        let status = format!("/v1/payments/{order}/status");
        let bob = ("x-user-id", "bob");
        let (prepaying, asking) = (("POST", &*prepay), ("GET", &*status));
        let mut say = |call: (&str, &str), headers: Headers<'_>, body: &str, is: (u16, &str)| {
            self.expect(engine, call, headers, body, is)
        };
        say(asking, &[], "", (401, "UNAUTHENTICATED"));
        say(asking, &[bob], "", (404, "NOT_FOUND"));
        say(asking, &[ANA], "", (200, ""));
        say(prepaying, &[JSON], CARD, (401, "UNAUTHENTICATED"));
        say(prepaying, &[bob, JSON], CARD, (404, "NOT_FOUND"));
        say(prepaying, &[ANA], CARD, (415, "MEDIA_TYPE"));
        say(prepaying, &[ANA, JSON], "{", (400, "MALFORMED_BODY"));
        let cash = r#"{"channel":"cash"}"#;
        say(prepaying, &[ANA, JSON], cash, (400, "INVALID_FIELD"));
        let session = say(prepaying, &[ANA, JSON], CARD, (200, "")).json;
        say(asking, &[ANA], "", (200, ""));

        let page = format!(
            "/mock-pay/{}",
            session["prepayToken"].as_str().expect("a token")
        );
        let press = |act: &str| format!("{page}?do={act}");
        for method in ["GET", "POST"] {
            say((method, "/mock-pay/none"), &[], "", (404, "NOT_FOUND"));
        }
        say(("GET", &page), &[], "", (200, ""));
        say(("POST", &press("what")), &[], "", (400, "INVALID_FIELD"));
        say(("POST", &press("pay")), &[], "", (200, ""));
        // Its word comes over HTTP, a moment later.
        while say(asking, &[ANA], "", (200, "")).json["orderStatus"] != "PAID" {
            thread::sleep(Duration::from_millis(10));
        }
        say(prepaying, &[ANA, JSON], CARD, (423, "ORDER_STATE_INVALID"));

        self.expect(engine, CALLBACK, &[JSON], "{}", (401, "UNAUTHENTICATED"));
        assert_eq!(self.tell(engine, "{").code(), (400, "MALFORMED_BODY"));
        let order = self.win(engine, "bob", ONE);
        let mut wrong = capture(&order, "t0");
        wrong["currency"] = "euro".into();
        assert_eq!(
            self.tell(engine, &wrong.to_string()).code(),
            (400, "INVALID_FIELD")
        );
        let mut failed = capture(&order, "t0");
        failed["status"] = "FAILED".into();
        self.told(engine, &failed, "IGNORED");
        self.told(engine, &capture("none of ours", "t1"), "REVIEW");
        self.decisions(engine, &order);
    }

    /// Of people, about a payment of too much and about an order.
    fn decisions(&mut self, engine: &Engine, order: &str) {
        let review = |errands: &mut Self, txn: &str| {
            let mut much = capture(order, txn);
            much["amountCent"] = 101.into();
            let id = errands.told(engine, &much, "REVIEW");
            format!("/admin/v1/payments/{id}")
        };
        let (one, other) = (review(self, "t2"), review(self, "t3"));
        for (payment, verb) in [(&one, "accept"), (&other, "reject")] {
            let path = format!("{payment}/{verb}");
            let no = r#"{"reason":""}"#;
            self.operate(engine, ("POST", &path), "{", (400, "MALFORMED_BODY"));
            self.operate(engine, ("POST", &path), no, (400, "INVALID_FIELD"));
            self.operate(engine, ("POST", &path), WHY, (200, ""));
            let none = format!("/admin/v1/payments/none/{verb}");
            self.operate(engine, ("POST", &none), WHY, (404, "NOT_FOUND"));
        }
        // Each the other way round, now that both are decided.
        for (payment, verb) in [(&other, "accept"), (&one, "reject")] {
            let path = format!("{payment}/{verb}");
            self.operate(engine, ("POST", &path), WHY, (423, "ORDER_STATE_INVALID"));
        }
        for query in ["", "?sale=tea&state=APPLIED&limit=1"] {
            let path = format!("/admin/v1/payments{query}");
            self.operate(engine, ("GET", &path), "", (200, ""));
        }
        let payments = "/admin/v1/payments?limit=0";
        self.operate(engine, ("GET", payments), "", (400, "INVALID_FIELD"));
        let payments = "/admin/v1/payments?sale=none";
        self.operate(engine, ("GET", payments), "", (404, "NOT_FOUND"));

        let unpaid = self.win(engine, "cid", ONE);
        let path = |order: &str| format!("/admin/v1/orders/{order}");
        let back = r#"{"restock":true,"reason":"as agreed"}"#;
        self.operate(engine, ("GET", &path(order)), "", (200, ""));
        self.operate(engine, ("GET", &path("none")), "", (404, "NOT_FOUND"));
        let refund = |order: &str| format!("/admin/v1/orders/{order}/refund");
        let (none, unpaid) = (refund("none"), refund(&unpaid));
        self.operate(engine, ("POST", &none), back, (404, "NOT_FOUND"));
        self.operate(
            engine,
            ("POST", &unpaid),
            back,
            (423, "ORDER_STATE_INVALID"),
        );
        let refund = refund(order);
        self.operate(engine, ("POST", &refund), "{", (400, "MALFORMED_BODY"));
        let no = r#"{"restock":true,"reason":""}"#;
        self.operate(engine, ("POST", &refund), no, (400, "INVALID_FIELD"));
        self.operate(engine, ("POST", &refund), back, (200, ""));
    }

    /// A film for one device, and a purchase of it.
    fn film(&mut self, engine: &Engine) -> String {
        let skus = json!([{
            "id": "film", "name": "f", "priceCent": 100, "currency": "EUR", "units": 9,
            "grant": {"workId": "film", "validDays": 2, "devicesMax": 1},
        }]);
        let films = definition("films", json!({"skus": skus}));
        self.operate(engine, ("POST", "/admin/v1/sales"), &films, (201, ""));
        ONE.replace("tea", "films").replace("unit", "film")
    }

    pub fn works(&mut self, engine: &Engine) {
        let film = self.film(engine);
        let order = self.win(engine, "ana", &film);
        self.told(engine, &capture(&order, "film"), "APPLIED");

        let mut say = |call: (&str, &str), headers: Headers<'_>, body: &str, is: (u16, &str)| {
            self.expect(engine, call, headers, body, is)
        };
        let mine = ("GET", "/v1/me/entitlements");
        say(mine, &[ANA], "", (200, ""));
        say(mine, &[], "", (401, "UNAUTHENTICATED"));
        let play = ("GET", "/v1/play/auth/film");
        let download = ("GET", "/v1/download-tokens/film");
        for call in [play, download] {
            say(call, &[PHONE], "", (401, "UNAUTHENTICATED"));
            say(call, &[ANA], "", (400, "INVALID_FIELD"));
        }
        say(play, &[ANA, PHONE], "", (200, ""));
        say(download, &[ANA, PHONE], "", (403, "FORBIDDEN"));

        let licenses = ("POST", "/v1/licenses");
        let on = |device: &str| format!(r#"{{"workId":"film","deviceId":"{device}"}}"#);
        let phone = on("phone");
        say(licenses, &[JSON], &phone, (401, "UNAUTHENTICATED"));
        say(licenses, &[ANA], &phone, (415, "MEDIA_TYPE"));
        say(licenses, &[ANA, JSON], "{", (400, "MALFORMED_BODY"));
        say(licenses, &[ANA, JSON], &on(""), (400, "INVALID_FIELD"));
        say(
            licenses,
            &[("x-user-id", "bob"), JSON],
            &phone,
            (403, "FORBIDDEN"),
        );
        say(licenses, &[ANA, JSON], &phone, (200, ""));
        say(licenses, &[ANA, JSON], &on("tv"), (403, "DEVICE_LIMIT"));
        say(licenses, &[ANA, JSON], &on("tv"), (429, "RATE_LIMITED"));

        let token = |answer: &Value, name: &str| answer[name].as_str().expect("a token").to_owned();
        let playing = token(&say(play, &[ANA, PHONE], "", (200, "")).json, "playToken");
        let loading = token(
            &say(download, &[ANA, PHONE], "", (200, "")).json,
            "downloadToken",
        );
        for (kind, token) in [("play", &playing), ("download", &loading)] {
            let path = format!("/v1/{kind}/check");
            let about = |work: &str| format!("{path}?token={token}&device=phone&work={work}");
            say(("GET", &about("film")), &[], "", (204, ""));
            say(("GET", &about("song")), &[], "", (403, "FORBIDDEN"));
            say(("GET", &about("")), &[], "", (400, "INVALID_FIELD"));
            say(("GET", &path), &[], "", (401, "UNAUTHENTICATED"));
        }
        let heartbeat = ("POST", "/v1/play/heartbeat");
        let beat = |token: &str, sequence: i64| {
            json!({"playToken": token, "sessionId": "s1", "sequence": sequence}).to_string()
        };
        let good = beat(&playing, 1);
        say(heartbeat, &[JSON], &good, (200, ""));
        say(heartbeat, &[JSON], &good, (200, ""));
        say(
            heartbeat,
            &[JSON],
            &beat("forged", 1),
            (401, "UNAUTHENTICATED"),
        );
        say(
            heartbeat,
            &[JSON],
            &beat(&playing, -1),
            (400, "INVALID_FIELD"),
        );
        say(heartbeat, &[JSON], "{", (400, "MALFORMED_BODY"));
        say(heartbeat, &[], &good, (415, "MEDIA_TYPE"));

        let refund = format!("/admin/v1/orders/{order}/refund");
        let back = r#"{"restock":false,"reason":"as agreed"}"#;
        self.operate(engine, ("POST", &refund), back, (200, ""));
        self.expect(engine, heartbeat, &[JSON], &good, (403, "FORBIDDEN"));
        self.expect(engine, mine, &[ANA], "", (200, ""));
        self.expect(engine, play, &[ANA, PHONE], "", (200, ""));
    }

    /// What comes through where every write takes longer than the answer may.
    fn at_last(mut ask: impl FnMut() -> Answer) -> Answer {
        loop {
            let answer = ask();
            if answer.status < 300 {
                return answer;
            }
            assert!(matches!(answer.status, 409 | 503), "{answer:?}");
        }
    }

    /// As [`Self::slow_disk`], with money.
    pub fn slow_money(&mut self, engine: &Engine) {
        const UNKNOWN: (u16, &str) = (503, "OUTCOME_UNKNOWN");
        let film = self.film(engine);
        let fay = ("x-user-id", "fay");
        let win = |errands: &mut Self, body: &str, key| {
            let headers = [fay, ("idempotency-key", key), JSON];
            let won = Self::at_last(|| errands.ask(engine, "POST", "/v1/orders", &headers, body));
            won.json["orderId"].as_str().expect("an id").to_owned()
        };
        let order = win(self, ONE, "k1");
        let prepay = format!("/v1/payments/{order}/prepay");
        self.expect(engine, ("POST", &prepay), &[fay, JSON], CARD, UNKNOWN);
        let paid = capture(&order, "t1").to_string();
        assert_eq!(self.tell(engine, &paid).code(), UNKNOWN);
        Self::at_last(|| self.tell(engine, &paid));
        let refund = format!("/admin/v1/orders/{order}/refund");
        let back = r#"{"restock":true,"reason":"as agreed"}"#;
        self.operate(engine, ("POST", &refund), back, UNKNOWN);

        let order = win(self, ONE, "k2");
        for (txn, verb) in [("t2", "reject"), ("t3", "accept")] {
            let mut much = capture(&order, txn);
            much["amountCent"] = 101.into();
            let much = much.to_string();
            let told = Self::at_last(|| self.tell(engine, &much)).json;
            let id = told["paymentId"].as_str().expect("an id");
            let decide = format!("/admin/v1/payments/{id}/{verb}");
            self.operate(engine, ("POST", &decide), WHY, UNKNOWN);
        }

        let order = win(self, &film, "k1");
        let paid = capture(&order, "t4").to_string();
        Self::at_last(|| self.tell(engine, &paid));
        let phone = r#"{"workId":"film","deviceId":"phone"}"#;
        let licenses = ("POST", "/v1/licenses");
        self.expect(engine, licenses, &[fay, JSON], phone, UNKNOWN);
    }

    /// Nobody takes payments here.
    pub fn no_provider(&mut self, engine: &Engine) {
        let order = self.win(engine, "dan", ONE);
        let path = format!("/v1/payments/{order}/prepay");
        let headers = [("x-user-id", "dan"), JSON];
        let away = (503, "PAYMENT_UNAVAILABLE");
        self.expect(engine, ("POST", &path), &headers, CARD, away);
    }
}
