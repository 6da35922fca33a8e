//! The engine as a process: started on free ports in a temporary folder, spoken
//! to over plain sockets, ended by its process id.

#![allow(dead_code)] // Each test file uses its own part of this.

pub mod redis;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub struct Engine {
    child: Child,
    pub public: String,
    pub admin: String,
    pub data: PathBuf,
}

/// One sale that is open, as TOML.
pub fn open_sale(id: &str, units: u32, per_user: u32, more: &str) -> String {
    format!(
        r#"
[auth]
mode = "demo"
[[sales]]
id = "{id}"
name = "{id}"
startsAt = "2020-01-01T00:00:00Z"
endsAt = "2099-01-01T00:00:00Z"
unitsPerUser = {per_user}
skus = [{{ id = "unit", name = "unit", priceCent = 100, currency = "EUR", units = {units} }}]
{more}
"#
    )
}

pub fn harness() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_floodgate")).with_file_name("floodgate-loadtest");
    assert!(
        path.exists(),
        "{} is missing: build the workspace first",
        path.display()
    );
    path
}

impl Engine {
    pub fn start(folder: &TempDir, config: &str) -> Self {
        Self::start_on(folder, config, "127.0.0.1:0", "127.0.0.1:0", "").expect("the engine starts")
    }

    /// In the place of a shell that did this before, as `ulimit -n 400`.
    pub fn start_under(folder: &TempDir, config: &str, limit: &str) -> Result<Self, String> {
        let mut shell = Command::new("bash");
        let limited = format!("{limit} && exec \"$0\" \"$@\"");
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_floodgate")]);
        Self::start_by(shell, folder, config, "127.0.0.1:0", "127.0.0.1:0", "")
    }

    /// `failpoints` as the variable FAILPOINTS takes them.
    pub fn start_on(
        folder: &TempDir,
        config: &str,
        http: &str,
        admin: &str,
        failpoints: &str,
    ) -> Result<Self, String> {
        let command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
        Self::start_by(command, folder, config, http, admin, failpoints)
    }

    fn start_by(
        mut command: Command,
        folder: &TempDir,
        config: &str,
        http: &str,
        admin: &str,
        failpoints: &str,
    ) -> Result<Self, String> {
        let file = folder.path().join("floodgate.toml");
        std::fs::write(&file, config).map_err(|e| e.to_string())?;
        let data = folder.path().join("data");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.path().join("engine.log"))
            .map_err(|e| e.to_string())?;
        let mut child = command
            .args([
                "serve",
                "--http-listen",
                http,
                "--admin-listen",
                admin,
                "--config",
            ])
            .arg(&file)
            .arg("--data-dir")
            .arg(&data)
            .env("FAILPOINTS", failpoints)
            .env("RUST_LOG", "warn")
            .env_remove("FLOODGATE_ADMIN_TOKEN")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| e.to_string())?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no output")?;
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        let urls: Vec<&str> = line
            .split_whitespace()
            .filter_map(|w| w.strip_prefix("http://"))
            .collect();
        let [public, admin] = urls[..] else {
            let ended = child.wait().map_err(|e| e.to_string())?;
            let log = std::fs::read_to_string(folder.path().join("engine.log")).unwrap_or_default();
            return Err(format!("the engine did not open, {ended}: {log}"));
        };
        Ok(Self {
            public: public.to_owned(),
            admin: admin.to_owned(),
            child,
            data,
        })
    }

    pub fn kill(mut self) {
        self.child.kill().expect("the engine runs");
        self.child.wait().expect("the engine ends");
    }

    /// SIGTERM; returns whether it ended well.
    pub fn stop(self) -> bool {
        self.terminate();
        self.ended() == Some(0)
    }

    /// SIGTERM, and on with the test.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        Command::new("kill").arg(id).status().expect("kill runs");
    }

    /// Waits for the end; the exit code, if it was not a signal.
    pub fn ended(mut self) -> Option<i32> {
        self.child.wait().expect("the engine ends").code()
    }

    pub fn token_file(&self) -> PathBuf {
        self.data.join("admin-token")
    }

    pub fn buy(&self, user: &str, key: &str, body: &str) -> Answer {
        raw(
            &self.public,
            purchase(&self.public, user, key, body).as_bytes(),
        )
    }

    /// As [`Self::buy`], of an engine that may be dead.
    pub fn try_buy(&self, user: &str, key: &str, body: &str) -> Option<Answer> {
        let answer = try_raw(
            &self.public,
            purchase(&self.public, user, key, body).as_bytes(),
        )?;
        (answer.status != 0).then_some(answer)
    }

    pub fn get(&self, user: &str, path: &str) -> Answer {
        call(&self.public, "GET", path, &[("x-user-id", user)], "")
    }

    pub fn post(&self, user: &str, path: &str) -> Answer {
        call(&self.public, "POST", path, &[("x-user-id", user)], "")
    }

    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let token = std::fs::read_to_string(self.token_file()).expect("the engine wrote a token");
        let bearer = format!("Bearer {}", token.trim());
        call(
            &self.admin,
            method,
            path,
            &[
                ("authorization", &bearer),
                ("content-type", "application/json"),
            ],
            body,
        )
    }

    /// What is left of the only SKU of a sale.
    pub fn remaining(&self, sale: &str) -> u64 {
        self.get("x", &format!("/v1/sales/{sale}")).json["skus"][0]["remaining"]
            .as_u64()
            .expect("a number")
    }

    /// The order store, which nobody else writes until this connection lets go of it: so
    /// nothing is streamed meanwhile.
    pub fn held_store(&self) -> rusqlite::Connection {
        let store = rusqlite::Connection::open(self.data.join("orders.sqlite"));
        let store = store.expect("the engine made one");
        store
            .execute_batch("PRAGMA busy_timeout = 60000; BEGIN EXCLUSIVE")
            .expect("nobody else writes now");
        store
    }

    pub fn differences(&self) -> Value {
        self.admin("POST", "/admin/v1/reconcile", "").json["differences"].clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    pub json: Value,
}

impl Answer {
    pub fn code(&self) -> (u16, &str) {
        (self.status, self.json["code"].as_str().unwrap_or(""))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn purchase(at: &str, user: &str, key: &str, body: &str) -> String {
    let headers = [
        ("x-user-id", user),
        ("idempotency-key", key),
        ("content-type", "application/json"),
    ];
    request(at, "POST", "/v1/orders", &headers, body)
}

pub fn call(at: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    raw(at, request(at, method, path, headers, body).as_bytes())
}

fn request(at: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text
}

/// Sends bytes as they are and reads until the engine closes the line.
pub fn raw(at: &str, bytes: &[u8]) -> Answer {
    try_raw(at, bytes).expect("connect")
}

fn try_raw(at: &str, bytes: &[u8]) -> Option<Answer> {
    let mut line = TcpStream::connect(at).ok()?;
    line.set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    // The engine may answer and close before it read everything.
    let _ = line.write_all(bytes);
    let mut answer = Vec::new();
    let _ = line.read_to_end(&mut answer);
    Some(parsed(&answer))
}

/// An answer as it came off the wire; status 0 when there was none.
pub fn parsed(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
        json: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

/// `floodgate recover` on an engine's folder, broken off where `fail` says.
pub fn recovery(folder: &Path, fail: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .arg("recover")
        .arg("--config")
        .arg(folder.join("floodgate.toml"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .env("RUST_LOG", "warn")
        .env("FAILPOINTS", fail)
        .output()
        .expect("it runs")
}

/// What a recovery reports.
pub fn recover(folder: &Path) -> Value {
    let done = recovery(folder, "");
    let text = String::from_utf8_lossy(&done.stdout);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}{said}");
    println!("{text}{said}");
    serde_json::from_str(&text).expect("a report")
}
