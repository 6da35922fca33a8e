//! How sales, allotments and orders stand in the ledger.
//!
//! The ledger knows records and entities; what they mean is said here, once.

use std::fmt::Write as _;

use bytes::Bytes;
use floodgate_ledger::{Draft, Kind, Ledger, ReadError, Snapshot};

use super::guard::Units;
use crate::domain::allotment::{Allotment, Transfer};
use crate::domain::codec::{self, CodecError};
use crate::domain::entitlement::Entitlement;
use crate::domain::ids::{BucketNo, Channel, ChannelTxnNo, OrderId, PaymentId, SaleId};
use crate::domain::order::{Item, Order};
pub use crate::domain::payment::NO_SALE;
use crate::domain::payment::Payment;
use crate::domain::sale::{Grant, Sale, SaleRecord};
use crate::domain::time::UnixMs;

pub const ORDER: Kind = Kind(1);
pub const SALE: Kind = Kind(2);
pub const ALLOTMENT: Kind = Kind(3);
pub const TRANSFER: Kind = Kind(4);
pub const PAYMENT: Kind = Kind(5);
pub const ENTITLEMENT: Kind = Kind(6);

/// Meta: the floor of order ids, eight bytes big-endian.
pub const ID_FLOOR: &[u8] = b"id-floor";

#[derive(Debug, thiserror::Error)]
pub enum FactError {
    #[error("read the ledger: {0}")]
    Read(#[from] ReadError),
    #[error("record {seq} of the ledger: {source}")]
    Body { seq: u64, source: CodecError },
    #[error("record {seq} of the ledger: {what}")]
    Odd { seq: u64, what: String },
}

/// Meta: the epoch of a bucket, four bytes big-endian.
pub fn epoch_key(sale: &SaleId, bucket: BucketNo) -> Bytes {
    let mut key = String::from("epoch:");
    // Writing to a string cannot fail.
    let _ = write!(key, "{sale}:{}", bucket.0);
    key.into()
}

pub fn order_body(order: &Order) -> Bytes {
    codec::encode_order(order).into()
}

pub fn order_draft(order: &Order, body: Bytes) -> Draft {
    Draft {
        kind: ORDER,
        group: Bytes::copy_from_slice(order.sale.as_bytes()),
        id: Bytes::copy_from_slice(order.id.as_bytes()),
        version: order.version.0,
        live: order.state.is_live(),
        owner: Some(Bytes::copy_from_slice(order.user.as_bytes())),
        uniques: Vec::new(),
        at_ms: order.updated_at.0,
        body,
    }
}

pub fn sale_draft(record: &SaleRecord, version: u64, now: UnixMs) -> Draft {
    let id = Bytes::copy_from_slice(record.definition.id.as_bytes());
    Draft {
        kind: SALE,
        group: id.clone(),
        id,
        version,
        live: !record.switches.ended,
        owner: None,
        uniques: Vec::new(),
        at_ms: now.0,
        body: codec::encode_sale(record).into(),
    }
}

pub fn allotment_draft(sale: &SaleId, id: &str, allotment: &Allotment, now: UnixMs) -> Draft {
    Draft {
        kind: ALLOTMENT,
        group: Bytes::copy_from_slice(sale.as_bytes()),
        id: Bytes::copy_from_slice(id.as_bytes()),
        version: 1,
        live: true,
        owner: None,
        uniques: Vec::new(),
        at_ms: now.0,
        body: codec::encode_allotment(allotment).into(),
    }
}

pub fn transfer_draft(sale: &SaleId, id: &str, transfer: &Transfer, now: UnixMs) -> Draft {
    Draft {
        kind: TRANSFER,
        group: Bytes::copy_from_slice(sale.as_bytes()),
        id: Bytes::copy_from_slice(id.as_bytes()),
        version: 1,
        live: true,
        owner: None,
        uniques: Vec::new(),
        at_ms: now.0,
        body: codec::encode_transfer(transfer).into(),
    }
}

/// Owned by its order, so that an order's payments are found.
pub fn payment_draft(sale: Option<&SaleId>, payment: &Payment, now: UnixMs) -> Draft {
    Draft {
        kind: PAYMENT,
        group: sale.map_or(Bytes::from_static(NO_SALE), |sale| {
            Bytes::copy_from_slice(sale.as_bytes())
        }),
        id: Bytes::copy_from_slice(payment.id.as_bytes()),
        version: payment.state.rank(),
        live: payment.state.is_open(),
        owner: payment
            .order
            .map(|id| Bytes::copy_from_slice(id.as_bytes())),
        uniques: Vec::new(),
        at_ms: now.0,
        body: codec::encode_payment(payment).into(),
    }
}

/// Taken by the first record of a payment, for ever.
pub fn payment_key(channel: &Channel, txn: &ChannelTxnNo) -> Bytes {
    [b"pay:", channel.as_bytes(), b":", txn.as_bytes()]
        .concat()
        .into()
}

pub fn entitlement_draft(
    sale: &SaleId,
    entitlement: &Entitlement,
    version: u64,
    now: UnixMs,
) -> Draft {
    Draft {
        kind: ENTITLEMENT,
        group: Bytes::copy_from_slice(sale.as_bytes()),
        id: Bytes::copy_from_slice(entitlement.id.as_bytes()),
        version,
        live: entitlement.revoked_at.is_none(),
        owner: Some(Bytes::copy_from_slice(entitlement.user.as_bytes())),
        uniques: Vec::new(),
        at_ms: now.0,
        body: codec::encode_entitlement(entitlement).into(),
    }
}

pub fn payment_of(snapshot: &Snapshot) -> Result<Payment, FactError> {
    codec::decode_payment(&snapshot.body).map_err(|source| FactError::Body {
        seq: snapshot.seq.0,
        source,
    })
}

pub fn entitlement_of(snapshot: &Snapshot) -> Result<Entitlement, FactError> {
    codec::decode_entitlement(&snapshot.body).map_err(|source| FactError::Body {
        seq: snapshot.seq.0,
        source,
    })
}

/// A payment by what is unique in it, whatever it was said to be for.
pub fn find_payment(
    ledger: &Ledger,
    channel: &Channel,
    txn: &ChannelTxnNo,
) -> Result<Option<Payment>, FactError> {
    let Some(holder) = ledger.unique(&payment_key(channel, txn))? else {
        return Ok(None);
    };
    ledger
        .entity(&holder.group, PAYMENT, &holder.id)?
        .as_ref()
        .map(payment_of)
        .transpose()
}

/// A payment by its id, in the group of a sale or in [`NO_SALE`].
pub fn load_payment(
    ledger: &Ledger,
    group: &[u8],
    id: &PaymentId,
) -> Result<Option<Payment>, FactError> {
    ledger
        .entity(group, PAYMENT, id.as_bytes())?
        .as_ref()
        .map(payment_of)
        .transpose()
}

/// Payments of an order that are read at a time; nearly always there is one.
const PAYMENTS_PAGE: usize = 1_000;

pub fn payments_of(ledger: &Ledger, order: OrderId) -> Result<Vec<Payment>, FactError> {
    let mut payments = Vec::new();
    let mut before: Option<Bytes> = None;
    loop {
        let page = ledger.by_owner(order.as_bytes(), PAYMENT, before.as_deref(), PAYMENTS_PAGE)?;
        for found in &page {
            if let Some(snapshot) = ledger.entity(&found.group, PAYMENT, &found.id)? {
                payments.push(payment_of(&snapshot)?);
            }
        }
        match page.last() {
            Some(last) if page.len() == PAYMENTS_PAGE => before = Some(last.id.clone()),
            Some(_) | None => return Ok(payments),
        }
    }
}

pub fn order_of(snapshot: &Snapshot) -> Result<Order, FactError> {
    codec::decode_order(&snapshot.body).map_err(|source| FactError::Body {
        seq: snapshot.seq.0,
        source,
    })
}

pub fn load_order(ledger: &Ledger, sale: &SaleId, id: OrderId) -> Result<Option<Order>, FactError> {
    ledger
        .entity(sale.as_bytes(), ORDER, id.as_bytes())?
        .as_ref()
        .map(order_of)
        .transpose()
}

/// What each item of an order grants, if it grants anything.
pub fn grants_of<'a>(
    sale: &'a Sale,
    order: &'a Order,
) -> impl Iterator<Item = (&'a Item, &'a Grant)> {
    order.items.iter().filter_map(|item| {
        let (_, sku) = sale.sku(&item.sku)?;
        Some((item, sku.grant.as_ref()?))
    })
}

/// The items of an order as positions in the sale's list. A SKU that the sale
/// does not have cannot be in an order of it.
pub fn units_of(sale: &Sale, order: &Order) -> Units {
    order
        .items
        .iter()
        .filter_map(|i| sale.sku(&i.sku).map(|(at, _)| (at, i.quantity)))
        .collect()
}
