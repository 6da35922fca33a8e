//! A PostgreSQL of our own: its own folder, a free port of the loopback.
//!
//! It refuses to run as root; then it runs as the user `postgres`, whom its package
//! brings. Its folder stands alone, because that user may not look into ours.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::{NamedTempFile, TempDir};

use super::process::{Process, Voice};
use super::{ServerError, free_port};

pub const USER: &str = "floodgate";
/// As far as the loopback of this machine.
pub const PASSWORD: &str = "change-me";
/// Comes with every new server.
pub const DATABASE: &str = "postgres";
const STARTS_MAX: u32 = 20;
/// An empty database, whatever it was before.
pub const NOTHING: &str = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
/// So often an operator tries one thing.
const STATEMENTS_MAX: u32 = 10;

pub struct Postgres {
    process: Option<Process>,
    programs: PathBuf,
    folder: TempDir,
    pub port: u16,
}

/// Where Debian puts the server's programs; the newest version.
fn programs() -> Result<PathBuf, ServerError> {
    let missing =
        || ServerError::Missing("PostgreSQL is not installed (apt-get install postgresql)".into());
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| missing())?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
        .ok_or_else(missing)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// `program` as somebody whom PostgreSQL runs for, ended with whoever started it.
fn as_other(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program).env("LC_ALL", "C");
    command
}

fn done(command: &mut Command) -> Result<(), ServerError> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ServerError::Said(format!("{command:?}: {said}")))
}

fn is_ready(line: &str) -> bool {
    line.ends_with("ready to accept connections")
}

impl Postgres {
    pub fn start() -> Result<Self, ServerError> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("floodgate-pg.").tempdir()?;
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        if is_root() {
            let owner = ["-R", "postgres:postgres"];
            done(Command::new("chown").args(owner).arg(folder.path()))?;
        }
        done(
            as_other(&programs.join("initdb"))
                .current_dir(folder.path())
                .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8"])
                .args(["--locale=C", "--username", USER, "--pwfile"])
                .arg(&password)
                .arg("--pgdata")
                .arg(folder.path().join("data")),
        )?;
        let mut server = Self {
            process: None,
            programs,
            folder,
            port: free_port()?,
        };
        let mut tries = 1;
        // Somebody else may take a free port before the server does.
        while let Err(error) = server.run() {
            if tries == STARTS_MAX {
                return Err(error);
            }
            server.port = free_port()?;
            tries += 1;
        }
        Ok(server)
    }

    fn run(&mut self) -> Result<(), ServerError> {
        let mut command = as_other(&self.programs.join("postgres"));
        command
            .current_dir(self.folder.path())
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", &format!("port={}", self.port)]);
        let log = self.folder.path().join("postgres.log");
        let (process, _) = Process::start("postgres", &mut command, Voice::Stderr, &log, is_ready)?;
        self.process = Some(process);
        Ok(())
    }

    /// To all of its processes.
    pub fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        // Stopped, it has no more children while we look.
        process.signal(Signal::STOP)?;
        let id = process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let ids = children.split_whitespace().filter_map(|id| id.parse().ok());
        for child in ids.filter_map(Pid::from_raw) {
            // Those that ended meanwhile need no signal.
            let _ = kill_process(child, signal);
        }
        Ok(process.signal(signal)?)
    }

    /// All of it at once, as a power cut would, but for the disk.
    pub fn kill(&mut self) -> Result<(), ServerError> {
        let told = self.signal(Signal::KILL);
        if let Some(process) = self.process.take() {
            process.kill();
        }
        told
    }

    /// Statements by an operator, all of them or none.
    pub fn sql(&self, statements: &str) -> Result<(), ServerError> {
        self.told(&["-c".as_ref(), statements.as_ref()])
    }

    /// All that it has, as the statements that bring it back.
    pub fn backup(&self) -> Result<NamedTempFile, ServerError> {
        let file = NamedTempFile::new()?;
        done(
            self.client("pg_dump")
                .args(["--no-owner", "--no-privileges", "-f"])
                .arg(file.path()),
        )?;
        Ok(file)
    }

    /// The database is what it was at the time of the backup, from one moment to the next.
    pub fn put_back(&self, backup: &NamedTempFile) -> Result<(), ServerError> {
        let file = backup.path().as_os_str();
        self.told(&["-c".as_ref(), NOTHING.as_ref(), "-f".as_ref(), file])
    }

    /// An operator whose statements meet the engine's in a deadlock tries again.
    fn told(&self, what: &[&OsStr]) -> Result<(), ServerError> {
        let once = || {
            done(
                self.client("psql")
                    .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"])
                    .arg("--single-transaction")
                    .args(what),
            )
        };
        for _ in 1..STATEMENTS_MAX {
            match once() {
                Err(error) if error.to_string().contains("deadlock detected") => {}
                done => return done,
            }
        }
        once()
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER])
            .args(["-d", DATABASE])
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "60");
        command
    }

    pub fn start_again(&mut self) -> Result<(), ServerError> {
        let mut tries = 1;
        loop {
            match self.run() {
                Ok(()) => return Ok(()),
                Err(error) if tries == STARTS_MAX => return Err(error),
                // The killed one's children and port may be there for a moment.
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(200)),
            }
            tries += 1;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Children would end by themselves once they notice; the folder goes right now.
        let _ = self.kill();
    }
}
