//! Words for the terminal: one line a second, one table at the end.

use std::fmt::Write;

use crate::answer::{CLASSES, Outcome};
use crate::stats::{Percentiles, Second, Stats, show_count, show_us};

pub fn line(row: &Second, n_started: u32, total: u64, n_pending: usize) -> String {
    let answers: u64 = row.answers.iter().sum();
    let mut out = format!(
        "{:>4} s  {:>5.1} %  {:>7} answers/s  p50 {:>8}  p99 {:>8}  pending {:>6}",
        row.second + 1,
        f64::from(n_started) * 100.0 / total as f64,
        show_count(answers),
        show_us(row.p50_us),
        show_us(row.p99_us),
        show_count(n_pending as u64),
    );
    for (class, count) in CLASSES.iter().zip(row.answers) {
        if count > 0 {
            let _ = write!(out, "  {class} {}", show_count(count)); // A String takes everything.
        }
    }
    if row.dropped > 0 {
        let _ = write!(out, "  DROPPED {}", show_count(row.dropped));
    }
    out
}

pub fn table(stats: &Stats, seconds: f64) -> String {
    let mut out = String::new();
    let mut put = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    put(format!("\n{:<24} {:>12}", "answers", "count"));
    for outcome in Outcome::all() {
        if stats.count(outcome) > 0 {
            put(format!(
                "  {:<22} {:>12}",
                outcome.name(),
                show_count(stats.count(outcome))
            ));
        }
    }
    let rows = [
        ("sends", stats.sends),
        ("dropped (never sent)", stats.dropped),
        ("failed connects", stats.connect_failures),
        ("gave up", stats.gave_up),
    ];
    for (name, count) in rows {
        put(format!("{name:<24} {:>12}", show_count(count)));
    }
    put(format!("{:<24} {seconds:>11.1}s", "lasted"));
    put(format!(
        "\n{:<24} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "latency from intent", "p50", "p90", "p99", "p99.9", "max", "count"
    ));
    for (name, p) in latencies(stats).into_iter().filter(|(_, p)| p.n > 0) {
        put(format!(
            "  {name:<22} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
            show_us(p.p50_us),
            show_us(p.p90_us),
            show_us(p.p99_us),
            show_us(p.p999_us),
            show_us(p.max_us),
            show_count(p.n)
        ));
    }
    out
}

pub fn latencies(stats: &Stats) -> [(&'static str, Percentiles); 6] {
    [
        ("all answers", stats.all.percentiles()),
        ("won", stats.won.percentiles()),
        ("sold out", stats.sold_out.percentiles()),
        ("callback taken", stats.taken.percentiles()),
        ("until definite", stats.settled.percentiles()),
        ("generator late by", stats.lateness.percentiles()),
    ]
}
