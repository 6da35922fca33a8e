//! Processes of ours: started, heard out until they are ready, signalled and ended by
//! their id. None outlives whoever started it, on no way out: a panic drops them, and
//! where this process is killed itself, the kernel kills them.
//!
//! The kernel counts from the thread that started a process; start them from one that
//! stays.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

/// A machine that does other things may stand still for a minute or two.
const READY_MAX: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("start {name}: {source}")]
    Start {
        name: String,
        source: std::io::Error,
    },
    #[error("{name} ended before it was ready; its log is {log}")]
    Ended { name: String, log: String },
    #[error("{name} was not ready within {} s; its log is {log}", READY_MAX.as_secs())]
    Late { name: String, log: String },
    #[error("signal {name}: {source}")]
    Signal {
        name: String,
        source: rustix::io::Errno,
    },
}

/// Where a process says that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    Stdout,
    Stderr,
}

pub struct Process {
    child: Child,
    name: String,
}

/// `program` as a command whose process ends with ours.
pub fn bound(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

impl Process {
    /// Runs a command until one of its lines is the word; gives that line back. All that
    /// it says goes to the end of the log.
    pub fn start(
        name: &str,
        command: &mut Command,
        voice: Voice,
        log: &Path,
        word: fn(&str) -> bool,
    ) -> Result<(Self, String), ProcessError> {
        let failed = |source| ProcessError::Start {
            name: name.to_owned(),
            source,
        };
        let file = File::options().create(true).append(true).open(log);
        let mut file = file.map_err(failed)?;
        let other = file.try_clone().map_err(failed)?;
        command.stdin(Stdio::null());
        match voice {
            Voice::Stdout => command.stdout(Stdio::piped()).stderr(other),
            Voice::Stderr => command.stderr(Stdio::piped()).stdout(other),
        };
        // From here on it is a `Process`, and so ended whatever happens.
        let mut process = Self {
            child: command.spawn().map_err(failed)?,
            name: name.to_owned(),
        };
        let child = &mut process.child;
        let said: Option<Box<dyn std::io::Read + Send>> = match voice {
            Voice::Stdout => child.stdout.take().map(|pipe| Box::new(pipe) as _),
            Voice::Stderr => child.stderr.take().map(|pipe| Box::new(pipe) as _),
        };
        let said = said.ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        let (told, ready) = mpsc::channel();
        // It ends with the pipe, and that with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let _ = writeln!(file, "{line}"); // A full disk shall not stop the reading.
                if word(&line) {
                    let _ = told.send(line); // Nobody waits for the second time.
                }
            }
        });
        let log = || log.display().to_string();
        match ready.recv_timeout(READY_MAX) {
            Ok(line) => Ok((process, line)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(ProcessError::Ended {
                name: name.to_owned(),
                log: log(),
            }),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(ProcessError::Late {
                name: name.to_owned(),
                log: log(),
            }),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let failed = |source| ProcessError::Signal {
            name: self.name.clone(),
            source,
        };
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.ok_or(failed(rustix::io::Errno::SRCH))?, signal).map_err(failed)
    }

    /// SIGKILL, which a frozen one hears as well.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Both fail only for one that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asked to end; none if it did not within the time, and then it is killed.
    pub fn stop(mut self, within: Duration) -> Option<ExitStatus> {
        let asked = self.signal(Signal::TERM);
        let until = Instant::now() + within;
        while asked.is_ok() && Instant::now() < until {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(POLL);
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<(Process, String), ProcessError> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = bound(Path::new("/bin/sh"));
        let log = folder.path().join("log");
        let is_word = |line: &str| line.starts_with("ready");
        Process::start(
            "it",
            command.args(["-c", script]),
            Voice::Stdout,
            &log,
            is_word,
        )
    }

    fn lives(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn the_word_is_waited_for_and_a_drop_ends_even_a_frozen_one() {
        let (process, line) = shell("echo hello; echo ready 7; exec sleep 1000").unwrap();
        let id = process.id();
        assert_eq!(line, "ready 7");
        process.signal(Signal::STOP).unwrap();
        assert!(lives(id));
        drop(process);
        assert!(!lives(id));
    }

    #[test]
    fn who_panics_leaves_nobody_behind() {
        let (told, id) = mpsc::channel();
        let panicked = std::thread::spawn(move || {
            let (process, _) = shell("echo ready; exec sleep 1000").unwrap();
            told.send(process.id()).unwrap();
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(!lives(id.recv().unwrap()));
    }

    #[test]
    fn one_that_ends_without_a_word_is_not_waited_for() {
        let ended = shell("echo hello");
        assert!(matches!(ended, Err(ProcessError::Ended { .. })));
    }

    #[test]
    fn one_that_ends_when_asked_says_how() {
        let (process, _) =
            shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done").unwrap();
        let status = process.stop(READY_MAX);
        assert_eq!(status.and_then(|status| status.code()), Some(3));
    }
}
