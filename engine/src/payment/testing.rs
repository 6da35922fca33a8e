//! Payments and asks for tests of this room.

use super::provider::Ask;
use crate::domain::ids::{
    BucketNo, Channel, ChannelTxnNo, NodeNo, OrderId, OrderIdParts, PaymentId, SaleNo,
};
use crate::domain::money::{Cents, Currency};
use crate::domain::payment::{Payment, PaymentState};
use crate::domain::time::UnixMs;

/// One that must go back.
pub fn payment(txn: &str) -> Payment {
    Payment {
        id: PaymentId::parse(&format!("pay_{txn}")).expect("an id"),
        order: None,
        channel: Channel::parse("card").expect("an id"),
        channel_txn_no: ChannelTxnNo::parse(txn).expect("an id"),
        amount: Cents(100),
        currency: Currency::parse("EUR").expect("letters"),
        state: PaymentState::RefundDue,
        paid_at: UnixMs(1),
        received_at: UnixMs(2),
        note: String::new(),
        refund_no: String::new(),
        raw: None,
    }
}

pub fn order(n: u16) -> OrderId {
    OrderId::from_parts(OrderIdParts {
        ms: 1,
        bucket: BucketNo(0),
        sale: SaleNo(1),
        node: NodeNo(0),
        counter: n,
        random: 0,
    })
}

pub fn ask(n: u16, channel: &str, until: UnixMs) -> Ask {
    Ask {
        order: order(n),
        channel: Channel::parse(channel).expect("an id"),
        amount: Cents(100),
        currency: Currency::parse("EUR").expect("letters"),
        until,
        return_url: None,
    }
}
