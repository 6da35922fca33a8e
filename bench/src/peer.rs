//! The peer: nginx with Lua and one EVALSHA an order on Redis, as plain as it gets.
//!
//! A yardstick, not a rival of equal duty: its orders live in memory only. It
//! runs when its Debian packages are installed and is left out when they are
//! not. Both servers are ordinary children on free ports of 127.0.0.1, their
//! files lie in a temporary folder, and they are stopped by their ids.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const NGINX_CONF: &str = include_str!("../peers/nginx-lua-redis/nginx.conf");
const ORDERS_LUA: &str = include_str!("../peers/nginx-lua-redis/orders.lua");
const RESERVE_LUA: &str = include_str!("../peers/nginx-lua-redis/reserve.4.lua");

const START_MAX: Duration = Duration::from_secs(5);
const STOP_MAX: Duration = Duration::from_secs(5);

/// A child that ends with its value: asked first, because nginx's first process
/// must take its workers along, then made to.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self, String> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|e| format!("start {:?}: {e}", command.get_program()))
    }

    fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        // The shell's own `kill`: a program of that name is not on every machine.
        let asked = Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "sh", &id])
            .stderr(Stdio::null())
            .status();
        let until = Instant::now() + STOP_MAX;
        while asked.is_ok() && !self.ended() && Instant::now() < until {
            sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The Debian packages that are not installed.
pub fn missing() -> Vec<&'static str> {
    let there = |path: &str| Path::new(path).exists();
    let lua = Path::new("/usr/lib").read_dir().is_ok_and(|mut folders| {
        folders.any(|folder| folder.is_ok_and(|f| f.path().join("lua/5.1/cjson.so").exists()))
    });
    [
        (
            "nginx-extras",
            program("nginx").is_some()
                && there("/usr/lib/nginx/modules/ngx_http_lua_module.so")
                && there("/usr/lib/nginx/modules/ndk_http_module.so"),
        ),
        (
            "lua-nginx-redis",
            there("/usr/share/lua/5.1/nginx/redis.lua"),
        ),
        ("lua-cjson", lua),
        ("redis-server", program("redis-server").is_some()),
    ]
    .into_iter()
    .filter(|(_, here)| !here)
    .map(|(package, _)| package)
    .collect()
}

/// `sbin` is on the PATH of few users, and nginx lies there.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A running peer; both servers end with it.
pub struct Peer {
    pub url: String,
    // Dropped in this order: nobody is left to ask a Redis that is gone.
    _nginx: Process,
    _redis: Redis,
    _folder: TempDir,
}

/// Whether there is a Redis to measure with.
pub fn has_redis() -> bool {
    program("redis-server").is_some()
}

/// A Redis that keeps everything in memory and nothing on a disk.
pub struct Redis {
    pub port: u16,
    line: TcpStream,
    _process: Process,
    _folder: TempDir,
}

impl Redis {
    pub fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| format!("make a folder: {e}"))?;
        let [port, _] = free_ports()?;
        let binary = program("redis-server").ok_or("redis-server is not installed")?;
        let mut process = Process::start(
            Command::new(binary)
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--port", &port.to_string(), "--dir"])
                .arg(folder.path()),
        )?;
        let line = wait_for(&mut process, port)
            .map_err(|why| format!("redis-server on port {port}: {why}"))?;
        line.set_read_timeout(Some(START_MAX))
            .map_err(|e| format!("redis-server on port {port}: {e}"))?;
        Ok(Self {
            port,
            line,
            _process: process,
            _folder: folder,
        })
    }

    /// Lines of an engine's configuration that put its stock here.
    pub fn stock(&self) -> String {
        let port = self.port;
        format!("[stock]\nhost = \"redis\"\n[stock.redis]\nurls = [\"redis://127.0.0.1:{port}\"]\n")
    }

    /// One command on a line of its own; the number or the text it answers.
    fn ask(&mut self, command: &str) -> std::io::Result<String> {
        write!(self.line, "{command}\r\n")?;
        let mut read = BufReader::new(&self.line);
        let mut head = String::new();
        read.read_line(&mut head)?;
        let head = head.trim_end();
        match head.split_at_checked(1) {
            Some((":" | "+", value)) => Ok(value.to_owned()),
            Some(("$", "-1")) => Ok(String::new()),
            Some(("$", length)) => {
                let length: usize = length.parse().map_err(std::io::Error::other)?;
                let mut text = vec![0; length + 2];
                read.read_exact(&mut text)?;
                Ok(String::from_utf8_lossy(&text[..length]).into_owned())
            }
            _ => Err(std::io::Error::other(format!("it said {head:?}"))),
        }
    }

    /// Time in scripts so far for each order in the buckets of the sale `bench`, in
    /// microseconds, as `INFO commandstats` counts it.
    pub fn us_per_order(&mut self) -> Result<f64, String> {
        let text = |e: std::io::Error| format!("ask Redis: {e}");
        let stats = self.ask("INFO commandstats").map_err(text)?;
        let spent = stats
            .lines()
            .find_map(|line| line.strip_prefix("cmdstat_evalsha:"))
            .and_then(|line| line.split(',').find_map(|part| part.strip_prefix("usec=")))
            .and_then(|usec| usec.parse::<f64>().ok())
            .ok_or("INFO commandstats names no evalsha")?;
        let mut orders = 0.0;
        for bucket in 0..BUCKETS_MAX {
            let live = self.ask(&format!("HGET {{fg:bench:{bucket}}}:meta live"));
            let live = live.map_err(text)?;
            // Nothing: there is no such bucket.
            if !live.is_empty() {
                orders += live.parse::<f64>().map_err(|e| format!("live: {e}"))?;
            }
        }
        Ok(spent / orders)
    }
}

/// More than the sale under test has.
const BUCKETS_MAX: u16 = 64;

impl Peer {
    /// With `units` units to sell.
    pub fn start(units: u32) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| format!("make a folder: {e}"))?;
        let path = folder.path();
        let [port, _] = free_ports()?;
        let mut redis = Redis::start()?;
        redis
            .ask(&format!("HSET stock:bench unit {units}"))
            .map_err(|e| format!("put stock into Redis: {e}"))?;

        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let conf = NGINX_CONF
            .replace("{folder}", &path.to_string_lossy())
            .replace("{workers}", &workers.to_string())
            .replace("{redis_port}", &redis.port.to_string())
            .replace("{port}", &port.to_string());
        for (name, text) in [
            ("nginx.conf", conf.as_str()),
            ("orders.lua", ORDERS_LUA),
            ("reserve.4.lua", RESERVE_LUA),
        ] {
            std::fs::write(path.join(name), text).map_err(|e| format!("write {name}: {e}"))?;
        }
        let mut nginx = Process::start(
            Command::new(program("nginx").ok_or("nginx is not installed")?)
                .arg("-p")
                .arg(path)
                .arg("-c")
                .arg(path.join("nginx.conf"))
                // Where errors go before the configuration is read.
                .arg("-e")
                .arg(path.join("nginx.log")),
        )?;
        wait_for(&mut nginx, port).map_err(|why| {
            let log = std::fs::read_to_string(path.join("nginx.log")).unwrap_or_default();
            format!("nginx on port {port}: {why}; its log: {log}")
        })?;
        Ok(Self {
            url: format!("http://127.0.0.1:{port}"),
            _nginx: nginx,
            _redis: redis,
            _folder: folder,
        })
    }
}

/// Ports that were free a moment ago; whoever loses the race is told at start.
fn free_ports() -> Result<[u16; 2], String> {
    let bind = || {
        TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| Ok((socket.local_addr()?.port(), socket)))
            .map_err(|e| format!("find a free port: {e}"))
    };
    // Held together, or both could be the same.
    let (one, two) = (bind()?, bind()?);
    Ok([one.0, two.0])
}

fn wait_for(process: &mut Process, port: u16) -> Result<TcpStream, String> {
    let until = Instant::now() + START_MAX;
    loop {
        // Looked at first: another's server on the same port must not pass for ours.
        if process.ended() {
            return Err("it ended at once".into());
        }
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= until => return Err(error.to_string()),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}
