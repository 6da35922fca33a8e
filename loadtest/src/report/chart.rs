//! Two kinds of SVG charts, inline and without scripts: stacked bars and lines.
//! Colours come from the page's style, so they follow light and dark.

use std::fmt::Write;

pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// A CSS class that sets the colour.
    pub(super) class: &'a str,
    pub(super) values: Vec<f64>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 66.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 28.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - 10.0;
const PLOT_HEIGHT: f64 = HEIGHT - TOP - BOTTOM;

/// Bars stacked in the order of the series, one a second.
pub(super) fn stacked(title: &str, series: &[Series<'_>], show: impl Fn(f64) -> String) -> String {
    let n = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    let sum = |at: usize| {
        series
            .iter()
            .filter_map(|one| one.values.get(at))
            .sum::<f64>()
    };
    let top = nice_top((0..n).map(sum).fold(0.0, f64::max));
    let step = PLOT_WIDTH / n.max(1) as f64;
    let mut out = open(title, n, top, &show);
    for at in 0..n {
        let mut y = TOP + PLOT_HEIGHT;
        for one in series {
            let value = one.values.get(at).copied().unwrap_or(0.0);
            if value <= 0.0 {
                continue;
            }
            let height = value / top * PLOT_HEIGHT;
            y -= height;
            put(
                &mut out,
                format_args!(
                    r#"<rect class="{}" x="{:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}"><title>second {}: {} {}</title></rect>"#,
                    one.class,
                    LEFT + at as f64 * step,
                    (step - 1.0).max(0.5),
                    at + 1,
                    show(value),
                    one.name,
                ),
            );
        }
    }
    close(out, series)
}

/// One line a series over the seconds.
pub(super) fn lines(title: &str, series: &[Series<'_>], show: impl Fn(f64) -> String) -> String {
    let n = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    let top = nice_top(
        series
            .iter()
            .flat_map(|one| &one.values)
            .copied()
            .fold(0.0, f64::max),
    );
    let step = PLOT_WIDTH / n.max(1) as f64;
    let mut out = open(title, n, top, &show);
    for one in series {
        let mut points = String::new();
        for (at, value) in one.values.iter().enumerate() {
            let (x, y) = (
                LEFT + (at as f64 + 0.5) * step,
                TOP + PLOT_HEIGHT * (1.0 - value / top),
            );
            put(&mut points, format_args!("{x:.1},{y:.1} "));
            put(
                &mut out,
                format_args!(
                    r#"<circle class="{}" cx="{x:.1}" cy="{y:.1}" r="2.5"><title>second {}: {} {}</title></circle>"#,
                    one.class,
                    at + 1,
                    one.name,
                    show(*value),
                ),
            );
        }
        put(
            &mut out,
            format_args!(
                r#"<polyline class="line {}" points="{points}"/>"#,
                one.class
            ),
        );
    }
    close(out, series)
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
}

fn open(title: &str, n: usize, top: f64, show: &impl Fn(f64) -> String) -> String {
    let mut out = format!(
        r#"<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">"#
    );
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let y = TOP + PLOT_HEIGHT * (1.0 - share);
        put(
            &mut out,
            format_args!(
                r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT + PLOT_WIDTH,
                LEFT - 6.0,
                y + 4.0,
                show(top * share),
            ),
        );
    }
    let every = n.div_ceil(12).max(1);
    for at in (0..n).step_by(every) {
        let x = LEFT + (at as f64 + 0.5) * PLOT_WIDTH / n as f64;
        put(
            &mut out,
            format_args!(
                r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{} s</text>"#,
                HEIGHT - 8.0,
                at + 1
            ),
        );
    }
    out
}

fn close(mut out: String, series: &[Series<'_>]) -> String {
    out.push_str("</svg><ul class=\"legend\">");
    for one in series
        .iter()
        .filter(|one| one.values.iter().any(|&value| value > 0.0))
    {
        put(
            &mut out,
            format_args!(
                r#"<li><svg viewBox="0 0 10 10"><rect class="{}" width="10" height="10"/></svg>{}</li>"#,
                one.class, one.name
            ),
        );
    }
    out.push_str("</ul></figure>");
    out
}

/// 1, 2, 2.5 or 5 times a power of ten, at or above the largest value.
fn nice_top(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .map(|step| step * power)
        .find(|&top| top >= value)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_on_round_numbers() {
        assert_eq!(
            [
                nice_top(0.0),
                nice_top(7.0),
                nice_top(1000.0),
                nice_top(21_000.0)
            ],
            [1.0, 10.0, 1000.0, 25_000.0]
        );
    }

    #[test]
    fn a_chart_of_nothing_is_still_a_chart() {
        let empty = lines("none", &[], |value| value.to_string());
        assert!(empty.starts_with("<figure>") && empty.ends_with("</figure>"));
        let one = stacked(
            "one",
            &[Series {
                name: "won",
                class: "c0",
                values: vec![3.0],
            }],
            |value| value.to_string(),
        );
        assert_eq!(one.matches("second 1: 3 won").count(), 1);
    }
}
