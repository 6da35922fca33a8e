//! `floodgate ledger verify|stat|dump`: what stands in a ledger, for people and scripts.
//!
//! It looks and never touches: the folder is opened read-only, also while an
//! engine runs on it. Then it shows the moment of the look, no later one.
//!
//! Not here: what is done about damage. Nothing is repaired.

mod dump;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use floodgate_ledger::{Identity, LEDGER_FORMAT, OpenError, Reader};

/// A running engine lets go of files that a look has just read the names of. A
/// second look has the new names; three in a row do not go wrong by chance.
const LOOKS_MAX: usize = 3;

#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Check every record, the hash chain and the tip; exit 1 names what is damaged
    Verify(Folder),
    /// Say who the ledger is, how far it has come and what it holds
    Stat(Folder),
    /// Write records as JSON lines
    Dump(Dump),
}

#[derive(Args)]
pub struct Folder {
    /// The engine's data folder; the ledger stands in `ledger` inside it
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
}

#[derive(Args)]
pub struct Dump {
    #[command(flatten)]
    folder: Folder,
    /// First record; without it the oldest one kept
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// Most records written; without it all
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Why a look came to nothing.
enum Stopped {
    Said(String),
    /// Whoever reads has enough (`dump | head`): no news.
    ReaderGone,
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Said(format!("write the answer: {error}")),
        }
    }
}

pub fn run(command: LedgerCommand) -> Result<(), String> {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match command {
        LedgerCommand::Verify(folder) => verify(&folder.path(), &mut out),
        LedgerCommand::Stat(folder) => stat(&folder.path(), &mut out),
        LedgerCommand::Dump(args) => {
            let path = args.folder.path();
            open(&path).and_then(|reader| {
                dump::records(&reader, args.from, args.limit, &mut out, |e| said(&path, e))
            })
        }
    };
    // What was found before a damage is told before the damage.
    match (done, out.flush().map_err(Stopped::from)) {
        (Ok(()), Ok(())) | (Err(Stopped::ReaderGone), _) | (Ok(()), Err(Stopped::ReaderGone)) => {
            Ok(())
        }
        (Err(Stopped::Said(why)), _) | (Ok(()), Err(Stopped::Said(why))) => Err(why),
    }
}

impl Folder {
    fn path(&self) -> PathBuf {
        self.data_dir.join("ledger")
    }
}

fn said(path: &Path, why: impl std::fmt::Display) -> Stopped {
    Stopped::Said(format!("ledger folder {}: {why}", path.display()))
}

fn open(path: &Path) -> Result<Reader, Stopped> {
    let mut looks = 1;
    loop {
        match Reader::open_read_only(path) {
            Ok(reader) => return Ok(reader),
            Err(OpenError::Io { .. } | OpenError::Corrupt { .. })
                if looks < LOOKS_MAX && path.join("db").is_dir() =>
            {
                looks += 1;
            }
            // The error names the folder by itself.
            Err(error) => return Err(Stopped::Said(error.to_string())),
        }
    }
}

fn verify(path: &Path, out: &mut impl Write) -> Result<(), Stopped> {
    let reader = open(path)?;
    let report = reader.verify().map_err(|e| said(path, e))?;
    let id = reader.identity().map_err(|e| said(path, e))?.id;
    writeln!(
        out,
        "ok: ledger {id} with {} entries: {} records after {}, tip {} {}",
        report.entries, report.records, report.after, report.tip.seq, report.tip.hash
    )?;
    Ok(())
}

fn stat(path: &Path, out: &mut impl Write) -> Result<(), Stopped> {
    let reader = open(path)?;
    let Identity {
        id,
        incarnation,
        tip,
        floor,
        ..
    } = reader.identity().map_err(|e| said(path, e))?;
    // By kind, as numbers are bytes: (all, live).
    let mut counts = [(0_u64, 0_u64); 256];
    for entity in reader.entities(None, None, false) {
        let entity = entity.map_err(|e| said(path, e))?;
        let (all, live) = &mut counts[usize::from(entity.kind.0)];
        *all += 1;
        *live += u64::from(entity.live);
    }
    writeln!(out, "ledger: {id}")?;
    writeln!(out, "incarnation: {incarnation}")?;
    // The reader refuses every other one.
    writeln!(out, "format: {LEDGER_FORMAT}")?;
    writeln!(out, "tip: {} {}", tip.seq, tip.hash)?;
    writeln!(out, "floor: {} {}", floor.seq, floor.hash)?;
    writeln!(out, "bytes on disk: {}", bytes_on_disk(path))?;
    for (kind, (all, live)) in (0_u8..=u8::MAX).zip(counts) {
        let known = dump::kind_name(kind);
        if all > 0 || known.is_some() {
            let name = known.map_or_else(|| format!("kind {kind}"), ToOwned::to_owned);
            writeln!(out, "{name}: {all}, live {live}")?;
        }
    }
    Ok(())
}

/// Files may go while we look; what is gone takes no space.
fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_on_disk(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}
