//! The texts of the scripts: prelude and body joined, the same for every host.

use super::host::Script;

const PRELUDE: &str = include_str!("../../../lua/prelude.lua");

fn body(script: Script) -> &'static str {
    match script {
        Script::Open => include_str!("../../../lua/open.lua"),
        Script::Reserve => include_str!("../../../lua/reserve.lua"),
        Script::Settle => include_str!("../../../lua/settle.lua"),
        Script::Move => include_str!("../../../lua/move.lua"),
        Script::Rebuild => include_str!("../../../lua/rebuild.lua"),
        Script::Audit => include_str!("../../../lua/audit.lua"),
    }
}

pub fn text(script: Script) -> String {
    let mut body = body(script).to_owned();
    if script == Script::Reserve {
        if without_stock_check() {
            body = without(&body, "short = short or stock[s] < 0 -- CHECK:stock", "");
        }
        if without_key_check() {
            body = without(
                &body,
                "elseif known and not (again and known == use) then -- CHECK:key",
                "elseif false then",
            );
        }
    }
    format!("{PRELUDE}\n{body}")
}

/// Checks are taken away only by tests, which prove that the audit notices.
fn without_stock_check() -> bool {
    fail::fail_point!("stock-no-stock-check", |_| true);
    false
}

fn without_key_check() -> bool {
    fail::fail_point!("stock-no-key-check", |_| true);
    false
}

fn without(body: &str, check: &str, instead: &str) -> String {
    assert!(body.contains(check), "reserve.lua has no line {check:?}");
    body.replace(check, instead)
}
