//! Ledger records to rows: pure.
//!
//! The store keeps orders, payments and entitlements; records of other kinds only move
//! the mark. A row has its record's own bytes, for readers that want all of it.

use std::borrow::Cow;
use std::fmt;

use floodgate_ledger::{Kind, Record, Snapshot};

use super::fact::{EntitlementFact, PaymentFact, Source};
use super::message::{self, OutboxRow};
use crate::domain::codec::{CodecError, decode_order};
use crate::domain::ids::{EntitlementId, OrderId, PaymentId, SaleId};
use crate::domain::order::Order;

/// What the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    Order,
    Payment,
    Entitlement,
}

impl RowKind {
    pub const ALL: [Self; 3] = [Self::Order, Self::Payment, Self::Entitlement];

    /// `None`: the store keeps no such thing.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.kind() == kind)
    }

    /// Its number in the ledger.
    pub fn kind(self) -> Kind {
        match self {
            Self::Order => Kind(1),
            Self::Payment => Kind(5),
            Self::Entitlement => Kind(6),
        }
    }

    /// Also the aggregate type of its messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Payment => "payment",
            Self::Entitlement => "entitlement",
        }
    }
}

/// What a row is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowId {
    Order(OrderId),
    Payment(PaymentId),
    Entitlement(EntitlementId),
}

impl RowId {
    pub fn kind(&self) -> RowKind {
        match self {
            Self::Order(_) => RowKind::Order,
            Self::Payment(_) => RowKind::Payment,
            Self::Entitlement(_) => RowKind::Entitlement,
        }
    }

    /// As the ledger has it.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Order(id) => id.as_bytes(),
            Self::Payment(id) => id.as_bytes(),
            Self::Entitlement(id) => id.as_bytes(),
        }
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(id) => id.fmt(f),
            Self::Payment(id) => id.fmt(f),
            Self::Entitlement(id) => id.fmt(f),
        }
    }
}

/// One version of what the store keeps, with the message that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Order(OrderRow),
    Payment(PaymentRow),
    Entitlement(EntitlementRow),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    pub seq: u64,
    pub order: Order,
    pub body: Vec<u8>,
    pub outbox: OutboxRow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    pub seq: u64,
    pub fact: PaymentFact,
    pub body: Vec<u8>,
    pub outbox: OutboxRow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementRow {
    pub seq: u64,
    pub fact: EntitlementFact,
    pub body: Vec<u8>,
    /// None: it changes devices only, and nobody is told.
    pub outbox: Option<OutboxRow>,
}

/// What a record means for the store.
pub fn rows_of(record: &Record) -> Result<Option<Row>, CodecError> {
    Row::read(&Source::of_record(record))
}

impl Row {
    /// What an entity means for the store, as it is now.
    pub(super) fn of_snapshot(snapshot: &Snapshot) -> Result<Option<Self>, CodecError> {
        Self::read(&Source::of_snapshot(snapshot))
    }

    pub(super) fn read(source: &Source<'_>) -> Result<Option<Self>, CodecError> {
        let Some(kind) = RowKind::of(source.kind) else {
            return Ok(None);
        };
        let (seq, body) = (source.seq, source.body.to_vec());
        Ok(Some(match kind {
            RowKind::Order => {
                let order = decode_order(source.body)?;
                Self::Order(OrderRow {
                    seq,
                    outbox: message::of_order(&order),
                    order,
                    body,
                })
            }
            RowKind::Payment => {
                let fact = PaymentFact::read(source)?;
                Self::Payment(PaymentRow {
                    seq,
                    outbox: message::of_payment(&fact),
                    fact,
                    body,
                })
            }
            RowKind::Entitlement => {
                let fact = EntitlementFact::read(source)?;
                Self::Entitlement(EntitlementRow {
                    seq,
                    outbox: message::of_entitlement(&fact),
                    fact,
                    body,
                })
            }
        }))
    }

    pub fn seq(&self) -> u64 {
        match self {
            Self::Order(row) => row.seq,
            Self::Payment(row) => row.seq,
            Self::Entitlement(row) => row.seq,
        }
    }

    pub fn id(&self) -> RowId {
        match self {
            Self::Order(row) => RowId::Order(row.order.id),
            Self::Payment(row) => RowId::Payment(row.fact.payment.id.clone()),
            Self::Entitlement(row) => RowId::Entitlement(row.fact.entitlement.id.clone()),
        }
    }

    /// None: a payment for which no order of ours was named.
    pub fn sale(&self) -> Option<&SaleId> {
        match self {
            Self::Order(row) => Some(&row.order.sale),
            Self::Payment(row) => row.fact.sale.as_ref(),
            Self::Entitlement(row) => Some(&row.fact.sale),
        }
    }

    /// The order that it belongs to, if any does.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::Order(row) => Some(row.order.id),
            Self::Payment(row) => row.fact.payment.order,
            Self::Entitlement(row) => Some(row.fact.entitlement.order),
        }
    }

    pub fn kind(&self) -> RowKind {
        match self {
            Self::Order(_) => RowKind::Order,
            Self::Payment(_) => RowKind::Payment,
            Self::Entitlement(_) => RowKind::Entitlement,
        }
    }

    pub fn version(&self) -> u64 {
        match self {
            Self::Order(row) => row.order.version.0,
            Self::Payment(row) => row.fact.version,
            Self::Entitlement(row) => row.fact.version,
        }
    }

    /// What it was made of.
    pub(super) fn source(&self) -> Source<'_> {
        let kind = self.kind().kind();
        match self {
            Self::Order(row) => Source {
                seq: row.seq,
                kind,
                group: row.order.sale.as_bytes(),
                version: row.order.version.0,
                at: row.order.updated_at,
                body: &row.body,
            },
            Self::Payment(row) => Source {
                seq: row.seq,
                kind,
                group: row.fact.group(),
                version: row.fact.version,
                at: row.fact.at,
                body: &row.body,
            },
            Self::Entitlement(row) => Source {
                seq: row.seq,
                kind,
                group: row.fact.sale.as_bytes(),
                version: row.fact.version,
                at: row.fact.at,
                body: &row.body,
            },
        }
    }
}

/// A text from outside as every database takes it.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{FFFD}").into()
    } else {
        text.into()
    }
}
