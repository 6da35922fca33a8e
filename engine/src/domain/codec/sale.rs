//! Bodies of kinds 2, 7 and 8: the sale, how fast it lets buyers in, and what
//! an operator did to it.

use prost::Message;

use super::{CodecError, wire};
use crate::domain::ids::SaleNo;
use crate::domain::sale::{RawSale, SaleRecord, Switches};
use crate::domain::steering::{AdminAction, RateSegment};
use crate::domain::time::UnixMs;

pub fn encode_sale(s: &SaleRecord) -> Vec<u8> {
    wire::Sale {
        definition_json: serde_json::to_string(&s.definition.to_raw())
            .expect("a struct of texts and numbers always has a JSON form"),
        number: u32::from(s.number.0),
        paused: s.switches.paused,
        ended: s.switches.ended,
    }
    .encode_to_vec()
}

pub fn decode_sale(bytes: &[u8]) -> Result<SaleRecord, CodecError> {
    let w = wire::Sale::decode(bytes)?;
    let raw: RawSale = serde_json::from_str(&w.definition_json)
        .map_err(|_| CodecError::Field("definition_json"))?;
    Ok(SaleRecord {
        definition: raw
            .check()
            .map_err(|_| CodecError::Field("definition_json"))?,
        number: u16::try_from(w.number)
            .map(SaleNo)
            .map_err(|_| CodecError::Field("number"))?,
        switches: Switches {
            paused: w.paused,
            ended: w.ended,
        },
    })
}

pub fn encode_rate(r: &RateSegment) -> Vec<u8> {
    wire::Rate {
        from_ms: r.from.0,
        served: r.served,
        tickets_per_1000_s: r.tickets_per_1000_s,
    }
    .encode_to_vec()
}

pub fn decode_rate(bytes: &[u8]) -> Result<RateSegment, CodecError> {
    let w = wire::Rate::decode(bytes)?;
    Ok(RateSegment {
        from: UnixMs(w.from_ms),
        served: w.served,
        tickets_per_1000_s: w.tickets_per_1000_s,
    })
}

pub fn encode_action(a: &AdminAction) -> Vec<u8> {
    wire::AdminAction {
        actor: a.actor.clone(),
        action: a.action.clone(),
        subject: a.subject.clone(),
        request_json: a.request_json.clone(),
    }
    .encode_to_vec()
}

pub fn decode_action(bytes: &[u8]) -> Result<AdminAction, CodecError> {
    let w = wire::AdminAction::decode(bytes)?;
    Ok(AdminAction {
        actor: w.actor,
        action: w.action,
        subject: w.subject,
        request_json: w.request_json,
    })
}
