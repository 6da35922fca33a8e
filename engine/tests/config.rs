//! What `floodgate check` says: whoever wrote a value that cannot be is told where it
//! stands, what it is, and what is allowed. What `check` accepts, `serve` does not
//! refuse for the sake of the configuration.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use tempfile::TempDir;

/// One call of the program in a folder of its own, where the file is `f.toml`.
struct Check {
    folder: TempDir,
    command: Command,
}

fn check(toml: &str) -> Check {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("f.toml"), toml).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
    command
        .args(["check", "--config", "f.toml"])
        .current_dir(folder.path())
        .env_clear();
    Check { folder, command }
}

impl Check {
    fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    #[track_caller]
    fn refused(mut self, said: &[&str]) -> String {
        let output = self.command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "accepted; expected {said:?}");
        for part in said {
            assert!(text.contains(part), "{part:?} is missing in: {text}");
        }
        text
    }

    #[track_caller]
    fn accepted(mut self) {
        let output = self.command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}

/// A file with one sale; `sku` and `sale` are further lines.
fn sale(sale: &str, price: &str) -> String {
    format!(
        "[[sales]]\nid = \"tea\"\nname = \"Tea\"\nendsAt = \"2099-01-01T00:00:00Z\"\n{sale}\n\
         [[sales.skus]]\nid = \"set\"\nname = \"Set\"\ncurrency = \"EUR\"\nunits = 1\npriceCent = {price}\n"
    )
}

const STARTS: &str = "startsAt = \"2026-01-01T00:00:00Z\"\nunitsPerUser = 1";

#[test]
fn an_empty_data_folder_is_refused_by_its_key() {
    check("[data]\ndir = \"\"").refused(&["f.toml: data.dir: \"\"", "a folder"]);
    check("")
        .env("FLOODGATE_DATA_DIR", "")
        .refused(&["FLOODGATE_DATA_DIR: \"\"", "a folder"]);
}

#[test]
fn a_data_folder_that_is_a_file_is_told_plainly() {
    check("[data]\ndir = \"f.toml\"").refused(&["data.dir: \"f.toml\" is not a folder"]);
    check("[data]\ndir = \"f.toml/a/b\"")
        .refused(&["data.dir: \"f.toml/a/b\": \"f.toml\" is not a folder"]);
    check("")
        .env("FLOODGATE_DATA_DIR", "f.toml")
        .refused(&["FLOODGATE_DATA_DIR: \"f.toml\" is not a folder"]);
    check("")
        .args(&["--data-dir", "f.toml"])
        .refused(&["--data-dir: \"f.toml\" is not a folder"]);
    check("[data]\ndir = \"not/yet/there\"").accepted();
    let lost = check("[data]\ndir = \"link\"");
    std::os::unix::fs::symlink("nowhere", lost.folder.path().join("link")).expect("a link");
    lost.refused(&[
        "data.dir: \"link\" is not a folder",
        "link that leads nowhere",
    ]);
}

#[test]
fn origins_that_no_browser_sends_are_refused() {
    for (origin, said) in [
        ("https://SHOP.example:443 x?y#z@", "is not an origin"),
        ("https://SHOP.example", "https://shop.example"),
        ("https://shop.example/", "write \"https://shop.example\""),
        ("https://shop.example:443", "write \"https://shop.example\""),
        ("https://shop.example/path", "is not an origin"),
        ("null", "any page can"),
        ("*", "every page"),
        ("", "is not an origin"),
    ] {
        check(&format!(
            "[http]\norigins = [\"https://a.example\", {origin:?}]"
        ))
        .refused(&["f.toml: http.origins[1]", &format!("{origin:?}"), said]);
    }
    check("[http]\norigins = [\"https://shop.example\", \"http://127.0.0.1:8080\"]").accepted();
}

#[test]
fn listeners_that_cannot_both_bind_are_refused() {
    check("[http]\nlisten = \"0.0.0.0:8080\"\nadmin_listen = \"127.0.0.1:8080\"")
        .refused(&["http.admin_listen", "must differ"]);
}

#[test]
fn a_queue_smaller_than_a_batch_is_refused_by_both_names() {
    check("[ledger]\nbatch_records_max = 20_000").refused(&[
        "f.toml: ledger.queue_records_max: 16384",
        "ledger.batch_records_max, 20000",
    ]);
    check("[ledger]\nbatch_records_max = 8192\nqueue_records_max = 4096").refused(&[
        "ledger.queue_records_max: 4096",
        "ledger.batch_records_max, 8192",
    ]);
    check("[ledger]\nbatch_records_max = 4096\nqueue_records_max = 4096").accepted();
}

#[test]
fn retention_is_an_hour_at_least() {
    check("[ledger]\nretention_hours = 0").refused(&[
        "ledger.retention_hours (line 2): 0 is out of range",
        "1 to 87600",
    ]);
    check("[ledger]\nretention_hours = 87600").accepted();
}

#[test]
fn variables_are_blamed_for_what_they_say() {
    let text = check("[http]\nlisten = \"127.0.0.1:1\"")
        .env("FLOODGATE_HTTP_LISTEN", "bad")
        .refused(&["FLOODGATE_HTTP_LISTEN: \"bad\"", "such as 127.0.0.1:8080"]);
    assert!(
        !text.contains("f.toml") && !text.contains("http.listen"),
        "{text}"
    );
    check("")
        .env("FLOODGATE_ADMIN_LISTEN", "127.0.0.1:8080")
        .refused(&["FLOODGATE_ADMIN_LISTEN: ", "http.listen", "must differ"]);
    check("")
        .env("FLOODGATE_HTTP_LISTEN", "127.0.0.1:8081")
        .refused(&[
            "FLOODGATE_HTTP_LISTEN: ",
            "http.admin_listen",
            "must differ",
        ]);
    check("[auth]\nmode = \"demo\"")
        .env("FLOODGATE_HTTP_LISTEN", "0.0.0.0:8080")
        .refused(&["FLOODGATE_HTTP_LISTEN: ", "not loopback"]);
    // Buyers who are known by name are still no judges of what they paid.
    let real = "[auth]\nmode = \"header\"\ntrusted_peers = [\"127.0.0.1\"]\n";
    let mock = format!("{real}[payment]\nprovider = \"mock\"\n");
    check(&mock)
        .env("FLOODGATE_HTTP_LISTEN", "0.0.0.0:8080")
        .refused(&["FLOODGATE_HTTP_LISTEN: ", "not loopback", "on_any_address"]);
    check(&format!("{mock}[payment.mock]\non_any_address = true\n"))
        .env("FLOODGATE_HTTP_LISTEN", "0.0.0.0:8080")
        .accepted();
    let text = check("")
        .env("FLOODGATE_ADMIN_TOKEN", "secret")
        .refused(&["FLOODGATE_ADMIN_TOKEN: ", "16 or more"]);
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_sale_has_fewer_buckets_than_a_batch_has_records() {
    let sale = |buckets: u16| {
        format!(
            "[ledger]\nbatch_records_max = 512\n[[sales]]\nid = \"tea\"\nname = \"tea\"\n\
             startsAt = \"2026-01-01T00:00:00Z\"\nendsAt = \"2026-01-02T00:00:00Z\"\n\
             unitsPerUser = 1\nbuckets = {buckets}\nskus = [{{ id = \"u\", name = \"u\", \
             priceCent = 1, currency = \"EUR\", units = 9 }}]\n"
        )
    };
    check(&sale(511)).accepted();
    check(&sale(512)).refused(&["sales[0].buckets", "512 is not less than"]);
}

#[test]
fn flags_are_blamed_for_what_they_say_and_win() {
    let text = check("")
        .env("FLOODGATE_HTTP_LISTEN", "127.0.0.1:1")
        .args(&["--http-listen", "worse"])
        .refused(&["--http-listen: \"worse\"", "such as 127.0.0.1:8080"]);
    assert!(!text.contains("FLOODGATE"), "{text}");
    check("")
        .env("FLOODGATE_HTTP_LISTEN", "bad")
        .args(&["--http-listen", "127.0.0.1:2"])
        .accepted();
}

#[test]
fn unknown_variables_are_refused_with_the_nearest_known_one() {
    check("").env("FLOODGATE_HTTP_LISEN", "x").refused(&[
        "FLOODGATE_HTTP_LISEN",
        "did you mean FLOODGATE_HTTP_LISTEN?",
    ]);
    check("")
        .env("FLOODGATE_ZZZ", "x")
        .refused(&["FLOODGATE_ZZZ", "known are FLOODGATE_HTTP_LISTEN"]);
    check("").env("FLOODGATE", "x").accepted();
}

#[test]
fn variables_that_are_not_text_are_refused_by_their_name() {
    let bad = || OsString::from_vec(vec![b'a', 0xff]);
    for name in ["FLOODGATE_HTTP_LISTEN", "FLOODGATE_ADMIN_TOKEN"] {
        check("").env(name, bad()).refused(&[name, "not UTF-8"]);
    }
    let name = OsString::from_vec(b"FLOODGATE_\xff".to_vec());
    check("").env(name, "x").refused(&["FLOODGATE_\u{fffd}"]);
    // Not ours to judge.
    check("").env("OTHER", bad()).accepted();
}

#[test]
fn numbers_that_cannot_be_name_file_key_value_and_range() {
    for (value, said) in [
        ("-1", "-1 is out of range"),
        ("5_000_000_000", "5_000_000_000 is out of range"),
        (
            "99999999999999999999",
            "99999999999999999999 is out of range",
        ),
        ("1.5", "1.5 is not a whole number"),
        ("nan", "nan is not a whole number"),
        ("\"5\"", "\"5\" is not a whole number"),
        ("true", "true is not a whole number"),
        ("[5]", "a list is not a whole number"),
        ("2026-11-11", "2026-11-11 is not a whole number"),
    ] {
        check(&format!("[limits]\nanswer_ms = {value}")).refused(&[
            "f.toml: limits.answer_ms (line 2): ",
            said,
            "allowed are 100 to 60000",
        ]);
        check(&sale(&format!("{STARTS}\npayWindowSeconds = {value}"), "1")).refused(&[
            "f.toml: sales[0].payWindowSeconds (line 7): ",
            said,
            "allowed are 1 to 604800",
        ]);
    }
}

#[test]
fn values_of_a_wrong_kind_name_file_key_and_value() {
    for (toml, said) in [
        (
            sale("unitsPerUser = 1\nstartsAt = 2026-11-11T00:00:00Z", "1"),
            "f.toml: sales[0].startsAt (line 6): 2026-11-11T00:00:00Z is a bare date; \
             put it in quotes: \"2026-11-11T00:00:00Z\"",
        ),
        (
            "[http]\nlisten = 8080".to_owned(),
            "f.toml: http.listen (line 2): 8080 is not a text; put it in quotes",
        ),
        (
            "[http]\norigins = \"https://a.example\"".to_owned(),
            "f.toml: http.origins (line 2): \"https://a.example\" is not a list of texts",
        ),
        (
            "[auth]\ndemo_on_any_address = \"yes\"".to_owned(),
            "f.toml: auth.demo_on_any_address (line 2): \"yes\" is neither true nor false",
        ),
        (
            "http = 5".to_owned(),
            "f.toml: http (line 1): 5 is not a table",
        ),
        (
            "[sales]".to_owned(),
            "f.toml: sales (line 1): a table is not a list of tables; write [[sales]]",
        ),
        (
            "[http]\nadmin_token = \"hush\"".to_owned(),
            "f.toml: http.admin_token (line 2): is not known; did you mean `admin_token_file`?",
        ),
    ] {
        let text = check(&toml).refused(&[said]);
        assert!(!text.contains("hush"), "{text}");
    }
}

#[test]
fn no_flag_takes_the_secret() {
    let text = check("")
        .args(&["--admin-token", "0123456789abcdef"])
        .refused(&["unexpected argument '--admin-token'"]);
    assert!(!text.contains("0123456789abcdef"), "{text}");
    check("")
        .env("FLOODGATE_ADMIN_TOKEN", "0123456789abcdef")
        .accepted();
    let help = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["serve", "--help"])
        .env("FLOODGATE_ADMIN_TOKEN", "0123456789abcdef")
        .output()
        .expect("it runs");
    let help = String::from_utf8_lossy(&help.stdout);
    for known in [
        "--config",
        "--http-listen",
        "--admin-listen",
        "--data-dir",
        "FLOODGATE_HTTP_LISTEN",
        "FLOODGATE_ADMIN_LISTEN",
        "FLOODGATE_DATA_DIR",
        "FLOODGATE_ADMIN_TOKEN",
        "http.admin_token_file",
    ] {
        assert!(help.contains(known), "{known} is missing in:\n{help}");
    }
    assert!(
        !help.contains("--admin-token ") && !help.contains("0123456789abcdef"),
        "{help}"
    );
}

#[test]
fn a_price_stays_below_what_a_page_can_count() {
    check(&sale(STARTS, "10_000_000_000")).accepted();
    check(&sale(STARTS, "0")).accepted();
    check(&sale(STARTS, "10_000_000_001")).refused(&[
        "sales[0].skus[0].priceCent",
        "is out of range; allowed are 0 to 10000000000",
    ]);
}

#[test]
fn limits_of_buyers_name_key_value_and_range() {
    for (toml, said) in [
        (
            "[limits]\nper_user = { rate = 0, burst = 1 }",
            "f.toml: limits.per_user.rate (line 2): 0 is out of range; allowed are 1 to 1000000",
        ),
        (
            "[limits.per_ip]\nrate = 1\nbrust = 1",
            "f.toml: limits.per_ip.brust (line 3): is not known; did you mean `burst`?",
        ),
        (
            "[limits]\nlicenses_per_user = { rate = 1, burst = 0 }",
            "f.toml: limits.licenses_per_user.burst (line 2): 0 is out of range; allowed are 1 to 1000000",
        ),
        (
            "[limits]\nper_device = { rate = 1 }",
            "missing field `burst`",
        ),
        (
            "[limits]\ndeny_ips = [\"10.0.0.0/8\", \"10.0.0.1/8\"]",
            "f.toml: limits.deny_ips[1]: \"10.0.0.1/8\" has bits behind its prefix; write 10.0.0.0/8",
        ),
        (
            "[limits]\nallow_users = [\"a b\"]",
            "f.toml: limits.allow_users[0]: \"a b\" has a character that is not allowed",
        ),
        (
            "[http]\ntrusted_proxies = [\"proxy.example\"]",
            "f.toml: http.trusted_proxies[0]: \"proxy.example\" is not an address or a range",
        ),
        (
            "[http]\nrequest_ms = 10_000",
            "f.toml: http.request_ms: 10000 is too short",
        ),
        (
            "[http]\nidle_ms = 5",
            "f.toml: http.idle_ms (line 2): 5 is out of range; allowed are 50 to 300000",
        ),
    ] {
        check(toml).refused(&[said]);
    }
    check("[limits]\nper_user = { rate = 1, seconds = 3600, burst = 1 }").accepted();
    // A line of a minute is longer than a request may take.
    let slow = sale(&format!("{STARTS}\nadmission.waitMs = 60000"), "1");
    check(&format!("[http]\nrequest_ms = 60_000\n{slow}"))
        .refused(&["http.request_ms: 60000 is too short", "70000 together"]);
}

/// The README tells the same ranges as the checks.
#[test]
fn the_readme_names_the_variables_and_the_range_of_a_price() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .expect("a README");
    let section = readme
        .split("\n## Configuration\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("a section on configuration");
    for said in [
        "`FLOODGATE_HTTP_LISTEN` | `--http-listen` | `http.listen`",
        "`FLOODGATE_ADMIN_LISTEN` | `--admin-listen` | `http.admin_listen`",
        "`FLOODGATE_DATA_DIR` | `--data-dir` | `data.dir`",
        "`FLOODGATE_ADMIN_TOKEN` | none",
        "`priceCent` (0 to 10,000,000,000)",
    ] {
        assert!(section.contains(said), "{said} is missing");
    }
    assert!(!readme.contains("--admin-token "), "the flag is gone");
}
