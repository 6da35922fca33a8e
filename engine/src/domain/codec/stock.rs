//! Bodies of kinds 3 and 4: units that come into a bucket and go between buckets.

use prost::Message;

use super::{CodecError, wire};
use crate::domain::allotment::{Allotment, Transfer};
use crate::domain::ids::{BucketNo, SkuId};

pub fn encode_allotment(a: &Allotment) -> Vec<u8> {
    wire::Allotment {
        bucket: u32::from(a.bucket.0),
        lines: lines(a.lines.iter().map(|(sku, units)| (sku, *units))),
    }
    .encode_to_vec()
}

pub fn decode_allotment(bytes: &[u8]) -> Result<Allotment, CodecError> {
    let w = wire::Allotment::decode(bytes)?;
    Ok(Allotment {
        bucket: bucket(w.bucket, "bucket")?,
        lines: w
            .lines
            .iter()
            .map(|l| Ok((sku(l)?, l.units)))
            .collect::<Result<_, CodecError>>()?,
    })
}

pub fn encode_transfer(t: &Transfer) -> Vec<u8> {
    wire::Transfer {
        from_bucket: u32::from(t.from.0),
        to_bucket: u32::from(t.to.0),
        lines: lines(t.lines.iter().map(|(sku, units)| (sku, i64::from(*units)))),
    }
    .encode_to_vec()
}

pub fn decode_transfer(bytes: &[u8]) -> Result<Transfer, CodecError> {
    let w = wire::Transfer::decode(bytes)?;
    Ok(Transfer {
        from: bucket(w.from_bucket, "from_bucket")?,
        to: bucket(w.to_bucket, "to_bucket")?,
        lines: w
            .lines
            .iter()
            .map(|l| {
                let units = u32::try_from(l.units).map_err(|_| CodecError::Field("lines.units"))?;
                Ok((sku(l)?, units))
            })
            .collect::<Result<_, CodecError>>()?,
    })
}

fn lines<'a>(all: impl Iterator<Item = (&'a SkuId, i64)>) -> Vec<wire::Line> {
    all.map(|(sku, units)| wire::Line {
        sku: sku.to_string(),
        units,
    })
    .collect()
}

fn sku(line: &wire::Line) -> Result<SkuId, CodecError> {
    SkuId::parse(&line.sku).map_err(|_| CodecError::Field("lines.sku"))
}

fn bucket(no: u32, field: &'static str) -> Result<BucketNo, CodecError> {
    u16::try_from(no)
        .map(BucketNo)
        .map_err(|_| CodecError::Field(field))
}
