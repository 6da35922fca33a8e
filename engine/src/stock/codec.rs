//! Orders and verdicts to arguments and back; see `lua/README.md` for the shapes.

use super::call::{BucketCaller, CallError};
use bytes::Bytes;

use super::host::{Args, Reply, Script};
use super::standing::TailEntry;
use crate::domain::ids::{SkuId, UserId};
use crate::domain::order::{Items, Order, Version};
use crate::domain::time::UnixMs;

/// One order that asks for its units.
#[derive(Debug)]
pub struct HoldRequest<'a> {
    pub order: &'a Order,
    /// The whole order, as the ledger will keep it; empty where the hold need not
    /// carry it ([`BucketCaller::carried`]).
    pub blob: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Replay,
    KeyReused,
    NotOpen,
    Ended,
    OverLimit,
    NotEnough,
    UnknownSku,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleMove {
    None,
    Pay,
    Close,
    Restock,
    Withdraw,
}

/// One order that took a durable step.
#[derive(Debug)]
pub struct SettleRequest<'a> {
    /// As it is now.
    pub order: &'a Order,
    /// The version that the step was made from.
    pub from: Version,
    pub moved: SettleMove,
    /// As in [`HoldRequest`].
    pub blob: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Done,
    OtherVersion,
    NotLive,
    Impossible,
}

/// The two ends of a transfer between buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Debit,
    Credit,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Debit => "debit",
            Self::Credit => "credit",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    Live,
    Closed,
    User,
    Stock,
    Move,
    Tail,
}

/// One field of one of the bucket's keys, for a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub field: Vec<u8>,
    pub value: Vec<u8>,
}

/// Units of one SKU as the bucket counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub allotted: u64,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
    pub withdrawn: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReply {
    pub digest: u64,
    pub n_live: u64,
    pub n_moves: u64,
    pub skus: Vec<Counters>,
}

fn push_items(args: &mut Args, items: &Items) {
    args.push_number(items.len() as u64);
    for item in items {
        args.push(item.sku.as_bytes());
        args.push_number(u64::from(item.quantity));
    }
}

fn flag(args: &mut Args, on: bool) {
    args.push(if on { b"1" } else { b"0" });
}

fn int(script: Script, reply: Option<&Reply>) -> Result<u64, CallError> {
    match reply {
        Some(Reply::Int(n)) => u64::try_from(*n).map_err(|_| CallError::Malformed {
            script,
            what: "a negative count",
        }),
        Some(Reply::Bytes(_) | Reply::Array(_) | Reply::Nil) | None => Err(CallError::Malformed {
            script,
            what: "an integer is missing",
        }),
    }
}

fn exactly(script: Script, replies: &[Reply], n: usize) -> Result<(), CallError> {
    if replies.len() == n {
        Ok(())
    } else {
        Err(CallError::Malformed {
            script,
            what: "not one answer per request",
        })
    }
}

impl BucketCaller {
    /// `units_max`: what a user may have live. `again`: fresh units for orders that
    /// closed before their payment came.
    pub async fn reserve(
        &mut self,
        now: UnixMs,
        again: bool,
        units_max: u32,
        requests: &[HoldRequest<'_>],
    ) -> Result<Vec<Verdict>, CallError> {
        let script = Script::Reserve;
        let replies = self
            .call(script, |args| {
                let blobs: usize = requests.iter().map(|r| r.blob.len()).sum();
                args.reserve(7 * requests.len() + 9, blobs + 256 * requests.len());
                args.push_number(now.0);
                flag(args, again);
                args.push_number(u64::from(units_max));
                args.push_number(requests.len() as u64);
                for r in requests {
                    let (o, id) = (r.order, r.order.id.text());
                    let (mut mark, mut version) = (itoa::Buffer::new(), itoa::Buffer::new());
                    let (mut units, mut key_length) = (itoa::Buffer::new(), itoa::Buffer::new());
                    let mark = mark.format(o.mark());
                    args.push(o.user.as_bytes());
                    args.push_parts(&slot(o));
                    args.push(mark);
                    // What may stand under the user: see `lua/README.md`, and `live_value`.
                    args.push_parts(&[
                        units.format(o.units()).as_bytes(),
                        b":",
                        key_length.format(o.key.as_bytes().len()).as_bytes(),
                        b":",
                        o.key.as_bytes(),
                        b":",
                        &o.fingerprint.hex(),
                        b":",
                        id.as_bytes(),
                        b":",
                        version.format(o.version.0).as_bytes(),
                        b":",
                        mark.as_bytes(),
                        b":",
                        r.blob,
                    ]);
                    push_items(args, &o.items);
                }
            })
            .await?;
        exactly(script, &replies, requests.len())?;
        replies
            .iter()
            .map(|reply| {
                Ok(match int(script, Some(reply))? {
                    0 => Verdict::Held,
                    1 => Verdict::Replay,
                    2 => Verdict::KeyReused,
                    3 => Verdict::NotOpen,
                    4 => Verdict::Ended,
                    5 => Verdict::OverLimit,
                    6 => Verdict::NotEnough,
                    7 => Verdict::UnknownSku,
                    _ => {
                        return Err(CallError::Malformed {
                            script,
                            what: "an unknown code",
                        });
                    }
                })
            })
            .collect()
    }

    pub async fn settle(
        &mut self,
        requests: &[SettleRequest<'_>],
    ) -> Result<Vec<Settled>, CallError> {
        let script = Script::Settle;
        let replies = self
            .call(script, |args| {
                args.push_number(requests.len() as u64);
                for r in requests {
                    let (o, id) = (r.order, r.order.id.text());
                    let is_live = o.state.is_live();
                    args.push_parts(&slot(o));
                    args.push_parts(&[&o.fingerprint.hex(), b":", id.as_bytes()]);
                    args.push_number(r.from.0);
                    args.push_number(o.version.0);
                    args.push_number(o.mark());
                    args.push(match r.moved {
                        SettleMove::None => "none",
                        SettleMove::Pay => "pay",
                        SettleMove::Close => "close",
                        SettleMove::Restock => "restock",
                        SettleMove::Withdraw => "withdraw",
                    });
                    args.push(o.user.as_bytes());
                    args.push_number(u64::from(if is_live { 0 } else { o.units() }));
                    flag(args, is_live);
                    // Where nothing is kept nothing need be sent.
                    args.push(if is_live { r.blob } else { b"" });
                    push_items(args, &o.items);
                }
            })
            .await?;
        exactly(script, &replies, requests.len())?;
        replies
            .iter()
            .map(|reply| {
                Ok(match int(script, Some(reply))? {
                    0 => Settled::Done,
                    1 => Settled::OtherVersion,
                    2 => Settled::NotLive,
                    3 => Settled::Impossible,
                    _ => {
                        return Err(CallError::Malformed {
                            script,
                            what: "an unknown code",
                        });
                    }
                })
            })
            .collect()
    }

    /// Puts these into the tail and takes out what the order store has.
    pub async fn keep(&mut self, put: &[Row], gone: &[String]) -> Result<(), CallError> {
        self.call(Script::Keep, |args| {
            args.push_number(put.len() as u64);
            for row in put {
                args.push(&row.field);
                args.push(&row.value);
            }
            gone.iter().for_each(|field| args.push(field));
        })
        .await
        .map(drop)
    }

    /// Gives units to the bucket once per `id`; `false` when a withdrawal asks
    /// for more than is free.
    pub async fn open(&mut self, id: &str, lines: &[(SkuId, i64)]) -> Result<bool, CallError> {
        let replies = self
            .call(Script::Open, |args| {
                args.push(id);
                args.push_number(lines.len() as u64);
                for (sku, units) in lines {
                    args.push(sku.as_bytes());
                    args.push(units.to_string());
                }
            })
            .await?;
        Ok(int(Script::Open, replies.first())? == 0)
    }

    /// One side of a transfer, once per id and side; `false` when the source has
    /// fewer units free.
    pub async fn move_units(
        &mut self,
        id: &str,
        side: Side,
        sku: &SkuId,
        units: u32,
    ) -> Result<bool, CallError> {
        let replies = self
            .call(Script::Move, |args| {
                args.push(id);
                args.push(side.name());
                args.push(sku.as_bytes());
                args.push_number(u64::from(units));
            })
            .await?;
        Ok(int(Script::Move, replies.first())? == 0)
    }

    pub async fn rebuild_begin(
        &mut self,
        starts_at: UnixMs,
        ends_at: UnixMs,
        sale: &[u8],
    ) -> Result<(), CallError> {
        let sale = self.carried(sale).to_vec();
        self.call(Script::Rebuild, |args| {
            args.push("begin");
            args.push_number(starts_at.0);
            args.push_number(ends_at.0);
            args.push(&sale);
        })
        .await
        .map(drop)
    }

    pub async fn rebuild_rows(&mut self, kind: RowKind, rows: &[Row]) -> Result<(), CallError> {
        self.call(Script::Rebuild, |args| {
            args.push("chunk");
            args.push(match kind {
                RowKind::Live => "live",
                RowKind::Closed => "closed",
                RowKind::User => "user",
                RowKind::Stock => "stock",
                RowKind::Move => "move",
                RowKind::Tail => "tail",
            });
            args.push_number(rows.len() as u64);
            for row in rows {
                args.push(&row.field);
                args.push(&row.value);
            }
        })
        .await
        .map(drop)
    }

    pub async fn rebuild_end(&mut self, digest: u64) -> Result<(), CallError> {
        self.call(Script::Rebuild, |args| {
            args.push("end");
            args.push_number(digest);
        })
        .await
        .map(drop)
    }

    pub async fn audit(&mut self, skus: &[&SkuId]) -> Result<AuditReply, CallError> {
        let script = Script::Audit;
        let replies = self
            .call(script, |args| {
                args.push_number(skus.len() as u64);
                for sku in skus {
                    args.push(sku.as_bytes());
                }
            })
            .await?;
        exactly(script, &replies, 3 + 5 * skus.len())?;
        let at = |i: usize| int(script, replies.get(i));
        Ok(AuditReply {
            digest: at(0)?,
            n_live: at(1)?,
            n_moves: at(2)?,
            skus: (0..skus.len())
                .map(|i| {
                    let base = 3 + 5 * i;
                    Ok(Counters {
                        allotted: at(base)?,
                        available: at(base + 1)?,
                        held: at(base + 2)?,
                        sold: at(base + 3)?,
                        withdrawn: at(base + 4)?,
                    })
                })
                .collect::<Result<_, CallError>>()?,
        })
    }
}

/// A live order as it stands in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub version: Version,
    pub mark: u64,
    /// The whole order as the ledger keeps it, on a host that is a second copy.
    pub order: Bytes,
}

impl Hold {
    /// What follows the name: version, mark, the whole order.
    pub fn parse(value: &Bytes) -> Option<Self> {
        let mut ends = value.iter().enumerate().filter(|(_, b)| **b == b':');
        let (version, mark) = (ends.next()?.0, ends.next()?.0);
        let number = |from: usize, to: usize| -> Option<u64> {
            std::str::from_utf8(&value[from..to]).ok()?.parse().ok()
        };
        Some(Self {
            version: Version(number(0, version)?),
            mark: number(version + 1, mark)?,
            order: value.slice(mark + 1..),
        })
    }
}

/// The field of an order: what no other order of the sale has.
fn slot(order: &Order) -> [&[u8]; 3] {
    [order.user.as_bytes(), b":", order.key.as_bytes()]
}

/// What an order is called for ever; all that stands there once it is closed.
fn name(order: &Order) -> Vec<u8> {
    let id = order.id.text();
    [&order.fingerprint.hex()[..], b":", id.as_bytes()].concat()
}

/// The name, version, mark and the whole of a live order.
fn live_value(order: &Order, blob: &[u8]) -> Vec<u8> {
    let mut value = name(order);
    value.extend_from_slice(format!(":{}:{}:", order.version.0, order.mark()).as_bytes());
    value.extend_from_slice(blob);
    value
}

impl Row {
    pub fn live(order: &Order, blob: &[u8]) -> Self {
        Self {
            field: slot(order).concat(),
            value: live_value(order, blob),
        }
    }

    pub fn closed(order: &Order) -> Self {
        Self {
            field: slot(order).concat(),
            value: name(order),
        }
    }

    pub fn user(user: &UserId, units_live: u32) -> Self {
        Self {
            field: user.as_bytes().to_vec(),
            value: units_live.to_string().into_bytes(),
        }
    }

    pub fn stock(kind: char, sku: &SkuId, units: u64) -> Self {
        Self {
            field: format!("{kind}:{sku}").into_bytes(),
            value: units.to_string().into_bytes(),
        }
    }

    pub fn tail(kind: u8, id: &str, version: u64, body: &[u8]) -> Self {
        Self {
            field: TailEntry::field(kind, id).into_bytes(),
            value: TailEntry::value(version, body),
        }
    }

    pub fn allotment(id: &str) -> Self {
        Self::done(format!("a:{id}"))
    }

    pub fn transfer(side: Side, id: &str) -> Self {
        Self::done(format!("t:{}:{id}", side.name()))
    }

    fn done(field: String) -> Self {
        Self {
            field: field.into_bytes(),
            value: b"1".to_vec(),
        }
    }
}
