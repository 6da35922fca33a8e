//! A ledger with orders in it, an order store beside it, and the stream between.

#![allow(dead_code)] // Each test file uses its own part of this.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

pub mod between;
pub mod orders;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use floodgate_engine::domain::order::Order;
use floodgate_engine::domain::time::{Clock, UnixMs};
use floodgate_engine::stream::{
    Batch, Busy, Letters, Mark, OrderStore, Put, StreamMetrics, StreamState, StreamWorker,
    WorkerConfig, rows_of,
};
use floodgate_ledger::{ChainHash, Draft, Group, Ledger, LedgerConfig, Record, Seq, Snapshot};

use crate::places::after::order_draft;
use crate::places::{Fresh, Place, Tables};

pub const T0: u64 = 1_794_355_200_000;

pub fn seq(n: u64) -> Seq {
    Seq(n)
}

/// The first version of buyer `n`'s order.
pub fn ordered(n: u16) -> Order {
    orders::ordered("tea", n)
}

struct ClockAt(u64);

impl Clock for ClockAt {
    fn now(&self) -> UnixMs {
        UnixMs(self.0)
    }
}

pub struct Till {
    folder: tempfile::TempDir,
    fresh: Fresh,
    /// Where the store lives.
    pub place: Box<dyn Place>,
    pub ledger: Ledger,
    /// What the clock says from the next start on.
    pub now: u64,
}

fn open_ledger(folder: &Path) -> Ledger {
    let mut config = LedgerConfig::new(folder.join("ledger"));
    config.memtable_bytes = 4 << 20;
    Ledger::open(config).unwrap()
}

fn append(ledger: &Ledger, drafts: Vec<Draft>) {
    let group = Group {
        drafts,
        meta: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async { ledger.append(group).await.unwrap().await.unwrap() });
}

fn record_of(snapshot: Snapshot) -> Record {
    Record {
        seq: snapshot.seq,
        hash: ChainHash([0; 32]),
        kind: snapshot.kind,
        group: snapshot.group,
        id: snapshot.id,
        version: snapshot.version,
        live: snapshot.live,
        owner: snapshot.owner,
        uniques: Vec::new(),
        at_ms: snapshot.at_ms,
        body: snapshot.body,
    }
}

/// What a store is to make of these records.
fn batch_of(records: &[Record]) -> Batch {
    Batch {
        rows: records.iter().filter_map(|r| rows_of(r).unwrap()).collect(),
        ..Batch::default()
    }
}

impl Till {
    pub fn new(fresh: Fresh) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open_ledger(folder.path());
        let till = Self {
            folder,
            fresh,
            place: fresh(),
            ledger,
            now: T0,
        };
        till.store(); // So that there are tables to meddle with.
        till
    }

    /// As after a restart: the same folder, another run.
    pub fn reopen(self) -> Self {
        self.ledger.close();
        Self {
            ledger: open_ledger(self.folder.path()),
            ..self
        }
    }

    /// Durable when it returns, a few records to a group.
    pub fn sell<'a>(&self, orders: impl IntoIterator<Item = &'a Order>) {
        let drafts: Vec<Draft> = orders.into_iter().map(order_draft).collect();
        for part in drafts.chunks(5) {
            append(&self.ledger, part.to_vec());
        }
    }

    /// Durable when it returns, in one group.
    pub fn write(&self, drafts: Vec<Draft>) {
        append(&self.ledger, drafts);
    }

    /// Sells to one of these buyers at every call.
    pub fn more(&self, buyers: std::ops::Range<u16>) -> impl Fn() + Send + Sync + 'static {
        let ledger = self.ledger.clone();
        let n = AtomicUsize::new(0);
        move || {
            let nth = n.fetch_add(1, Ordering::SeqCst);
            let buyer = buyers.clone().nth(nth).unwrap();
            // A thread of its own: the caller may stand inside a runtime.
            std::thread::scope(|s| {
                s.spawn(|| append(&ledger, vec![order_draft(&ordered(buyer))]));
            });
        }
    }

    pub fn store(&self) -> Arc<dyn OrderStore> {
        self.place.open().unwrap()
    }

    pub fn tables(&self) -> Tables {
        self.place.tables()
    }

    /// What a second engine would do with records `from` to `to`.
    pub fn rows(&self, from: u64, to: u64) -> Batch {
        let n = (to + 1 - from) as usize;
        batch_of(&self.ledger.tail(Seq(from), n, usize::MAX).unwrap())
    }

    /// The tables of a store that takes everything in one go.
    pub fn whole(&self) -> Tables {
        let records = self.ledger.tail(Seq(1), usize::MAX, usize::MAX).unwrap();
        self.tables_of(&records)
    }

    /// The tables of a store that was given everything as it is now, whatever records
    /// are left.
    pub fn whole_of_snapshots(&self) -> Tables {
        let found = self.ledger.entities(None, None, false);
        let records: Vec<_> = found.map(|s| record_of(s.unwrap())).collect();
        self.tables_of(&records)
    }

    fn tables_of(&self, records: &[Record]) -> Tables {
        let calm = (self.fresh)();
        let store = calm.open().unwrap();
        let put = store.put(0, &batch_of(records), None, &self.tip());
        assert_eq!(put.unwrap(), Put::Advanced);
        calm.tables()
    }

    pub fn tip(&self) -> Mark {
        let tip = self.ledger.tip();
        Mark {
            ledger: self.ledger.id(),
            seq: tip.seq,
            hash: tip.hash,
        }
    }

    /// The mark of a store that has everything up to `seq`.
    pub fn mark_at(&self, seq: u64) -> Mark {
        let record = self.ledger.tail(Seq(seq), 1, usize::MAX).unwrap().remove(0);
        Mark {
            ledger: self.ledger.id(),
            seq: record.seq,
            hash: record.hash,
        }
    }

    fn letters_with(&self, store: Arc<dyn OrderStore>, metrics: &StreamMetrics) -> Letters {
        let clock = Arc::new(ClockAt(self.now));
        let gauge = metrics.dead_letters.clone();
        Letters::open(self.ledger.clone(), store, 0, clock, gauge).unwrap()
    }

    pub fn letters(&self, store: Arc<dyn OrderStore>) -> Letters {
        self.letters_with(store, &metrics())
    }

    pub fn start(&self, store: Arc<dyn OrderStore>, batch: usize) -> Stream {
        self.start_beside(store, batch, Box::new(|| Duration::ZERO))
    }

    /// Beside workers that are so busy.
    pub fn start_beside(&self, store: Arc<dyn OrderStore>, batch: usize, busy: Busy) -> Stream {
        let retry = [Duration::from_millis(1), Duration::from_millis(4)];
        self.start_with(store, batch, retry, busy)
    }

    /// Asks a store that is away again after so long, and no later than so long.
    pub fn start_retrying(
        &self,
        store: Arc<dyn OrderStore>,
        batch: usize,
        retry: [Duration; 2],
    ) -> Stream {
        self.start_with(store, batch, retry, Box::new(|| Duration::ZERO))
    }

    fn start_with(
        &self,
        store: Arc<dyn OrderStore>,
        batch: usize,
        [retry_min, retry_max]: [Duration; 2],
        busy: Busy,
    ) -> Stream {
        let config = WorkerConfig {
            batch_records_max: batch,
            idle_wait: Duration::from_millis(1),
            look_wait: Duration::from_millis(1),
            retry_min,
            retry_max,
            ..WorkerConfig::default()
        };
        let metrics = metrics();
        let letters = Arc::new(self.letters_with(Arc::clone(&store), &metrics));
        let worker = StreamWorker::start(
            self.ledger.clone(),
            store,
            Arc::clone(&letters),
            config,
            metrics.clone(),
            busy,
        )
        .unwrap();
        Stream {
            worker,
            letters,
            metrics,
        }
    }
}

fn metrics() -> StreamMetrics {
    StreamMetrics::register(&prometheus::Registry::new()).unwrap()
}

pub struct Stream {
    pub worker: StreamWorker,
    pub letters: Arc<Letters>,
    pub metrics: StreamMetrics,
}

impl Stream {
    /// Lets go of the ledger as well.
    pub fn stop(self) {
        self.worker.stop();
    }

    /// Looks again and again until it is so; gives up in the end.
    pub fn until(&self, what: &str, mut so: impl FnMut(&StreamWorker) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while Instant::now() < deadline {
            if so(&self.worker) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!(
            "never {what}: {:?} at {:?}",
            self.worker.state(),
            self.worker.mark()
        );
    }

    pub fn until_even(&self, till: &Till) {
        self.until("even with the ledger", |worker| {
            if let StreamState::Stopped(why) = worker.state() {
                panic!("stopped: {why}");
            }
            worker.mark() == Some(till.tip())
        });
        self.until("running", |worker| worker.state() == StreamState::Running);
        assert_eq!(self.metrics.lag_records.get(), 0);
    }

    pub fn until_stopped(&self) -> String {
        let mut why = String::new();
        self.until("stopped", |worker| match worker.state() {
            StreamState::Stopped(reason) => {
                why = reason;
                true
            }
            StreamState::Running | StreamState::Waiting(_) => false,
        });
        why
    }
}
