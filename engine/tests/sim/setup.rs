//! What a schedule is made of, drawn from its seed: the sale, its buyers, and
//! which faults are likely.

use fastrand::Rng;
use floodgate_engine::domain::entitlement::WhenFull;
use floodgate_engine::domain::ids::{SaleId, SkuId, WorkId};
use floodgate_engine::domain::money::{Cents, Currency};
use floodgate_engine::domain::sale::{Grant, RawAdmission, Sale, Sku};
use floodgate_engine::domain::time::UnixMs;

/// The first moment of every schedule, by an honest clock.
pub const T0: u64 = 1_800_000_000_000;
pub const HOUR: u64 = 3_600_000;

#[derive(Debug)]
pub struct Setup {
    pub sale: Sale,
    pub n_users: u32,
    pub n_keys: u32,
    /// What buyers and operators do before everything heals.
    pub n_actions: u32,
    /// Orders are paid and refunded.
    pub paying: bool,
    /// The stock host outlives the engine, and so do calls on their way to it.
    pub host_apart: bool,
    /// How often the engine may die.
    pub crashes_max: u32,
    /// What the disk confirmed may be gone, in part, after a crash.
    pub damage: bool,
    /// The clock begins at the same moment after every crash.
    pub clock_stuck: bool,
    pub answer_ms: u64,
    pub under_way_max: u32,
    pub rates: Rates,
}

/// How likely each fault is, in a thousand.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    pub reply_lost: u16,
    pub call_lost: u16,
    pub call_late: u16,
    pub call_twice: u16,
    pub call_slow: u16,
    pub script_error: u16,
    /// A copy that was late arrives.
    pub arrival: u16,
    pub wiped: u16,
    pub rolled_back: u16,
    pub tampered: u16,
    pub version_off: u16,
    pub disk_slow: u16,
    pub disk_fails: u16,
    /// The whole process stands still for a while, and the world goes on.
    pub stopped: u16,
    pub hang_up: u16,
    pub operator: u16,
}

impl Rates {
    fn only(&mut self, base: Self, with: impl FnOnce(&mut Self)) {
        *self = base;
        with(self);
    }

    fn draw(rng: &mut Rng) -> Self {
        let mut rate = || match rng.u8(..8) {
            0..4 => 0,
            4 | 5 => 10,
            6 => 60,
            _ => 250,
        };
        let mut rates = Self {
            reply_lost: rate(),
            call_lost: rate(),
            call_late: rate(),
            call_twice: rate(),
            call_slow: rate(),
            script_error: rate(),
            arrival: rate().max(20),
            wiped: rate() / 4,
            rolled_back: rate() / 4,
            tampered: rate() / 4,
            version_off: rate(),
            disk_slow: rate(),
            disk_fails: rate() / 10,
            stopped: rate() / 4,
            hang_up: rate(),
            operator: rate(),
        };
        let (hang_up, operator) = (rates.hang_up, rates.operator);
        let only = Self {
            hang_up,
            operator,
            ..Self::default()
        };
        match rng.u8(..10) {
            // Quiet machines, where only buyers make trouble.
            0 => rates = only,
            // One trouble and no other, which nothing else brings to light by chance.
            1 => rates.only(only, |rates| rates.reply_lost = 250),
            2 | 3 => rates.only(only, |rates| {
                rates.call_late = 500;
                rates.arrival = 250;
            }),
            4 => rates.only(only, |rates| rates.rolled_back = 40),
            5 => rates.only(only, |rates| rates.tampered = 200),
            // Nobody meddles: whatever is lost must be noticed by the protocol alone.
            6..9 => rates.tampered = 0,
            _ => {}
        }
        rates
    }
}

/// How much there is for so few buyers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// A unit or two that everybody wants, again and again.
    Scarce,
    Small,
    /// Enough that the sale opens in several buckets.
    Large,
}

fn sale(rng: &mut Rng, size: Size, patient: bool, granting: bool) -> Sale {
    let (n_skus, units, per_user, buckets) = match size {
        Size::Scarce => (1..=1_usize, 1..=2_u32, 1..=2_u32, 1..=2_u16),
        Size::Small => (1..=2, 1..=12, 1..=6, 1..=4),
        Size::Large => (1..=2, 128..=200, 10..=60, 2..=4),
    };
    let skus = (0..rng.usize(n_skus))
        .map(|n| Sku {
            id: SkuId::parse(["pot", "tea"][n]).expect("an id"),
            name: "unit".into(),
            price: Cents(100),
            currency: Currency::parse("EUR").expect("a currency"),
            units: rng.u32(units.clone()),
            grant: granting.then(grant),
        })
        .collect();
    let mut once_in = |n: u8, then: u64, otherwise: u64| match rng.u8(..n) {
        0 => then,
        _ => otherwise,
    };
    let starts_at = UnixMs(once_in(10, T0 + 300, T0 - 2 * HOUR));
    let ends_at = UnixMs(once_in(10, T0 + 3_000, T0 + 48 * HOUR));
    let narrow = once_in(8, 1, 0) == 1;
    let admission = RawAdmission {
        rate: if narrow { 20 } else { 100_000 },
        burst: if narrow { 2 } else { 10_000 },
        queue_max: if narrow { rng.u32(..4) } else { 1_000 },
        wait_ms: rng.u32(..500),
    };
    let pay_window_ms = match size {
        _ if patient => 24 * HOUR,
        Size::Scarce => 1_000,
        Size::Small | Size::Large => 1_000 * rng.u64(1..=6),
    };
    Sale {
        id: SaleId::parse("sale").expect("an id"),
        name: "sale".into(),
        starts_at,
        ends_at,
        pay_window_ms,
        payment_grace_ms: 0,
        units_per_user: rng.u32(per_user),
        buckets: rng.u16(buckets),
        orders_per_user_max: rng.u32(1..=5),
        admission,
        skus,
    }
}

fn grant() -> Grant {
    Grant {
        work: WorkId::parse("film").expect("an id"),
        valid_days: 30,
        devices_max: 2,
        when_full: WhenFull::Refuse,
    }
}

impl Setup {
    pub fn draw(rng: &mut Rng) -> Self {
        let size = match rng.u8(..12) {
            0..4 => Size::Scarce,
            4..11 => Size::Small,
            _ => Size::Large,
        };
        let paying = rng.bool();
        // Then no order closes before its money comes.
        let granting = paying && rng.bool();
        let patient = paying && size != Size::Scarce && rng.u8(..4) == 0;
        Self {
            sale: sale(rng, size, patient, granting),
            n_users: if size == Size::Scarce {
                8
            } else {
                rng.u32(2..=8)
            },
            n_keys: rng.u32(1..=4),
            n_actions: rng.u32(if paying { 12..=60 } else { 8..=40 }),
            paying,
            host_apart: rng.bool(),
            crashes_max: [0, 0, 1, 2, 4][rng.usize(..5)],
            damage: rng.u8(..12) == 0,
            clock_stuck: rng.u8(..6) == 0,
            answer_ms: rng.u64(300..2_000),
            under_way_max: if rng.u8(..8) == 0 { rng.u32(1..4) } else { 64 },
            rates: Rates::draw(rng),
        }
    }
}
