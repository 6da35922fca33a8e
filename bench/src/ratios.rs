//! How near does a durable win come to a bare hyper echo, and to the peer?
//!
//! Round by round, with one generator: (a) the echo, (b) wins, each fsynced, (c) the
//! same with the stock in Redis, (d) sold-out answers, (e) payments and checks of tokens,
//! (f) wins of the peer, which are not on any disk. A ratio takes both of its figures from
//! the same round.

use std::path::Path;
use std::process::Command;

use crate::engine::Server;
use crate::paid;
use crate::peer::{self, Peer, Redis};
use crate::report::Report;
use crate::shoot::{Shot, rps};

/// More than the fastest machine could sell in the time.
const UNITS: u32 = 2_000_000;

const PEER: &str = "nginx_lua_redis_rps";
const OVER_PEER: &str = "wins_embedded_over_nginx_lua_redis";

pub fn measure(rounds: usize, shot: Shot, out: &Path, report: &mut Report) -> Result<(), String> {
    let missing = peer::missing();
    let mut with_peer = missing.is_empty();
    if !with_peer {
        report.note(format!(
            "{PEER}: left out, not installed: {}",
            missing.join(" ")
        ));
    }
    let with_redis = peer::has_redis();
    if !with_redis {
        report.note("wins_redis_rps: left out, not installed: redis-server".into());
    }
    for round in 1..=rounds {
        let ceiling = ceiling(shot)?;
        let selling = Server::engine(out, UNITS)?;
        let wins = rps(shot, selling.public(), "/v1/orders", 201)?;
        drop(selling);
        let sold = Server::engine(out, 1)?;
        let sold_out = rps(shot, sold.public(), "/v1/orders", 422)?;
        drop(sold);
        report.push("ceiling_rps", ceiling);
        report.push("wins_embedded_rps", wins);
        report.push("wins_embedded_over_ceiling", wins / ceiling);
        report.push("sold_out_rps", sold_out);
        report.push("sold_out_over_ceiling", sold_out / ceiling);
        let mut line = format!(
            "round {round} of {rounds}: echo {ceiling:.0}/s, wins {wins:.0}/s, sold out {sold_out:.0}/s"
        );
        line += &paid::round(shot, ceiling, out, report)?;
        if with_redis {
            let (wins, us) = on_redis(shot, out)?;
            line += &format!(", wins on Redis {wins:.0}/s");
            report.push("wins_redis_rps", wins);
            report.push("wins_redis_over_ceiling", wins / ceiling);
            report.push("redis_us_per_order", us);
        }
        if with_peer {
            let peer = Peer::start(UNITS).and_then(|p| rps(shot, &p.url, "/v1/orders", 201));
            match peer {
                Ok(peer) => {
                    line += &format!(", nginx + Lua + Redis {peer:.0}/s");
                    report.push(PEER, peer);
                    report.push(OVER_PEER, wins / peer);
                }
                // Half a figure is none: the other rounds would not pair up.
                Err(why) => {
                    with_peer = false;
                    report.forget(PEER);
                    report.forget(OVER_PEER);
                    report.note(format!("{PEER}: left out: {why}"));
                }
            }
        }
        eprintln!("{line}");
    }
    Ok(())
}

/// What the machine and the generator allow.
pub fn ceiling(shot: Shot) -> Result<f64, String> {
    let me = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
    let mut command = Command::new(me);
    command.arg("echo");
    let echo = Server::start(command, None)?;
    rps(shot, &echo.urls[0], "/echo", 200)
}

/// Wins a second with the stock in Redis, and Redis' own time for one.
fn on_redis(shot: Shot, out: &Path) -> Result<(f64, f64), String> {
    let mut redis = Redis::start()?;
    let selling = Server::engine_with(out, UNITS, &redis.stock())?;
    let wins = rps(shot, selling.public(), "/v1/orders", 201)?;
    drop(selling);
    Ok((wins, redis.us_per_order()?))
}
