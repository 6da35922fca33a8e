//! The file behind its two connections, and whether it still is the one at its path.
//!
//! A backup is put back by a rename, and nobody has to stop the engine for it. Whoever
//! has the file open that stood there before would write on where no one looks. So every
//! use begins with a look at the path. Where another file stands, or none, both
//! connections are drawn anew and the store says that it was away: the stream then asks
//! for the mark before it puts anything.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use rusqlite::Connection;

use super::{away, migrate};
use crate::stream::store::StoreError;

/// How long another handle may keep us out before the store counts as away.
const BUSY_WAIT: Duration = Duration::from_secs(5);

pub(super) struct File {
    path: PathBuf,
    /// One writer, and a reader of its own so that audits do not hold it up. Who locks
    /// both takes the writer first. None: it was gone, and could not be opened anew yet.
    writer: Mutex<Option<Handle>>,
    reader: Mutex<Option<Handle>>,
}

pub(super) type Held<'a> = MappedMutexGuard<'a, Connection>;

struct Handle {
    db: Connection,
    /// What stood at the path when it was opened.
    file: FileId,
    /// Its write-ahead log.
    log: Option<FileId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn at(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl File {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (writer, reader) = open_both(path)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(Some(writer)),
            reader: Mutex::new(Some(reader)),
        })
    }

    /// For what is asked in a moment, too: nobody holds it for long.
    pub fn writer(&self) -> Result<Held<'_>, StoreError> {
        self.look(self.writer.lock())
            .map_err(|mut handle| self.renew(&mut handle))
    }

    pub fn reader(&self) -> Result<Held<'_>, StoreError> {
        match self.look(self.reader.lock()) {
            Ok(db) => Ok(db),
            Err(handle) => {
                drop(handle);
                drop(self.writer()?);
                Err(exchanged()) // And somebody else noticed first.
            }
        }
    }

    /// The connection, if it leads to the file at the path.
    fn look<'a>(
        &self,
        handle: MutexGuard<'a, Option<Handle>>,
    ) -> Result<Held<'a>, MutexGuard<'a, Option<Handle>>> {
        let there = FileId::at(&self.path);
        MutexGuard::try_map(handle, |handle| {
            let handle = handle.as_mut()?;
            (Some(handle.file) == there).then_some(&mut handle.db)
        })
    }

    fn renew(&self, writer: &mut Option<Handle>) -> StoreError {
        let mut reader = self.reader.lock();
        let log = writer.as_ref().and_then(|handle| handle.log);
        if let Err(error) = forget_log(&self.path, log) {
            return StoreError::Away(format!("the log of a file that is gone: {error}"));
        }
        // Nothing of the old file is open when the new one is.
        *writer = None;
        *reader = None;
        match open_both(&self.path) {
            Ok(both) => {
                (*writer, *reader) = (Some(both.0), Some(both.1));
                exchanged()
            }
            Err(error) => error,
        }
    }
}

fn exchanged() -> StoreError {
    StoreError::Away("another file stood in its place, and was opened".to_owned())
}

/// A log that is left of the file that was there must not be taken for one of the file
/// that is: SQLite would write its pages over it. One that came with the new file stays.
fn forget_log(path: &Path, log: Option<FileId>) -> std::io::Result<()> {
    let at = beside(path, "-wal");
    if log.is_none() || FileId::at(&at) != log {
        return Ok(());
    }
    // The index last: without the log it is made anew.
    for at in [at, beside(path, "-shm")] {
        match std::fs::remove_file(at) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(what);
    name.into()
}

fn open_both(path: &Path) -> Result<(Handle, Handle), StoreError> {
    let before = FileId::at(path);
    let mut writer = connect(path).map_err(away)?;
    migrate(&mut writer)?;
    let reader = connect(path).map_err(away)?;
    let log = FileId::at(&beside(path, "-wal"));
    match FileId::at(path) {
        Some(file) if before.is_none_or(|before| before == file) => {
            let handle = |db| Handle { db, file, log };
            Ok((handle(writer), handle(reader)))
        }
        // Which of the two files is open, nobody knows.
        Some(_) | None => Err(exchanged()),
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_WAIT)?;
    switch_to_wal(&db)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}

/// SQLite waits for locks by itself, but not for this one: of two engines that
/// start together on a new file, one is told "busy" at once.
fn switch_to_wal(db: &Connection) -> Result<(), rusqlite::Error> {
    let began = Instant::now();
    loop {
        match db.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && began.elapsed() < BUSY_WAIT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            switched => return switched,
        }
    }
}
