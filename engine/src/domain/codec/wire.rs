//! The messages themselves. Tags are never reused or renumbered; a number that
//! stands for a name is listed where it is written.

#[derive(Clone, PartialEq, prost::Message)]
pub struct Order {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub sale: String,
    #[prost(string, tag = "3")]
    pub user: String,
    #[prost(string, tag = "4")]
    pub key: String,
    #[prost(bytes = "vec", tag = "5")]
    pub fingerprint: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    pub items: Vec<Item>,
    #[prost(string, tag = "7")]
    pub currency: String,
    /// 1 pending payment, 2 paid, 3 delivered, 4 closed, 5 refund due, 6 refunded
    #[prost(uint32, tag = "8")]
    pub state: u32,
    /// with state 4: 1 timeout, 2 canceled
    #[prost(uint32, tag = "9")]
    pub close_reason: u32,
    #[prost(bool, tag = "10")]
    pub grace_used: bool,
    #[prost(uint64, tag = "11")]
    pub version: u64,
    #[prost(uint64, tag = "12")]
    pub created_at_ms: u64,
    #[prost(uint64, tag = "13")]
    pub updated_at_ms: u64,
    #[prost(uint64, tag = "14")]
    pub pay_deadline_ms: u64,
    #[prost(string, tag = "15")]
    pub device: String,
    /// with states 5 and 6: the units did not go back on sale
    #[prost(bool, tag = "16")]
    pub withdrawn: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Item {
    #[prost(string, tag = "1")]
    pub sku: String,
    #[prost(uint32, tag = "2")]
    pub quantity: u32,
    #[prost(uint64, tag = "3")]
    pub price_cent: u64,
}

/// The sale entity: its definition as the JSON of the admin API, and the switches.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sale {
    #[prost(string, tag = "1")]
    pub definition_json: String,
    #[prost(uint32, tag = "2")]
    pub number: u32,
    #[prost(bool, tag = "3")]
    pub paused: bool,
    #[prost(bool, tag = "4")]
    pub ended: bool,
}

/// Units given to (or taken from) one bucket, once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Allotment {
    #[prost(uint32, tag = "1")]
    pub bucket: u32,
    #[prost(message, repeated, tag = "2")]
    pub lines: Vec<Line>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Line {
    #[prost(string, tag = "1")]
    pub sku: String,
    #[prost(sint64, tag = "2")]
    pub units: i64,
}

/// Free units that went from one bucket to another, once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Transfer {
    #[prost(uint32, tag = "1")]
    pub from_bucket: u32,
    #[prost(uint32, tag = "2")]
    pub to_bucket: u32,
    #[prost(message, repeated, tag = "3")]
    pub lines: Vec<Line>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Payment {
    #[prost(string, tag = "1")]
    pub id: String,
    /// empty: no order of ours was named; then the state is 3
    #[prost(bytes = "vec", tag = "2")]
    pub order: Vec<u8>,
    #[prost(string, tag = "3")]
    pub channel: String,
    #[prost(string, tag = "4")]
    pub channel_txn_no: String,
    #[prost(uint64, tag = "5")]
    pub amount_cent: u64,
    #[prost(string, tag = "6")]
    pub currency: String,
    /// 1 captured, 2 applied, 3 review, 4 refund due, 5 refunded
    #[prost(uint32, tag = "7")]
    pub state: u32,
    #[prost(uint64, tag = "8")]
    pub paid_at_ms: u64,
    #[prost(uint64, tag = "9")]
    pub received_at_ms: u64,
    /// why it is under review or goes back; for people
    #[prost(string, tag = "10")]
    pub note: String,
    /// the provider's refund number; empty until it is refunded
    #[prost(string, tag = "11")]
    pub refund_no: String,
    /// what the provider said; empty: nothing. At most 2,048 bytes, none of them zero
    #[prost(string, tag = "12")]
    pub raw: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Entitlement {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub order: Vec<u8>,
    #[prost(string, tag = "3")]
    pub user: String,
    #[prost(string, tag = "4")]
    pub sku: String,
    #[prost(string, tag = "5")]
    pub work: String,
    #[prost(uint64, tag = "6")]
    pub granted_at_ms: u64,
    #[prost(uint64, tag = "7")]
    pub valid_until_ms: u64,
    #[prost(uint32, tag = "8")]
    pub devices_max: u32,
    /// 1 refuse, 2 kick oldest
    #[prost(uint32, tag = "9")]
    pub when_full: u32,
    /// oldest licence first
    #[prost(message, repeated, tag = "10")]
    pub devices: Vec<Device>,
    /// 0: not revoked
    #[prost(uint64, tag = "11")]
    pub revoked_at_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Device {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(uint64, tag = "2")]
    pub since_ms: u64,
}

/// From `from_ms` on, `served` tickets have been called and more are at this rate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rate {
    #[prost(uint64, tag = "1")]
    pub from_ms: u64,
    #[prost(uint64, tag = "2")]
    pub served: u64,
    #[prost(uint64, tag = "3")]
    pub tickets_per_1000_s: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AdminAction {
    #[prost(string, tag = "1")]
    pub actor: String,
    /// the admin API's name of it, as `pause`, `top-up`, `refund`
    #[prost(string, tag = "2")]
    pub action: String,
    /// what it was done to: a SKU, an order, a payment; empty: the sale
    #[prost(string, tag = "3")]
    pub subject: String,
    /// the request's body as it came
    #[prost(string, tag = "4")]
    pub request_json: String,
}
