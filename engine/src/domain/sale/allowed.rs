//! What the numbers of a definition may be: one list for the configuration and
//! the admin API, so that they cannot tell different stories.

use std::ops::RangeInclusive;

use super::super::ids::BUCKETS_MAX;

pub const PAY_WINDOW_SECONDS: RangeInclusive<u64> = 1..=604_800;
pub const PAYMENT_GRACE_SECONDS: RangeInclusive<u64> = 0..=3_600;
pub const UNITS_PER_USER: RangeInclusive<u64> = 1..=1_000_000;
pub const BUCKETS: RangeInclusive<u64> = 1..=BUCKETS_MAX as u64;
pub const ORDERS_PER_USER_MAX: RangeInclusive<u64> = 1..=10_000;
pub const RATE: RangeInclusive<u64> = 1..=10_000_000;
pub const BURST: RangeInclusive<u64> = 1..=10_000_000;
pub const QUEUE_MAX: RangeInclusive<u64> = 0..=1_000_000;
pub const WAIT_MS: RangeInclusive<u64> = 0..=60_000;
pub const UNITS: RangeInclusive<u64> = 1..=100_000_000;
/// Up to ten years.
pub const VALID_DAYS: RangeInclusive<u64> = 1..=3_650;
pub const DEVICES_MAX: RangeInclusive<u64> = 1..=100;
/// An order has at most 20 items of 10,000 units: 20 * 10^4 * 10^10 = 2 * 10^15
/// cents. A page reads `payAmountCent` as a double, exact up to 2^53 - 1 = 9 * 10^15.
pub const PRICE_CENT: RangeInclusive<u64> = 0..=10_000_000_000;
const _: () = assert!(*PRICE_CENT.end() * 10_000 * 20 < 1 << 53);
