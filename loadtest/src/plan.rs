//! Who does what: a pure function from (seed, attempt) to a buyer's behaviour.
//!
//! The plan needs no memory and no journal entry of its own: the audit rebuilds
//! it from the journal's header and knows what every key was asked for.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::pay::Pay;

/// One line of a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Position in [`Plan::skus`].
    pub sku: usize,
    pub quantity: u32,
}

/// The same key, two bodies: `First` is what the buyer means, `Other` is the misuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    First,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Once,
    /// The same key and body again, at about the same time, on another connection.
    DoubleClick,
    /// Sends, cuts its own connection before the answer, then retries the key.
    CutAndRetry,
    /// After a definite answer, sends the key again with another body.
    ReuseKey,
    /// Cancels what it won.
    Cancel,
}

/// Shares of all attempts, each 0 to 1, together at most 1 (except `again`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mix {
    pub double_click: f64,
    pub cut: f64,
    pub reuse: f64,
    pub cancel: f64,
    /// Attempts made by a user who tried before, with a new key.
    pub again: f64,
}

/// Everything the behaviour of a run depends on; written into the journal's header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub seed: u64,
    pub sale_id: String,
    pub skus: Vec<String>,
    pub quantity: u32,
    pub users: u64,
    pub user_prefix: String,
    /// Makes the keys of this run its own.
    pub key_prefix: String,
    pub mix: Mix,
    /// None: nobody pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay: Option<Pay>,
}

/// How far back "a user who tried before" may lie, in attempts.
const AGAIN_WINDOW: u64 = 20_000;

impl Plan {
    pub fn behaviour(&self, attempt: u32) -> Behaviour {
        let at = unit(self.dice(attempt, 1));
        let mix = self.mix;
        let mut edge = mix.double_click;
        if at < edge {
            return Behaviour::DoubleClick;
        }
        edge += mix.cut;
        if at < edge {
            return Behaviour::CutAndRetry;
        }
        edge += mix.reuse;
        if at < edge {
            return Behaviour::ReuseKey;
        }
        edge += mix.cancel;
        if at < edge {
            Behaviour::Cancel
        } else {
            Behaviour::Once
        }
    }

    pub fn user(&self, attempt: u32) -> u64 {
        let i = u64::from(attempt);
        let again = i > 0 && unit(self.dice(attempt, 2)) < self.mix.again;
        let owner = if again {
            i - 1 - self.dice(attempt, 3) % i.min(AGAIN_WINDOW)
        } else {
            i
        };
        owner % self.users
    }

    pub fn ask(&self, attempt: u32, variant: Variant) -> Ask {
        let sku = (self.dice(attempt, 4) % self.skus.len() as u64) as usize;
        match variant {
            Variant::First => Ask {
                sku,
                quantity: self.quantity,
            },
            Variant::Other => Ask {
                sku,
                quantity: self.quantity + 1,
            },
        }
    }

    /// A small number of milliseconds, different for each (attempt, salt).
    pub fn jitter_ms(&self, attempt: u32, salt: u64, below: u64) -> u64 {
        self.dice(attempt, 100 + salt) % below.max(1)
    }

    pub fn write_user(&self, attempt: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.user_prefix.as_bytes());
        write_number(out, self.user(attempt));
    }

    pub fn write_key(&self, attempt: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key_prefix.as_bytes());
        write_number(out, u64::from(attempt));
    }

    pub fn user_text(&self, attempt: u32) -> String {
        format!("{}{}", self.user_prefix, self.user(attempt))
    }

    pub fn key_text(&self, attempt: u32) -> String {
        format!("{}{attempt}", self.key_prefix)
    }

    /// The attempt this key belongs to, if the key is one of this run's.
    pub fn attempt_of(&self, key: &str) -> Option<u32> {
        let digits = key.strip_prefix(self.key_prefix.as_str())?;
        let attempt: u32 = digits.parse().ok()?;
        (self.key_text(attempt) == key).then_some(attempt)
    }

    /// The body of a purchase, byte for byte the same on every retry.
    pub fn body(&self, ask: Ask) -> Vec<u8> {
        format!(
            "{{\"saleId\":\"{}\",\"items\":[{{\"skuId\":\"{}\",\"quantity\":{}}}]}}",
            self.sale_id, self.skus[ask.sku], ask.quantity
        )
        .into_bytes()
    }

    pub(crate) fn dice(&self, attempt: u32, stream: u64) -> u64 {
        mix64(self.seed ^ mix64(u64::from(attempt) ^ (stream << 40)))
    }
}

/// SplitMix64's finisher: cheap, and good enough to deal behaviours.
fn mix64(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number}").expect("writing to a Vec cannot fail");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> Plan {
        Plan {
            seed: 11,
            sale_id: "tea".into(),
            skus: vec!["green".into(), "black".into()],
            quantity: 1,
            users: 10_000,
            user_prefix: "u".into(),
            key_prefix: "k7-".into(),
            mix: Mix {
                double_click: 0.1,
                cut: 0.02,
                reuse: 0.02,
                cancel: 0.01,
                again: 0.05,
            },
            pay: None,
        }
    }

    #[test]
    fn shares_come_out_as_asked_and_the_same_seed_deals_the_same_hand() {
        let plan = plan();
        let count = |wanted| {
            (0..100_000)
                .filter(|&i| plan.behaviour(i) == wanted)
                .count()
        };
        assert!((9_500..10_500).contains(&count(Behaviour::DoubleClick)));
        assert!((1_700..2_300).contains(&count(Behaviour::CutAndRetry)));
        assert!((800..1_200).contains(&count(Behaviour::Cancel)));
        let again = (0..10_000)
            .filter(|&i| plan.user(i) != u64::from(i))
            .count();
        assert!((400..600).contains(&again), "{again}");
        assert_eq!(plan.behaviour(77), plan.clone().behaviour(77));
    }

    #[test]
    fn keys_lead_back_to_their_attempt_and_strangers_do_not() {
        let plan = plan();
        assert_eq!(plan.attempt_of(&plan.key_text(42)), Some(42));
        assert_eq!(plan.attempt_of("k7-042"), None);
        assert_eq!(plan.attempt_of("other-42"), None);
        let mut written = Vec::new();
        plan.write_key(42, &mut written);
        assert_eq!(written, plan.key_text(42).as_bytes());
    }

    #[test]
    fn the_two_variants_of_a_key_differ_in_their_body() {
        let plan = plan();
        let body = |variant| plan.body(plan.ask(3, variant));
        assert_ne!(body(Variant::First), body(Variant::Other));
        assert!(serde_json::from_slice::<serde_json::Value>(&body(Variant::First)).is_ok());
    }
}
