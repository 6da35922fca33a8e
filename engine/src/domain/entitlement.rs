//! What a buyer may do with what was paid for.

use super::ids::{DeviceId, EntitlementId, OrderId, SkuId, UserId, WorkId};
use super::time::UnixMs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlement {
    pub id: EntitlementId,
    pub order: OrderId,
    pub user: UserId,
    pub sku: SkuId,
    pub work: WorkId,
    pub granted_at: UnixMs,
    pub valid_until: UnixMs,
    pub devices_max: u32,
    pub when_full: WhenFull,
    /// Devices with a licence and since when, the oldest first.
    pub devices: Vec<(DeviceId, UnixMs)>,
    pub revoked_at: Option<UnixMs>,
}

/// What happens when one device more than allowed asks for a licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    Refuse,
    KickOldest,
}
