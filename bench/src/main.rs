//! How near does a durable win come to a bare hyper echo?
//!
//! Round by round, with one generator: (a) the echo, (b) wins, each fsynced,
//! (d) sold-out answers. Prints the table and writes `report.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use floodgate_bench::engine::Server;
use floodgate_bench::report::Spread;
use floodgate_loadtest::client::Target;
use floodgate_loadtest::fire::{FireConfig, FireReport, fire};

#[derive(Parser)]
#[command(about = "Durable wins and sold-out answers as ratios to a bare hyper echo")]
struct Args {
    /// Rounds; each measures everything once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each figure
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Where report.json goes
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Internal: be the echo server
    #[arg(long, hide = true)]
    echo: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = if args.echo {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .and_then(|runtime| runtime.block_on(floodgate_bench::echo::serve()))
            .map_err(|e| format!("echo: {e}"))
    } else {
        measure(&args)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floodgate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<(), String> {
    let me = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
    let engine = me.with_file_name("floodgate");
    let (mut ceiling, mut wins, mut sold_out) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let echo = {
            let mut command = Command::new(&me);
            command.arg("--echo");
            Server::start(command, None)?
        };
        ceiling.push(shoot(args, &echo.urls[0], "/echo", 0, 200)?);
        drop(echo);
        // As many units as the fastest machine could sell in the time.
        let selling = Server::engine(&engine, 2_000_000)?;
        wins.push(shoot(args, &selling.urls[0], "/v1/orders", 0, 201)?);
        drop(selling);
        let sold = Server::engine(&engine, 1)?;
        sold_out.push(shoot(args, &sold.urls[0], "/v1/orders", 0, 422)?);
        drop(sold);
        eprintln!(
            "round {round}: echo {:.0}/s, wins {:.0}/s, sold out {:.0}/s",
            ceiling[round - 1],
            wins[round - 1],
            sold_out[round - 1]
        );
    }
    let figures = BTreeMap::from([
        ("ceiling_rps", Spread::of(&ceiling)),
        ("wins_embedded_rps", Spread::of(&wins)),
        (
            "wins_embedded_over_ceiling",
            Spread::of_ratios(&wins, &ceiling),
        ),
        ("sold_out_rps", Spread::of(&sold_out)),
        (
            "sold_out_over_ceiling",
            Spread::of_ratios(&sold_out, &ceiling),
        ),
    ]);
    println!("{:<28} {:>12} {:>12} {:>12}", "", "median", "min", "max");
    for (name, s) in &figures {
        let digits = if name.ends_with("_rps") { 0 } else { 3 };
        println!(
            "{name:<28} {:>12.digits$} {:>12.digits$} {:>12.digits$}",
            s.median, s.min, s.max
        );
    }
    std::fs::create_dir_all(&args.out)
        .map_err(|e| format!("create {}: {e}", args.out.display()))?;
    let file = args.out.join("report.json");
    let json = serde_json::to_vec_pretty(&figures).map_err(|e| e.to_string())?;
    std::fs::write(&file, json).map_err(|e| format!("write {}: {e}", file.display()))?;
    println!("report: {}", file.display());
    Ok(())
}

/// Answers a second; all but the first few must have the status that the
/// question is about, or the figure would answer another one.
fn shoot(args: &Args, base: &str, path: &str, first_n: u64, status: u16) -> Result<f64, String> {
    let target = Target::parse(&format!("{base}{path}"), false).map_err(|e| e.to_string())?;
    let config = FireConfig {
        target,
        method: "POST".into(),
        headers: vec![
            "content-type: application/json".into(),
            "x-user-id: buyer-{n}".into(),
            "idempotency-key: key-{n}".into(),
        ],
        body: r#"{"saleId":"bench","items":[{"skuId":"unit","quantity":1}]}"#.into(),
        connections: args.connections,
        seconds: args.seconds,
        warmup_seconds: 1.0,
        rate: None,
        first_n,
        answer_timeout: Duration::from_secs(10),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("start the generator: {e}"))?;
    let report: FireReport = runtime.block_on(fire(&config)).map_err(|e| e.to_string())?;
    let right = report.statuses.get(&status).copied().unwrap_or(0);
    if report.errors > 0 || right * 1_000 < report.answers * 999 {
        return Err(format!(
            "{path}: {} answers with status {status} were expected; got {:?}, {} errors, first: {:?}",
            report.answers, report.statuses, report.errors, report.first_error
        ));
    }
    Ok(report.rps)
}
