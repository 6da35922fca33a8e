//! A real PostgreSQL for tests and benchmarks: its own folder, a free port of the
//! loopback, ended by its process id, and by the kernel if whoever started it dies.
//!
//! PostgreSQL refuses to run as root; then it runs as the user `postgres`, whom its
//! package brings. SQL from outside the engine goes through `psql`.

#![allow(dead_code)] // Each user takes its own part of this.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;

const USER: &str = "floodgate";
const PASSWORD: &str = "a password, with a space";
/// Somebody else may take a port between our look and the server's.
const PORTS_TRIED: usize = 5;

pub struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    pub port: u16,
    settings: Vec<String>,
    running: Mutex<Option<Running>>,
    n_databases: AtomicU32,
}

/// A server that said it is ready. The thread reads what it says until it ends, and
/// it is the one whose death ends the server.
struct Running {
    pid: u32,
    keeper: JoinHandle<()>,
}

/// Where Debian puts the server's programs; the newest version.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// `program` as somebody whom PostgreSQL runs for.
fn as_other(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program).env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) -> Result<String, String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{command:?}: {e}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&done.stderr);
        Err(format!("{command:?}: {said}"))
    }
}

fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(ToString::to_string);
    // A child may have ended since we looked.
    let mut kill = Command::new("kill");
    let _ = kill.arg(name).args(pids).stderr(Stdio::null()).status();
}

impl Server {
    /// For tests that leave the machine running: nothing waits for the disk.
    pub fn start() -> Self {
        Self::with(&["fsync=off"], &[]).expect("PostgreSQL runs (apt-get install postgresql)")
    }

    /// One for all tests of a process that do no harm to it; it ends with the last.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// With these settings and otherwise as it comes. The files stand beside its data,
    /// and are its own.
    pub fn with(settings: &[&str], files: &[(&str, &str)]) -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL is not installed")?;
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).map_err(|e| e.to_string())?;
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, text).map_err(|e| e.to_string())?;
            let mine = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, mine).map_err(|e| e.to_string())?;
        }
        if is_root() {
            let owner = ["-R", "postgres:postgres"];
            run(Command::new("chown").args(owner).arg(folder.path()))?;
        }
        let data = folder.path().join("data");
        run(as_other(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C", "--username", USER, "--pwfile"])
            .arg(&password)
            .arg("--pgdata")
            .arg(&data))?;
        let mut server = Self {
            folder,
            programs,
            port: 0,
            settings: settings.iter().map(ToString::to_string).collect(),
            running: Mutex::new(None),
            n_databases: AtomicU32::new(0),
        };
        let mut said = String::new();
        for _ in 0..PORTS_TRIED {
            let free = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
            server.port = free.local_addr().map_err(|e| e.to_string())?.port();
            drop(free);
            match server.run() {
                Ok(()) => return Ok(server),
                Err(error) => said = error,
            }
        }
        Err(said)
    }

    /// Begins, or begins again where it was ended; ready when it returns.
    pub fn run(&self) -> Result<(), String> {
        let mut command = as_other(&self.programs.join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data"));
        let own = [
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            format!("port={}", self.port),
        ];
        for setting in own.iter().chain(&self.settings) {
            command.args(["-c", setting]);
        }
        let (ready, told) = mpsc::channel();
        let keeper = std::thread::spawn(move || {
            let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
            let mut child = match quiet.stderr(Stdio::piped()).spawn() {
                Ok(child) => child,
                Err(error) => return drop(ready.send(Err(format!("{command:?}: {error}")))),
            };
            let mut log = String::new();
            let lines = BufReader::new(child.stderr.take().unwrap()).lines();
            for line in lines.map_while(Result::ok) {
                if line.ends_with("ready to accept connections") {
                    let _ = ready.send(Ok(child.id()));
                }
                log = log + &line + "\n";
            }
            let _ = child.wait();
            // Nobody hears this from one that was ready.
            let _ = ready.send(Err(log));
        });
        let pid = told.recv().map_err(|e| e.to_string())??;
        *self.running.lock().unwrap() = Some(Running { pid, keeper });
        Ok(())
    }

    /// As a power cut would, but for the disk: no farewell, nothing tidied up.
    pub fn kill(&self) {
        self.thaw();
        if let Some(Running { pid, keeper }) = self.running.lock().unwrap().take() {
            signal("-QUIT", &[pid]);
            let _ = keeper.join();
        }
    }

    /// It stands still, and so does every line to it.
    pub fn freeze(&self) {
        signal("-STOP", &self.processes());
    }

    pub fn thaw(&self) {
        signal("-CONT", &self.processes());
    }

    /// The server first, so that it has no more children while we look.
    fn processes(&self) -> Vec<u32> {
        let Some(server) = self.running.lock().unwrap().as_ref().map(|r| r.pid) else {
            return Vec::new();
        };
        let children = format!("/proc/{server}/task/{server}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|p| p.parse().ok());
        std::iter::once(server).chain(children).collect()
    }

    /// An empty database that nobody had before.
    pub fn database(&self) -> String {
        let name = format!("place_{}", self.n_databases.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The table `[store]` of an engine that forgives a busy machine.
    pub fn store(&self, database: &str) -> String {
        format!(
            "[store]\nkind = \"postgres\"\nport = {}\nuser = \"{USER}\"\ndatabase = \"{database}\"\n\
             password_file = \"{}\"\nsslmode = \"disable\"\n\
             connect_ms = 60000\nstatement_ms = 600000\n",
            self.port,
            self.folder.path().join("password").display()
        )
    }

    fn client(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER])
            .args(["-d", database])
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "30");
        command
    }

    /// Statements by somebody else; their rows, one a line, columns parted by `|`.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.try_sql(database, statements).unwrap()
    }

    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        let mut psql = self.client("psql", database);
        run(psql
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c"])
            .arg(statements))
    }

    /// Somebody else whose transaction stays open while other things happen.
    pub fn session(&self, database: &str) -> Session {
        let mut psql = self.client("psql", database);
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        psql.stdin(Stdio::piped()).stdout(Stdio::null());
        Session(psql.spawn().unwrap())
    }

    /// A backup as SQL that puts the database back to this moment, whatever is in it.
    pub fn dump(&self, database: &str) -> String {
        let mut dump = self.client("pg_dump", database);
        run(dump.args(["--clean", "--if-exists"])).unwrap()
    }

    /// Puts a backup back in one transaction, under whoever is connected.
    pub fn restore(&self, database: &str, dump: &str) {
        let file = self.folder.path().join("dump.sql");
        std::fs::write(&file, dump).unwrap();
        let mut psql = self.client("psql", database);
        run(psql
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "--single-transaction",
                "-f",
            ])
            .arg(&file))
        .unwrap();
    }
}

/// Hung up at the end: what it has not committed is rolled back.
pub struct Session(Child);

impl Session {
    /// Does not wait for an answer.
    pub fn say(&mut self, sql: &str) {
        let stdin = self.0.stdin.as_mut().unwrap();
        writeln!(stdin, "{sql};").unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
