//! From ledger records to a batch; the next ones are made while the store takes this one.
//!
//! A store in another process leaves this one idle while it works, and may take two
//! batches at a time. Reading ahead is as deep as that needs, and only while nobody buys:
//! it takes a second processor.

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

/// The next `n_max` records at most, and no more bytes than a batch may have.
pub(super) fn load(
    ledger: &Ledger,
    config: &WorkerConfig,
    from: Seq,
    n_max: usize,
) -> Result<Loaded, Halt> {
    if from > ledger.tip().seq {
        return Ok(Loaded::Nothing);
    }
    let records = match ledger.tail(from, n_max, config.batch_bytes_max) {
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

/// Does `work`, and meanwhile loads what follows `seq`, as many whole batches of it as
/// are there, `n_max` at most. What cannot be read is left to the turn that needs it.
pub(super) fn meanwhile<T>(
    (ledger, config): (&Ledger, &WorkerConfig),
    seq: Seq,
    n_max: usize,
    work: impl FnOnce() -> T,
) -> (T, Vec<Load>) {
    if n_max == 0 || !is_whole(ledger, config, seq) {
        return (work(), Vec::new());
    }
    std::thread::scope(|scope| {
        let ahead = std::thread::Builder::new()
            .name("stream-ahead".into())
            .spawn_scoped(scope, || load_whole(ledger, config, seq, n_max));
        let done = work();
        let loaded = ahead.ok().and_then(|thread| thread.join().ok());
        (done, loaded.unwrap_or_default())
    })
}

/// Whether what follows `seq` fills a batch.
fn is_whole(ledger: &Ledger, config: &WorkerConfig, seq: Seq) -> bool {
    let waiting = ledger.tip().seq.0.saturating_sub(seq.0);
    waiting >= config.batch_records_max as u64
}

fn load_whole(ledger: &Ledger, config: &WorkerConfig, mut seq: Seq, n_max: usize) -> Vec<Load> {
    let mut loads = Vec::with_capacity(n_max);
    while loads.len() < n_max && is_whole(ledger, config, seq) {
        match load(ledger, config, seq.next(), config.batch_records_max) {
            Ok(Loaded::Some(load)) => {
                seq = load.to.seq;
                loads.push(load);
            }
            Ok(Loaded::Nothing | Loaded::Trimmed) | Err(_) => break,
        }
    }
    loads
}
