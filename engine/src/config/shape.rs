//! Every key of the file and what it may hold, as one table. A file that passes
//! holds known keys with values of the right kind, and numbers within their range;
//! whatever does not pass is told with its key, its line, its value and what is allowed.
//!
//! Not here: what texts mean and how values relate (`checked.rs`), and a key that a
//! sale lacks (the raw form says so).

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::grant::allowed as token;
use super::{ConfigError, mock_allowed, nearest};
use crate::domain::sale::allowed;

enum Shape {
    Text,
    Flag,
    Number(RangeInclusive<u64>),
    Texts,
    Table(&'static [Key]),
    Tables(&'static [Key]),
}

type Key = (&'static str, Shape);

use Shape::{Flag, Number, Table, Tables, Text, Texts};

const FILE: &[Key] = &[
    (
        "http",
        Table(&[
            ("listen", Text),
            ("admin_listen", Text),
            ("origins", Texts),
            ("connections_max", Number(1..=1_000_000)),
            ("workers", Number(1..=256)),
            ("connections_per_ip_max", Number(0..=1_000_000)),
            ("trusted_proxies", Texts),
            ("idle_ms", Number(TIME_MS)),
            ("header_ms", Number(TIME_MS)),
            ("body_ms", Number(TIME_MS)),
            ("request_ms", Number(100..=600_000)),
            ("write_ms", Number(TIME_MS)),
            ("admin_token_file", Text),
        ]),
    ),
    (
        "auth",
        Table(&[
            ("mode", Text),
            ("trusted_peers", Texts),
            ("demo_on_any_address", Flag),
        ]),
    ),
    ("data", Table(&[("dir", Text)])),
    (
        "ledger",
        Table(&[
            ("batch_records_max", Number(512..=65_536)),
            ("queue_records_max", Number(1_024..=1_048_576)),
            ("low_water_mb", Number(0..=1_000_000_000)),
            // Up to ten years: as good as for ever.
            ("retention_hours", Number(1..=87_600)),
        ]),
    ),
    (
        "store",
        Table(&[
            ("kind", Text),
            ("host", Text),
            ("port", Number(1..=65_535)),
            ("database", Text),
            ("user", Text),
            ("password_file", Text),
            ("sslmode", Text),
            ("ca_file", Text),
            ("connect_ms", Number(100..=60_000)),
            ("statement_ms", Number(100..=600_000)),
        ]),
    ),
    (
        "limits",
        Table(&[
            ("under_way_max", Number(1..=1_000_000)),
            ("answer_ms", Number(100..=60_000)),
            ("reconcile_seconds", Number(1..=3_600)),
            ("per_user", Table(RATE)),
            ("per_device", Table(RATE)),
            ("per_ip", Table(RATE)),
            ("licenses_per_user", Table(RATE)),
            ("keys_max", Number(1_024..=16_777_216)),
            ("deny_users", Texts),
            ("deny_ips", Texts),
            ("allow_users", Texts),
            ("allow_ips", Texts),
        ]),
    ),
    (
        "stock",
        Table(&[
            ("host", Text),
            (
                "redis",
                Table(&[
                    ("urls", Texts),
                    ("cluster", Flag),
                    ("tls_ca_file", Text),
                    ("user", Text),
                    ("password_file", Text),
                    ("connect_ms", Number(50..=10_000)),
                    ("call_ms", Number(50..=10_000)),
                    ("silent_ms", Number(50..=60_000)),
                ]),
            ),
        ]),
    ),
    (
        "payment",
        Table(&[
            ("provider", Text),
            ("channels", Texts),
            ("secrets_file", Text),
            (
                "mock",
                Table(&[
                    ("delay_ms", Number(mock_allowed::DELAY_MS)),
                    ("repeat", Number(mock_allowed::REPEAT)),
                    ("reorder", Flag),
                    ("fail", Flag),
                    ("lie_cent", Number(mock_allowed::LIE_CENT)),
                    ("prepays_fail", Number(mock_allowed::PREPAYS_FAIL)),
                    ("refunds_fail", Number(mock_allowed::REFUNDS_FAIL)),
                    ("on_any_address", Flag),
                ]),
            ),
        ]),
    ),
    (
        "grant",
        Table(&[
            ("key_file", Text),
            ("play_seconds", Number(token::PLAY_SECONDS)),
            ("download_seconds", Number(token::DOWNLOAD_SECONDS)),
            ("play_url", Text),
            ("download_url", Text),
        ]),
    ),
    ("sales", Tables(SALE)),
];

/// From what a test needs to what nobody should wait for.
const TIME_MS: RangeInclusive<u64> = 50..=300_000;

const RATE: &[Key] = &[
    ("rate", Number(1..=1_000_000)),
    ("seconds", Number(1..=3_600)),
    ("burst", Number(1..=1_000_000)),
];

const SALE: &[Key] = &[
    ("id", Text),
    ("name", Text),
    ("startsAt", Text),
    ("endsAt", Text),
    ("payWindowSeconds", Number(allowed::PAY_WINDOW_SECONDS)),
    (
        "paymentGraceSeconds",
        Number(allowed::PAYMENT_GRACE_SECONDS),
    ),
    ("unitsPerUser", Number(allowed::UNITS_PER_USER)),
    ("buckets", Number(allowed::BUCKETS)),
    ("ordersPerUserMax", Number(allowed::ORDERS_PER_USER_MAX)),
    (
        "admission",
        Table(&[
            ("rate", Number(allowed::RATE)),
            ("burst", Number(allowed::BURST)),
            ("queueMax", Number(allowed::QUEUE_MAX)),
            ("waitMs", Number(allowed::WAIT_MS)),
        ]),
    ),
    (
        "skus",
        Tables(&[
            ("id", Text),
            ("name", Text),
            ("priceCent", Number(allowed::PRICE_CENT)),
            ("currency", Text),
            ("units", Number(allowed::UNITS)),
            (
                "grant",
                Table(&[
                    ("workId", Text),
                    ("validDays", Number(allowed::VALID_DAYS)),
                    ("devicesMax", Number(allowed::DEVICES_MAX)),
                    ("whenFull", Text),
                ]),
            ),
        ]),
    ),
];

/// `table` is `text`, parsed.
pub fn check(file: &str, text: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
    Walk { file, text }.table("", table, FILE)
}

struct Walk<'a> {
    file: &'a str,
    text: &'a str,
}

impl Walk<'_> {
    fn fail<T>(&self, key: &str, at: Range<usize>, problem: String) -> Result<T, ConfigError> {
        let before = self.text.get(..at.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Err(ConfigError::Value {
            file: self.file.to_owned(),
            key: format!("{key} (line {line})"),
            problem,
        })
    }

    fn table(&self, path: &str, table: &DeTable<'_>, keys: &[Key]) -> Result<(), ConfigError> {
        for (name, value) in table.iter() {
            let key = if path.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{path}.{}", name.get_ref())
            };
            let Some((_, shape)) = keys.iter().find(|(known, _)| name.get_ref() == known) else {
                return self.fail(&key, name.span(), not_known(name.get_ref(), keys));
            };
            self.value(&key, value, shape)?;
        }
        Ok(())
    }

    fn value(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        shape: &Shape,
    ) -> Result<(), ConfigError> {
        let found = value.get_ref();
        let wrong = |problem: &str| {
            let written = self.written(value);
            self.fail(key, value.span(), format!("{written} {problem}"))
        };
        match shape {
            Text => match found {
                DeValue::String(_) => Ok(()),
                DeValue::Datetime(date) => {
                    wrong(&format!("is a bare date; put it in quotes: \"{date}\""))
                }
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                    wrong("is not a text; put it in quotes")
                }
                DeValue::Array(_) | DeValue::Table(_) => wrong("is not a text"),
            },
            Flag => match found {
                DeValue::Boolean(_) => Ok(()),
                _ => wrong("is neither true nor false"),
            },
            Number(range) => {
                let (low, high) = (range.start(), range.end());
                let DeValue::Integer(digits) = found else {
                    return wrong(&format!(
                        "is not a whole number; allowed are {low} to {high}"
                    ));
                };
                // What does not even fit an i128 is out of every range of ours.
                match i128::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(n) if (i128::from(*low)..=i128::from(*high)).contains(&n) => Ok(()),
                    Ok(_) | Err(_) => {
                        wrong(&format!("is out of range; allowed are {low} to {high}"))
                    }
                }
            }
            Texts => {
                let DeValue::Array(list) = found else {
                    return wrong("is not a list of texts; write [\"…\", \"…\"]");
                };
                list.iter()
                    .enumerate()
                    .try_for_each(|(i, text)| self.value(&format!("{key}[{i}]"), text, &Text))
            }
            Table(keys) => match found {
                DeValue::Table(table) => self.table(key, table, keys),
                _ => wrong("is not a table"),
            },
            Tables(keys) => {
                let DeValue::Array(list) = found else {
                    return wrong(&format!("is not a list of tables; write [[{key}]]"));
                };
                list.iter().enumerate().try_for_each(|(i, table)| {
                    self.value(&format!("{key}[{i}]"), table, &Table(keys))
                })
            }
        }
    }

    /// The value as the file has it, short enough for a message.
    fn written(&self, value: &Spanned<DeValue<'_>>) -> String {
        const CHARS_MAX: usize = 60;
        match value.get_ref() {
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::String(text) if text.chars().count() > CHARS_MAX => {
                let start: String = text.chars().take(CHARS_MAX).collect();
                format!("{:?}", start + "…")
            }
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => self.text.get(value.span()).unwrap_or("it").to_owned(),
        }
    }
}

fn not_known(name: &str, keys: &[Key]) -> String {
    let known = || keys.iter().map(|(known, _)| *known);
    match nearest(name, known()) {
        Some(near) => format!("is not known; did you mean `{near}`?"),
        None => format!(
            "is not known; known are {}",
            known().collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::RawConfig;
    use super::*;

    /// A value of this shape as inline TOML; an unknown key goes where `spoil` says.
    fn inline(path: &str, shape: &Shape, spoil: &str) -> String {
        match shape {
            Text => "\"x\"".to_owned(),
            Flag => "true".to_owned(),
            Number(range) => range.end().to_string(),
            Texts => "[\"x\"]".to_owned(),
            Table(keys) => format!("{{ {} }}", pairs(path, keys, spoil).join(", ")),
            Tables(keys) => format!("[{{ {} }}]", pairs(path, keys, spoil).join(", ")),
        }
    }

    fn pairs(path: &str, keys: &[Key], spoil: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        if path == spoil {
            all.push("zzz = 0".to_owned());
        }
        for (name, shape) in keys {
            let value = inline(&format!("{path}/{name}"), shape, spoil);
            all.push(format!("{name} = {value}"));
        }
        all
    }

    fn tables<'a>(path: String, keys: &'a [Key], found: &mut Vec<(String, Vec<&'a str>)>) {
        for (name, shape) in keys {
            if let Table(inner) | Tables(inner) = shape {
                tables(format!("{path}/{name}"), inner, found);
            }
        }
        found.push((path, keys.iter().map(|(name, _)| *name).collect()));
    }

    /// The raw form refuses `zzz` and names what it knows: just what stands here.
    #[test]
    fn the_shape_and_the_raw_form_know_the_same_keys() {
        let whole = pairs("", FILE, "nowhere").join("\n");
        toml::from_str::<RawConfig>(&whole).expect("every key has its place and its type");
        let mut all = Vec::new();
        tables(String::new(), FILE, &mut all);
        assert_eq!(all.len(), 20);
        for (path, mut keys) in all {
            let text = pairs("", FILE, &path).join("\n");
            let error = toml::from_str::<RawConfig>(&text).expect_err("an unknown key");
            let mut known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
            known.sort_unstable();
            keys.sort_unstable();
            assert_eq!(known, keys, "{path}: {error}");
        }
    }

    #[test]
    fn both_ends_of_a_range_are_allowed_in_any_notation() {
        let answer = |text: &str| {
            let toml = format!("limits.answer_ms = {text}");
            let table = DeTable::parse(&toml).expect("TOML");
            check("f", &toml, table.get_ref()).map_err(|e| e.to_string())
        };
        for good in ["100", "60_000", "0xEA60", "+100"] {
            assert_eq!(answer(good), Ok(()));
        }
        for bad in [
            "99",
            "60_001",
            "0xEA61",
            "-0",
            "0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
        ] {
            let error = answer(bad).expect_err(bad);
            assert!(error.contains(&format!("{bad} is out of range")), "{error}");
        }
    }
}
