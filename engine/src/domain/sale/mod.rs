//! The sale: what it sells and by which rules, and its phase as plain arithmetic.
//!
//! The same fields stand in the configuration (TOML) and in the admin API (JSON):
//! [`RawSale`] mirrors the text, and a [`Sale`] comes of checking it.

pub mod allowed;
mod check;
mod raw;
#[cfg(test)]
mod tests;

pub use self::check::{SKUS_MAX, SaleError};
pub use self::raw::{RawAdmission, RawGrant, RawSale, RawSku};
use super::entitlement::WhenFull;
use super::ids::{SaleId, SaleNo, SkuId, WorkId};
use super::money::{Cents, Currency};
use super::time::UnixMs;

/// A definition that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    pub id: SaleId,
    pub name: String,
    pub starts_at: UnixMs,
    pub ends_at: UnixMs,
    pub pay_window_ms: u64,
    pub payment_grace_ms: u64,
    pub units_per_user: u32,
    pub buckets: u16,
    pub orders_per_user_max: u32,
    pub admission: RawAdmission,
    /// Sorted by id.
    pub skus: Vec<Sku>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sku {
    pub id: SkuId,
    pub name: String,
    pub price: Cents,
    pub currency: Currency,
    pub units: u32,
    pub grant: Option<Grant>,
}

/// What a paid order of this SKU entitles its buyer to, however many units it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub work: WorkId,
    /// From the moment of the grant.
    pub valid_days: u32,
    /// Devices with a licence at once.
    pub devices_max: u32,
    pub when_full: WhenFull,
}

/// What the operator did to a sale; durable beside its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Switches {
    pub paused: bool,
    pub ended: bool,
}

/// The sale as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleRecord {
    pub definition: Sale,
    pub number: SaleNo,
    pub switches: Switches,
}

/// Where a sale stands, for the buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Scheduled,
    Open,
    Paused,
    SoldOut,
    Ended,
}

impl Sale {
    pub fn sku(&self, id: &SkuId) -> Option<(usize, &Sku)> {
        let at = self.skus.binary_search_by(|s| s.id.cmp(id)).ok()?;
        Some((at, &self.skus[at]))
    }

    /// Units of a SKU, by its place in the list, that a bucket has when the sale opens:
    /// even shares. Few units start in few buckets, or every one of them would have to
    /// be fetched; which buckets, differs from SKU to SKU.
    pub fn share(&self, sku: usize, bucket: u16) -> u32 {
        const UNITS_MIN: u32 = 64;
        let (n, units) = (u32::from(self.buckets), self.skus[sku].units);
        let used = (units / UNITS_MIN).clamp(1, n);
        // A place in the list is below SKUS_MAX.
        let first = (sku as u32).wrapping_mul(used) % n;
        let at = (u32::from(bucket) + n - first) % n;
        if at < used {
            units / used + u32::from(at < units % used)
        } else {
            0
        }
    }

    pub fn units_opened(&self) -> u64 {
        self.skus.iter().map(|s| u64::from(s.units)).sum()
    }

    pub fn phase(&self, now: UnixMs, switches: Switches, any_available: bool) -> Phase {
        if switches.ended || now >= self.ends_at {
            Phase::Ended
        } else if now < self.starts_at {
            Phase::Scheduled
        } else if switches.paused {
            Phase::Paused
        } else if any_available {
            Phase::Open
        } else {
            Phase::SoldOut
        }
    }
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Open => "OPEN",
            Self::Paused => "PAUSED",
            Self::SoldOut => "SOLD_OUT",
            Self::Ended => "ENDED",
        }
    }
}
