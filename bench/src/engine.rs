//! Processes under test: started on free ports in temporary folders, stopped by id.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A server that printed its addresses; killed when dropped.
pub struct Server {
    child: Child,
    pub urls: Vec<String>,
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts a command and reads the addresses from its first line.
    pub fn start(mut command: Command, folder: Option<TempDir>) -> Result<Self, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("start {:?}: {e}", command.get_program()))?;
        let stdout = child.stdout.take().ok_or("the child has no output")?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|e| format!("read the first line: {e}"))?;
        let urls: Vec<String> = line
            .split_whitespace()
            .filter(|word| word.starts_with("http://"))
            .map(ToOwned::to_owned)
            .collect();
        if urls.is_empty() {
            let _ = child.kill();
            return Err(format!(
                "{:?} did not say where it listens: {line:?}",
                command.get_program()
            ));
        }
        Ok(Self {
            child,
            urls,
            _folder: folder,
        })
    }

    /// The engine with one sale of `units` units, and no limit that buyers would meet.
    pub fn engine(binary: &Path, units: u32) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| format!("make a folder: {e}"))?;
        let config = format!(
            r#"
[auth]
mode = "demo"
[[sales]]
id = "bench"
name = "bench"
startsAt = "2020-01-01T00:00:00Z"
endsAt = "2099-01-01T00:00:00Z"
unitsPerUser = 1
skus = [{{ id = "unit", name = "unit", priceCent = 100, currency = "EUR", units = {units} }}]
admission = {{ rate = 10000000, burst = 10000000, queueMax = 0, waitMs = 0 }}
"#
        );
        let file = folder.path().join("bench.toml");
        std::fs::write(&file, config).map_err(|e| format!("write {}: {e}", file.display()))?;
        let mut command = Command::new(binary);
        command
            .args([
                "serve",
                "--http-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--config",
            ])
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .env("RUST_LOG", "warn");
        Self::start(command, Some(folder))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed, not stopped: what it promised is on the disk already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
