//! What a run found: medians with spread, as a table and as `report.json`.
//!
//! A figure that was not measured is absent from the report, never zero, and a
//! note under the table says why.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (sorted.first().copied(), sorted.last().copied());
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            sorted
                .get(middle)
                .zip(sorted.get(middle.wrapping_sub(1)))
                .map_or(f64::NAN, |(a, b)| (a + b) / 2.0)
        };
        Self {
            median,
            min: first.unwrap_or(f64::NAN),
            max: last.unwrap_or(f64::NAN),
        }
    }
}

/// The figures of one run by name, in the order they were first measured.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<(String, Vec<f64>)>,
    notes: Vec<String>,
}

impl Report {
    /// One more round's value of a figure.
    pub fn push(&mut self, name: &str, value: f64) {
        match self.figures.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => self.figures.push((name.to_owned(), vec![value])),
        }
    }

    /// What a reader must know besides the figures.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Takes back a figure that not every round could measure.
    pub fn forget(&mut self, name: &str) {
        self.figures.retain(|(known, _)| known != name);
    }

    pub fn print(&self) {
        println!("{:<36} {:>12} {:>12} {:>12}", "", "median", "min", "max");
        for (name, values) in &self.figures {
            let s = Spread::of(values);
            let digits = digits(values);
            println!(
                "{name:<36} {:>12.digits$} {:>12.digits$} {:>12.digits$}",
                s.median, s.min, s.max
            );
        }
        for note in &self.notes {
            println!("{note}");
        }
    }

    /// Writes `report.json`; with `beside`, into the figures that stand there already.
    pub fn write(&self, folder: &Path, beside: bool) -> Result<(), String> {
        std::fs::create_dir_all(folder).map_err(|e| format!("create {}: {e}", folder.display()))?;
        let file = folder.join("report.json");
        let there = match std::fs::read(&file) {
            Ok(bytes) if beside => serde_json::from_slice(&bytes)
                .map_err(|e| format!("read {}: {e}; move it away", file.display()))?,
            // A report of another run is replaced as a whole.
            Ok(_) | Err(_) => Map::new(),
        };
        let json = serde_json::to_vec_pretty(&self.onto(there)?).map_err(|e| e.to_string())?;
        std::fs::write(&file, json).map_err(|e| format!("write {}: {e}", file.display()))?;
        println!("report: {}", file.display());
        Ok(())
    }

    fn onto(&self, mut figures: Map<String, Value>) -> Result<Map<String, Value>, String> {
        for (name, values) in &self.figures {
            let spread = serde_json::to_value(Spread::of(values)).map_err(|e| e.to_string())?;
            figures.insert(name.clone(), spread);
        }
        Ok(figures)
    }
}

/// A count within a figure's name: `80k`.
pub fn count_name(n: u32) -> String {
    match n {
        n if n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

/// Counts and thousands without a fraction, three digits for the rest.
fn digits(values: &[f64]) -> usize {
    if values.iter().all(|v| v.fract() == 0.0 || *v >= 1_000.0) {
        0
    } else {
        3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_short() {
        assert_eq!(count_name(80_000), "80k");
        assert_eq!(count_name(1_500), "1500");
    }

    #[test]
    fn medians_and_spread() {
        assert_eq!(
            Spread::of(&[3.0, 1.0, 2.0]),
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn a_figure_not_measured_is_absent_and_others_stay() {
        let mut report = Report::default();
        report.push("a_rps", 1.0);
        report.push("b_rps", 2.0);
        report.push("a_rps", 3.0);
        report.forget("b_rps");
        let mut there = Map::new();
        there.insert("c_rps".into(), Value::Null);
        let json = report.onto(there).expect("numbers have a JSON form");
        assert_eq!(json.keys().collect::<Vec<_>>(), ["a_rps", "c_rps"]);
        assert_eq!(json["a_rps"]["median"], 2.0);
    }
}
