//! The payment: captured once, and in the end applied or given back.
//!
//! ```text
//! CAPTURED ──▶ APPLIED ──order refunded──▶ REFUND_DUE ──▶ REFUNDED
//!     │  └────────── cannot be applied ───────▲
//!     └──▶ REVIEW ── accepted ▶ APPLIED / rejected ──┘
//! ```

use sha2::{Digest, Sha256};

use super::ids::{Channel, ChannelTxnNo, OrderId, PaymentId};
use super::money::{Cents, Currency};
use super::order::Order;
use super::time::UnixMs;

/// The ledger's group of payments for which no order of ours was named; no sale can be
/// called so.
pub const NO_SALE: &[u8] = b"*payments";

/// One capture of money, unique for ever by (channel, transaction number).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub id: PaymentId,
    /// None: the provider named no order of ours.
    pub order: Option<OrderId>,
    pub channel: Channel,
    pub channel_txn_no: ChannelTxnNo,
    pub amount: Cents,
    pub currency: Currency,
    pub state: PaymentState,
    pub paid_at: UnixMs,
    pub received_at: UnixMs,
    /// Why it is under review or goes back; for people.
    pub note: String,
    /// The provider's number of the refund; empty until there is one.
    pub refund_no: String,
    /// What the provider said of the capture in its own words; for people.
    pub raw: Option<Raw>,
}

/// A provider's own words, kept as they came but for two things: no more than
/// [`Raw::BYTES_MAX`] of them, and no zero byte, which a database takes for no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(String);

impl Raw {
    pub const BYTES_MAX: usize = 2_048;

    /// As much of it as is kept: money is not turned away because of a long text.
    pub fn of(text: &str) -> Option<Self> {
        let mut kept = text.replace('\0', "\u{FFFD}");
        kept.truncate(kept.floor_char_boundary(Self::BYTES_MAX));
        Self::parse(kept)
    }

    /// `None` where nothing was said, or what is not kept in this form.
    pub fn parse(text: String) -> Option<Self> {
        let fits = (1..=Self::BYTES_MAX).contains(&text.len()) && !text.contains('\0');
        fits.then_some(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    Captured,
    Applied,
    RefundDue,
    Refunded,
    /// Amount, currency or order did not match; a person decides.
    Review,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentEvent {
    /// The order took it.
    Apply,
    /// The order cannot take it (closed, already paid, refunded), or was refunded later.
    GiveBack,
    /// Something did not match.
    Flag,
    /// The provider confirmed that the money went back.
    RefundDone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payment that is {} cannot take {event:?}", state.name())]
pub struct IllegalStep {
    pub state: PaymentState,
    pub event: PaymentEvent,
}

impl Payment {
    /// From channel and transaction number, so that one capture has one id for ever,
    /// whoever tells of it and however often.
    pub fn id_of(channel: &Channel, txn: &ChannelTxnNo) -> PaymentId {
        let mut hash = Sha256::new();
        hash.update(channel.as_bytes());
        hash.update([0]);
        hash.update(txn.as_bytes());
        let mut id = String::with_capacity(36);
        id.push_str("pay_");
        for byte in &hash.finalize()[..16] {
            // One by one: `write!` took a hundredth of a callback's time.
            let digits =
                [byte >> 4, byte & 15].map(|d| char::from(b"0123456789abcdef"[usize::from(d)]));
            id.extend(digits);
        }
        PaymentId::parse(&id).expect("letters, digits and a line are an id")
    }

    /// What does not match the order that the payment names; `None` when all does.
    pub fn mismatch(&self, order: &Order) -> Option<String> {
        if self.currency != order.currency {
            return Some(format!(
                "paid in {}, the order is in {}",
                self.currency, order.currency
            ));
        }
        let owed = order.pay_amount();
        (self.amount != owed).then(|| format!("{} cents paid, {} owed", self.amount.0, owed.0))
    }

    /// The next snapshot, or `None` when that was said before.
    pub fn step(&self, event: PaymentEvent) -> Result<Option<Self>, IllegalStep> {
        Ok(self.state.step(event)?.map(|state| Self {
            state,
            ..self.clone()
        }))
    }
}

impl PaymentState {
    /// Grows with each step on every way through the machine: the version of a
    /// payment's snapshot.
    pub fn rank(self) -> u64 {
        match self {
            Self::Captured => 1,
            Self::Review => 2,
            Self::Applied => 3,
            Self::RefundDue => 4,
            Self::Refunded => 5,
        }
    }

    /// Somebody still has to do something about it.
    pub fn is_open(self) -> bool {
        match self {
            Self::Captured | Self::Review | Self::RefundDue => true,
            Self::Applied | Self::Refunded => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Captured => "CAPTURED",
            Self::Applied => "APPLIED",
            Self::RefundDue => "REFUND_DUE",
            Self::Refunded => "REFUNDED",
            Self::Review => "REVIEW",
        }
    }

    /// The machine; `Ok(None)` when it was said before.
    pub fn step(self, event: PaymentEvent) -> Result<Option<PaymentState>, IllegalStep> {
        use PaymentEvent as E;
        use PaymentState as S;
        match (self, event) {
            (S::Captured | S::Review, E::Apply) => Ok(Some(S::Applied)),
            (S::Captured | S::Review | S::Applied, E::GiveBack) => Ok(Some(S::RefundDue)),
            (S::Captured, E::Flag) => Ok(Some(S::Review)),
            (S::RefundDue, E::RefundDone) => Ok(Some(S::Refunded)),
            (S::Applied, E::Apply)
            | (S::RefundDue | S::Refunded, E::GiveBack)
            | (S::Review, E::Flag)
            | (S::Refunded, E::RefundDone) => Ok(None),
            (S::Applied | S::RefundDue | S::Refunded, E::Flag)
            | (S::RefundDue | S::Refunded, E::Apply)
            | (S::Captured | S::Applied | S::Review, E::RefundDone) => {
                Err(IllegalStep { state: self, event })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Money that left is never applied, and money that is owed is never forgotten.
        #[test]
        fn money_goes_one_way(events in prop::collection::vec(
            prop_oneof![
                Just(PaymentEvent::Apply), Just(PaymentEvent::GiveBack),
                Just(PaymentEvent::Flag), Just(PaymentEvent::RefundDone),
            ], 0..20)) {
            let mut state = PaymentState::Captured;
            let mut owed = false;
            for event in events {
                if let Ok(Some(next)) = state.step(event) {
                    prop_assert!(next.rank() > state.rank());
                    owed |= next == PaymentState::RefundDue;
                    state = next;
                }
                if owed {
                    prop_assert!(matches!(state, PaymentState::RefundDue | PaymentState::Refunded));
                }
            }
        }
    }

    #[test]
    fn a_providers_words_are_kept_as_far_as_a_database_can_have_them() {
        let kept = |text: &str| Raw::of(text).map(|raw| raw.as_str().to_owned());
        assert_eq!(kept(""), None);
        assert_eq!(kept("{\"a\":1}"), Some("{\"a\":1}".into()));
        assert_eq!(kept("a\0b"), Some("a\u{FFFD}b".into()));
        let long = format!("{}é", "x".repeat(Raw::BYTES_MAX - 1));
        assert_eq!(kept(&long), Some("x".repeat(Raw::BYTES_MAX - 1)));
        assert_eq!(Raw::parse(long), None);
        assert_eq!(Raw::parse("a\0b".into()), None);
    }
}
