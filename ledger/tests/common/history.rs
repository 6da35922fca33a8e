//! Histories of a ledger: what was asked of it, in which order, and what must be
//! there after each step; and images of its folder as a power cut would leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use floodgate_ledger::{
    CommitError, DeadLetter, Device, DeviceError, Draft, Group, Ledger, ReadError, Reader, Receipt,
    RocksDevice, Seq, Tip, Write,
};
use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{ORDER, body, bytes, config, order, payment};

/// The unique keys and meta keys that histories use: these can only be asked for by name.
const UNIQUES: usize = 6;
const METAS: usize = 3;

#[derive(Clone, Debug)]
pub enum Job {
    Append(Group),
    Trim(Seq),
    Bury(Vec<DeadLetter>),
    Unbury(Vec<Seq>),
}

/// Everything that a ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub tip: u64,
    pub floor: u64,
    /// Id, version and body by seq.
    pub records: BTreeMap<u64, (Bytes, u64, Bytes)>,
    /// Seq, version and body by id.
    pub entities: BTreeMap<Bytes, (u64, u64, Bytes)>,
    pub owned: BTreeSet<Bytes>,
    pub uniques: BTreeMap<Bytes, Bytes>,
    pub letters: BTreeMap<u64, Bytes>,
    pub meta: BTreeMap<Bytes, Bytes>,
}

fn unique_key(n: usize) -> Bytes {
    bytes(format!("t{n}"))
}

fn meta_key(n: usize) -> Bytes {
    bytes(format!("m{n}"))
}

impl State {
    /// Reads everything back, chain and all.
    pub fn read(reader: &Reader) -> Result<Self, ReadError> {
        let identity = reader.identity()?;
        reader.verify()?;
        let mut state = Self {
            tip: identity.tip.seq.0,
            floor: identity.floor.seq.0,
            ..Self::default()
        };
        for record in reader.tail(identity.floor.seq.next(), usize::MAX, usize::MAX)? {
            let content = (record.id, record.version, record.body);
            state.records.insert(record.seq.0, content);
        }
        for entity in reader.entities(None, None, false) {
            let entity = entity?;
            let content = (entity.seq.0, entity.version, entity.body);
            state.entities.insert(entity.id, content);
        }
        let owned = reader.by_owner(b"ana", ORDER, None, usize::MAX)?;
        state.owned = owned.into_iter().map(|found| found.id).collect();
        for key in (0..UNIQUES).map(unique_key) {
            if let Some(holder) = reader.unique(&key)? {
                state.uniques.insert(key, holder.id);
            }
        }
        for letter in reader.dead_letters(Seq::ZERO, usize::MAX)? {
            state.letters.insert(letter.seq.0, letter.note);
        }
        for key in (0..METAS).map(meta_key) {
            if let Some(value) = reader.meta(&key)? {
                state.meta.insert(key, value);
            }
        }
        Ok(state)
    }

    /// What the ledger must make of a job. Returns whether it is a "no".
    pub fn apply(&mut self, job: &Job) -> bool {
        match job {
            Job::Append(group) => {
                let keys = || group.drafts.iter().flat_map(|draft| &draft.uniques);
                if keys().any(|key| self.uniques.contains_key(key)) {
                    return true;
                }
                for draft in &group.drafts {
                    self.tip += 1;
                    let (id, version, body) = (&draft.id, draft.version, &draft.body);
                    self.records
                        .insert(self.tip, (id.clone(), version, body.clone()));
                    self.entities
                        .insert(id.clone(), (self.tip, version, body.clone()));
                    if draft.owner.is_some() {
                        self.owned.insert(id.clone());
                    }
                    let claimed = draft.uniques.iter().map(|key| (key.clone(), id.clone()));
                    self.uniques.extend(claimed);
                }
                self.meta.extend(group.meta.iter().cloned());
            }
            Job::Trim(through) => {
                self.floor = self.floor.max(through.0);
                self.records.retain(|seq, _| *seq > self.floor);
            }
            Job::Bury(letters) => {
                let letters = letters.iter().map(|l| (l.seq.0, l.note.clone()));
                self.letters.extend(letters);
            }
            Job::Unbury(seqs) => self.letters.retain(|seq, _| !seqs.contains(&Seq(*seq))),
        }
        false
    }
}

/// One step as it is drawn; what it means depends on what came before.
#[derive(Clone, Debug)]
pub enum Step {
    /// Orders by number, a unique key to claim, a meta key to write; what a body
    /// has in excess, so that some groups cross a block of the log.
    Append(Vec<usize>, Option<usize>, Option<usize>, usize),
    Trim(u64),
    Bury(u64),
    Unbury(u64),
}

pub fn steps() -> impl Strategy<Value = Step> {
    let append = (
        proptest::collection::vec(0..8_usize, 0..4),
        proptest::option::weighted(0.3, 0..UNIQUES),
        proptest::option::weighted(0.3, 0..METAS),
        prop_oneof![9 => 0..200_usize, 1 => 0..40_000_usize],
    );
    prop_oneof![
        6 => append.prop_map(|(orders, key, meta, more)| Step::Append(orders, key, meta, more)),
        1 => (1..=100_u64).prop_map(Step::Trim),
        1 => (1..9_u64).prop_map(Step::Bury),
        1 => (1..9_u64).prop_map(Step::Unbury),
    ]
}

/// Steps that are handed over together, and whether the ledger is opened anew first.
pub type Round = (bool, Vec<Step>);

pub fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let round = (
        proptest::bool::weighted(0.25),
        proptest::collection::vec(steps(), 1..6),
    );
    proptest::collection::vec(round, 1..5)
}

/// Gives ids and versions.
#[derive(Default)]
struct Author {
    versions: BTreeMap<usize, u64>,
    n_payments: usize,
    n_values: u64,
}

impl Author {
    /// `durable` is what a trim may reach: the ledger trims nothing younger.
    fn job(&mut self, step: &Step, state: &State, durable: u64) -> Job {
        match step {
            Step::Append(orders, key, meta, more) => {
                let mut drafts: Vec<Draft> = Vec::new();
                for n in orders {
                    let version = self.versions.entry(*n).or_default();
                    *version += 1;
                    let id = format!("o{n}");
                    let mut draft = order(&id, *version);
                    draft.body = [&body(&id, *version)[..], &vec![b'.'; *more]]
                        .concat()
                        .into();
                    drafts.push(draft);
                }
                if let Some(key) = key {
                    self.n_payments += 1;
                    let id = format!("p{}", self.n_payments);
                    drafts.push(payment(&id, &[&format!("t{key}")]));
                }
                let meta = meta.map(|n| (meta_key(n), self.value()));
                Job::Append(Group {
                    drafts,
                    meta: meta.into_iter().collect(),
                })
            }
            Step::Trim(percent) => {
                let floor = state.floor;
                Job::Trim(Seq(floor + durable.saturating_sub(floor) * percent / 100))
            }
            Step::Bury(seq) => Job::Bury(vec![DeadLetter {
                seq: Seq(*seq),
                note: self.value(),
            }]),
            Step::Unbury(seq) => Job::Unbury(vec![Seq(*seq), Seq(seq + 1)]),
        }
    }

    fn value(&mut self) -> Bytes {
        self.n_values += 1;
        bytes(format!("value {}", self.n_values))
    }
}

/// A folder as a power cut leaves it: all that was synced, and nothing else.
pub struct Image {
    pub folder: TempDir,
    /// Jobs that were acknowledged, at least these are there; jobs that were handed
    /// over, at most these are.
    pub acknowledged: usize,
    pub handed_over: usize,
    pub wal_bytes: usize,
}

impl Image {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What RocksDB needs to come back, by name and size: not its own diary, which is large.
fn listing(db: &Path) -> BTreeMap<OsString, u64> {
    let files = fs::read_dir(db).expect("list").map(|f| f.expect("entry"));
    let named = files.filter(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name != "LOCK" && !name.starts_with("LOG") && !name.starts_with("OPTIONS")
    });
    // A file may go while we look.
    let sized = named.filter_map(|file| Some((file.file_name(), file.metadata().ok()?.len())));
    sized.collect()
}

/// As it stands at one moment: RocksDB may be moving records into table files.
fn copy(from: &Path, to: &Path) {
    let (from, to) = (from.join("db"), to.join("db"));
    loop {
        let before = listing(&from);
        fs::create_dir_all(&to).expect("folder");
        let copied = before
            .keys()
            .all(|name| fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && listing(&from) == before {
            return;
        }
        fs::remove_dir_all(&to).expect("cleared");
    }
}

/// In memory where there is such a place: what the disk does is part of the image,
/// and thousands of real fsyncs would only take time.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("folder")
}

pub fn image(from: &Path) -> TempDir {
    let to = scratch();
    copy(from, to.path());
    to
}

pub fn logs(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path.join("db")).expect("list");
    let mut logs: Vec<PathBuf> = files
        .map(|file| file.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    logs.sort();
    logs
}

pub fn newest_log(path: &Path) -> PathBuf {
    logs(path).pop().expect("a log")
}

#[derive(Default)]
struct Progress {
    acknowledged: AtomicUsize,
    handed_over: AtomicUsize,
    images: Mutex<Vec<Image>>,
}

/// Takes an image after every write: each is a cut point.
struct Camera {
    real: RocksDevice,
    from: PathBuf,
    progress: Arc<Progress>,
}

impl Device for Camera {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        self.real.write_synced(writes)?;
        let image = Image {
            folder: image(&self.from),
            acknowledged: self.progress.acknowledged.load(Ordering::SeqCst),
            handed_over: self.progress.handed_over.load(Ordering::SeqCst),
            wal_bytes: fs::read(newest_log(&self.from)).expect("log").len(),
        };
        self.progress.images.lock().push(image);
        Ok(())
    }
}

/// A history that was lived through.
pub struct Lived {
    /// What must be there after each number of jobs.
    pub states: Vec<State>,
    /// After each write, opening writes included.
    pub images: Vec<Image>,
    /// The newest record that was acknowledged: what a witness outside has seen.
    pub witness: Tip,
}

fn open_camera(path: &Path, progress: &Arc<Progress>) -> Ledger {
    let camera = |real| {
        Box::new(Camera {
            real,
            from: path.into(),
            progress: Arc::clone(progress),
        }) as Box<dyn Device>
    };
    Ledger::open_on(config(path), camera).expect("opens")
}

async fn hand_over(ledger: &Ledger, job: Job) -> Receipt {
    match job {
        Job::Append(group) => ledger.append(group).await,
        Job::Trim(through) => ledger.trim(through).await,
        Job::Bury(letters) => ledger.bury(letters).await,
        Job::Unbury(seqs) => ledger.unbury(&seqs).await,
    }
    .expect("room")
}

/// Lives through a history. What is handed over while a write is under way goes
/// into the next one together.
pub async fn live(rounds: &[Round]) -> Lived {
    let folder = scratch();
    let progress = Arc::new(Progress::default());
    let mut ledger = open_camera(folder.path(), &progress);
    let (mut author, mut states) = (Author::default(), vec![State::default()]);
    for (reopen, steps) in rounds {
        if *reopen {
            ledger.close();
            ledger = open_camera(folder.path(), &progress);
        }
        let durable = states[states.len() - 1].tip;
        let mut receipts = Vec::new();
        for step in steps {
            let mut state = states[states.len() - 1].clone();
            let job = author.job(step, &state, durable);
            let refused = state.apply(&job);
            states.push(state);
            progress.handed_over.fetch_add(1, Ordering::SeqCst);
            receipts.push((refused, hand_over(&ledger, job).await));
        }
        for (refused, receipt) in receipts {
            match receipt.await {
                Ok(_) => assert!(!refused, "a key was given twice"),
                Err(CommitError::UniqueTaken { .. }) => assert!(refused, "the key was free"),
                Err(CommitError::Closed) => panic!("the ledger closed"),
            }
        }
        progress
            .acknowledged
            .store(states.len() - 1, Ordering::SeqCst);
        // All of it is acknowledged now, and nothing was written since.
        if let Some(last) = progress.images.lock().last_mut() {
            last.acknowledged = last.handed_over;
        }
    }
    let witness = ledger.tip();
    ledger.close();
    let images = std::mem::take(&mut *progress.images.lock());
    Lived {
        states,
        images,
        witness,
    }
}
