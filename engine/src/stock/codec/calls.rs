//! The calls of a bucket: requests to arguments, replies to answers. A reply that does not
//! have the promised shape is an error that names its script.

use super::super::call::{BucketCaller, CallError};
use super::super::host::{Args, Reply, Script};
use super::shapes::{
    AuditReply, Counters, HoldRequest, RowKind, SettleMove, SettleRequest, Settled, Side, Verdict,
};
use super::written::{Row, head, name, number, place};
use crate::domain::ids::SkuId;
use crate::domain::order::{self, Items, MARK_SPAN};
use crate::domain::time::UnixMs;

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
                args.reserve(6 * requests.len() + 9, blobs + 256 * requests.len());
                args.push_number(now.0);
                flag(args, again);
                args.push_number(u64::from(units_max));
                args.push_number(requests.len() as u64);
                for r in requests {
                    let o = r.order;
                    args.push(o.user.as_bytes());
                    args.push_number(o.mark());
                    // What may stand under the user.
                    args.push_with(|out| {
                        number(out, o.units());
                        out.push(b':');
                        place(out, o);
                        head(out, o, o.version);
                        out.extend_from_slice(r.blob);
                    });
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
                    let (o, is_live) = (r.order, r.order.state.is_live());
                    args.push(o.user.as_bytes());
                    args.push_with(|out| place(out, o));
                    args.push_with(|out| head(out, o, r.from));
                    args.push_with(|out| {
                        if is_live {
                            head(out, o, o.version);
                            out.extend_from_slice(r.blob);
                        } else {
                            name(out, o);
                        }
                    });
                    let was = order::mark(&o.id, r.from);
                    let is = if is_live { o.mark() } else { 0 };
                    args.push_number(is.wrapping_sub(was) % MARK_SPAN);
                    args.push(match r.moved {
                        SettleMove::None => "none",
                        SettleMove::Pay => "pay",
                        SettleMove::Close => "close",
                        SettleMove::Restock => "restock",
                        SettleMove::Withdraw => "withdraw",
                    });
                    flag(args, is_live);
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
