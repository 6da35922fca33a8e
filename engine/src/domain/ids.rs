//! Ids: checked once at the door, trusted inside.
//!
//! Whatever comes from outside matches `[A-Za-z0-9_-]{1,64}`, so an id can
//! never carry a brace, a colon or a newline into a Redis key or a log line.
//! Order ids are UUID version 8 (RFC 9562) and name their own bucket.

use std::fmt;

use compact_str::CompactString;
use uuid::Uuid;

/// Longest id accepted from outside, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is not an id; says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("is empty; allowed are 1 to 64 of A-Z a-z 0-9 _ -")]
    Empty,
    #[error("has {0} bytes; allowed are 1 to 64 of A-Z a-z 0-9 _ -")]
    TooLong(usize),
    #[error(
        "has a character that is not allowed at byte {0}; allowed are 1 to 64 of A-Z a-z 0-9 _ -"
    )]
    BadByte(usize),
}

fn check(text: &[u8]) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    match text
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-'))
    {
        Some(at) => Err(IdError::BadByte(at)),
        None => Ok(()),
    }
}

macro_rules! outside_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(CompactString);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text.as_bytes())?;
                Ok(Self(CompactString::new(text)))
            }

            /// For bytes off a socket or a disk: the check itself proves UTF-8.
            pub fn parse_bytes(bytes: &[u8]) -> Result<Self, IdError> {
                check(bytes)?;
                match std::str::from_utf8(bytes) {
                    Ok(text) => Ok(Self(CompactString::new(text))),
                    Err(e) => Err(IdError::BadByte(e.valid_up_to())),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

outside_id!(
    /// One flash sale.
    SaleId
);
outside_id!(
    /// One thing sold in a sale.
    SkuId
);
outside_id!(
    /// The authenticated buyer.
    UserId
);
outside_id!(
    /// The buyer's Idempotency-Key; it lives under the user and the sale.
    IdemKey
);
outside_id!(
    /// The buyer's device, as the page names it.
    DeviceId
);

outside_id!(
    /// One capture of money.
    PaymentId
);
outside_id!(
    /// A payment provider, as the configuration names it.
    Channel
);
outside_id!(
    /// The provider's number of a capture; unique for ever within its channel.
    ChannelTxnNo
);
outside_id!(
    /// What a paid order grants its buyer.
    EntitlementId
);
outside_id!(
    /// A work that can be played or downloaded.
    WorkId
);
outside_id!(
    /// One sitting of a player, as the player names it.
    SessionId
);

/// One shard of a sale. At most 4,096 (12 bits of the order id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketNo(pub u16);

/// Buckets a sale may have at most: what 12 bits of an order id can name.
pub const BUCKETS_MAX: u16 = 4_096;

/// The sale's short number inside order ids, given once when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SaleNo(pub u16);

/// The node that made an id. 10 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeNo(pub u16);

/// The home bucket of a user in a sale. Part of the data format: an order's
/// bucket must come out the same in every version of the engine. XXH3-64
/// (xxHash specification 0.2.0) of `sale`, one zero byte, `user`.
pub fn home_bucket(sale: &SaleId, user: &UserId, buckets: u16) -> BucketNo {
    let mut buf = [0_u8; 2 * ID_BYTES_MAX + 1];
    let (s, u) = (sale.as_bytes(), user.as_bytes());
    buf[..s.len()].copy_from_slice(s);
    buf[s.len() + 1..s.len() + 1 + u.len()].copy_from_slice(u);
    let hash = xxhash_rust::xxh3::xxh3_64(&buf[..s.len() + 1 + u.len()]);
    // `buckets` fits u16, so the remainder does too.
    BucketNo((hash % u64::from(buckets.max(1))) as u16)
}

/// UUID version 8: 48 bits milliseconds, 12 bucket, 16 sale number, 10 node,
/// 16 counter, 20 random. Sorted by time, and it names the desk that owns it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(Uuid);

/// What an order id is made of; [`OrderId::from_parts`] masks each to its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderIdParts {
    pub ms: u64,
    pub bucket: BucketNo,
    pub sale: SaleNo,
    pub node: NodeNo,
    pub counter: u16,
    pub random: u32,
}

impl OrderId {
    pub fn from_parts(p: OrderIdParts) -> Self {
        let hi = (p.ms & 0xFFFF_FFFF_FFFF) << 16 | u64::from(p.bucket.0 & 0xFFF);
        let lo = u64::from(p.sale.0) << 46
            | u64::from(p.node.0 & 0x3FF) << 36
            | u64::from(p.counter) << 20
            | u64::from(p.random & 0xF_FFFF);
        let mut bytes = [0_u8; 16];
        bytes[..8].copy_from_slice(&hi.to_be_bytes());
        bytes[8..].copy_from_slice(&lo.to_be_bytes());
        // `new_v8` writes the version and variant bits and leaves ours alone:
        // they sit where the widths above left zeros.
        Self(Uuid::new_v8(bytes))
    }

    pub fn parts(&self) -> OrderIdParts {
        let (hi, lo) = self.0.as_u64_pair();
        OrderIdParts {
            ms: hi >> 16,
            bucket: BucketNo((hi & 0xFFF) as u16),
            sale: SaleNo((lo >> 46 & 0xFFFF) as u16),
            node: NodeNo((lo >> 36 & 0x3FF) as u16),
            counter: (lo >> 20 & 0xFFFF) as u16,
            random: (lo & 0xF_FFFF) as u32,
        }
    }

    pub fn bucket(&self) -> BucketNo {
        self.parts().bucket
    }

    /// Reads the hyphenated text form; anything that is not version 8 is not ours.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        Uuid::try_parse(text).ok().and_then(Self::from_uuid)
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().and_then(Self::from_uuid)
    }

    fn from_uuid(id: Uuid) -> Option<Self> {
        (id.get_version_num() == 8 && id.get_variant() == uuid::Variant::RFC4122)
            .then_some(Self(id))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The 36 characters of the text form, without allocating.
    pub fn text(&self) -> OrderIdText {
        let mut buf = [0_u8; 36];
        self.0.hyphenated().encode_lower(&mut buf);
        OrderIdText(buf)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrderId({self})")
    }
}

/// An order id as text, on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OrderIdText([u8; 36]);

impl OrderIdText {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a key was first used for: XXH3-128 of the canonical request (sale, then
/// SKU and quantity in SKU order, then the device where one was named). The same
/// key with another fingerprint is refused.
///
/// Part of the data format. The bytes that are hashed: the sale; per item a zero
/// byte, the SKU, a zero byte, the quantity as four bytes, big-endian; with a device
/// two zero bytes and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// Of a request that names no device. `items` must be merged and sorted by SKU,
    /// as [`crate::domain::order::Items`] are.
    pub fn of<'a>(sale: &SaleId, items: impl Iterator<Item = (&'a SkuId, u32)>) -> Self {
        Self::of_request(sale, items, None)
    }

    /// `items` as in [`Fingerprint::of`], which this equals without a device.
    pub fn of_request<'a>(
        sale: &SaleId,
        items: impl Iterator<Item = (&'a SkuId, u32)>,
        device: Option<&DeviceId>,
    ) -> Self {
        let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
        hash.update(sale.as_bytes());
        for (sku, quantity) in items {
            // Zero cannot stand in an id, so the parts cannot run into each other.
            hash.update(&[0]);
            hash.update(sku.as_bytes());
            hash.update(&[0]);
            hash.update(&quantity.to_be_bytes());
        }
        if let Some(device) = device {
            // No SKU is empty, so a second zero cannot be the start of an item.
            hash.update(&[0, 0]);
            hash.update(device.as_bytes());
        }
        Self(hash.digest128())
    }

    /// The reverse of [`Fingerprint::hex`].
    pub fn parse_hex(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }

    /// 32 lower-case hex digits: how it stands in the stock host.
    pub fn hex(&self) -> [u8; 32] {
        let mut out = [0_u8; 32];
        for (i, byte) in self.0.to_be_bytes().iter().enumerate() {
            out[2 * i] = b"0123456789abcdef"[usize::from(byte >> 4)];
            out[2 * i + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_from_outside_are_checked_by_byte() {
        for good in ["a", "A-b_9", &"x".repeat(64)] {
            assert!(UserId::parse(good).is_ok(), "{good}");
        }
        assert_eq!(UserId::parse(""), Err(IdError::Empty));
        assert_eq!(UserId::parse(&"x".repeat(65)), Err(IdError::TooLong(65)));
        for (bad, at) in [
            ("a{b", 1),
            ("a\nb", 1),
            ("a\0", 1),
            ("é", 0),
            ("a b", 1),
            ("ab:", 2),
        ] {
            assert_eq!(UserId::parse(bad), Err(IdError::BadByte(at)), "{bad:?}");
        }
    }

    #[test]
    fn home_bucket_is_part_of_the_format() {
        let sale = SaleId::parse("tea").expect("valid");
        let got: Vec<u16> = (0..8)
            .map(|i| home_bucket(&sale, &UserId::parse(&format!("u{i}")).expect("valid"), 64).0)
            .collect();
        assert_eq!(got, HOME_BUCKETS_PINNED);
    }
    #[test]
    fn a_fingerprint_names_its_device_and_without_one_is_what_it_was() {
        let sale = SaleId::parse("tea").expect("valid");
        let sku = SkuId::parse("unit").expect("valid");
        let device = |name: &str| DeviceId::parse(name).expect("valid");
        let of = |device: Option<&DeviceId>| {
            Fingerprint::of_request(&sale, std::iter::once((&sku, 1)), device).0
        };
        let none = Fingerprint::of(&sale, std::iter::once((&sku, 1))).0;
        assert_eq!(none, FINGERPRINT_PINNED);
        assert_eq!(of(None), none);
        let (a, b) = (of(Some(&device("a"))), of(Some(&device("b"))));
        assert!(a != none && b != none && a != b);
        assert_eq!(
            a,
            xxhash_rust::xxh3::xxh3_128(b"tea\0unit\0\0\0\0\x01\0\0a")
        );
    }
    const FINGERPRINT_PINNED: u128 = 80_573_846_631_525_271_345_860_515_180_292_456_772;
    const HOME_BUCKETS_PINNED: [u16; 8] = [33, 45, 38, 25, 59, 54, 44, 38];

    proptest! {
        #[test]
        fn order_ids_give_back_their_parts(
            ms in 0_u64..1 << 48, bucket in 0_u16..4096, sale: u16,
            node in 0_u16..1024, counter: u16, random in 0_u32..1 << 20,
        ) {
            let parts = OrderIdParts {
                ms, bucket: BucketNo(bucket), sale: SaleNo(sale), node: NodeNo(node), counter, random,
            };
            let id = OrderId::from_parts(parts);
            prop_assert_eq!(id.parts(), parts);
            prop_assert_eq!(OrderId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(OrderId::from_bytes(id.as_bytes()), Some(id));
        }

        #[test]
        fn order_ids_sort_by_time(a in 0_u64..1 << 48, b in 0_u64..1 << 48, x: u16, y: u16) {
            let id = |ms, counter| OrderId::from_parts(OrderIdParts {
                ms, bucket: BucketNo(0), sale: SaleNo(1), node: NodeNo(0), counter, random: 0,
            });
            if a != b {
                prop_assert_eq!(a < b, id(a, x) < id(b, y));
            }
        }
    }
}
