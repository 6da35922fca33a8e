//! What the README says is so: its quick start runs as it stands, every block, in
//! order, in one shell; its list of metrics is the list.

mod common;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;

use common::{Engine, call, open_sale};

fn free_port() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound").to_string()
}

fn blocks(readme: &str) -> String {
    let section = readme
        .split("\n## Quick start\n")
        .nth(1)
        .expect("a quick start");
    let section = section.split("\n## ").next().expect("its end");
    section
        .split("```sh\n")
        .skip(1)
        .filter_map(|b| b.split("```").next())
        .collect()
}

#[test]
fn the_quick_start_does_what_it_says() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).expect("a README");
    let script = blocks(&readme);
    assert!(
        script.contains("serve --config") && script.contains("wait"),
        "{script}"
    );
    let data = tempfile::tempdir().expect("a folder");
    let (public, admin) = (free_port(), free_port());
    let output = Command::new("bash")
        .args(["-e", "-c", &script])
        .current_dir(root)
        .env("FLOODGATE", env!("CARGO_BIN_EXE_floodgate"))
        .env("DATA", data.path())
        .env("PUBLIC", format!("http://{public}"))
        .env("ADMIN", format!("http://{admin}"))
        .env("FLOODGATE_HTTP_LISTEN", &public)
        .env("FLOODGATE_ADMIN_LISTEN", &admin)
        .env_remove("FLOODGATE_ADMIN_TOKEN")
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    for said in [
        "\"phase\":\"OPEN\"",
        "ana won ",
        "idempotency-replayed: true",
        "LIMIT_EXCEEDED",
        "STOCK_NOT_ENOUGH",
        "\"orderStatus\":\"PAID\"",
        "\"closedReason\":\"canceled\"",
        "floodgate_stock_units{sale=\"tea\",sku=\"set\",state=\"opened\"} 2",
        "\"userId\":\"bob\"",
        "\"differences\":0",
    ] {
        assert!(
            text.contains(said),
            "{said} is missing in:\n{text}\n{errors}"
        );
    }
}

/// Names of metrics between back-ticks, as `floodgate_requests_total{route,code}`.
fn named(readme: &str) -> BTreeSet<String> {
    let section = readme
        .split("\n## For the SRE\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("a section for the SRE");
    section
        .split('`')
        .filter(|word| word.starts_with("floodgate_"))
        .map(|word| word.split('{').next().unwrap_or(word).to_owned())
        .collect()
}

#[test]
fn the_metrics_are_the_ones_of_the_readme() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).expect("a README");
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(&folder, &open_sale("tea", 1, 1, ""));
    let one = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
    assert_eq!(engine.buy("ana", "k", one).status, 201);
    assert_eq!(engine.differences(), 0);
    let metrics = call(&engine.admin, "GET", "/metrics", &[], "").body;
    let shown: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(shown, named(&readme));
}
