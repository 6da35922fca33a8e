//! Medians with spread, as a table and as JSON.

use serde::Serialize;

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

    /// Ratios round by round: both figures of a ratio come from the same minute.
    pub fn of_ratios(over: &[f64], under: &[f64]) -> Self {
        let ratios: Vec<f64> = over.iter().zip(under).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            Spread::of_ratios(&[1.0, 4.0], &[2.0, 4.0]),
            Spread {
                median: 0.75,
                min: 0.5,
                max: 1.0
            }
        );
    }
}
