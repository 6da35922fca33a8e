//! Opening: one owner, one history.
//!
//! Locks the folder, checks what is there (layout version, id, tip, and the
//! chain from the newest verified record on), and only then raises the
//! incarnation, fsynced. What does not fit is refused with the record named;
//! nothing is repaired here.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::config::LedgerConfig;
use crate::device::{Device, Table, Write};
use crate::error::{Damage, OpenError, ReadError};
use crate::keys;
use crate::manifest;
use crate::read::Reader;
use crate::record::{LedgerId, Seq, Tip};
use crate::rocks::Rocks;
use crate::tables::Tables;
use crate::verify;

const LOCK_FILE: &str = "ledger.lock";
const DB_FOLDER: &str = "db";

/// Who a ledger is and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: LedgerId,
    /// How often it was opened.
    pub incarnation: u64,
    pub tip: Tip,
    /// The newest record that was read back and fitted the chain.
    pub verified: Tip,
    /// The newest trimmed record, or seq 0 with the genesis hash.
    pub floor: Tip,
}

/// Locks the folder and opens the tables. Nothing is checked yet.
pub(crate) fn tables(config: &LedgerConfig) -> Result<Arc<Rocks>, OpenError> {
    let path = &*config.path;
    let io = |step| move |error: std::io::Error| io_error(path, step, error);
    fs::create_dir_all(path).map_err(io("create folder"))?;
    let lock = lock(path)?;
    check_manifest(path)?;
    let rocks = Rocks::open(&path.join(DB_FOLDER), config, lock)
        .map_err(|error| rocks_error(path, "open tables", error))?;
    // The folder's own name must survive a power cut as well as its content.
    let folders = [
        Some(path),
        path.parent()
            .filter(|parent| !parent.as_os_str().is_empty()),
    ];
    for folder in folders.into_iter().flatten() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io("sync folder"))?;
    }
    Ok(Arc::new(rocks))
}

/// Checks what is there, or founds a new ledger; raises the incarnation.
pub(crate) fn check(
    path: &Path,
    tables: &Tables,
    device: &mut dyn Device,
    new_id: impl FnOnce() -> Result<LedgerId, OpenError>,
) -> Result<Identity, OpenError> {
    let read = |error| read_error(path, error);
    let found = match identity(tables).map_err(read)? {
        None => found_new(new_id()?),
        Some(known) if believes_on_purpose() => known,
        Some(known) => {
            verify::tip_stands(tables, known.floor, known.tip).map_err(read)?;
            // What was trimmed in the meantime needs no more checking.
            let after = if known.floor.seq > known.verified.seq {
                known.floor
            } else {
                known.verified
            };
            let report = verify::chain(tables, after, known.tip).map_err(read)?;
            tracing::debug!(records = report.records, "ledger chain verified");
            Identity {
                verified: known.tip,
                ..known
            }
        }
    };
    let opened = Identity {
        incarnation: found.incarnation + 1,
        ..found
    };
    let values = [
        (
            keys::META_FORMAT,
            keys::LEDGER_FORMAT.to_be_bytes().to_vec(),
        ),
        (keys::META_ID, opened.id.0.to_vec()),
        (
            keys::META_INCARNATION,
            opened.incarnation.to_be_bytes().to_vec(),
        ),
        (keys::META_TIP, keys::tip_value(&opened.tip).to_vec()),
        (
            keys::META_VERIFIED,
            keys::tip_value(&opened.verified).to_vec(),
        ),
        (keys::META_FLOOR, keys::tip_value(&opened.floor).to_vec()),
    ];
    let writes = values.each_ref().map(|(key, value)| Write::Put {
        table: Table::Meta,
        key,
        value,
    });
    device
        .write_synced(&writes)
        .map_err(|error| io_error(path, "raise incarnation", error))?;
    Ok(opened)
}

/// Only the test that proves that somebody notices opens what it did not check.
fn believes_on_purpose() -> bool {
    fail::fail_point!("ledger-open-unchecked", |_| true);
    false
}

pub(crate) fn read_only(path: &Path) -> Result<Reader, OpenError> {
    let db = path.join(DB_FOLDER);
    if !db.is_dir() {
        return Err(io_error(
            path,
            "find tables",
            "there is no ledger in this folder",
        ));
    }
    check_manifest(path)?;
    let rocks =
        Rocks::open_read_only(&db).map_err(|error| rocks_error(path, "open tables", error))?;
    Ok(Reader::new(Tables::Rocks(Arc::new(rocks))))
}

/// What the meta table says, or `None` for a folder that was never a ledger.
pub(crate) fn identity(tables: &Tables) -> Result<Option<Identity>, ReadError> {
    let get = |key| tables.get(Table::Meta, key);
    let Some(format) = get(keys::META_FORMAT)? else {
        return match verify::last_seq(tables)? {
            Some(_) => Err(Damage::NoMeta { key: "format" }.into()),
            None => Ok(None),
        };
    };
    if *format != keys::LEDGER_FORMAT.to_be_bytes()[..] {
        let found = format[..].try_into().map_or(0, u32::from_be_bytes);
        return Err(ReadError::Format {
            found,
            known: keys::LEDGER_FORMAT,
        });
    }
    let id = get(keys::META_ID)?
        .and_then(|id| id[..].try_into().ok())
        .map(LedgerId);
    let incarnation = get(keys::META_INCARNATION)?.and_then(|n| n[..].try_into().ok());
    let tip = |key| -> Result<Option<Tip>, ReadError> {
        Ok(get(key)?.and_then(|value| keys::parse_tip(&value)))
    };
    let missing = |key| ReadError::Damaged(Damage::NoMeta { key });
    Ok(Some(Identity {
        id: id.ok_or(missing("id"))?,
        incarnation: incarnation
            .map(u64::from_be_bytes)
            .ok_or(missing("incarnation"))?,
        tip: tip(keys::META_TIP)?.ok_or(missing("tip"))?,
        verified: tip(keys::META_VERIFIED)?.ok_or(missing("verified mark"))?,
        floor: tip(keys::META_FLOOR)?.ok_or(missing("floor"))?,
    }))
}

pub(crate) fn draw_id(path: &Path) -> Result<LedgerId, OpenError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| io_error(path, "draw a ledger id", error))?;
    Ok(LedgerId(id))
}

fn found_new(id: LedgerId) -> Identity {
    let before_first = Tip {
        seq: Seq::ZERO,
        hash: id.genesis(),
    };
    Identity {
        id,
        incarnation: 0,
        tip: before_first,
        verified: before_first,
        floor: before_first,
    }
}

/// The folder is ours for as long as this lives; it goes with the process, however that
/// ends.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would not do: a child that was forked a moment ago and has not become
        // another program yet has the file open as well.
        let _ = self.0.unlock();
    }
}

/// The text in the file is for people.
fn lock(path: &Path) -> Result<Lock, OpenError> {
    let io = |error: std::io::Error| io_error(path, "lock folder", error);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK_FILE))
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.read_to_string(&mut holder);
            let holder = match (read, holder.trim()) {
                (Ok(_), pid) if !pid.is_empty() => format!("process {pid}"),
                _ => "another process".into(),
            };
            return Err(OpenError::InUse {
                path: path.into(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(Lock(file))
}

fn io_error(path: &Path, step: &'static str, why: impl ToString) -> OpenError {
    OpenError::Io {
        path: path.into(),
        step,
        why: why.to_string(),
    }
}

fn rocks_error(path: &Path, step: &'static str, error: rocksdb::Error) -> OpenError {
    // A file that the others name and that is not there is a damage as well.
    let is_gone = error.as_ref().contains("No such file or directory");
    if error.kind() == rocksdb::ErrorKind::Corruption || is_gone {
        return OpenError::Corrupt {
            path: path.into(),
            why: placed(path, error.into_string()),
        };
    }
    io_error(path, step, error)
}

fn check_manifest(path: &Path) -> Result<(), OpenError> {
    manifest::check(&path.join(DB_FOLDER)).map_err(|why| OpenError::Corrupt {
        path: path.into(),
        why,
    })
}

/// RocksDB names the table file or manifest that is damaged; a log it does not name.
fn placed(path: &Path, why: String) -> String {
    if [".sst", ".log", "MANIFEST", "CURRENT"]
        .iter()
        .any(|n| why.contains(n))
    {
        return why;
    }
    let files = fs::read_dir(path.join(DB_FOLDER)).into_iter().flatten();
    let mut logs: Vec<String> = files
        .flatten()
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".log"))
        .collect();
    logs.sort();
    format!("{why}, most likely in a log: {}", logs.join(", "))
}

fn read_error(path: &Path, error: ReadError) -> OpenError {
    match error {
        ReadError::Damaged(damage) => OpenError::Damaged {
            path: path.into(),
            damage,
        },
        ReadError::Format { found, known } => OpenError::Format {
            path: path.into(),
            found,
            known,
        },
        ReadError::Corrupt(why) => OpenError::Corrupt {
            path: path.into(),
            why,
        },
        error @ (ReadError::Trimmed { .. } | ReadError::Device(_)) => {
            io_error(path, "check records", error)
        }
    }
}
