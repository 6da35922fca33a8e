//! Body of kind 1: the whole order, as every copy of it keeps it.

use prost::Message;

use super::{CodecError, wire};
use crate::domain::ids::{DeviceId, Fingerprint, IdemKey, OrderId, SaleId, SkuId, UserId};
use crate::domain::money::{Cents, Currency};
use crate::domain::order::{CloseReason, Item, Order, OrderState, Version};
use crate::domain::time::UnixMs;

/// Encodes one order after the other into the same message, so that only the
/// bytes themselves are new memory.
#[derive(Default)]
pub struct OrderEncoder {
    wire: wire::Order,
}

impl OrderEncoder {
    pub fn encode(&mut self, o: &Order) -> Vec<u8> {
        let w = &mut self.wire;
        let (state, close_reason, grace_used) = match o.state {
            OrderState::PendingPayment { grace_used, .. } => (1, 0, grace_used),
            OrderState::Paid => (2, 0, false),
            OrderState::Delivered => (3, 0, false),
            OrderState::Closed {
                reason: CloseReason::Timeout,
            } => (4, 1, false),
            OrderState::Closed {
                reason: CloseReason::Canceled,
            } => (4, 2, false),
            OrderState::RefundDue { .. } => (5, 0, false),
            OrderState::Refunded { .. } => (6, 0, false),
        };
        (w.state, w.close_reason, w.grace_used) = (state, close_reason, grace_used);
        w.withdrawn = o.state.is_withdrawn();
        set_bytes(&mut w.id, o.id.as_bytes());
        set_text(&mut w.sale, o.sale.as_str());
        set_text(&mut w.user, o.user.as_str());
        set_text(&mut w.key, o.key.as_str());
        set_bytes(&mut w.fingerprint, &o.fingerprint.0.to_be_bytes());
        w.items.resize_with(o.items.len(), wire::Item::default);
        for (to, item) in w.items.iter_mut().zip(&o.items) {
            set_text(&mut to.sku, item.sku.as_str());
            (to.quantity, to.price_cent) = (item.quantity, item.price.0);
        }
        set_text(&mut w.currency, o.currency.as_str());
        w.version = o.version.0;
        w.created_at_ms = o.created_at.0;
        w.updated_at_ms = o.updated_at.0;
        w.pay_deadline_ms = o.pay_deadline.0;
        set_text(&mut w.device, o.device.as_ref().map_or("", |d| d.as_str()));
        w.encode_to_vec()
    }
}

fn set_text(to: &mut String, text: &str) {
    to.clear();
    to.push_str(text);
}

fn set_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.clear();
    to.extend_from_slice(bytes);
}

pub fn encode_order(o: &Order) -> Vec<u8> {
    OrderEncoder::default().encode(o)
}

pub fn decode_order(bytes: &[u8]) -> Result<Order, CodecError> {
    let w = wire::Order::decode(bytes)?;
    let field = CodecError::Field;
    let state = match (w.state, w.close_reason) {
        (1, _) => OrderState::PendingPayment {
            until: UnixMs(w.pay_deadline_ms),
            grace_used: w.grace_used,
        },
        (2, _) => OrderState::Paid,
        (3, _) => OrderState::Delivered,
        (4, 1) => OrderState::Closed {
            reason: CloseReason::Timeout,
        },
        (4, 2) => OrderState::Closed {
            reason: CloseReason::Canceled,
        },
        (5, _) => OrderState::RefundDue {
            restocked: !w.withdrawn,
        },
        (6, _) => OrderState::Refunded {
            restocked: !w.withdrawn,
        },
        _ => return Err(field("state")),
    };
    let items = w
        .items
        .iter()
        .map(|i| {
            Ok(Item {
                sku: SkuId::parse(&i.sku).map_err(|_| field("items.sku"))?,
                quantity: i.quantity,
                price: Cents(i.price_cent),
            })
        })
        .collect::<Result<_, CodecError>>()?;
    Ok(Order {
        id: OrderId::from_bytes(&w.id).ok_or(field("id"))?,
        sale: SaleId::parse(&w.sale).map_err(|_| field("sale"))?,
        user: UserId::parse(&w.user).map_err(|_| field("user"))?,
        key: IdemKey::parse(&w.key).map_err(|_| field("key"))?,
        fingerprint: Fingerprint(u128::from_be_bytes(
            w.fingerprint
                .as_slice()
                .try_into()
                .map_err(|_| field("fingerprint"))?,
        )),
        items,
        currency: Currency::parse(&w.currency).ok_or(field("currency"))?,
        state,
        version: Version(w.version),
        created_at: UnixMs(w.created_at_ms),
        updated_at: UnixMs(w.updated_at_ms),
        pay_deadline: UnixMs(w.pay_deadline_ms),
        device: match w.device.as_str() {
            "" => None,
            text => Some(DeviceId::parse(text).map_err(|_| field("device"))?),
        },
    })
}
