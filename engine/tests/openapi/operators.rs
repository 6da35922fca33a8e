//! What operators do, and what they hear.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::{Engine, call};
use super::errands::{Errands, NO_ORDER, ONE, definition, token};

impl Errands {
    pub fn operators(&mut self, engine: &Engine) {
        for path in ["/livez", "/readyz", "/readyz?verbose", "/metrics"] {
            let answer = call(&engine.admin, "GET", path, &[], "");
            self.admin.hold("GET", path, &answer);
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let bearer = token(engine);
        let document = "/admin/openapi.json";
        let answer = self.operate(engine, ("GET", document), "", (200, ""));
        let tag = answer.header("etag").expect("a tag");
        let headers = [("authorization", bearer.as_str()), ("if-none-match", tag)];
        let answer = call(&engine.admin, "GET", document, &headers, "");
        self.admin.hold("GET", document, &answer);

        // What takes no token, or another type than JSON, at every call alike.
        for (method, path) in self.admin.calls() {
            if !path.starts_with("/admin") {
                continue;
            }
            let path = path.replace("{sale}", "tea").replace("{seq}", "7");
            let path = path.replace("{id}", NO_ORDER);
            let method = method.to_uppercase();
            let without = call(&engine.admin, &method, &path, &[], "");
            self.admin.hold(&method, &path, &without);
            assert_eq!(without.code(), (401, "UNAUTHENTICATED"), "{path}");
            if method == "POST" {
                let token = [("authorization", bearer.as_str())];
                let answer = call(&engine.admin, &method, &path, &token, "x");
                self.admin.hold(&method, &path, &answer);
                assert_eq!(answer.code(), (415, "MEDIA_TYPE"), "{path}");
            }
        }

        let sales = "/admin/v1/sales";
        let skus = json!([{
            "id": "film", "name": "f", "priceCent": 1, "currency": "EUR", "units": 1,
            "grant": {"workId": "film", "validDays": 2},
        }]);
        let sale = definition("new", json!({"skus": skus}));
        let other = definition("new", json!({"skus": skus, "unitsPerUser": 8}));
        let wrong = definition("new", json!({"buckets": 0}));
        self.operate(engine, ("POST", sales), &sale, (201, ""));
        self.operate(engine, ("POST", sales), &sale, (200, ""));
        self.operate(engine, ("POST", sales), &other, (409, "SALE_EXISTS"));
        self.operate(engine, ("POST", sales), &wrong, (400, "INVALID_FIELD"));
        self.operate(engine, ("POST", sales), "{", (400, "MALFORMED_BODY"));
        self.operate(engine, ("GET", sales), "", (200, ""));
        self.operate(engine, ("GET", "/admin/v1/sales/new"), "", (200, ""));
        self.operate(
            engine,
            ("GET", "/admin/v1/sales/none"),
            "",
            (404, "NOT_FOUND"),
        );
        for from in ["ledger", "store"] {
            let path = format!("/admin/v1/sales/tea/orders?from={from}&limit=1");
            self.operate(engine, ("GET", &path), "", (200, ""));
        }
        let orders = "/admin/v1/sales/none/orders";
        self.operate(engine, ("GET", orders), "", (404, "NOT_FOUND"));
        let orders = "/admin/v1/sales/tea/orders?from=memory";
        self.operate(engine, ("GET", orders), "", (400, "INVALID_FIELD"));
        for verb in ["pause", "resume", "end"] {
            let path = format!("/admin/v1/sales/none/{verb}");
            self.operate(engine, ("POST", &path), "", (404, "NOT_FOUND"));
            let path = format!("/admin/v1/sales/few/{verb}");
            let is = if verb == "end" {
                (200, "")
            } else {
                (409, "SALE_ENDED")
            };
            self.operate(engine, ("POST", &path), "{}", is);
        }
        self.operate(engine, ("POST", "/admin/v1/reconcile"), "", (200, ""));
    }

    /// Orders that a constraint, added in a hurry, keeps out of the order store.
    pub fn letters(&mut self, engine: &Engine) {
        let letters = "/admin/v1/dead-letters";
        let all = "/admin/v1/dead-letters/replay";
        for path in [letters, all] {
            let method = if path == all { "POST" } else { "GET" };
            let wrong = format!("{path}?limit=0");
            self.operate(engine, (method, &wrong), "", (400, "INVALID_FIELD"));
        }
        let none = "/admin/v1/dead-letters/x/replay";
        self.operate(engine, ("POST", none), "", (404, "NOT_FOUND"));
        meddle(
            engine,
            "CREATE TRIGGER poison BEFORE INSERT ON orders WHEN NEW.user_id = 'dan'
             BEGIN SELECT RAISE(ABORT, 'no dans'); END",
        );
        let seq = |page: &Value| page["deadLetters"][0]["seq"].as_u64();
        self.buy(engine, "dan", "k1", ONE, (201, ""));
        let letter = loop {
            let page = self.operate(engine, ("GET", letters), "", (200, "")).json;
            if let Some(seq) = seq(&page) {
                break format!("{letters}/{seq}/replay");
            }
            thread::sleep(Duration::from_millis(10));
        };
        let page = self.operate(engine, ("POST", all), "", (200, "")).json;
        assert_eq!(page["refused"][0]["why"], "no dans", "{page}");
        self.operate(engine, ("POST", "/admin/v1/reconcile"), "", (200, ""));
        self.operate(engine, ("POST", &letter), "", (409, "STILL_REFUSED"));
        meddle(engine, "DROP TRIGGER poison");
        self.operate(engine, ("POST", &letter), "", (200, ""));
    }

    pub fn no_room(&mut self, engine: &Engine) {
        self.buy(engine, "ana", "k1", ONE, (503, "NOT_READY"));
        let answer = call(&engine.admin, "GET", "/readyz", &[], "");
        self.admin.hold("GET", "/readyz", &answer);
        assert_eq!(answer.status, 503, "{answer:?}");
    }
}

fn meddle(engine: &Engine, sql: &str) {
    let db = rusqlite::Connection::open(engine.data.join("orders.sqlite")).expect("the store");
    db.busy_timeout(Duration::from_secs(60)).expect("a timeout");
    db.execute_batch(sql).expect("meddling works");
}
