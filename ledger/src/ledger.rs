//! The handle: append, read, watch, close.
//!
//! Cheap to clone. Appending never blocks a thread: room in the queue is a
//! semaphore counted in records, and the queue behind it has a place for all
//! of them. The order of `append` calls that follow each other is the order of seqs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam::channel::{self, Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use crate::committer::Committer;
use crate::config::LedgerConfig;
use crate::device::Device;
use crate::driver::Driver;
use crate::error::{AppendError, CommitError, Failure, OpenError, ReadError};
use crate::keys;
use crate::memory::MemoryDisk;
use crate::open::{self, Identity};
use crate::read::{Reader, View};
use crate::record::{
    Committed, DeadLetter, EntityRef, Group, Kind, LedgerId, Record, Seq, Snapshot, Tip,
};
use crate::rocks::RocksDevice;
use crate::scrub::Scrubbed;
use crate::shared::Shared;
use crate::tables::Tables;
use crate::walk::Entities;
use crate::work::{self, Answer, Job, Work};

/// An open ledger. Closing it, or dropping the last handle, commits what was
/// handed over and joins the committer.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    config: LedgerConfig,
    identity: Identity,
    reader: Reader,
    shared: Arc<Shared>,
    queue: Option<Sender<Work>>,
    /// The committer's end of the queue, for whoever sends behind its back.
    works: Receiver<Work>,
    committer: Runs,
}

/// Who turns the committer.
enum Runs {
    Thread(Mutex<Option<JoinHandle<()>>>),
    /// A [`Driver`], told of what is handed over.
    Driven(Arc<Notify>),
}

impl Ledger {
    /// Opens or founds the ledger in `config.path`, alone: checks the chain from
    /// the newest verified record on and raises the incarnation. Blocks.
    pub fn open(config: LedgerConfig) -> Result<Self, OpenError> {
        Self::open_on(config, |real| Box::new(real))
    }

    /// As `open`, writing through another device: the crash seam for tests.
    pub fn open_on(
        config: LedgerConfig,
        device: impl FnOnce(RocksDevice) -> Box<dyn Device>,
    ) -> Result<Self, OpenError> {
        config.check()?;
        let path = config.path.clone();
        let rocks = open::tables(&config)?;
        let device = device(RocksDevice::new(Arc::clone(&rocks)));
        let new_id = || open::draw_id(&path);
        Self::start(config, Tables::Rocks(rocks), device, new_id, |committer| {
            let thread = std::thread::Builder::new()
                .name("ledger-commit".into())
                .spawn(move || committer.run())
                .map_err(|error| OpenError::Io {
                    path: path.clone(),
                    step: "start the committer",
                    why: error.to_string(),
                })?;
            Ok((Runs::Thread(Mutex::new(Some(thread))), ()))
        })
        .map(|(ledger, ())| ledger)
    }

    /// A ledger in memory whose commits happen when the driver is told so. `device`
    /// is given what is to be written, and passes it on to the disk or does not.
    pub fn open_driven(
        config: LedgerConfig,
        disk: &MemoryDisk,
        device: Box<dyn Device>,
    ) -> Result<(Self, Driver), OpenError> {
        config.check()?;
        let tables = Tables::Memory(disk.clone());
        let new_id = || Ok(disk.id());
        Self::start(config, tables, device, new_id, |committer| {
            let handed = Arc::new(Notify::new());
            let driver = Driver::new(committer, Arc::clone(&handed));
            Ok((Runs::Driven(handed), driver))
        })
    }

    fn start<D>(
        config: LedgerConfig,
        tables: Tables,
        mut device: Box<dyn Device>,
        new_id: impl FnOnce() -> Result<LedgerId, OpenError>,
        run: impl FnOnce(Committer) -> Result<(Runs, D), OpenError>,
    ) -> Result<(Self, D), OpenError> {
        let identity = open::check(&config.path, &tables, &mut *device, new_id)?;
        let metrics = config.metrics.clone();
        let shared = Arc::new(Shared::new(config.queue_records_max, identity.tip, metrics));
        // One place per record of room, and one to say stop: handing over never waits.
        let (queue, works) = channel::bounded(config.queue_records_max + 1);
        let (committer, driver) = run(Committer {
            queue: works.clone(),
            device,
            tables: tables.clone(),
            limits: config.batch.clone(),
            shared: Arc::clone(&shared),
            tip: identity.tip,
            floor: identity.floor,
        })?;
        let ledger = Self {
            inner: Arc::new(Inner {
                config,
                identity,
                reader: Reader::new(tables),
                shared,
                queue: Some(queue),
                works,
                committer,
            }),
        };
        Ok((ledger, driver))
    }

    /// Waits for room, then hands the group over. The receipt resolves once the
    /// group is durable; dropping it changes nothing about the group.
    ///
    /// An error means that nothing of it was handed over and nothing of it will
    /// ever be in the ledger. What became of a group that was handed over only its
    /// receipt says; where that says "closed", nobody knows before the next open.
    pub async fn append(&self, group: Group) -> Result<Receipt, AppendError> {
        let encoded = work::encode(&group, &self.inner.config)?;
        drop(group);
        let (records, bytes) = (encoded.entries.len(), encoded.buf.len());
        self.hand_over(Job::Append(encoded), records, bytes).await
    }

    /// Writes down what a consumer could not carry onwards, by seq.
    pub async fn bury(&self, letters: Vec<DeadLetter>) -> Result<Receipt, AppendError> {
        let bytes = letters.iter().map(|letter| letter.note.len()).sum();
        let bury = letters
            .into_iter()
            .map(|letter| (keys::record(letter.seq), letter.note))
            .collect();
        self.hand_over(
            Job::Letters {
                bury,
                remove: Vec::new(),
            },
            0,
            bytes,
        )
        .await
    }

    /// Takes letters back, after they were replayed.
    pub async fn unbury(&self, seqs: &[Seq]) -> Result<Receipt, AppendError> {
        let remove = seqs.iter().copied().map(keys::record).collect();
        self.hand_over(
            Job::Letters {
                bury: Vec::new(),
                remove,
            },
            0,
            0,
        )
        .await
    }

    /// Lets go of records up to and with `through`; snapshots and unique keys
    /// stay. The caller knows that every consumer's mark passed it.
    pub async fn trim(&self, through: Seq) -> Result<Receipt, AppendError> {
        self.hand_over(Job::Trim { through }, 0, 0).await
    }

    async fn hand_over(
        &self,
        job: Job,
        records: usize,
        bytes: usize,
    ) -> Result<Receipt, AppendError> {
        let shared = &self.inner.shared;
        // What has no record still takes a place.
        let permits = u32::try_from(records.max(1)).expect("checked against the queue's bound");
        let room = shared
            .room
            .acquire_many(permits)
            .await
            .map_err(|_| AppendError::Closed)?;
        fail::fail_point!("ledger-room-taken");
        let (reply, receipt) = oneshot::channel();
        let queue = self.inner.queue.as_ref().ok_or(AppendError::Closed)?;
        shared.metrics.queue_depth.add(i64::from(permits));
        queue
            .try_send(Work {
                job,
                permits,
                records,
                bytes,
                reply,
            })
            .map_err(|_| {
                shared.metrics.queue_depth.sub(i64::from(permits));
                AppendError::Closed
            })?;
        // The committer gives the room back.
        room.forget();
        fail::fail_point!("ledger-handed-over");
        if let Runs::Driven(handed) = &self.inner.committer {
            handed.notify_one();
        }
        if shared.has_ended() {
            // This one may stand in the queue behind the committer's last look, where
            // it would wait for as long as any handle lives; or it was committed
            // before the end. Whatever still stands there nobody will take, so its
            // receipt says "closed"; that of a committed group has its answer.
            while self.inner.works.try_recv().is_ok() {}
        }
        Ok(Receipt(receipt))
    }

    /// The newest durable record.
    #[must_use]
    pub fn tip(&self) -> Tip {
        *self.inner.shared.tip.borrow()
    }

    #[must_use]
    pub fn id(&self) -> LedgerId {
        self.inner.identity.id
    }

    /// Grows with every open; two runs never share one.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.inner.identity.incarnation
    }

    /// Wakes after each commit that added records.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Tip> {
        self.inner.shared.tip.subscribe()
    }

    /// Resolves when the ledger latched shut. The process should then exit: only
    /// opening again can tell what the disk holds. Never resolves otherwise.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        let mut failures = self.inner.shared.failures();
        async move {
            loop {
                if let Some(failure) = failures.borrow_and_update().clone() {
                    return failure;
                }
                if failures.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Reads everything back while it is in use, in pieces: after each it asks `rest` whether
    /// to go on. Damage shuts the ledger for ever. Blocks.
    pub fn scrub(&self, rest: impl FnMut() -> bool) -> Result<Option<Scrubbed>, ReadError> {
        let done = self.reader().scrub(rest);
        match &done {
            Err(error @ (ReadError::Damaged(_) | ReadError::Corrupt(_))) => {
                self.inner.shared.latch(&error.to_string());
            }
            // A disk or a limit that said no once says nothing of what stands there.
            Err(ReadError::Trimmed { .. } | ReadError::Format { .. } | ReadError::Device(_))
            | Ok(_) => {}
        }
        done
    }

    /// Why the ledger latched, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.inner.shared.failure()
    }

    /// Records handed over and not yet answered.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.inner.shared.depth()
    }

    /// Commits what was handed over, refuses the rest, joins the committer and
    /// leaves a folder that starts at once. Blocks; other handles can still read,
    /// and the folder is free for another process once they are gone.
    pub fn close(self) {
        let inner = &self.inner;
        inner.shared.room.close();
        if let Some(queue) = &inner.queue {
            let (reply, _) = oneshot::channel();
            // When the committer is gone already there is nobody to stop.
            let _ = queue.send(Work {
                job: Job::Stop,
                permits: 0,
                records: 0,
                bytes: 0,
                reply,
            });
        }
        inner.join();
        if inner.shared.failure().is_none()
            && let Err(error) = inner.reader.flush()
        {
            tracing::warn!(%error, "ledger closed; the next start replays its log");
        }
    }
}

/// Reads; see [`Reader`] for what each promises.
impl Ledger {
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.inner.reader
    }

    pub fn entity(
        &self,
        group: &[u8],
        kind: Kind,
        id: &[u8],
    ) -> Result<Option<Snapshot>, ReadError> {
        self.reader().entity(group, kind, id)
    }

    pub fn entities(
        &self,
        group: Option<&[u8]>,
        kind: Option<Kind>,
        live_only: bool,
    ) -> Entities<'_> {
        self.reader().entities(group, kind, live_only)
    }

    pub fn entities_page(
        &self,
        group: &[u8],
        kind: Kind,
        after_id: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Snapshot>, ReadError> {
        self.reader().entities_page(group, kind, after_id, limit)
    }

    pub fn last_id(&self, group: &[u8], kind: Kind) -> Result<Option<Bytes>, ReadError> {
        self.reader().last_id(group, kind)
    }

    pub fn view(&self) -> Result<View<'_>, ReadError> {
        self.reader().view()
    }

    pub fn by_owner(
        &self,
        owner: &[u8],
        kind: Kind,
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<EntityRef>, ReadError> {
        self.reader().by_owner(owner, kind, before, limit)
    }

    pub fn unique(&self, key: &[u8]) -> Result<Option<EntityRef>, ReadError> {
        self.reader().unique(key)
    }

    pub fn tail(
        &self,
        from: Seq,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.reader().tail(from, max_records, max_bytes)
    }

    pub fn meta(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.reader().meta(key)
    }

    pub fn dead_letters(&self, after: Seq, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.reader().dead_letters(after, limit)
    }
}

impl Inner {
    fn join(&self) {
        // A driver is ended by whoever holds it.
        let Runs::Thread(thread) = &self.committer else {
            return;
        };
        if let Some(thread) = thread.lock().take()
            && thread.join().is_err()
        {
            // It latched on its way out; whoever waits on `failed` knows.
            tracing::error!("the ledger's committer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without senders the committer finishes what it has and ends.
        self.queue = None;
        self.join();
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("id", &self.id())
            .field("tip", &self.tip())
            .finish()
    }
}

/// Resolves once its group is durable, or refused, or the ledger closed.
#[derive(Debug)]
#[must_use = "a group is durable only once its receipt says so"]
pub struct Receipt(oneshot::Receiver<Answer>);

impl Future for Receipt {
    type Output = Result<Committed, CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or(Err(CommitError::Closed)))
    }
}
