//! Who pays, when, and what the provider makes of it: a pure function from
//! (seed, attempt), as the rest of the plan. The audit rebuilds from the journal's header
//! what every callback said.

use serde::{Deserialize, Serialize};

use crate::plan::{Behaviour, Plan, unit};

/// Shares are 0 to 1. The first four are shares of all winners, together at most 1; whoever
/// is in none of them never pays. Who cancels does not pay either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pay {
    /// One payment, within the window.
    pub on_time: f64,
    /// One payment, after the window ended.
    pub late: f64,
    /// Two payments, within the window: another device, another channel.
    pub twice: f64,
    /// One payment over which the provider says something wrong.
    pub lie: f64,
    /// Of those who pay: an attempt at it failed before.
    pub failed_first: f64,
    /// Of those of whom several things are told: the second is told first.
    pub reorder: f64,
    /// Every callback comes once and up to this often again.
    pub repeats_max: u32,
    /// Of the orders that took a payment: an operator gives the money back.
    pub refund: f64,
    /// Of these: the units go back on sale.
    pub restock: f64,
    /// Mean of the exponential time from the win to the payment, and of every other pause.
    pub delay_ms: u64,
    /// The sale's pay window.
    pub window_ms: u64,
    pub channels: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    OnTime,
    Late,
    Twice,
    LiedAbout,
    Never,
}

/// What a callback says; a lie says SUCCESS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Success,
    Failed,
    Lie(Lie),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    LessMoney,
    MoreMoney,
    OtherCurrency,
}

/// One thing that the provider tells, until it is heard, and perhaps again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    pub no: u8,
    /// Which of the buyer's transactions.
    pub txn: u8,
    pub claim: Claim,
    /// When it is told first, since the win.
    pub after_ms: u64,
    pub n_copies: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Since the order took the payment.
    pub after_ms: u64,
    pub restock: bool,
}

/// After the end of the window, so that neither clock can think it in time.
const LATE_MS_MIN: u64 = 500;
/// An attempt that failed has a number of its own, where it does not share one.
const TXN_FAILED: u8 = 9;
/// ISO 4217's code for tests: no sale is in it.
const OTHER_CURRENCY: &str = "XTS";

/// What is dealt, each from a stream of its own (the plan's own are below 10).
#[derive(Clone, Copy)]
enum Stream {
    Payer = 20,
    Delay,
    Second,
    FailedFirst,
    Reorder,
    Copies,
    Copy,
    Lie,
    Channel,
    Refund,
    Restock,
    RefundDelay,
}

impl Plan {
    pub fn payer(&self, attempt: u32) -> Payer {
        let Some(pay) = &self.pay else {
            return Payer::Never;
        };
        if self.behaviour(attempt) == Behaviour::Cancel {
            return Payer::Never;
        }
        let mut left = self.chance(attempt, Stream::Payer);
        for (payer, share) in [
            (Payer::OnTime, pay.on_time),
            (Payer::Late, pay.late),
            (Payer::Twice, pay.twice),
            (Payer::LiedAbout, pay.lie),
        ] {
            if left < share {
                return payer;
            }
            left -= share;
        }
        Payer::Never
    }

    /// What the provider tells of this winner.
    pub fn callbacks(&self, attempt: u32) -> Vec<Callback> {
        let (payer, Some(pay)) = (self.payer(attempt), &self.pay) else {
            return Vec::new();
        };
        if payer == Payer::Never {
            return Vec::new();
        }
        let delay_ms = self.delay_ms(attempt, Stream::Delay, pay.delay_ms);
        // Long before the end, whatever the machine does meanwhile.
        let in_time_ms = delay_ms.min(pay.window_ms / 2);
        let first_ms = match payer {
            Payer::Late => pay.window_ms + LATE_MS_MIN + delay_ms,
            Payer::OnTime | Payer::Twice | Payer::LiedAbout | Payer::Never => in_time_ms,
        };
        let claim = match (payer, self.deal(attempt, Stream::Lie) % 3) {
            (Payer::LiedAbout, 0) => Claim::Lie(Lie::LessMoney),
            (Payer::LiedAbout, 1) => Claim::Lie(Lie::MoreMoney),
            (Payer::LiedAbout, _third) => Claim::Lie(Lie::OtherCurrency),
            (Payer::OnTime | Payer::Late | Payer::Twice | Payer::Never, _) => Claim::Success,
        };
        let pause_ms = 1 + self.delay_ms(attempt, Stream::Second, pay.delay_ms / 4);
        let mut said = Vec::new();
        if self.chance(attempt, Stream::FailedFirst) < pay.failed_first {
            let shared = self.deal(attempt, Stream::FailedFirst).is_multiple_of(2);
            let txn = if shared { 0 } else { TXN_FAILED };
            said.push((txn, Claim::Failed, first_ms));
            said.push((0, claim, first_ms + pause_ms));
        } else {
            said.push((0, claim, first_ms));
        }
        if payer == Payer::Twice {
            said.push((1, Claim::Success, first_ms + 2 * pause_ms));
        }
        if said.len() > 1 && self.chance(attempt, Stream::Reorder) < pay.reorder {
            let (one, other) = (said[0].2, said[1].2);
            (said[0].2, said[1].2) = (other, one);
        }
        let copies = u64::from(pay.repeats_max) + 1;
        let numbered = said.into_iter().zip(0u8..);
        numbered
            .map(|((txn, claim, after_ms), no)| Callback {
                no,
                txn,
                claim,
                after_ms,
                n_copies: 1 + ((self.deal(attempt, Stream::Copies) >> no) % copies) as u8,
            })
            .collect()
    }

    /// When a copy is sent, after the first: the second at nearly the same time.
    pub fn copy_after_ms(&self, attempt: u32, copy: u8) -> u64 {
        let jitter_ms = self.deal(attempt, Stream::Copy) >> copy;
        match copy {
            0 => 0,
            1 => jitter_ms % 5,
            _later => jitter_ms % 1_000,
        }
    }

    /// Whether an operator gives the money back once the order took it.
    pub fn refund(&self, attempt: u32) -> Option<Refund> {
        let pay = self.pay.as_ref()?;
        let asked = self.chance(attempt, Stream::Refund) < pay.refund;
        asked.then(|| Refund {
            after_ms: self.delay_ms(attempt, Stream::RefundDelay, pay.delay_ms),
            restock: self.chance(attempt, Stream::Restock) < pay.restock,
        })
    }

    pub fn channel(&self, attempt: u32, txn: u8) -> &str {
        let channels = self.pay.as_ref().map_or(&[][..], |pay| &pay.channels);
        let at = self.deal(attempt, Stream::Channel) % 1_000 + u64::from(txn);
        channels
            .get(at as usize % channels.len().max(1))
            .map_or("", String::as_str)
    }

    pub fn txn_text(&self, attempt: u32, txn: u8) -> String {
        format!("{}{attempt}-{txn}", self.key_prefix)
    }

    fn deal(&self, attempt: u32, stream: Stream) -> u64 {
        self.dice(attempt, stream as u64)
    }

    fn chance(&self, attempt: u32, stream: Stream) -> f64 {
        unit(self.deal(attempt, stream))
    }

    /// Exponential, cut at five times the mean.
    fn delay_ms(&self, attempt: u32, stream: Stream, mean_ms: u64) -> u64 {
        let tail = -(1.0 - self.chance(attempt, stream)).ln();
        (mean_ms as f64 * tail.min(5.0)) as u64
    }
}

impl Claim {
    pub fn status(self) -> &'static str {
        match self {
            Self::Success | Self::Lie(_) => "SUCCESS",
            Self::Failed => "FAILED",
        }
    }

    /// What is said of an order that costs so much.
    pub fn amount(self, amount_cent: i64) -> i64 {
        match self {
            Self::Lie(Lie::LessMoney) if amount_cent > 0 => amount_cent - 1,
            Self::Lie(Lie::LessMoney | Lie::MoreMoney) => amount_cent + 1,
            Self::Success | Self::Failed | Self::Lie(Lie::OtherCurrency) => amount_cent,
        }
    }

    pub fn currency(self, currency: &str) -> &str {
        match self {
            Self::Lie(Lie::OtherCurrency) => OTHER_CURRENCY,
            Self::Success | Self::Failed | Self::Lie(Lie::LessMoney | Lie::MoreMoney) => currency,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::tests::plan;

    pub(crate) fn paying() -> Plan {
        Plan {
            pay: Some(Pay {
                on_time: 0.5,
                late: 0.1,
                twice: 0.1,
                lie: 0.05,
                failed_first: 0.2,
                reorder: 0.5,
                repeats_max: 3,
                refund: 0.2,
                restock: 0.5,
                delay_ms: 1_000,
                window_ms: 8_000,
                channels: vec!["card".into(), "wallet".into()],
            }),
            ..plan()
        }
    }

    const ATTEMPTS: u32 = 50_000;

    #[test]
    fn shares_come_out_as_asked_and_who_cancels_does_not_pay() {
        let plan = paying();
        let count = |payer| (0..ATTEMPTS).filter(|&i| plan.payer(i) == payer).count();
        // One in a hundred cancels.
        assert!((24_000..25_400).contains(&count(Payer::OnTime)));
        assert!((4_700..5_300).contains(&count(Payer::Late)));
        assert!((4_700..5_300).contains(&count(Payer::Twice)));
        assert!((2_250..2_750).contains(&count(Payer::LiedAbout)));
        for attempt in 0..ATTEMPTS {
            if plan.behaviour(attempt) == Behaviour::Cancel {
                assert_eq!(plan.callbacks(attempt), []);
            }
        }
        let refunds: Vec<_> = (0..ATTEMPTS).filter_map(|i| plan.refund(i)).collect();
        assert!((9_500..10_500).contains(&refunds.len()));
        let restocks = refunds.iter().filter(|refund| refund.restock).count();
        assert!((4_600..5_400).contains(&restocks), "{restocks}");
    }

    #[test]
    fn the_same_seed_deals_the_same_hand_and_no_pay_is_no_callback() {
        let (plan, other) = (paying(), paying());
        assert!((0..1_000).all(|i| plan.callbacks(i) == other.callbacks(i)));
        let silent = crate::plan::tests::plan();
        assert!((0..1_000).all(|i| silent.callbacks(i).is_empty() && silent.refund(i).is_none()));
    }

    #[test]
    fn late_is_after_the_window_and_everything_else_long_before_its_end() {
        let plan = paying();
        for attempt in 0..ATTEMPTS {
            for callback in plan.callbacks(attempt) {
                let late = callback.after_ms >= 8_500;
                assert_eq!(late, plan.payer(attempt) == Payer::Late, "{callback:?}");
                assert!(late || callback.after_ms < 7_000, "{callback:?}");
                assert!((1..=4).contains(&callback.n_copies));
            }
        }
    }

    #[test]
    fn every_kind_of_trouble_is_dealt() {
        let plan = paying();
        let all: Vec<_> = (0..ATTEMPTS).map(|i| plan.callbacks(i)).collect();
        let some = |wanted: &dyn Fn(&[Callback]) -> bool| {
            let count = all.iter().filter(|callbacks| wanted(callbacks)).count();
            assert!(count > 100, "{count}");
        };
        let failed = |c: &Callback| c.claim == Claim::Failed;
        some(&|c| c.iter().any(|c| failed(c) && c.txn == 0));
        some(&|c| c.iter().any(|c| failed(c) && c.txn == TXN_FAILED));
        some(&|c| c.len() > 1 && c[1].after_ms < c[0].after_ms && failed(&c[0]));
        some(&|c| c.len() == 2 && c[1].txn == 1 && c[1].after_ms < c[0].after_ms);
        some(&|c| c.iter().any(|c| c.n_copies == 4));
        for lie in [Lie::LessMoney, Lie::MoreMoney, Lie::OtherCurrency] {
            some(&|c| c.iter().any(|c| c.claim == Claim::Lie(lie)));
        }
        // A lie is one; the truth is not.
        for (claim, same) in [
            (Claim::Success, true),
            (Claim::Failed, true),
            (Claim::Lie(Lie::LessMoney), false),
            (Claim::Lie(Lie::MoreMoney), false),
            (Claim::Lie(Lie::OtherCurrency), false),
        ] {
            for amount in [0, 450] {
                let told = (claim.amount(amount), claim.currency("EUR"));
                assert_eq!(told == (amount, "EUR"), same, "{claim:?} of {amount}");
            }
        }
    }

    #[test]
    fn transactions_of_a_run_are_its_own() {
        let plan = paying();
        let mut seen = std::collections::HashSet::new();
        for attempt in 0..2_000 {
            for callback in plan.callbacks(attempt) {
                let channel = plan.channel(attempt, callback.txn).to_owned();
                assert!(["card", "wallet"].contains(&channel.as_str()));
                let name = (channel, plan.txn_text(attempt, callback.txn));
                let shared = callback.claim == Claim::Failed && callback.txn == 0;
                assert!(shared || seen.insert(name), "{callback:?} of {attempt}");
            }
        }
        assert!(seen.len() > 1_000);
    }
}
