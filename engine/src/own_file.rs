//! Secrets of our own making: drawn at the first start, kept in the data folder over
//! restarts, readable by the engine's user alone.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What stands in the file, as `read` understands it; without a file, what `make` made
/// of fresh random bytes, and the file with it. An error names the file, and what to do.
pub fn read_or_make<T, E: Display>(
    path: &Path,
    what: &str,
    read: impl Fn(&str) -> Result<T, E>,
    make: impl FnOnce([u8; 32]) -> String,
) -> Result<T, String> {
    let context = |doing: &str, e: std::io::Error| format!("{doing} {}: {e}", path.display());
    let parse = |text: &str| {
        read(text.trim())
            .map_err(|e| format!("{}: {e}; delete it to get a new one", path.display()))
    };
    match std::fs::read_to_string(path) {
        Ok(text) => return parse(&text),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(context("read", e)),
    }
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(|e| format!("draw {what}: {e}"))?;
    let text = make(random);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| context("create", e))?;
    // A half-written secret that a crash leaves would keep the next start from going on;
    // one that was told to somebody must be there after it.
    writeln!(file, "{text}")
        .and_then(|()| file.sync_all())
        .map_err(|e| context("write", e))?;
    tracing::info!(path = %path.display(), "wrote {what}");
    parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn long(text: &str) -> Result<String, String> {
        if text.len() < 16 {
            return Err(format!("has {} bytes", text.len()));
        }
        Ok(text.to_owned())
    }

    #[test]
    fn it_is_made_once_for_its_owner_alone_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let make = |random: [u8; 32]| random.iter().map(|b| format!("{b:02x}")).collect();
        let first = read_or_make(&path, "a key", long, make).expect("made");
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!((first.len(), mode & 0o777), (64, 0o600));
        assert_eq!(read_or_make(&path, "a key", long, make), Ok(first));

        std::fs::write(&path, "short\n").expect("written");
        let problem = read_or_make(&path, "a key", long, make).expect_err("too short");
        assert!(
            problem.contains("key: has 5 bytes; delete it to get a new one"),
            "{problem}"
        );
    }
}
