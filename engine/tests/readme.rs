//! The README's quick start, run as it stands: every block, in order, in one shell.

use std::net::TcpListener;
use std::process::Command;

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
