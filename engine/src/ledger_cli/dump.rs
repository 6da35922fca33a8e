//! Records as JSON lines, bodies in words.
//!
//! Nothing a record may hold is an error here: a kind that is not known and a
//! body that is not understood are shown as hex. Only damage ends a dump, after
//! every record before it was written.

use std::fmt::Write as _;
use std::io::Write;

use floodgate_ledger::{ReadError, Reader, Record, Seq};
use serde_json::{Value, json};

use super::Stopped;
use crate::domain::codec::{self, CodecError};
use crate::domain::entitlement::WhenFull;
use crate::domain::ids::{OrderId, SkuId};
use crate::domain::order::{Order, OrderState};
use crate::domain::payment::Raw;
use crate::domain::time::UnixMs;

const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;

/// The table of `ledger/FORMAT.md`, from kind 1 on.
const KINDS: [&str; 8] = [
    "order",
    "sale",
    "allotment",
    "transfer",
    "payment",
    "entitlement",
    "rate",
    "admin action",
];

pub(super) fn kind_name(kind: u8) -> Option<&'static str> {
    let at = usize::from(kind).checked_sub(1)?;
    KINDS.get(at).copied()
}

pub(super) fn records(
    reader: &Reader,
    from: Option<u64>,
    limit: Option<u64>,
    out: &mut impl Write,
    said: impl Fn(ReadError) -> Stopped,
) -> Result<(), Stopped> {
    let floor = reader.identity().map_err(&said)?.floor.seq;
    let mut from = from.map_or(floor.next(), Seq);
    let mut left = limit.unwrap_or(u64::MAX);
    let mut batch = BATCH_RECORDS;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(batch).min(batch);
        let found = match reader.tail(from, most, BATCH_BYTES) {
            // One by one up to the damage, so that nothing whole is kept back.
            Err(_) if most > 1 => {
                batch = 1;
                continue;
            }
            found => found.map_err(&said)?,
        };
        let Some(last) = found.last() else {
            return Ok(());
        };
        from = last.seq.next();
        left -= found.len() as u64;
        for record in &found {
            writeln!(out, "{}", line(record))?;
        }
    }
    Ok(())
}

fn line(record: &Record) -> Value {
    let mut line = json!({
        "seq": record.seq.0,
        "kind": kind_name(record.kind.0).map_or_else(|| json!(record.kind.0), Value::from),
        "group": text(&record.group),
        "id": match record.kind.0 {
            1 => OrderId::from_bytes(&record.id)
                .map_or_else(|| text(&record.id), |id| id.to_string()),
            _ => text(&record.id),
        },
        "version": record.version,
        "live": record.live,
        "at": record.at_ms,
        "owner": record.owner.as_deref().map(text),
        "uniques": record.uniques.iter().map(|u| text(u)).collect::<Vec<_>>(),
        "hash": record.hash.to_string(),
    });
    match body(record.kind.0, &record.body) {
        Some(Ok(body)) => line["body"] = body,
        Some(Err(why)) => {
            line["bodyHex"] = hex(&record.body).into();
            line["bodyError"] = why.to_string().into();
        }
        None => line["bodyHex"] = hex(&record.body).into(),
    }
    line
}

/// `None`: no kind of ours.
fn body(kind: u8, bytes: &[u8]) -> Option<Result<Value, CodecError>> {
    Some(match kind {
        1 => codec::decode_order(bytes).map(|order| order_json(&order)),
        2 => codec::decode_sale(bytes).map(|s| {
            json!({
                "definition": s.definition.to_raw(),
                "number": s.number.0,
                "paused": s.switches.paused,
                "ended": s.switches.ended,
            })
        }),
        3 => codec::decode_allotment(bytes)
            .map(|a| json!({ "bucket": a.bucket.0, "lines": lines(&a.lines) })),
        4 => codec::decode_transfer(bytes).map(|t| {
            json!({
                "from": t.from.0,
                "to": t.to.0,
                "lines": lines(&t.lines),
            })
        }),
        5 => codec::decode_payment(bytes).map(|p| {
            json!({
                "id": p.id.to_string(),
                "order": p.order.map(|id| id.to_string()),
                "channel": p.channel.to_string(),
                "channelTxnNo": p.channel_txn_no.to_string(),
                "amountCent": p.amount.0,
                "currency": p.currency.as_str(),
                "state": p.state.name(),
                "paidAt": p.paid_at.0,
                "receivedAt": p.received_at.0,
                "note": p.note,
                "refundNo": p.refund_no,
                "raw": p.raw.as_ref().map(Raw::as_str),
            })
        }),
        6 => codec::decode_entitlement(bytes).map(|e| {
            let device = |(id, since): &(_, UnixMs)| -> Value {
                let id: &crate::domain::ids::DeviceId = id;
                json!({ "id": id.to_string(), "since": since.0 })
            };
            json!({
                "id": e.id.to_string(),
                "order": e.order.to_string(),
                "user": e.user.as_str(),
                "sku": e.sku.as_str(),
                "work": e.work.to_string(),
                "grantedAt": e.granted_at.0,
                "validUntil": e.valid_until.0,
                "devicesMax": e.devices_max,
                "whenFull": match e.when_full {
                    WhenFull::Refuse => "REFUSE",
                    WhenFull::KickOldest => "KICK_OLDEST",
                },
                "devices": e.devices.iter().map(device).collect::<Vec<_>>(),
                "revokedAt": e.revoked_at.map(|at| at.0),
            })
        }),
        7 => codec::decode_rate(bytes).map(|r| {
            json!({
                "from": r.from.0,
                "served": r.served,
                "ticketsPer1000Seconds": r.tickets_per_1000_s,
            })
        }),
        8 => codec::decode_action(bytes).map(|a| {
            json!({
                "actor": a.actor,
                "action": a.action,
                "subject": a.subject,
                "requestJson": a.request_json,
            })
        }),
        _ => return None,
    })
}

fn order_json(o: &Order) -> Value {
    let mut body = json!({
        "id": o.id.to_string(),
        "sale": o.sale.as_str(),
        "user": o.user.as_str(),
        "key": o.key.as_str(),
        "fingerprint": format!("{:032x}", o.fingerprint.0),
        "items": o.items.iter().map(|i| json!({
            "sku": i.sku.as_str(), "quantity": i.quantity, "priceCent": i.price.0,
        })).collect::<Vec<_>>(),
        "currency": o.currency.as_str(),
        "state": o.state.name(),
        "version": o.version.0,
        "createdAt": o.created_at.0,
        "updatedAt": o.updated_at.0,
        "payDeadlineAt": o.pay_deadline.0,
        "device": o.device.as_ref().map(ToString::to_string),
    });
    match o.state {
        OrderState::PendingPayment { grace_used, .. } => body["graceUsed"] = grace_used.into(),
        OrderState::Closed { reason } => body["closedReason"] = reason.name().into(),
        OrderState::RefundDue { restocked } | OrderState::Refunded { restocked } => {
            body["restocked"] = restocked.into();
        }
        OrderState::Paid | OrderState::Delivered => {}
    }
    body
}

fn lines<N: Copy + serde::Serialize>(lines: &[(SkuId, N)]) -> Vec<Value> {
    let one = |(sku, units): &(SkuId, N)| json!({ "sku": sku.as_str(), "units": units });
    lines.iter().map(one).collect()
}

/// Ids and owners are text nearly always; what is not stands as hex behind `0x`.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| format!("0x{}", hex(bytes)), ToOwned::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use floodgate_ledger::{ChainHash, Kind};

    use super::*;

    fn record(kind: u8, body: Vec<u8>) -> Record {
        Record {
            seq: Seq(7),
            hash: ChainHash([0xAB; 32]),
            kind: Kind(kind),
            group: Bytes::from_static(b"tea"),
            id: Bytes::from_static(&[0xFF; 16]),
            version: 1,
            live: true,
            owner: Some(Bytes::from_static(b"ana")),
            uniques: Vec::new(),
            at_ms: 5,
            body: body.into(),
        }
    }

    #[test]
    fn the_kinds_are_those_of_the_format() {
        let format = include_str!("../../../ledger/FORMAT.md");
        let table = format.split("## Kinds the engine uses").nth(1).expect("it");
        let named: Vec<(u8, &str)> = table
            .lines()
            .filter_map(|row| {
                let mut cells = row.split('|').map(str::trim).skip(1);
                Some((cells.next()?.parse().ok()?, cells.next()?))
            })
            .collect();
        let ours: Vec<_> = (1_u8..).zip(KINDS).collect();
        assert_eq!(named, ours);
    }

    #[test]
    fn every_kind_is_told_in_words() {
        // The bytes that `domain/codec/golden.rs` pins.
        let golden = [
            (
                1,
                "0a1001a17720ca0080038001c0100090000512037465611a03616e6122026b312a100000000000000000000000000102030432080a0174100218c60f3a03455552400158818080802060809483b9973468819483b9973470a08bbab997347a026431",
                "state",
                json!("PENDING_PAYMENT"),
            ),
            (
                2,
                "0ad2027b226964223a22746561222c226e616d65223a22546561222c227374617274734174223a22323032362d31312d31315430303a30303a30305a222c22656e64734174223a22323032362d31312d31325430303a30303a30305a222c2270617957696e646f775365636f6e6473223a3930302c227061796d656e7447726163655365636f6e6473223a302c22756e69747350657255736572223a312c226275636b657473223a312c226f7264657273506572557365724d6178223a3130302c2261646d697373696f6e223a7b2272617465223a3130303030302c226275727374223a31303030302c2271756575654d6178223a31303030302c22776169744d73223a313030307d2c22736b7573223a5b7b226964223a2274222c226e616d65223a2254222c22707269636543656e74223a313939302c2263757272656e6379223a22455552222c22756e697473223a397d5d7d100718012001",
                "paused",
                json!(true),
            ),
            (
                3,
                "08ac0212060a017410d00f12050a01741005",
                "bucket",
                json!(300),
            ),
            (4, "080110ac021a050a01741018", "to", json!(300)),
            (
                5,
                "0a027031121001a17720ca0080038001c010009000051a046d6f636b2204782d3737288c1f3203455552380440829483b9973448839483b9973452037768795a027239",
                "channelTxnNo",
                json!("x-77"),
            ),
            (
                6,
                "0a026531121001a17720ca0080038001c010009000051a03616e612201742a02773130849483b9973438859483b9973440054802520b0a02643110869483b9973458879483b99734",
                "whenFull",
                json!("KICK_OLDEST"),
            ),
            (7, "08809483b9973410a01f18a0cb9801", "served", json!(4000)),
            (
                8,
                "0a036f70731206746f702d75701a017422027b7d",
                "action",
                json!("top-up"),
            ),
        ];
        for (kind, bytes, field, value) in golden {
            let bytes: Vec<u8> = (0..bytes.len() / 2)
                .map(|i| u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).expect("hex"))
                .collect();
            let line = line(&record(kind, bytes));
            assert_eq!(line["kind"], KINDS[usize::from(kind) - 1]);
            assert_eq!(line["body"][field], value, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_shown_as_hex() {
        let unknown = line(&record(200, vec![1, 2]));
        assert_eq!(
            (&unknown["kind"], &unknown["bodyHex"]),
            (&json!(200), &json!("0102"))
        );
        let broken = line(&record(1, vec![0xFF]));
        assert_eq!(
            (&broken["kind"], &broken["bodyHex"]),
            (&json!("order"), &json!("ff"))
        );
        assert_eq!(unknown["id"], format!("0x{}", "ff".repeat(16)));
    }
}
