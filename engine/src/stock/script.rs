//! The texts of the scripts: prelude and body joined, the same for every host.

use super::host::Script;

const PRELUDE: &str = include_str!("../../../lua/prelude.lua");

fn body(script: Script) -> &'static str {
    match script {
        Script::Open => include_str!("../../../lua/open.lua"),
        Script::Reserve => include_str!("../../../lua/reserve.lua"),
        Script::Settle => include_str!("../../../lua/settle.lua"),
        Script::Keep => include_str!("../../../lua/keep.lua"),
        Script::Move => include_str!("../../../lua/move.lua"),
        Script::Rebuild => include_str!("../../../lua/rebuild.lua"),
        Script::Audit => include_str!("../../../lua/audit.lua"),
    }
}

pub fn text(script: Script) -> String {
    CHECKS
        .iter()
        .filter(|check| is_off(check.fail_point))
        .fold(format!("{PRELUDE}\n{}", body(script)), |text, check| {
            text.replace(check.line, check.instead)
        })
}

/// A line that carries a `-- CHECK:` mark, and what tests put in its place to
/// prove that somebody notices.
struct Check {
    fail_point: &'static str,
    line: &'static str,
    instead: &'static str,
}

const CHECKS: [Check; 9] = [
    Check {
        fail_point: "stock-no-epoch-check",
        line: "local other = m[1] ~= ARGV[1] -- CHECK:epoch",
        instead: "local other = false",
    },
    Check {
        fail_point: "stock-no-epoch-check",
        line: "return there > ours or there == ours and owner ~= ARGV[4] -- CHECK:epoch",
        instead: "return false",
    },
    Check {
        fail_point: "stock-no-epoch-check",
        line: "if there >= new and not repeated then -- CHECK:epoch",
        instead: "if false then",
    },
    Check {
        fail_point: "stock-no-acked-check",
        line: "local behind = at < tonumber(ARGV[3]) -- CHECK:acked",
        instead: "local behind = false",
    },
    Check {
        fail_point: "stock-no-n-check",
        line: "if at > N then -- CHECK:n",
        instead: "if false then",
    },
    Check {
        fail_point: "stock-no-stock-check",
        line: "short = short or stock[s] < 0 -- CHECK:stock",
        instead: "",
    },
    Check {
        fail_point: "stock-no-key-check",
        line: "elseif known and not (own and again) then -- CHECK:key",
        instead: "elseif false then",
    },
    Check {
        fail_point: "stock-no-limit-check",
        line: "if code == 0 and live > units_max then -- CHECK:limit",
        instead: "if false then",
    },
    Check {
        fail_point: "stock-no-version-check",
        line: "local is_as_it_was = stands(was, here, order_at) -- CHECK:version",
        // Every live order of this name will do.
        instead: "local is_as_it_was = stands(named(order) .. ':', here, order_at)",
    },
];

fn is_off(fail_point: &str) -> bool {
    // Without the feature the macro is nothing and does not look at the name.
    let _ = fail_point;
    fail::fail_point!(fail_point, |_| true);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_stands_in_a_script_and_every_mark_is_a_check() {
        let texts: Vec<String> = Script::ALL
            .iter()
            .map(|script| format!("{PRELUDE}\n{}", body(*script)))
            .collect();
        for check in &CHECKS {
            let found = texts.iter().any(|text| text.contains(check.line));
            assert!(found, "no script has the line {:?}", check.line);
        }
        let is_check = |line: &str| CHECKS.iter().any(|check| line.trim() == check.line);
        for text in &texts {
            for line in text.lines().filter(|line| line.contains("-- CHECK:")) {
                assert!(is_check(line), "nobody takes {line:?} away");
            }
        }
    }
}
