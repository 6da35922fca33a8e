//! `floodgate dead-letters`: asks the admin API of a running engine.
//!
//! Address and token come from where that engine has them: its flags, variables
//! and file. The token is read from a file or a variable, never from a flag.

use std::io::{self, Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Serve;
use crate::config::AdminToken;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A page of replays is two fsyncs a letter, on a disk that may be busy.
const ANSWER_MAX: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

#[derive(Subcommand)]
pub(super) enum Ask {
    /// One line a letter: seq, time, sale, id of the order, payment or entitlement, reason
    List(Engine),
    /// Put letters into the order store again; fails if any is refused again
    Replay(Replay),
}

#[derive(Args)]
#[command(
    after_help = "The admin token comes from --admin-token-file, from FLOODGATE_ADMIN_TOKEN, from the file \
    that\nhttp.admin_token_file names, or from the one that the engine wrote into its data folder."
)]
pub(super) struct Engine {
    /// TOML file of the engine
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Admin listener, wins over FLOODGATE_ADMIN_LISTEN and http.admin_listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Data folder, wins over FLOODGATE_DATA_DIR and data.dir
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// File with the admin token
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Replay {
    /// Letters by seq, as `list` shows them
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    seq: Vec<u64>,
    /// All letters
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    engine: Engine,
}

pub(super) fn run(ask: Ask) -> Result<(), String> {
    match ask {
        Ask::List(engine) => list(&engine.line()?),
        Ask::Replay(Replay { seq, all, engine }) => {
            let line = engine.line()?;
            let left = if all {
                replay_all(&line)?
            } else {
                replay(&line, &seq)?
            };
            match left {
                Left {
                    refused: 0,
                    unknown: 0,
                } => Ok(()),
                Left {
                    refused,
                    unknown: 0,
                } => Err(format!("{refused} refused again")),
                Left { refused, unknown } => Err(format!(
                    "{refused} refused again; {unknown} NOT_FOUND: no dead letter has that number"
                )),
            }
        }
    }
}

/// What a replay left as it was.
#[derive(Default)]
struct Left {
    refused: usize,
    unknown: usize,
}

/// Where the engine is, and what opens its door.
struct Line {
    at: SocketAddr,
    token: AdminToken,
}

impl Engine {
    fn line(self) -> Result<Line, String> {
        let serve = Serve {
            config: self.config,
            http_listen: None,
            admin_listen: self.admin_listen,
            data_dir: self.data_dir,
        };
        let config = serve.config()?;
        let mut at = config.http.admin_listen;
        if at.port() == 0 {
            return Err(format!(
                "{at}: the engine chose its port itself; say which with --admin-listen"
            ));
        }
        // Who listens everywhere is called here.
        match at.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => at.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        let token = match (self.admin_token_file, config.http.admin_token) {
            (Some(path), _) => read_token(&path)?,
            (None, Some(token)) => token,
            (None, None) => read_token(&config.data_dir.join("admin-token"))?,
        };
        Ok(Line { at, token })
    }
}

fn read_token(path: &Path) -> Result<AdminToken, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {name}: {e}"))?;
    let token = text.trim();
    // It becomes a header as it stands.
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{name}: holds no token"));
    }
    Ok(AdminToken::new(token))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Letters {
    dead_letters: Vec<Letter>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    seq: u64,
    id: String,
    sale_id: Option<String>,
    why: String,
    at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Round {
    replayed: Vec<u64>,
    refused: Vec<Refused>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    seq: u64,
    why: String,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

fn list(line: &Line) -> Result<(), String> {
    let mut cursor = String::new();
    let mut n_listed = 0;
    loop {
        let path = format!("/admin/v1/dead-letters?cursor={cursor}");
        let page: Letters = line.ask("GET", &path)?.map_err(told)?;
        n_listed += page.dead_letters.len();
        for l in page.dead_letters {
            let why = one_line(&l.why);
            let sale = l.sale_id.as_deref().unwrap_or("-");
            let listed = format_args!("{}\t{}\t{sale}\t{}\t{why}", l.seq, l.at, l.id);
            if say(listed)? == Reader::Gone {
                return Ok(());
            }
        }
        match page.next_cursor {
            Some(next) => cursor = next,
            None => break,
        }
    }
    if n_listed == 0 {
        // Not on stdout, which has one line a letter.
        eprintln!("no dead letters");
    }
    Ok(())
}

/// To the last of them, also when nobody reads what became of the first.
fn replay(line: &Line, seqs: &[u64]) -> Result<Left, String> {
    let mut left = Left::default();
    for seq in seqs {
        let path = format!("/admin/v1/dead-letters/{seq}/replay");
        match line.ask::<serde::de::IgnoredAny>("POST", &path)? {
            Ok(_) => say(format_args!("{seq}\treplayed"))?,
            Err(problem) if problem.code == "STILL_REFUSED" => {
                left.refused += 1;
                let why = one_line(&problem.detail);
                say(format_args!("{seq}\trefused\t{why}"))?
            }
            Err(problem) if problem.code == "NOT_FOUND" => {
                left.unknown += 1;
                say(format_args!("{seq}\tunknown"))?
            }
            Err(problem) => return Err(format!("{seq}: {}", told(problem))),
        };
    }
    Ok(left)
}

fn replay_all(line: &Line) -> Result<Left, String> {
    let mut left = Left::default();
    let mut cursor = String::new();
    loop {
        // Pages small enough to be answered in time.
        let path = format!("/admin/v1/dead-letters/replay?limit=200&cursor={cursor}");
        let round: Round = line.ask("POST", &path)?.map_err(told)?;
        for seq in round.replayed {
            say(format_args!("{seq}\treplayed"))?;
        }
        for Refused { seq, why } in round.refused {
            left.refused += 1;
            say(format_args!("{seq}\trefused\t{}", one_line(&why)))?;
        }
        match round.next_cursor {
            Some(next) => cursor = next,
            None => return Ok(left),
        }
    }
}

fn told(problem: Problem) -> String {
    format!("{}: {}", problem.code, one_line(&problem.detail))
}

/// A store's own words may hold anything; here a line is a letter.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Whoever reads what we say may go away before the end, as `head` does.
#[derive(PartialEq, Eq)]
enum Reader {
    There,
    Gone,
}

fn say(text: std::fmt::Arguments<'_>) -> Result<Reader, String> {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(format!("write: {error}")),
    }
}

impl Line {
    /// One call on a line of its own. The inner error is the engine's "no".
    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
    ) -> Result<Result<T, Problem>, String> {
        let text = self
            .call(method, path)
            .map_err(|e| format!("ask the engine at {}: {e}", self.at))?;
        let strange = || format!("{}: this is no answer of floodgate's admin API", self.at);
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
        let status = head.split(' ').nth(1).ok_or_else(strange)?;
        if status == "200" {
            serde_json::from_str(body).map(Ok).map_err(|_| strange())
        } else {
            serde_json::from_str(body).map(Err).map_err(|_| strange())
        }
    }

    fn call(&self, method: &str, path: &str) -> io::Result<String> {
        let mut line = TcpStream::connect_timeout(&self.at, CONNECT_MAX)?;
        line.set_read_timeout(Some(ANSWER_MAX))?;
        line.set_write_timeout(Some(ANSWER_MAX))?;
        // The engine announces its lengths and closes after the answer, as asked here.
        write!(
            line,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             connection: close\r\ncontent-length: 0\r\n\r\n",
            self.at,
            self.token.reveal()
        )?;
        let mut text = String::new();
        line.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }
}
