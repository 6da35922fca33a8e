//! Do people who only stand there slow down those who buy?
//!
//! Two engines of the same make. In front of one stand thousands of connections that
//! say nothing; buyers go to the one and the other in turn, round by round, so that
//! both figures of a ratio come from the same moment of the machine.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use floodgate_engine::descriptors;

use crate::engine::Server;
use crate::report::{Report, count_name};
use crate::shoot::{Shot, purchases_from};

#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    pub idle: usize,
    pub rounds: u32,
    pub shot: Shot,
}

/// Nobody is sent away for standing there, and there is room for all.
fn engine(out: &Path, crowd: &Crowd) -> Result<Server, String> {
    let seconds = crowd.shot.seconds + crowd.shot.warmup_seconds;
    // More than anybody can buy in the time.
    let units = (seconds * f64::from(crowd.rounds) * 120_000.0) as u32;
    let room = crowd.idle + 2 * crowd.shot.connections;
    let http = format!("[http]\nidle_ms = 300000\nconnections_max = {room}\n");
    Server::engine_with(out, units.clamp(1_000, 20_000_000), &http)
}

/// As many lines to the engine, each of them let in by it: the last one is answered.
fn stand(engine: &Server, idle: usize) -> Result<Vec<TcpStream>, String> {
    let at = engine.public().trim_start_matches("http://");
    let at: SocketAddr = at.parse().map_err(|e| format!("{at}: {e}"))?;
    let connect = |n| TcpStream::connect(at).map_err(|e| format!("idle line {n}: {e}"));
    (0..idle).map(connect).collect()
}

/// Lines that the engine still holds open.
fn n_standing(lines: &[TcpStream]) -> usize {
    let open = |line: &&TcpStream| {
        let quiet = line
            .set_nonblocking(true)
            .and_then(|()| line.peek(&mut [0]));
        quiet.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    };
    lines.iter().filter(open).count()
}

pub fn measure(crowd: &Crowd, out: &Path, report: &mut Report) -> Result<(), String> {
    let needed = crowd.idle + crowd.shot.connections + 64;
    let limit = descriptors::raise();
    if limit < needed as u64 {
        return Err(format!(
            "{} idle lines and {} buyers need {needed} descriptors, and this process may have \
             {limit} (ulimit -n)",
            crowd.idle, crowd.shot.connections
        ));
    }
    let (quiet, crowded) = (engine(out, crowd)?, engine(out, crowd)?);
    let lines = stand(&crowded, crowd.idle)?;
    // The last of the queue is let in within a moment; buyers would wait behind it.
    std::thread::sleep(Duration::from_secs(1));
    let idle = u32::try_from(crowd.idle).map_err(|e| e.to_string())?;
    let name = |what: &str| format!("idle_{}_{what}", count_name(idle));
    let mut buyers = [Buyers::of(&quiet), Buyers::of(&crowded)];
    for round in 0..crowd.rounds {
        eprintln!("crowd: round {} of {}", round + 1, crowd.rounds);
        let [alone, beside] = &mut buyers;
        // Who goes first changes: a machine that is warm, or tired, is so for both.
        let (alone, beside) = if round % 2 == 0 {
            let alone = alone.shoot(crowd.shot)?;
            (alone, beside.shoot(crowd.shot)?)
        } else {
            let beside = beside.shoot(crowd.shot)?;
            (alone.shoot(crowd.shot)?, beside)
        };
        report.push("wins_per_s_alone", alone.per_s);
        report.push(&name("wins_per_s"), beside.per_s);
        report.push(&name("throughput_ratio"), beside.per_s / alone.per_s);
        report.push("p99_ms_alone", alone.p99_ms);
        report.push(&name("p99_ms"), beside.p99_ms);
        report.push(&name("p99_ratio"), beside.p99_ms / alone.p99_ms);
        // Says the same on a machine that others use as well.
        report.push("cpu_us_per_win_alone", alone.cpu_us);
        report.push(&name("cpu_us_per_win"), beside.cpu_us);
        report.push(&name("cpu_ratio"), beside.cpu_us / alone.cpu_us);
    }
    let left = n_standing(&lines);
    if left != crowd.idle {
        return Err(format!("of {} idle lines {left} were left", crowd.idle));
    }
    Ok(())
}

struct Wins {
    per_s: f64,
    p99_ms: f64,
    cpu_us: f64,
}

/// Those who buy at one engine, each of them once.
struct Buyers<'a> {
    engine: &'a Server,
    next_n: u64,
}

impl<'a> Buyers<'a> {
    fn of(engine: &'a Server) -> Self {
        Self { engine, next_n: 0 }
    }

    fn shoot(&mut self, shot: Shot) -> Result<Wins, String> {
        let cpu_before = self.engine.cpu_seconds()?;
        let fired = purchases_from(shot, self.engine.public(), "/v1/orders", self.next_n)?;
        let n_sent = fired.next_n.saturating_sub(self.next_n);
        self.next_n = fired.next_n;
        let won = fired.statuses.get(&201).copied().unwrap_or(0);
        if fired.errors > 0 || won != fired.answers {
            return Err(format!(
                "not everybody won: {:?}, {} errors, first: {:?}",
                fired.statuses, fired.errors, fired.first_error
            ));
        }
        Ok(Wins {
            per_s: fired.rps,
            p99_ms: fired.latency.p99_us as f64 / 1e3,
            // The warm-up's as well, which have used the processor too.
            cpu_us: (self.engine.cpu_seconds()? - cpu_before) * 1e6 / n_sent.max(1) as f64,
        })
    }
}
