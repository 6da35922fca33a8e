//! Requests that together hear everything a document describes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::common::{Answer, Engine, call};
use super::contract::Contract;

pub const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const ANA: (&str, &str) = ("x-user-id", "ana");

/// An id in form, of no order.
pub const NO_ORDER: &str = "01a1ff21-6bfe-8000-8001-400000079361";

pub type Headers<'a> = &'a [(&'a str, &'a str)];

pub fn token(engine: &Engine) -> String {
    let token = std::fs::read_to_string(engine.token_file()).expect("the engine wrote a token");
    format!("Bearer {}", token.trim())
}

/// Of the public and of the admin listener.
pub fn documents() -> [String; 2] {
    ["public", "admin"].map(|name| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/openapi");
        std::fs::read_to_string(format!("{folder}/{name}.json")).expect("a document")
    })
}

/// A definition with the fields every sale must have, and more.
pub fn definition(id: &str, more: Value) -> String {
    let mut sale = json!({
        "id": id, "name": id, "unitsPerUser": 9,
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "skus": [{"id": "unit", "name": "u", "priceCent": 1, "currency": "EUR", "units": 1}],
    });
    let fields = sale.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    sale.to_string()
}

pub struct Errands {
    pub public: Contract,
    pub admin: Contract,
}

impl Errands {
    pub fn new() -> Self {
        let read = |text: &String| serde_json::from_str(text).expect("JSON");
        let [public, admin] = documents();
        Self {
            public: Contract::new("public", read(&public)),
            admin: Contract::new("admin", read(&admin)),
        }
    }

    /// Answers that are not as described.
    pub fn wrong(&self) -> Vec<String> {
        [&self.public, &self.admin]
            .map(|c| c.wrong.clone())
            .concat()
    }

    /// Answers that are described and did not come.
    pub fn unseen(&self) -> BTreeSet<String> {
        self.public
            .unseen()
            .into_iter()
            .chain(self.admin.unseen())
            .collect()
    }

    pub fn ask(
        &mut self,
        engine: &Engine,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: &str,
    ) -> Answer {
        let answer = call(&engine.public, method, path, headers, body);
        self.public.hold(method, path, &answer);
        answer
    }

    pub fn expect(
        &mut self,
        engine: &Engine,
        call: (&str, &str),
        headers: Headers<'_>,
        body: &str,
        is: (u16, &str),
    ) -> Answer {
        let answer = self.ask(engine, call.0, call.1, headers, body);
        self.public.is(call, &answer, is);
        answer
    }

    pub fn buy(
        &mut self,
        engine: &Engine,
        user: &str,
        key: &str,
        body: &str,
        is: (u16, &str),
    ) -> Answer {
        let headers = [("x-user-id", user), ("idempotency-key", key), JSON];
        self.expect(engine, ("POST", "/v1/orders"), &headers, body, is)
    }

    pub fn operate(
        &mut self,
        engine: &Engine,
        call: (&str, &str),
        body: &str,
        is: (u16, &str),
    ) -> Answer {
        let answer = engine.admin(call.0, call.1, body);
        self.admin.hold(call.0, call.1, &answer);
        self.admin.is(call, &answer, is);
        answer
    }
}
