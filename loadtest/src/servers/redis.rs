//! A `redis-server` of our own: a free port of the loopback, a folder of its own, the
//! user of `config/redis.acl`. What an operator or a bad day does to it is a function.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::{Process, Voice, bound};
use super::{ServerError, free_port};

const ACL: &str = include_str!("../../../config/redis.acl");
pub const USER: &str = "floodgate";
/// As it stands in the example; nobody but this machine hears the server.
pub const PASSWORD: &str = "change-me";

const STARTS_MAX: u32 = 20;
const ASK_MAX: Duration = Duration::from_secs(60);
const CLUSTER_MAX: Duration = Duration::from_secs(180);
const SLOTS: u32 = 16_384;

pub struct Redis {
    process: Option<Process>,
    program: PathBuf,
    folder: PathBuf,
    pub port: u16,
    /// What it needs besides to be a member of a cluster.
    cluster: Option<Member>,
}

/// A member's other port, and the one that it tells clients.
#[derive(Clone, Copy, Debug)]
struct Member {
    bus: u16,
    told: Option<u16>,
}

fn is_ready(line: &str) -> bool {
    line.contains("Ready to accept connections")
}

/// `redis-server` where the shell would find it.
pub fn program() -> Result<PathBuf, ServerError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("redis-server"));
    places.find(|place| place.exists()).ok_or_else(|| {
        ServerError::Missing("redis-server is not installed (apt-get install redis-server)".into())
    })
}

impl Redis {
    /// One alone; nothing but a dump on request is kept on disk.
    pub fn alone(folder: &Path) -> Result<Self, ServerError> {
        Self::first(folder, None)
    }

    fn first(folder: &Path, told: Option<Option<u16>>) -> Result<Self, ServerError> {
        let program = program()?;
        fs::create_dir_all(folder)?;
        let acl = format!("user default on nopass ~* &* +@all\n{ACL}");
        fs::write(folder.join("users.acl"), acl)?;
        let mut last = ServerError::Said("never tried".into());
        // Somebody else may take a free port before the server does.
        for _ in 0..STARTS_MAX {
            let cluster = match told {
                Some(told) => Some(Member {
                    bus: free_port()?,
                    told,
                }),
                None => None,
            };
            let mut server = Self {
                process: None,
                program: program.clone(),
                folder: folder.to_owned(),
                port: free_port()?,
                cluster,
            };
            match server.run() {
                Ok(()) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn run(&mut self) -> Result<(), ServerError> {
        let mut command = bound(&self.program);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .args(["--aclfile", "users.acl", "--dir"])
            .arg(&self.folder)
            .current_dir(&self.folder);
        if let Some(member) = self.cluster {
            command
                .args(["--cluster-enabled", "yes"])
                // Nobody is voted out here: who stands still stays a member.
                .args(["--cluster-node-timeout", "600000"])
                .args(["--repl-diskless-sync-delay", "0"])
                .args(["--cluster-port", &member.bus.to_string()]);
            if let Some(told) = member.told {
                command
                    .args(["--cluster-announce-ip", "127.0.0.1"])
                    .args(["--cluster-announce-port", &told.to_string()])
                    .args(["--cluster-announce-bus-port", &member.bus.to_string()]);
            }
        }
        let log = self.folder.join("redis.log");
        let (process, _) =
            Process::start("redis-server", &mut command, Voice::Stdout, &log, is_ready)?;
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

    /// After [`Self::kill`]: with the dump that lies there, if any.
    pub fn start_again(&mut self) -> Result<(), ServerError> {
        let mut tries = 0;
        loop {
            match self.run() {
                Ok(()) => return Ok(()),
                Err(error) if tries == STARTS_MAX => return Err(error),
                // The port of the killed one may be taken for a moment.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
            tries += 1;
        }
    }

    /// Everything that it kept is gone; who it is in a cluster it knows from its
    /// neighbours' point of view only, so that stays.
    pub fn forget_files(&self) -> Result<(), ServerError> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if name != "users.acl" && name != "nodes.conf" && name != "redis.log" {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// A dump of what there is now.
    pub fn backup(&self) -> Result<Vec<u8>, ServerError> {
        // For a replica that is on its way another one is being made.
        until(|| match self.ask(&["SAVE"]) {
            Ok(_) => Ok(None),
            Err(ServerError::Said(why)) if why.contains("already in progress") => Ok(Some(why)),
            Err(error) => Err(error),
        })?;
        Ok(fs::read(self.folder.join("dump.rdb"))?)
    }

    pub fn put_back(&self, dump: &[u8]) -> Result<(), ServerError> {
        Ok(fs::write(self.folder.join("dump.rdb"), dump)?)
    }

    /// Another member of its cluster, which follows it. Clients are told the port in `told`.
    pub fn replica(&self, folder: &Path, told: u16) -> Result<Self, ServerError> {
        let replica = Self::first(folder, Some(Some(told)))?;
        let bus = self.cluster.map_or(0, |member| member.bus).to_string();
        let port = self.port.to_string();
        replica.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        let id = self.ask(&["CLUSTER", "MYID"])?;
        // They tell each other in their own time.
        until(|| match replica.ask_once(&["CLUSTER", "REPLICATE", &id]) {
            Ok(_) => Ok(None),
            Err(ServerError::Said(why)) => Ok(Some(why)),
            Err(error) => Err(error),
        })?;
        Ok(replica)
    }

    /// Lets it follow its primary, or calls it by a name there that nobody has.
    pub fn may_follow(&self, may: bool) -> Result<(), ServerError> {
        let user = if may { "" } else { "nobody" };
        self.ask(&["CONFIG", "SET", "masteruser", user])?;
        self.ask(&["CONFIG", "SET", "masterauth", user])?;
        Ok(())
    }

    /// Returns once it follows a primary and has all that it has.
    pub fn until_even(&self) -> Result<(), ServerError> {
        until(|| {
            let said = self.ask(&["INFO", "replication"])?;
            let even = said.contains("role:slave") && said.contains("master_link_status:up");
            Ok((!even).then_some(said))
        })
    }

    /// One command as an operator, who may do anything, and asks again where a member
    /// that has just come back still calls the cluster down.
    pub fn ask(&self, words: &[&str]) -> Result<String, ServerError> {
        let until = Instant::now() + CLUSTER_MAX;
        loop {
            match self.ask_once(words) {
                Err(ServerError::Said(why))
                    if why.starts_with("-CLUSTERDOWN") && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                answer => return answer,
            }
        }
    }

    fn ask_once(&self, words: &[&str]) -> Result<String, ServerError> {
        let mut line = TcpStream::connect(("127.0.0.1", self.port))?;
        line.set_read_timeout(Some(ASK_MAX))?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        line.write_all(command.as_bytes())?;
        read(&mut BufReader::new(line))
    }
}

/// Asks until there is nothing to complain of.
fn until(
    mut complaint: impl FnMut() -> Result<Option<String>, ServerError>,
) -> Result<(), ServerError> {
    let until = Instant::now() + CLUSTER_MAX;
    while let Some(why) = complaint()? {
        if Instant::now() >= until {
            return Err(ServerError::Said(format!("it never came about: {why}")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A reply as text; of a list, an item a line.
fn read(from: &mut impl BufRead) -> Result<String, ServerError> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (kind, rest) = line
        .trim_end()
        .split_at_checked(1)
        .ok_or_else(|| ServerError::Said("the line was closed".into()))?;
    let number = || {
        rest.parse::<i64>()
            .map_err(|e| ServerError::Said(format!("{rest}: {e}")))
    };
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "$" => {
            let Ok(n) = usize::try_from(number()?) else {
                return Ok(String::new());
            };
            let mut text = vec![0; n + 2];
            from.read_exact(&mut text)?;
            text.truncate(n);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        "*" => {
            let items = (0..number()?.max(0)).map(|_| read(from));
            Ok(items.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        other => Err(ServerError::Said(format!("{other}{rest}"))),
    }
}

/// Primaries with an equal share of the slots each. Clients are told the ports in
/// `told`, or the servers' own.
pub fn cluster(folder: &Path, told: &[Option<u16>]) -> Result<Vec<Redis>, ServerError> {
    let mut servers = Vec::new();
    let count = told.len() as u32;
    for (no, told) in (0..count).zip(told) {
        let server = Redis::first(&folder.join(format!("redis-{no}")), Some(*told))?;
        let [from, to] = [no, no + 1].map(|n| SLOTS * n / count);
        let range = [from.to_string(), (to - 1).to_string()];
        server.ask(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
        server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(no + 1).to_string()])?;
        servers.push(server);
    }
    let Some((first, others)) = servers.split_first() else {
        return Ok(servers);
    };
    for other in others {
        let bus = other.cluster.map_or(0, |member| member.bus).to_string();
        let port = other.port.to_string();
        first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
    }
    let known = format!("cluster_known_nodes:{count}");
    // They tell each other in their own time.
    for server in &servers {
        until(|| {
            let said = server.ask(&["CLUSTER", "INFO"])?;
            let known = said.contains("cluster_state:ok") && said.contains(&known);
            Ok((!known).then_some(said))
        })?;
    }
    Ok(servers)
}
