//! What the mock does when a buyer presses a button: a pure list of what it tells, and
//! when.

use std::time::Duration;

use crate::config::{MockConfig, mock_allowed as allowed};
use crate::domain::money::Cents;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    Pay,
    Fail,
    /// Another amount than the order's is captured.
    Lie,
    /// Two captures, as if two tabs had paid.
    Twice,
}

impl Press {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "pay" => Some(Self::Pay),
            "fail" => Some(Self::Fail),
            "lie" => Some(Self::Lie),
            "twice" => Some(Self::Twice),
            _ => None,
        }
    }
}

/// Tells come after a delay, several times, and in an order that helps nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    delay: Duration,
    repeat: u32,
    reorder: bool,
    fail: bool,
    lie_cent: u32,
}

/// One thing to tell, as often as `Plan::repeat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell {
    pub after: Duration,
    /// Which attempt of this press: 0, or 1 for the second capture.
    pub attempt: u32,
    pub success: bool,
    pub amount: Cents,
    pub times: u32,
}

/// Names the key of the query, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct PlanError {
    pub key: &'static str,
    pub problem: String,
}

/// So much more is told by the button "lie" where nobody said how much.
const LIE_CENT: u32 = 1;

impl Plan {
    pub fn of(config: &MockConfig) -> Self {
        Self {
            delay: config.delay,
            repeat: config.repeat,
            reorder: config.reorder,
            fail: config.fail,
            lie_cent: config.lie_cent,
        }
    }

    /// What a query says of it counts instead.
    pub fn overridden<'a>(
        mut self,
        query: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, PlanError> {
        let number = |key: &'static str, range: std::ops::RangeInclusive<u64>| {
            let Some(text) = query(key) else {
                return Ok(None);
            };
            let value = text.parse::<u64>().ok().filter(|n| range.contains(n));
            match value.and_then(|n| u32::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => Err(PlanError {
                    key,
                    problem: format!(
                        "{text:?} is out of range; allowed are {} to {}",
                        range.start(),
                        range.end()
                    ),
                }),
            }
        };
        if let Some(ms) = number("delay_ms", allowed::DELAY_MS)? {
            self.delay = Duration::from_millis(ms.into());
        }
        self.repeat = number("repeat", allowed::REPEAT)?.unwrap_or(self.repeat);
        self.lie_cent = number("lie_cent", allowed::LIE_CENT)?.unwrap_or(self.lie_cent);
        if let Some(n) = number("reorder", 0..=1)? {
            self.reorder = n == 1;
        }
        if let Some(n) = number("fail", 0..=1)? {
            self.fail = n == 1;
        }
        Ok(self)
    }

    pub fn tells(&self, press: Press, amount: Cents) -> Vec<Tell> {
        let lie = match press {
            Press::Lie => self.lie_cent.max(LIE_CENT),
            Press::Pay | Press::Fail | Press::Twice => self.lie_cent,
        };
        let told = Tell {
            after: self.delay,
            attempt: 0,
            success: !self.fail && press != Press::Fail,
            amount: amount.plus(Cents(lie.into())).unwrap_or(amount),
            times: self.repeat,
        };
        let mut tells = vec![told.clone()];
        if press == Press::Twice {
            tells.push(Tell {
                attempt: 1,
                ..told.clone()
            });
        }
        if self.reorder {
            // Of the same transaction, as if it had been under way for long: whichever
            // arrives first, the capture counts and this does not.
            tells.insert(
                0,
                Tell {
                    after: self.delay + REORDER,
                    success: !told.success,
                    ..told
                },
            );
        }
        tells
    }
}

/// How much later the other one is told.
const REORDER: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(query: &[(&str, &'static str)]) -> Result<Plan, PlanError> {
        let config = MockConfig {
            delay: Duration::ZERO,
            repeat: 1,
            reorder: false,
            fail: false,
            lie_cent: 0,
            prepays_fail: 0,
            refunds_fail: 0,
        };
        Plan::of(&config).overridden(|key| {
            let found = query.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| *value)
        })
    }

    fn told(query: &[(&str, &'static str)], press: Press) -> Vec<(u64, u32, bool, u64, u32)> {
        plan(query)
            .expect("valid")
            .tells(press, Cents(100))
            .into_iter()
            .map(|t| {
                (
                    t.after.as_millis() as u64,
                    t.attempt,
                    t.success,
                    t.amount.0,
                    t.times,
                )
            })
            .collect()
    }

    #[test]
    fn buttons_do_what_they_say() {
        assert_eq!(told(&[], Press::Pay), [(0, 0, true, 100, 1)]);
        assert_eq!(told(&[], Press::Fail), [(0, 0, false, 100, 1)]);
        assert_eq!(told(&[], Press::Lie), [(0, 0, true, 101, 1)]);
        let twice = [(0, 0, true, 100, 1), (0, 1, true, 100, 1)];
        assert_eq!(told(&[], Press::Twice), twice);
    }

    #[test]
    fn a_query_changes_the_plan() {
        let query = [("delay_ms", "500"), ("repeat", "3"), ("lie_cent", "7")];
        assert_eq!(told(&query, Press::Pay), [(500, 0, true, 107, 3)]);
        assert_eq!(told(&[("fail", "1")], Press::Pay), [(0, 0, false, 100, 1)]);
        let both = [(50, 0, false, 100, 1), (0, 0, true, 100, 1)];
        assert_eq!(told(&[("reorder", "1")], Press::Pay), both);
    }

    #[test]
    fn a_query_that_cannot_be_is_told_with_its_key() {
        for (key, value) in [
            ("delay_ms", "600001"),
            ("repeat", "0"),
            ("repeat", "11"),
            ("lie_cent", "-1"),
            ("reorder", "yes"),
            ("fail", "2"),
        ] {
            let error = plan(&[(key, value)]).expect_err(value);
            assert_eq!(error.key, key);
            assert!(error.to_string().contains("allowed are"), "{error}");
        }
    }
}
