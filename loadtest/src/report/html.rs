//! The readable report: one file, no scripts, nothing loaded from anywhere.

use std::fmt::Write;

use super::Report;
use super::chart::{Series, lines, stacked};
use crate::answer::CLASSES;
use crate::audit::Promise;
use crate::stats::{Second, show_count, show_us};

const STYLE: &str = include_str!("style.css");

pub(super) fn page(report: &Report) -> String {
    let mut out = String::with_capacity(64 << 10);
    let sale = escape(&report.sale);
    let passed = report.audit.as_ref().is_some_and(|audit| audit.passed());
    put(
        &mut out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Load test of {sale}</title><style>{STYLE}</style></head><body>\
         <h1>Load test of {sale}</h1>\
         <p class=\"verdict {}\">{}</p><p>{} · {:.1} s · {} attempts · {} connections · seed {} · {}{}</p>",
            if passed { "pass" } else { "fail" },
            escape(&report.verdict),
            escape(&report.started_at),
            report.seconds,
            show_count(report.attempts),
            report.connections,
            report.seed,
            escape(&report.target),
            if report.interrupted {
                " · interrupted"
            } else {
                ""
            },
        ),
    );
    promises(&mut out, report);
    charts(&mut out, report);
    numbers(&mut out, report);
    put(
        &mut out,
        format_args!(
            "<p class=\"small\">Journal: {}</p></body></html>\n",
            escape(&report.journal.display().to_string())
        ),
    );
    out
}

fn promises(out: &mut String, report: &Report) {
    let Some(audit) = &report.audit else { return };
    out.push_str("<h2>Audit</h2><table><tr><th>promise</th><th>result</th></tr>");
    for promise in Promise::ALL {
        let finding = audit
            .findings
            .iter()
            .find(|finding| finding.promise == promise);
        if promise == Promise::NoSale && finding.is_none() {
            continue;
        }
        let result = finding.map_or_else(
            || "kept".to_owned(),
            |finding| {
                let evidence: String = finding
                    .evidence
                    .iter()
                    .map(|one| format!("<li>{}</li>", escape(one)))
                    .collect();
                format!(
                    "<b>broken, {} times</b><ul>{evidence}</ul>",
                    show_count(finding.count)
                )
            },
        );
        let class = if finding.is_some() { "fail" } else { "pass" };
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td class=\"{class}\">{result}</td></tr>",
                promise.name()
            ),
        );
    }
    put(
        out,
        format_args!(
            "</table><p>{} wins told, {} orders in the ledger, {} units live of {} opened, {} wins looked up as their buyers.</p>",
            show_count(audit.told_wins),
            show_count(audit.orders),
            show_count(audit.live_units),
            show_count(audit.opened_units.max(0) as u64),
            show_count(audit.lookups),
        ),
    );
    if let Some(money) = &audit.money {
        for line in money.to_string().lines() {
            put(out, format_args!("<p>{}</p>", escape(line)));
        }
    }
    if !audit.notes.is_empty() {
        let notes: String = audit
            .notes
            .iter()
            .map(|note| format!("<li>{}</li>", escape(note)))
            .collect();
        put(out, format_args!("<ul class=\"notes\">{notes}</ul>"));
    }
}

fn charts(out: &mut String, report: &Report) {
    let rows = &report.per_second;
    let column = |value: &dyn Fn(&Second) -> u64| {
        rows.iter().map(|row| value(row) as f64).collect::<Vec<_>>()
    };
    let mut answers: Vec<Series<'_>> = Vec::new();
    let classes = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];
    for (at, (name, class)) in CLASSES.into_iter().zip(classes).enumerate() {
        answers.push(Series {
            name,
            class,
            values: column(&|row| row.answers[at]),
        });
    }
    answers.push(Series {
        name: "dropped",
        class: "c9",
        values: column(&|row| row.dropped),
    });
    out.push_str("<h2>Over time</h2>");
    out.push_str(&stacked("Answers a second", &answers, |value| {
        show_count(value as u64)
    }));
    let latency = [
        Series {
            name: "p50",
            class: "c0",
            values: column(&|row| row.p50_us),
        },
        Series {
            name: "p99",
            class: "c4",
            values: column(&|row| row.p99_us),
        },
        Series {
            name: "max",
            class: "c7",
            values: column(&|row| row.max_us),
        },
    ];
    out.push_str(&lines(
        "Latency from the intended send time",
        &latency,
        |value| show_us(value as u64),
    ));
}

fn numbers(out: &mut String, report: &Report) {
    out.push_str("<h2>Latency</h2><p class=\"small\">From the moment a send was meant to leave to the end of its answer; \
        “until definite” includes retries. “Generator late by” is the harness's own share.</p>\
        <table><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>count</th></tr>");
    for (name, p) in report.latency.iter().filter(|(_, p)| p.n > 0) {
        put(
            out,
            format_args!(
                "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                show_us(p.p50_us),
                show_us(p.p90_us),
                show_us(p.p99_us),
                show_us(p.p999_us),
                show_us(p.max_us),
                show_count(p.n),
            ),
        );
    }
    out.push_str("</table><h2>Answers</h2><table><tr><th>outcome</th><th>count</th></tr>");
    for (name, count) in &report.outcomes {
        put(
            out,
            format_args!("<tr><td>{name}</td><td>{}</td></tr>", show_count(*count)),
        );
    }
    let rest = [
        ("sends", report.sends),
        ("dropped, never sent", report.dropped),
        ("failed connects", report.connect_failures),
        ("gave up without a definite answer", report.gave_up),
    ];
    for (name, count) in rest {
        put(
            out,
            format_args!(
                "<tr><td><i>{name}</i></td><td>{}</td></tr>",
                show_count(count)
            ),
        );
    }
    out.push_str("</table>");
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::escape;

    #[test]
    fn evidence_cannot_become_markup() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
