//! Redis as a process: on a free loopback port, in a temporary folder, with the user of
//! `config/redis.acl`; stopped by its process id. What an operator or a bad day does to
//! it is a function here.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use floodgate_engine::config::{RedisConfig, RedisLimits, RedisServer};
use floodgate_engine::stock::Reply;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The user that the engine is given, with its password.
const ACL: &str = include_str!("../../../config/redis.acl");
pub const USER: &str = "floodgate";
pub const PASSWORD: &str = "change-me";

/// `redis-server` where it is installed, and whatever `REDIS_SERVERS` names beside it,
/// separated by colons.
pub fn binaries() -> Vec<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let installed = path
        .split(':')
        .map(|folder| Path::new(folder).join("redis-server"));
    let named = std::env::var("REDIS_SERVERS").unwrap_or_default();
    let named = named
        .split(':')
        .filter(|n| !n.is_empty())
        .map(PathBuf::from);
    let found: Vec<PathBuf> = installed
        .filter(|p| p.exists())
        .take(1)
        .chain(named)
        .collect();
    if found.is_empty() {
        eprintln!("SKIPPED: redis-server is not installed (apt-get install redis-server)");
    }
    found
}

/// The installed one, or none and a word about it.
pub fn start() -> Option<Redis> {
    binaries().first().map(|binary| Redis::start(binary, &[]))
}

/// A stock host for an engine: what its configuration says, and what must run for it.
pub struct Host {
    pub toml: String,
    server: Option<Redis>,
}

impl Host {
    /// Without what another ledger's engine left there.
    pub fn fresh(&self) {
        if let Some(server) = &self.server {
            server.text(&["FLUSHALL"]);
        }
    }
}

/// The embedded host, and Redis where it is installed.
pub fn hosts() -> Vec<Host> {
    let mut hosts = vec![Host {
        toml: String::new(),
        server: None,
    }];
    hosts.extend(start().map(|server| Host {
        toml: server.toml(),
        server: Some(server),
    }));
    hosts
}

/// What the engine's user may call.
pub fn allowed() -> BTreeSet<String> {
    let words = ACL.split_ascii_whitespace();
    words
        .filter_map(|word| word.strip_prefix('+'))
        .map(str::to_owned)
        .collect()
}

pub struct Redis {
    child: Child,
    binary: PathBuf,
    options: Vec<String>,
    folder: TempDir,
    pub port: u16,
    /// What stands for [`SECOND_PORT`] in its options.
    pub second_port: u16,
    pub third_port: u16,
}

/// The value of an option that takes a free port of its own.
pub const SECOND_PORT: &str = "a free port";
pub const THIRD_PORT: &str = "another free port";

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound").port()
}

impl Redis {
    /// `options` as on the command line, without the leading dashes.
    pub fn start(binary: &Path, options: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let acl = format!("user default on nopass ~* &* +@all\n{ACL}");
        std::fs::write(folder.path().join("users.acl"), acl).expect("users");
        // Another process may take a free port before the server does.
        for _ in 0..20 {
            let [port, second_port, third_port] = [(); 3].map(|()| free_port());
            let said = |value: &str| match value {
                SECOND_PORT => second_port.to_string(),
                THIRD_PORT => third_port.to_string(),
                value => value.to_owned(),
            };
            let options: Vec<String> = options
                .iter()
                .flat_map(|(name, value)| [format!("--{name}"), said(value)])
                .collect();
            if let Some(child) = run(binary, folder.path(), port, &options) {
                let binary = binary.to_owned();
                return Self {
                    child,
                    binary,
                    options,
                    folder,
                    port,
                    second_port,
                    third_port,
                };
            }
        }
        panic!("{} does not start", binary.display());
    }

    pub fn server(&self) -> RedisServer {
        RedisServer {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    /// As the engine's configuration would say it, with the engine's own user.
    pub fn config(&self) -> RedisConfig {
        RedisConfig {
            servers: vec![self.server()],
            cluster: false,
            tls: None,
            user: Some(USER.to_owned()),
            password: Some(floodgate_engine::config::Password::new(PASSWORD)),
            // Longer than a busy machine stands still.
            limits: RedisLimits {
                connect: Duration::from_secs(5),
                call: Duration::from_secs(5),
                silent: Duration::from_secs(10),
            },
        }
    }

    /// The table `[stock]` of an engine on this server.
    pub fn toml(&self) -> String {
        let file = self.folder.path().join("password");
        std::fs::write(&file, PASSWORD).expect("a password");
        format!(
            "[stock]\nhost = \"redis\"\n[stock.redis]\nurls = [\"redis://127.0.0.1:{}\"]\n\
             user = {USER:?}\npassword_file = {file:?}\n",
            self.port
        )
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = Pid::from_raw(id).expect("not zero");
        kill_process(id, signal).expect("it runs");
    }

    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// After [`Self::kill`]: with the dump that lies there, if any.
    pub fn start_again(&mut self) {
        for _ in 0..200 {
            let started = run(&self.binary, self.folder.path(), self.port, &self.options);
            if let Some(child) = started {
                self.child = child;
                return;
            }
            // The port of the killed one may be taken for a moment.
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not start again");
    }

    pub fn restart_empty(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.dump());
        self.start_again();
    }

    /// A dump of what there is now, for later.
    pub fn backup(&self) -> Vec<u8> {
        assert_eq!(self.ask(&["SAVE"]), Ok(Reply::Bytes("OK".into())));
        std::fs::read(self.dump()).expect("a dump")
    }

    pub fn restart_with(&mut self, backup: &[u8]) {
        self.kill();
        std::fs::write(self.dump(), backup).expect("a dump");
        self.start_again();
    }

    fn dump(&self) -> PathBuf {
        self.folder.path().join("dump.rdb")
    }

    /// One command as an operator, who may do anything.
    pub fn ask(&self, words: &[&str]) -> Result<Reply, String> {
        let mut line = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        line.set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a timeout");
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        line.write_all(command.as_bytes()).expect("sent");
        read(&mut BufReader::new(line))
    }

    pub fn text(&self, words: &[&str]) -> String {
        match self.ask(words) {
            Ok(Reply::Bytes(text)) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    /// Every hash with its fields, sorted.
    pub fn hashes(&self) -> Vec<(Bytes, Vec<(Bytes, Bytes)>)> {
        let Ok(Reply::Array(keys)) = self.ask(&["KEYS", "*"]) else {
            panic!("no keys");
        };
        let mut all: Vec<_> = keys
            .into_iter()
            .map(bytes)
            .map(|key| {
                let name = String::from_utf8(key.to_vec()).expect("names are text");
                let Ok(Reply::Array(fields)) = self.ask(&["HGETALL", &name]) else {
                    panic!("{name} is no hash");
                };
                let fields: Vec<Bytes> = fields.into_iter().map(bytes).collect();
                let mut pairs: Vec<_> = fields
                    .chunks(2)
                    .map(|p| (p[0].clone(), p[1].clone()))
                    .collect();
                pairs.sort_unstable();
                (key, pairs)
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// Every command that somebody called and was allowed to, subcommands as `name|sub`.
    pub fn called(&self) -> BTreeSet<String> {
        let stats = self.text(&["INFO", "commandstats"]);
        let called = stats.lines().filter_map(|line| {
            let (name, told) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            (!told.starts_with("calls=0,")).then(|| name.to_owned())
        });
        called.collect()
    }

    /// Microseconds spent in a command, and how often it was called.
    pub fn spent(&self, command: &str) -> (u64, u64) {
        let stats = self.text(&["INFO", "commandstats"]);
        let name = format!("cmdstat_{command}:");
        let line = stats
            .lines()
            .find_map(|l| l.strip_prefix(&name))
            .unwrap_or_default();
        let number = |field: &str| {
            let value = line.split(',').find_map(|f| f.strip_prefix(field));
            value.and_then(|v| v.parse().ok()).unwrap_or(0)
        };
        (number("usec="), number("calls="))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes(reply: Reply) -> Bytes {
    match reply {
        Reply::Bytes(bytes) => bytes,
        Reply::Int(_) | Reply::Array(_) | Reply::Nil => panic!("not a text: {reply:?}"),
    }
}

/// Started and ready, or none if it ended at once.
fn run(binary: &Path, folder: &Path, port: u16, options: &[String]) -> Option<Child> {
    let mut child = Command::new(binary)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--aclfile", "users.acl"])
        .args(["--dir".as_ref(), folder.as_os_str()])
        .args(options)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server runs");
    let mut log = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|n| n > 0) {
        if line.contains("Ready to accept connections") {
            // Whatever else it says must find a reader.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Some(child);
        }
        line.clear();
    }
    let _ = child.wait();
    None
}

fn read(from: &mut impl BufRead) -> Result<Reply, String> {
    let mut line = String::new();
    from.read_line(&mut line).map_err(|e| e.to_string())?;
    let (kind, rest) = line
        .trim_end()
        .split_at_checked(1)
        .ok_or("the line was closed")?;
    let number = || rest.parse::<i64>().map_err(|e| e.to_string());
    Ok(match kind {
        "+" => Reply::Bytes(rest.to_owned().into()),
        ":" => Reply::Int(number()?),
        "-" => return Err(rest.to_owned()),
        "$" => match usize::try_from(number()?) {
            Ok(n) => {
                let mut text = vec![0; n + 2];
                from.read_exact(&mut text).map_err(|e| e.to_string())?;
                text.truncate(n);
                Reply::Bytes(text.into())
            }
            Err(_) => Reply::Nil,
        },
        "*" => match usize::try_from(number()?) {
            Ok(n) => Reply::Array((0..n).map(|_| read(from)).collect::<Result<_, _>>()?),
            Err(_) => Reply::Nil,
        },
        other => return Err(format!("an answer of the kind {other}")),
    })
}
