//! The engine as a process: the first start finds free ports, every later one takes the
//! same, so that buyers find it again.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::ServerError;
use super::process::{Process, Voice, bound};

const STARTS_MAX: u32 = 5;

pub struct Engine {
    process: Option<Process>,
    program: PathBuf,
    config: PathBuf,
    folder: PathBuf,
    /// `127.0.0.1:8080`
    pub public: String,
    pub admin: String,
}

/// The two addresses that the engine says once it listens.
fn addresses(line: &str) -> Option<[&str; 2]> {
    let words = line.split_whitespace();
    let mut urls = words.filter_map(|word| word.strip_prefix("http://"));
    Some([urls.next()?, urls.next()?])
}

fn is_open(line: &str) -> bool {
    addresses(line).is_some()
}

/// The engine that was built together with this program.
pub fn program() -> Result<PathBuf, ServerError> {
    let program = std::env::current_exe()?.with_file_name("floodgate");
    if program.exists() {
        return Ok(program);
    }
    let why = format!("{} is missing: build the workspace", program.display());
    Err(ServerError::Missing(why))
}

impl Engine {
    /// Its data, log and configuration stand in the folder.
    pub fn start(program: &Path, folder: &Path, config: &str) -> Result<Self, ServerError> {
        fs::create_dir_all(folder)?;
        let file = folder.join("floodgate.toml");
        fs::write(&file, config)?;
        let mut engine = Self {
            process: None,
            program: program.to_owned(),
            config: file,
            folder: folder.to_owned(),
            public: "127.0.0.1:0".to_owned(),
            admin: "127.0.0.1:0".to_owned(),
        };
        engine.run()?;
        Ok(engine)
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("engine.log")
    }

    pub fn token_file(&self) -> PathBuf {
        self.data().join("admin-token")
    }

    /// Where it writes the secret of its payment provider.
    pub fn payment_secret_file(&self) -> PathBuf {
        self.data().join("payment-secret")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn ledger(&self) -> PathBuf {
        self.data().join("ledger")
    }

    fn ledger_copy(&self) -> PathBuf {
        self.folder.join("ledger-copy")
    }

    /// The program with one of its commands, for this engine.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = bound(&self.program);
        // The caller's own engine settings are for the caller's own engine.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLOODGATE_") {
                command.env_remove(name);
            }
        }
        command
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .arg("--data-dir")
            .arg(self.data())
            .env("RUST_LOG", "info");
        command
    }

    /// A command that ends; what it says goes into the log.
    fn operate(&self, words: &[&str]) -> Result<(), ServerError> {
        let said = self.command(words).stdin(Stdio::null()).output()?;
        let mut log = fs::File::options().append(true).open(self.log())?;
        log.write_all(&said.stdout)?;
        log.write_all(&said.stderr)?;
        if said.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&said.stderr);
        let why = format!("floodgate {}: {}: {why}", words.join(" "), said.status);
        Err(ServerError::Said(why))
    }

    /// Its disk, while it does not run.
    pub fn lose_ledger(&self) -> Result<(), ServerError> {
        Ok(fs::remove_dir_all(self.ledger())?)
    }

    /// Of its disk, while it does not run.
    pub fn copy_ledger(&self) -> Result<(), ServerError> {
        Ok(copy(&self.ledger(), &self.ledger_copy())?)
    }

    pub fn put_back_ledger(&self) -> Result<(), ServerError> {
        self.lose_ledger()?;
        Ok(fs::rename(self.ledger_copy(), self.ledger())?)
    }

    /// Makes a ledger out of all that is left. The one before it is for people, and on a
    /// long day there would be many of them.
    pub fn recover(&self) -> Result<(), ServerError> {
        self.operate(&["recover"])?;
        for entry in fs::read_dir(self.data())? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("ledger.before-") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// What its order store refused is put there again.
    pub fn replay_letters(&self) -> Result<(), ServerError> {
        let words = ["dead-letters", "replay", "--all", "--admin-listen"];
        self.operate(&[&words[..], &[&self.admin]].concat())
    }

    fn run(&mut self) -> Result<(), ServerError> {
        let mut command = self.command(&["serve"]);
        command
            .args(["--http-listen", &self.public])
            .args(["--admin-listen", &self.admin]);
        let (process, line) = Process::start(
            "floodgate",
            &mut command,
            Voice::Stdout,
            &self.log(),
            is_open,
        )?;
        let [public, admin] = addresses(&line).ok_or_else(|| ServerError::Said(line.clone()))?;
        (self.public, self.admin) = (public.to_owned(), admin.to_owned());
        self.process = Some(process);
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        match &self.process {
            Some(process) => Ok(process.signal(signal)?),
            None => Ok(()),
        }
    }

    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    pub fn start_again(&mut self) -> Result<(), ServerError> {
        let mut tries = 1;
        loop {
            match self.run() {
                Ok(()) => return Ok(()),
                Err(error) if tries == STARTS_MAX => return Err(error),
                // Its order store may need a moment, and so may its ports.
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
            tries += 1;
        }
    }

    /// How it ended, if it did so by itself.
    pub fn ended(&mut self) -> Option<String> {
        self.process.as_mut()?.ended().map(said)
    }

    /// SIGTERM; what was not right about its end, if anything.
    pub fn stop(mut self, within: Duration) -> Result<(), String> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        match process.stop(within) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the engine was asked to stop and {}", said(status))),
            None => Err(format!(
                "the engine did not stop within {} s",
                within.as_secs()
            )),
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn said(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    }
}

/// The last lines of a log, for people.
pub fn last_words(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
