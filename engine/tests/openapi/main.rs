//! The documents of the API are true: valid OpenAPI 3.1, and every answer of a running
//! engine, good or bad, is one that they describe. What they describe and no test can
//! provoke is listed, and nothing else may be.

#[path = "../common/mod.rs"]
mod common;
mod contract;
mod errands;

mod buyers;
mod heads;
mod money;
mod operators;

use std::collections::BTreeSet;

use common::{Engine, open_sale};
use errands::Errands;
use serde_json::Value;

/// Nobody but a broken disk or a fault of ours gets these answers: faults of the ledger
/// end the process, and SQLite is not away.
const NOT_PROVOKED: [&str; 8] = [
    "500 INTERNAL",
    // A thousand messages of the mock under way.
    "/mock-pay/{token} 503 PAYMENT_UNAVAILABLE",
    "/admin/v1/sales/{sale}/pause 503 NOT_READY",
    "/admin/v1/sales/{sale}/resume 503 NOT_READY",
    "/admin/v1/sales/{sale}/end 503 NOT_READY",
    "/admin/v1/sales/{sale}/orders 503 NOT_READY",
    "/admin/v1/dead-letters 503 NOT_READY",
    "/replay 503 NOT_READY",
];

fn start(more: &str) -> (tempfile::TempDir, Engine) {
    start_with(more, "")
}

fn start_with(more: &str, failpoints: &str) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 9, 2, more);
    let any = "127.0.0.1:0";
    let engine = Engine::start_on(&folder, &config, any, any, failpoints).expect("it opens");
    (folder, engine)
}

#[test]
fn the_documents_are_openapi_3_1() {
    let schema: Value = serde_json::from_str(include_str!("oas-3.1.schema.json")).expect("JSON");
    let valid = jsonschema::options()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .build(&schema)
        .expect("a schema");
    assert!(!valid.is_valid(&serde_json::json!({"openapi": "3.1.0", "paths": {}})));
    let (_folder, engine) = start("");
    let served = [
        engine.get("ana", "/openapi.json").body,
        engine.admin("GET", "/admin/openapi.json", "").body,
    ];
    assert_eq!(served, errands::documents(), "byte for byte");
    for document in served {
        let document: Value = serde_json::from_str(&document).expect("JSON");
        let wrong: Vec<String> = valid
            .iter_errors(&document)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        // What that schema leaves out: every schema within is one.
        let schemas = document["components"]["schemas"].as_object();
        for (name, schema) in schemas.expect("schemas") {
            assert!(jsonschema::meta::is_valid(schema), "{name}");
        }
        let mut ids = BTreeSet::new();
        for item in document["paths"].as_object().expect("paths").values() {
            for call in item.as_object().expect("methods").values() {
                let id = call["operationId"].as_str().expect("an id");
                assert!(ids.insert(id), "{id} stands there twice");
            }
        }
    }
}

#[test]
fn every_answer_is_described_and_every_description_is_met() {
    let (_folder, engine) = start("");
    let mut errands = Errands::new();
    errands.pages_and_sales(&engine);
    errands.purchases(&engine);
    errands.own_orders(&engine);
    errands.operators(&engine);
    errands.letters(&engine);
    errands.heads(&engine);
    drop(engine);

    let (_folder, engine) = start(
        "[limits]\nper_user = { rate = 1, seconds = 3600, burst = 1 }\ndeny_users = [\"eve\"]\n",
    );
    errands.limits(&engine);
    errands.no_provider(&engine);
    drop(engine);

    let few = "[limits]\nlicenses_per_user = { rate = 1, seconds = 3600, burst = 2 }\n";
    let (_folder, engine) = start(&format!("{few}[payment]\nprovider = \"mock\"\n"));
    errands.payments(&engine);
    errands.works(&engine);
    drop(engine);

    let (_folder, engine) = start("[ledger]\nlow_water_mb = 1000000000\n");
    errands.no_room(&engine);
    drop(engine);

    let slow = "ledger-before-write=sleep(1500)";
    let patience = "paymentGraceSeconds = 60\n[limits]\nanswer_ms = 100\n";
    let patience = format!("{patience}[payment]\nprovider = \"mock\"\n");
    let (_folder, engine) = start_with(&patience, slow);
    errands.slow_disk(&engine);
    errands.slow_money(&engine);
    drop(engine);

    let (_folder, engine) = start("[http]\nheader_ms = 50\nbody_ms = 50\n");
    errands.late(&engine);

    let wrong = errands.wrong();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unseen = errands.unseen();
    let surprising: Vec<&String> = unseen
        .iter()
        .filter(|u| !NOT_PROVOKED.iter().any(|n| u.ends_with(n)))
        .collect();
    assert!(surprising.is_empty(), "never answered: {surprising:#?}");
    for listed in NOT_PROVOKED {
        let fits = unseen.iter().any(|u| u.ends_with(listed));
        assert!(fits, "{listed} was provoked, or is not described");
    }
}

/// A call as text: `get /v1/orders/{}?cursor&limit`, whatever the segment is called.
fn plain(method: &str, path: &str, mut query: Vec<&str>) -> String {
    let segments = path
        .split('/')
        .map(|s| if s.starts_with('{') { "{}" } else { s });
    let path = segments.collect::<Vec<_>>().join("/");
    query.sort_unstable();
    let query = query.join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{} {path}{mark}{query}", method.to_lowercase())
}

/// `GET /v1/sales` between back-ticks, with its query if it has one.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split('`').skip(1).step_by(2);
    let calls = words.filter_map(|word| {
        let (method, target) = word.split_once(' ')?;
        let method = ["GET", "POST"].contains(&method).then_some(method)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query.split('&').filter(|q| !q.is_empty()).collect();
        path.starts_with('/').then(|| plain(method, path, query))
    });
    calls.collect()
}

fn described(document: &str) -> BTreeSet<String> {
    let document: Value = serde_json::from_str(document).expect("JSON");
    let mut calls = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, call) in item.as_object().expect("methods") {
            let parameters = call["parameters"].as_array().into_iter().flatten();
            let query = parameters.filter(|p| p["in"] == "query");
            let query = query.filter_map(|p| p["name"].as_str()).collect();
            calls.insert(plain(method, path, query));
        }
    }
    calls
}

#[test]
fn the_readme_names_the_calls_that_there_are() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).expect("a README");
    let (named, documents) = (named(&readme), errands::documents());
    let calls: BTreeSet<String> = documents.iter().flat_map(|d| described(d)).collect();
    // Where it names no query it means the call and not what it takes.
    let is = |named: &String, call: &String| {
        named == call || call.split('?').next() == Some(named.as_str())
    };
    for name in &named {
        let known = calls.iter().any(|call| is(name, call));
        assert!(known, "the README names {name}");
    }
    for call in calls.iter().filter(|c| c.contains(" /v1/")) {
        assert!(
            named.iter().any(|name| is(name, call)),
            "the README does not name {call}"
        );
    }
}
