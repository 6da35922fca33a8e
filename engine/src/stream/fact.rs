//! Payments and entitlements as one version has them: their bodies, and what only the
//! record around it says. Pure.

use floodgate_ledger::{Kind, Record, Snapshot};

use super::store::StoreError;
use crate::domain::codec::{CodecError, decode_entitlement, decode_payment};
use crate::domain::entitlement::{Entitlement, Status};
use crate::domain::ids::SaleId;
use crate::domain::payment::{NO_SALE, Payment};
use crate::domain::time::UnixMs;

/// What a row is made of: a record, an entity, or the note of a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub seq: u64,
    pub kind: Kind,
    pub group: &'a [u8],
    pub version: u64,
    pub at: UnixMs,
    pub body: &'a [u8],
}

impl<'a> Source<'a> {
    pub fn of_record(record: &'a Record) -> Self {
        Self {
            seq: record.seq.0,
            kind: record.kind,
            group: &record.group,
            version: record.version,
            at: UnixMs(record.at_ms),
            body: &record.body,
        }
    }

    pub fn of_snapshot(snapshot: &'a Snapshot) -> Self {
        Self {
            seq: snapshot.seq.0,
            kind: snapshot.kind,
            group: &snapshot.group,
            version: snapshot.version,
            at: UnixMs(snapshot.at_ms),
            body: &snapshot.body,
        }
    }
}

/// A row of either kind, as its columns are read. What others read of it must say what
/// the snapshot says, and the id is where the next page begins.
pub(super) struct Stored<'a> {
    pub snapshot: &'a [u8],
    pub version: i64,
    pub status: &'a str,
    pub at: i64,
    pub sale: Option<&'a str>,
    pub id: &'a str,
}

/// One version of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentFact {
    /// None: no order of ours was named.
    pub sale: Option<SaleId>,
    pub version: u64,
    pub at: UnixMs,
    pub payment: Payment,
}

impl PaymentFact {
    pub fn read(source: &Source<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            sale: match source.group {
                NO_SALE => None,
                group => Some(sale(group)?),
            },
            version: source.version,
            at: source.at,
            payment: decode_payment(source.body)?,
        })
    }

    /// The ledger's group of it.
    pub fn group(&self) -> &[u8] {
        self.sale.as_ref().map_or(NO_SALE, SaleId::as_bytes)
    }

    /// From a row.
    pub(super) fn stored(columns: &Stored<'_>) -> Result<Self, StoreError> {
        let damaged = |e: &dyn std::fmt::Display| StoreError::Damaged(e.to_string());
        let fact = Self {
            sale: columns
                .sale
                .map(SaleId::parse)
                .transpose()
                .map_err(|e| damaged(&e))?,
            version: columns.version.cast_unsigned(),
            at: UnixMs(columns.at.cast_unsigned()),
            payment: decode_payment(columns.snapshot).map_err(|e| damaged(&e))?,
        };
        let id = &fact.payment.id;
        if columns.status != fact.payment.state.name() || columns.id != id.as_str() {
            return Err(damaged(&format_args!(
                "columns and snapshot of payment {id} differ"
            )));
        }
        Ok(fact)
    }
}

/// One version of an entitlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementFact {
    pub sale: SaleId,
    pub version: u64,
    pub at: UnixMs,
    pub entitlement: Entitlement,
}

impl EntitlementFact {
    pub fn read(source: &Source<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            sale: sale(source.group)?,
            version: source.version,
            at: source.at,
            entitlement: decode_entitlement(source.body)?,
        })
    }

    /// What others read of it; when it ends says `valid_until`.
    pub(super) fn status(&self) -> &'static str {
        let status = if self.entitlement.is_live() {
            Status::Active
        } else {
            Status::Revoked
        };
        status.name()
    }

    /// The devices as the column has them, times as in the other columns.
    pub(super) fn devices_json(&self) -> String {
        let devices = self.entitlement.devices.iter();
        let devices: Vec<_> = devices
            .map(|(id, since)| serde_json::json!({"deviceId": id.as_str(), "since": since.0}))
            .collect();
        serde_json::Value::from(devices).to_string()
    }

    /// From a row.
    pub(super) fn stored(columns: &Stored<'_>) -> Result<Self, StoreError> {
        let damaged = |e: &dyn std::fmt::Display| StoreError::Damaged(e.to_string());
        let fact = Self {
            sale: SaleId::parse(columns.sale.unwrap_or_default()).map_err(|e| damaged(&e))?,
            version: columns.version.cast_unsigned(),
            at: UnixMs(columns.at.cast_unsigned()),
            entitlement: decode_entitlement(columns.snapshot).map_err(|e| damaged(&e))?,
        };
        let id = &fact.entitlement.id;
        if columns.status != fact.status() || columns.id != id.as_str() {
            return Err(damaged(&format_args!(
                "columns and snapshot of entitlement {id} differ"
            )));
        }
        Ok(fact)
    }
}

fn sale(group: &[u8]) -> Result<SaleId, CodecError> {
    SaleId::parse_bytes(group).map_err(|_| CodecError::Field("group"))
}
