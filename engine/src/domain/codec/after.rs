//! Bodies of kinds 5 and 6: what follows a win, payment and entitlement.

use prost::Message;

use super::{CodecError, wire};
use crate::domain::entitlement::{Entitlement, WhenFull};
use crate::domain::ids::{
    Channel, ChannelTxnNo, DeviceId, EntitlementId, OrderId, PaymentId, SkuId, UserId, WorkId,
};
use crate::domain::money::{Cents, Currency};
use crate::domain::payment::{Payment, PaymentState, Raw};
use crate::domain::time::UnixMs;

pub fn encode_payment(p: &Payment) -> Vec<u8> {
    wire::Payment {
        id: p.id.to_string(),
        order: p.order.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        channel: p.channel.to_string(),
        channel_txn_no: p.channel_txn_no.to_string(),
        amount_cent: p.amount.0,
        currency: p.currency.to_string(),
        state: match p.state {
            PaymentState::Captured => 1,
            PaymentState::Applied => 2,
            PaymentState::Review => 3,
            PaymentState::RefundDue => 4,
            PaymentState::Refunded => 5,
        },
        paid_at_ms: p.paid_at.0,
        received_at_ms: p.received_at.0,
        note: p.note.clone(),
        refund_no: p.refund_no.clone(),
        raw: p.raw.as_ref().map_or("", Raw::as_str).to_owned(),
    }
    .encode_to_vec()
}

pub fn decode_payment(bytes: &[u8]) -> Result<Payment, CodecError> {
    let w = wire::Payment::decode(bytes)?;
    let field = CodecError::Field;
    Ok(Payment {
        id: PaymentId::parse(&w.id).map_err(|_| field("id"))?,
        order: match w.order.as_slice() {
            [] => None,
            bytes => Some(OrderId::from_bytes(bytes).ok_or(field("order"))?),
        },
        channel: Channel::parse(&w.channel).map_err(|_| field("channel"))?,
        channel_txn_no: ChannelTxnNo::parse(&w.channel_txn_no)
            .map_err(|_| field("channel_txn_no"))?,
        amount: Cents(w.amount_cent),
        currency: Currency::parse(&w.currency).ok_or(field("currency"))?,
        state: match w.state {
            1 => PaymentState::Captured,
            2 => PaymentState::Applied,
            3 => PaymentState::Review,
            4 => PaymentState::RefundDue,
            5 => PaymentState::Refunded,
            _ => return Err(field("state")),
        },
        paid_at: UnixMs(w.paid_at_ms),
        received_at: UnixMs(w.received_at_ms),
        note: w.note,
        refund_no: w.refund_no,
        raw: match w.raw {
            raw if raw.is_empty() => None,
            raw => Some(Raw::parse(raw).ok_or(field("raw"))?),
        },
    })
}

pub fn encode_entitlement(e: &Entitlement) -> Vec<u8> {
    wire::Entitlement {
        id: e.id.to_string(),
        order: e.order.as_bytes().to_vec(),
        user: e.user.to_string(),
        sku: e.sku.to_string(),
        work: e.work.to_string(),
        granted_at_ms: e.granted_at.0,
        valid_until_ms: e.valid_until.0,
        devices_max: e.devices_max,
        when_full: match e.when_full {
            WhenFull::Refuse => 1,
            WhenFull::KickOldest => 2,
        },
        devices: e
            .devices
            .iter()
            .map(|(id, since)| wire::Device {
                id: id.to_string(),
                since_ms: since.0,
            })
            .collect(),
        revoked_at_ms: e.revoked_at.map_or(0, |at| at.0),
    }
    .encode_to_vec()
}

pub fn decode_entitlement(bytes: &[u8]) -> Result<Entitlement, CodecError> {
    let w = wire::Entitlement::decode(bytes)?;
    let field = CodecError::Field;
    Ok(Entitlement {
        id: EntitlementId::parse(&w.id).map_err(|_| field("id"))?,
        order: OrderId::from_bytes(&w.order).ok_or(field("order"))?,
        user: UserId::parse(&w.user).map_err(|_| field("user"))?,
        sku: SkuId::parse(&w.sku).map_err(|_| field("sku"))?,
        work: WorkId::parse(&w.work).map_err(|_| field("work"))?,
        granted_at: UnixMs(w.granted_at_ms),
        valid_until: UnixMs(w.valid_until_ms),
        devices_max: w.devices_max,
        when_full: match w.when_full {
            1 => WhenFull::Refuse,
            2 => WhenFull::KickOldest,
            _ => return Err(field("when_full")),
        },
        devices: w
            .devices
            .iter()
            .map(|d| {
                let id = DeviceId::parse(&d.id).map_err(|_| field("devices.id"))?;
                Ok((id, UnixMs(d.since_ms)))
            })
            .collect::<Result<_, CodecError>>()?,
        revoked_at: (w.revoked_at_ms != 0).then_some(UnixMs(w.revoked_at_ms)),
    })
}
