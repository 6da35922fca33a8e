//! One bit flipped, anywhere: in the log, in a table file, in RocksDB's own notes.
//!
//! The ledger is refused with words that say where, or the bit was in nobody's way.
//! It never says something else than it said. One thing a log's newest block cannot
//! tell from a write cut short: a length that was made longer. Then groups are gone
//! from the end, whole, and a witness outside has seen further.
//!
//! The places are drawn by seed: `FLOODGATE_CRASH_TIMES=50 cargo test --release
//! --test flips` draws fifty times as many.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::history::{Lived, State, Step, image, live};
use floodgate_ledger::{OpenError, Reader};

const SEED: u64 = 7_731;
const FLIPS: u32 = 500;

/// A generator of places; the same for the same seed.
struct Places(u64);

impl Places {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).expect("less than n")
    }
}

/// A ledger with table files and a log behind them; the last jobs all make records.
async fn history() -> Lived {
    let append = |orders: &[usize], key, meta| Step::Append(orders.into(), key, meta, 40);
    let first = vec![
        append(&[0, 1, 2, 3], Some(0), Some(0)),
        append(&[0, 1, 2, 3], Some(1), Some(1)),
        Step::Bury(3),
        Step::Trim(100),
    ];
    let then = vec![append(&[4, 5, 6], Some(2), None), Step::Trim(30)];
    let last = (0..9).map(|n| append(&[n % 8], None, None)).collect();
    live(&[(false, first), (true, then), (false, last)]).await
}

fn what(error: &dyn std::fmt::Display) -> String {
    error.to_string()
}

/// What the folder says: its state, or why it says nothing.
fn look(path: &Path) -> Result<State, String> {
    let reader = Reader::open_read_only(path).map_err(|error| {
        assert!(
            !matches!(error, OpenError::Limits(_) | OpenError::InUse { .. }),
            "{error}"
        );
        what(&error)
    })?;
    State::read(&reader).map_err(|e| what(&e))
}

/// The files that RocksDB reads at a start.
fn files(path: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(path.join("db")).expect("list");
    let mut files: Vec<PathBuf> = all
        .map(|file| file.expect("entry").path())
        .filter(|path| path.metadata().expect("size").len() > 0)
        .collect();
    files.sort();
    files
}

fn kind_of(file: &Path) -> &'static str {
    let name = file.file_name().expect("a name").to_string_lossy();
    match name.rsplit(['.', '-']).next_back() {
        Some("MANIFEST") => "manifest",
        _ if name.ends_with(".log") => "log",
        _ if name.ends_with(".sst") => "table",
        Some(_) | None => "other",
    }
}

#[tokio::test]
async fn a_flipped_bit_is_told_or_harmless() {
    let times = std::env::var("FLOODGATE_CRASH_TIMES").ok();
    let times: u32 = times.map_or(1, |n| n.parse().expect("a number"));
    let Lived {
        states,
        images,
        witness,
    } = history().await;
    let last = images[images.len() - 1].path();
    let whole = look(last).expect("nothing is wrong yet");
    assert_eq!(&whole, &states[states.len() - 1]);
    let files = files(last);
    let mut places = Places(SEED);
    // By kind of file: told, harmless, shorter.
    let mut tally: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    let folder = image(last);
    for nth in 0..FLIPS * times {
        // A log in every other turn: it is what a start depends on most.
        let logs: Vec<&PathBuf> = files.iter().filter(|f| kind_of(f) == "log").collect();
        let file = match nth % 2 {
            0 => logs[places.below(logs.len())],
            _ => &files[places.below(files.len())],
        };
        let bytes = fs::read(file).expect("read");
        let (at, bit) = (places.below(bytes.len()), places.below(8));
        let name = file.file_name().expect("a name");
        let here = || format!("seed {SEED}, flip {nth}: bit {bit} of byte {at} of {name:?}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let target = folder.path().join("db").join(name);
        fs::write(&target, flipped).expect("written");
        let counts = tally.entry(kind_of(file)).or_default();
        match look(folder.path()) {
            Err(said) => {
                assert!(names_a_place(&said), "{}: {said}", here());
                counts[0] += 1;
            }
            Ok(found) if found == whole => counts[1] += 1,
            Ok(found) => {
                assert!(
                    kind_of(file) == "log" && states.contains(&found),
                    "{}: silently wrong: {found:#?}",
                    here()
                );
                assert!(found.tip < witness.seq.0, "{}: no witness sees it", here());
                counts[2] += 1;
            }
        }
        fs::write(&target, bytes).expect("written");
    }
    assert_eq!(look(folder.path()).as_ref(), Ok(&whole), "all as it was");
    eprintln!("told, harmless, shorter: {tally:?}");
    assert!(tally["log"][0] > tally["log"][2], "{tally:?}");
    assert!(tally["table"][0] > 0, "{tally:?}");
}

fn names_a_place(said: &str) -> bool {
    ["record ", ".sst", ".log", "MANIFEST", "CURRENT", "entry "]
        .iter()
        .any(|place| said.contains(place))
}
