//! From ledger records to a batch; the next one is made while the store takes this one.
//!
//! A store in another process leaves this one idle while it works. Reading ahead is
//! one batch deep, and only while nobody buys: it takes a second processor.

use floodgate_ledger::{Ledger, ReadError, Seq};

use super::row::rows_of;
use super::store::{Batch, Mark};
use super::worker::{Halt, WorkerConfig};

pub(super) struct Load {
    /// The first record in it.
    pub from: Seq,
    pub batch: Batch,
    pub to: Mark,
    pub n_records: usize,
}

pub(super) enum Loaded {
    Some(Load),
    /// There is no such record yet.
    Nothing,
    /// There is no such record any more.
    Trimmed,
}

pub(super) fn load(ledger: &Ledger, config: &WorkerConfig, from: Seq) -> Result<Loaded, Halt> {
    if from > ledger.tip().seq {
        return Ok(Loaded::Nothing);
    }
    let records = match ledger.tail(from, config.batch_records_max, config.batch_bytes_max) {
        Err(ReadError::Trimmed { .. }) => return Ok(Loaded::Trimmed),
        found => found.map_err(|e| Halt::Stop(e.to_string()))?,
    };
    let Some(last) = records.last() else {
        return Ok(Loaded::Nothing);
    };
    let to = Mark {
        ledger: ledger.id(),
        seq: last.seq,
        hash: last.hash,
    };
    let mut batch = Batch::default();
    for record in &records {
        let row =
            rows_of(record).map_err(|e| Halt::Stop(format!("record {}: {e}", record.seq.0)))?;
        batch.rows.extend(row);
    }
    Ok(Loaded::Some(Load {
        from,
        batch,
        to,
        n_records: records.len(),
    }))
}

/// Does `work`, and meanwhile loads what follows `seq` if a whole batch of it is there.
/// What cannot be read is left to the turn that needs it.
pub(super) fn meanwhile<T>(
    (ledger, config): (&Ledger, &WorkerConfig),
    seq: Seq,
    work: impl FnOnce() -> T,
) -> (T, Option<Load>) {
    let waiting = ledger.tip().seq.0.saturating_sub(seq.0);
    if waiting < config.batch_records_max as u64 {
        return (work(), None);
    }
    std::thread::scope(|scope| {
        let ahead = std::thread::Builder::new()
            .name("stream-ahead".into())
            .spawn_scoped(scope, || load(ledger, config, seq.next()));
        let done = work();
        let loaded = ahead.ok().and_then(|thread| thread.join().ok());
        match loaded {
            Some(Ok(Loaded::Some(load))) => (done, Some(load)),
            Some(Ok(Loaded::Nothing | Loaded::Trimmed) | Err(_)) | None => (done, None),
        }
    })
}
