//! Chromium without a window, steered by chromedriver in plain HTTP (W3C WebDriver). Ends
//! with its value, and so does all it started.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Answer, parsed};

pub struct Browser {
    driver: Child,
    at: String,
    session: String,
    _profile: TempDir,
}

fn on_the_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .any(|folder| Path::new(folder).join(program).exists())
}

/// Nothing but the page is asked for: no updates, no list of bad addresses.
const QUIET: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
];

impl Browser {
    /// `None`, and a word about it, where there is no browser to test with.
    pub fn start() -> Option<Self> {
        if !on_the_path("chromedriver") {
            eprintln!("SKIPPED: there is no chromedriver (apt-get install chromium-driver)");
            return None;
        }
        // A test that is killed takes the driver along, and the driver the browser, which
        // ends with the pipe to it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "chromedriver", "--port=0"]);
        command.process_group(0);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("setpriv runs");
        let said = BufReader::new(driver.stdout.take().expect("its output"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let profile = tempfile::tempdir().expect("a folder");
        let mut browser = Self {
            driver,
            at: format!("127.0.0.1:{}", port.expect("it says its port")),
            session: String::new(),
            _profile: profile,
        };
        let folder = browser._profile.path().display();
        let mut args: Vec<String> = QUIET.iter().map(ToString::to_string).collect();
        args.push(format!("--user-data-dir={folder}"));
        let asked = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.ask("POST", "/session", &asked);
        let id = session["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("/session/{id}");
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_ask(method, path, body)
            .unwrap_or_else(|e| panic!("{method} {path} {body}: {e}"))
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let path = format!("{}{path}", self.session);
        let body = if method == "POST" {
            body.to_string()
        } else {
            String::new()
        };
        let answer = exchange(&self.at, method, &path, &body).map_err(|e| e.to_string())?;
        if answer.status == 200 {
            return Ok(answer.json["value"].clone());
        }
        Err(answer.body)
    }

    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    pub fn run(&self, script: &str) -> Value {
        self.ask(
            "POST",
            "/execute/sync",
            &json!({"script": script, "args": []}),
        )
    }

    /// What can be read of an element, or nothing where it is not there or not shown.
    pub fn text(&self, css: &str) -> String {
        let css = Value::from(css);
        let text = self.run(&format!(
            "const e = document.querySelector({css}); return e ? e.innerText : ''"
        ));
        text.as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn shows(&self, css: &str, text: &str) {
        self.until(&format!("{css} shows {text:?}"), || {
            self.text(css).contains(text)
        });
    }

    /// Presses it as a hand does: it must be there, shown, enabled and not covered.
    #[track_caller]
    pub fn press(&self, css: &str) {
        self.until(&format!("{css} can be pressed"), || {
            let found = json!({"using": "css selector", "value": css});
            let Ok(found) = self.try_ask("POST", "/element", &found) else {
                return false;
            };
            let id = found.as_object().and_then(|o| o.values().next());
            let id = id.and_then(Value::as_str).expect("an element").to_owned();
            let enabled = self.try_ask("GET", &format!("/element/{id}/enabled"), &Value::Null);
            enabled == Ok(Value::Bool(true))
                && self
                    .try_ask("POST", &format!("/element/{id}/click"), &json!({}))
                    .is_ok()
        });
    }

    pub fn write(&self, css: &str, text: &str) {
        let (css, text) = (Value::from(css), Value::from(text));
        self.run(&format!("document.querySelector({css}).value = {text}"));
    }

    /// Until it is so, or far longer than it takes.
    #[track_caller]
    pub fn until(&self, what: &str, so: impl Fn() -> bool) {
        let began = Instant::now();
        while !so() {
            let body = || self.text("body");
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "never: {what}; the page: {}; its complaints: {:?}",
                body(),
                self.complaints()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the page's own script did wrong since it was asked last, the policy among it;
    /// answers that are errors are no complaint.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        let log = log.as_array().cloned().unwrap_or_default();
        log.iter()
            .filter(|entry| entry["level"] == "SEVERE" && entry["source"] != "network")
            .map(|entry| entry["message"].to_string())
            .collect()
    }
}

/// The driver says how long its answer is, and does not hang up.
fn exchange(at: &str, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
    let mut line = TcpStream::connect(at)?;
    line.set_read_timeout(Some(Duration::from_secs(120)))?;
    let n = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {at}\r\ncontent-length: {n}\r\n\r\n");
    line.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = Vec::new();
    let mut line = BufReader::new(line);
    let mut n_body = 0;
    while !answer.ends_with(b"\r\n\r\n") {
        let begin = answer.len();
        if line.read_until(b'\n', &mut answer)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer[begin..]).to_ascii_lowercase();
        if let Some(n) = text.strip_prefix("content-length:") {
            n_body = n.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    line.take(n_body).read_to_end(&mut answer)?;
    Ok(parsed(&answer))
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.try_ask("DELETE", "", &Value::Null);
        // A browser that was not told to go would stay without its driver.
        if let Some(group) = Pid::from_raw(self.driver.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}
