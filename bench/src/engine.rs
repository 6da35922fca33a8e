//! Processes under test: started on free ports in temporary folders, stopped by id.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What a unit costs.
pub const PRICE_CENT: u32 = 100;

/// A server that printed its addresses; killed when dropped.
pub struct Server {
    child: Child,
    pub urls: Vec<String>,
    _folder: Option<TempDir>,
}

/// The engine's binary, which is built beside this one.
pub fn binary() -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
    Ok(me.with_file_name("floodgate"))
}

/// A folder that goes away with its value, on the disk of `parent`: a temporary
/// folder of the system may lie in memory, where an fsync costs nothing.
pub fn scratch(parent: &Path) -> Result<TempDir, String> {
    std::fs::create_dir_all(parent)
        .and_then(|()| tempfile::tempdir_in(parent))
        .map_err(|e| format!("make a folder in {}: {e}", parent.display()))
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
        let mut server = Self {
            child,
            urls: Vec::new(),
            _folder: folder,
        };
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|e| format!("read the first line: {e}"))?;
        server.urls = line
            .split_whitespace()
            .filter(|word| word.starts_with("http://"))
            .map(ToOwned::to_owned)
            .collect();
        if server.urls.is_empty() {
            return Err(format!(
                "{:?} did not say where it listens: {line:?}",
                command.get_program()
            ));
        }
        Ok(server)
    }

    /// The engine with one sale of `units` units, in a folder of its own under `parent`.
    pub fn engine(parent: &Path, units: u32) -> Result<Self, String> {
        Self::engine_with(parent, units, "")
    }

    /// The same engine with further lines of configuration.
    pub fn engine_with(parent: &Path, units: u32, more: &str) -> Result<Self, String> {
        Self::build(&binary()?, parent, units, more)
    }

    /// The same of another build of the engine.
    pub fn build(binary: &Path, parent: &Path, units: u32, more: &str) -> Result<Self, String> {
        let folder = scratch(parent)?;
        let skus = sku("unit", units, "");
        let command = engine_command(binary, folder.path(), &skus, more)?;
        Self::start(command, Some(folder))
    }

    /// An engine that sells these, in a folder that outlives it.
    pub fn engine_in(folder: &Path, skus: &str) -> Result<Self, String> {
        Self::build_in(&binary()?, folder, skus)
    }

    /// The same of another build of the engine.
    pub fn build_in(binary: &Path, folder: &Path, skus: &str) -> Result<Self, String> {
        Self::start(engine_command(binary, folder, skus, "")?, None)
    }

    pub fn public(&self) -> &str {
        &self.urls[0]
    }

    /// Processor time it has used, in its own name and in the kernel's.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).map_err(|e| format!("read {path}: {e}"))?;
        // Behind the name, which may have spaces: state, ten more, utime, stime.
        let fields = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace());
        let ticks: Vec<f64> = fields
            .into_iter()
            .flatten()
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse().ok())
            .collect();
        match ticks[..] {
            // Linux shows hundredths of a second here, whatever its own tick is.
            [user, system] => Ok((user + system) / 100.0),
            _ => Err(format!("{path} has no times")),
        }
    }

    /// Stands still until it may go on: what it has left to do takes nothing from others.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    pub fn go_on(&self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|e| format!("signal process {}: {e}", self.child.id()))
    }

    pub fn admin(&self) -> Result<&str, String> {
        self.urls
            .get(1)
            .map(String::as_str)
            .ok_or_else(|| "the engine named no admin address".into())
    }
}

/// One SKU of the sale; `grant` is what it lets its buyer play, if anything.
pub fn sku(id: &str, units: u32, grant: &str) -> String {
    format!(
        "{{ id = \"{id}\", name = \"{id}\", priceCent = {PRICE_CENT}, currency = \"EUR\", \
         units = {units}{grant} }}"
    )
}

/// No limit that buyers would meet, and pay windows that end after the run.
fn engine_command(binary: &Path, folder: &Path, skus: &str, more: &str) -> Result<Command, String> {
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
skus = [{skus}]
admission = {{ rate = 10000000, burst = 10000000, queueMax = 0, waitMs = 0 }}
{more}
"#
    );
    let file = folder.join("bench.toml");
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
        .arg(folder.join("data"))
        .env("RUST_LOG", "warn");
    Ok(command)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed, not stopped: what it promised is on the disk already. Only one that trains
        // the compiler (`make profile`) has something to write when it ends.
        let trains = std::env::var_os("TRAIN_COUNTS").is_some();
        if !trains || self.signal(Signal::TERM).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
