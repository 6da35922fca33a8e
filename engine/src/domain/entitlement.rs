//! What a buyer may do with what was paid for: one entitlement for an order and a
//! SKU of it that carries a grant, and the devices that have a licence under it.
//!
//! Every step is a pure function from one snapshot to the next; the caller makes the
//! next one durable before anybody hears of it.

use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::ids::{DeviceId, EntitlementId, OrderId, SkuId, UserId, WorkId};
use super::order::{Item, Order};
use super::sale::Grant;
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

impl Entitlement {
    pub fn is_live(&self) -> bool {
        self.revoked_at.is_none()
    }
}

/// What happens when one device more than allowed asks for a licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    Refuse,
    KickOldest,
}

impl WhenFull {
    /// As a sale's definition says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::KickOldest => "kick_oldest",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Refuse, Self::KickOldest]
            .into_iter()
            .find(|policy| policy.name() == text)
    }
}

/// Where an entitlement stands, for its buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    /// The order was refunded.
    Revoked,
    Expired,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// What came of a device's wish for a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Licensed {
    /// It has one, and keeps it.
    Already,
    Added {
        next: Entitlement,
        /// Whose licence ended for it.
        kicked: Option<DeviceId>,
    },
    /// As many devices as allowed have one, and none of them has to go.
    Full,
    Revoked,
    Expired,
}

/// The one entitlement that this order and SKU can have: granting again, also after a
/// crash, is granting the same. Part of the data format: `ent_` and the first 32 hex
/// digits of SHA-256 over the 16 bytes of the order id and the SKU.
pub fn id_of(order: &OrderId, sku: &SkuId) -> EntitlementId {
    let mut hash = Sha256::new();
    hash.update(order.as_bytes());
    hash.update(sku.as_bytes());
    let mut text = String::with_capacity(36);
    text.push_str("ent_");
    for byte in &hash.finalize()[..16] {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    EntitlementId::parse(&text).expect("36 letters, digits and an underscore are an id")
}

impl Entitlement {
    /// What the buyer of `item` gets, one or a hundred units of it.
    pub fn granted(order: &Order, item: &Item, grant: &Grant, at: UnixMs) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            id: id_of(&order.id, &item.sku),
            order: order.id,
            user: order.user.clone(),
            sku: item.sku.clone(),
            work: grant.work.clone(),
            granted_at: at,
            valid_until: at.plus(DAY.saturating_mul(grant.valid_days)),
            devices_max: grant.devices_max,
            when_full: grant.when_full,
            devices: Vec::new(),
            revoked_at: None,
        }
    }

    pub fn status(&self, now: UnixMs) -> Status {
        if self.revoked_at.is_some() {
            Status::Revoked
        } else if self.valid_until <= now {
            Status::Expired
        } else {
            Status::Active
        }
    }

    pub fn has(&self, device: &DeviceId) -> bool {
        self.devices.iter().any(|(id, _)| id == device)
    }

    /// Whether one device more finds a place without another one's going.
    pub fn has_room(&self) -> bool {
        self.devices.len() < self.places()
    }

    fn places(&self) -> usize {
        // A definition allows one at least, and no body of ours says less.
        self.devices_max.max(1) as usize
    }

    pub fn license(&self, device: &DeviceId, now: UnixMs) -> Licensed {
        match self.status(now) {
            Status::Revoked => return Licensed::Revoked,
            Status::Expired => return Licensed::Expired,
            Status::Active => {}
        }
        if self.has(device) {
            return Licensed::Already;
        }
        let mut next = self.clone();
        let mut kicked = None;
        if !self.has_room() {
            match self.when_full {
                WhenFull::Refuse => return Licensed::Full,
                WhenFull::KickOldest => {
                    // One, unless a body ever held more than it may.
                    let gone = next.devices.drain(..=self.devices.len() - self.places());
                    kicked = gone.map(|(id, _)| id).next();
                }
            }
        }
        next.devices.push((device.clone(), now));
        Licensed::Added { next, kicked }
    }

    /// None: it was revoked before, and that moment stands.
    pub fn revoke(&self, at: UnixMs) -> Option<Self> {
        match self.revoked_at {
            Some(_) => None,
            None => Some(Self {
                revoked_at: Some(at),
                ..self.clone()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{BucketNo, IdemKey, NodeNo, OrderIdParts, SaleId, SaleNo};
    use crate::domain::ids::{Fingerprint, OrderId};
    use crate::domain::money::{Cents, Currency};
    use crate::domain::order::{OrderState, Version};
    use proptest::prelude::*;

    const T: UnixMs = UnixMs(1_793_000_000_000);

    fn order(counter: u16) -> Order {
        Order {
            id: OrderId::from_parts(OrderIdParts {
                ms: T.0,
                bucket: BucketNo(3),
                sale: SaleNo(7),
                node: NodeNo(1),
                counter,
                random: 5,
            }),
            sale: SaleId::parse("tea").expect("valid"),
            user: UserId::parse("ana").expect("valid"),
            key: IdemKey::parse("k").expect("valid"),
            fingerprint: Fingerprint(1),
            items: std::iter::once(item("film", 3)).collect(),
            currency: Currency::parse("EUR").expect("valid"),
            state: OrderState::Paid,
            version: Version::first(1),
            created_at: T,
            updated_at: T,
            pay_deadline: T,
            device: None,
        }
    }

    fn item(sku: &str, quantity: u32) -> Item {
        Item {
            sku: SkuId::parse(sku).expect("valid"),
            quantity,
            price: Cents(1),
        }
    }

    fn granted(devices_max: u32, when_full: WhenFull) -> Entitlement {
        let grant = Grant {
            work: WorkId::parse("w").expect("valid"),
            valid_days: 2,
            devices_max,
            when_full,
        };
        Entitlement::granted(&order(9), &item("film", 3), &grant, T)
    }

    fn device(n: u8) -> DeviceId {
        DeviceId::parse(&format!("d{n}")).expect("valid")
    }

    #[test]
    fn the_id_is_part_of_the_format_and_names_order_and_sku() {
        let id = |n, sku| id_of(&order(n).id, &item(sku, 1).sku);
        assert_eq!(
            id(9, "film").as_str(),
            "ent_049312e31fdf4da9812798a01babf470"
        );
        assert_eq!(id(9, "film"), granted(1, WhenFull::Refuse).id);
        assert!(id(9, "film") != id(9, "book") && id(9, "film") != id(10, "film"));
    }

    #[test]
    fn a_grant_is_valid_for_its_days() {
        const DAY: u64 = 86_400_000;
        let e = granted(1, WhenFull::Refuse);
        assert_eq!(e.valid_until, UnixMs(T.0 + 2 * DAY));
        assert_eq!(e.status(UnixMs(e.valid_until.0 - 1)), Status::Active);
        assert_eq!(e.status(e.valid_until), Status::Expired);
        assert_eq!(e.license(&device(1), e.valid_until), Licensed::Expired);
    }

    #[test]
    fn what_was_revoked_stays_revoked() {
        let e = granted(1, WhenFull::KickOldest);
        let gone = e.revoke(UnixMs(T.0 + 5)).expect("the first time");
        assert_eq!(gone.revoked_at, Some(UnixMs(T.0 + 5)));
        assert_eq!(gone.revoke(UnixMs(T.0 + 9)), None);
        assert_eq!(gone.license(&device(1), T), Licensed::Revoked);
        let late = UnixMs(e.valid_until.0 + 1);
        assert_eq!(gone.status(late), Status::Revoked);
    }

    #[test]
    fn policies_have_one_name_each() {
        for policy in [WhenFull::Refuse, WhenFull::KickOldest] {
            assert_eq!(WhenFull::parse(policy.name()), Some(policy));
        }
        assert_eq!(WhenFull::parse("Refuse"), None);
    }

    proptest! {
        /// Whoever asks in whatever order: never more devices than allowed, each once,
        /// the oldest first; under `refuse` nobody loses a licence, under `kick_oldest`
        /// everybody gets one, and it is always the oldest that goes.
        #[test]
        fn the_quota_holds(
            places in 1_u32..6, kick: bool,
            asks in prop::collection::vec((0_u8..9, 0_u64..100), 0..60),
        ) {
            let policy = if kick { WhenFull::KickOldest } else { WhenFull::Refuse };
            let mut e = granted(places, policy);
            // The same, kept by somebody else: who has a licence, in order.
            let mut model: Vec<DeviceId> = Vec::new();
            for (n, ms) in asks {
                let asking = device(n);
                match e.license(&asking, UnixMs(T.0 + ms)) {
                    Licensed::Already => prop_assert!(model.contains(&asking)),
                    Licensed::Added { next, kicked } => {
                        prop_assert!(!model.contains(&asking));
                        if model.len() < places as usize {
                            prop_assert_eq!(kicked, None);
                        } else {
                            prop_assert!(kick);
                            prop_assert_eq!(kicked, Some(model.remove(0)));
                        }
                        model.push(asking);
                        prop_assert_eq!(&next.id, &e.id);
                        e = next;
                    }
                    Licensed::Full => {
                        prop_assert!(!kick && model.len() == places as usize);
                        prop_assert!(!model.contains(&asking));
                    }
                    Licensed::Revoked | Licensed::Expired => prop_assert!(false),
                }
                let devices: Vec<_> = e.devices.iter().map(|(id, _)| id.clone()).collect();
                prop_assert_eq!(&devices, &model);
                prop_assert!(model.len() <= places as usize);
            }
        }

        /// A body that holds more than it may, or allows nobody, comes back to order.
        #[test]
        fn an_odd_body_comes_back_to_its_quota(places in 0_u32..4, n in 0_u8..9) {
            let mut e = granted(places, WhenFull::KickOldest);
            e.devices = (0..n).map(|n| (device(n), T)).collect();
            let Licensed::Added { next, kicked } = e.license(&device(100), T) else {
                return Err(TestCaseError::fail("kicking finds a place"));
            };
            prop_assert!(next.devices.len() <= places.max(1) as usize);
            prop_assert!(next.has(&device(100)));
            prop_assert_eq!(kicked.is_some(), u32::from(n) >= places.max(1));
            prop_assert!(kicked.is_none_or(|k| k == device(0)));
        }
    }
}
