//! `floodgate-bench`: measures, prints a table, writes `report.json`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};
use floodgate_bench::compare::{self, Compare, Figure};
use floodgate_bench::crowd::{self, Crowd};
use floodgate_bench::rate::{self, Rate};
use floodgate_bench::report::Report;
use floodgate_bench::shoot::Shot;
use floodgate_bench::windows::{self, Windows};
use floodgate_bench::{components, echo, paid, ratios};

/// The engine's own, so that parts measured in this process run as they do there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(
    about = "Durable wins and sold-out answers as ratios to a bare hyper echo and to a peer",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Job>,
    #[command(flatten)]
    all: All,
    /// Where report.json goes, and what is written while measuring
    #[arg(long, global = true, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Job {
    /// An open model: sends at a fixed rate, few win, the rest hear "sold out"
    Rate(Pace),
    /// Buyers beside thousands of connections that say nothing, as a ratio to buyers alone
    Idle(Standers),
    /// Payment callbacks and checks of tokens alone
    Paid(Pays),
    /// Pay windows that end at once, while others buy: closed and back on sale, and p99
    Windows(Ends),
    /// Another build of the engine against this one, in turns of half a second
    Compare(Builds),
    /// Internal: be the echo server
    #[command(hide = true)]
    Echo,
}

#[derive(Args)]
struct All {
    /// Rounds; each measures everything once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Measured seconds of each figure
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Measure the parts of a purchase as well, each alone
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    components: bool,
    /// Rounds of the parts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    component_rounds: u16,
}

#[derive(Args)]
struct Pace {
    /// Sends a second
    #[arg(long, default_value_t = 80_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Lines it keeps open
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Units on sale; as many buyers win
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    units: u32,
}

#[derive(Args)]
struct Standers {
    /// Connections that say nothing
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    idle: u32,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Measured seconds of each figure
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Connections of buyers
    #[arg(long, default_value_t = 256)]
    connections: usize,
}

#[derive(Args)]
struct Pays {
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Measured seconds of each figure
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 256)]
    connections: usize,
}

#[derive(Args)]
struct Ends {
    /// Orders whose pay windows end at once
    #[arg(long, default_value_t = Windows::USUAL.orders, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    orders: u32,
    /// Purchases a second before and meanwhile
    #[arg(long, default_value_t = Windows::USUAL.rate, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Connections of those who buy
    #[arg(long, default_value_t = Windows::USUAL.connections)]
    connections: usize,
}

#[derive(Args)]
struct Builds {
    /// The engine of the other build, a file
    other: PathBuf,
    #[arg(long, value_enum, default_value_t = Figure::Wins)]
    figure: Figure,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Measured seconds of each turn
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    #[arg(long, default_value_t = 256)]
    connections: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Job::Echo) => be_the_echo(),
        Some(Job::Rate(pace)) => keep_pace(&pace, &cli.out),
        Some(Job::Idle(standers)) => beside(&standers, &cli.out),
        Some(Job::Paid(pays)) => be_paid(&pays, &cli.out),
        Some(Job::Windows(ends)) => end_windows(&ends, &cli.out),
        Some(Job::Compare(builds)) => compare_builds(builds, &cli.out),
        None => measure(&cli.all, &cli.out),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floodgate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn be_the_echo() -> Result<(), String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(echo::serve()))
        .map_err(|e| format!("echo: {e}"))
}

fn measure(args: &All, out: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let shot = Shot {
        connections: args.connections,
        seconds: args.seconds,
        warmup_seconds: 1.0,
        rate: None,
    };
    ratios::measure(usize::from(args.rounds), shot, out, &mut report)?;
    let parts = if args.components {
        let rounds = usize::from(args.component_rounds);
        windows::measure(rounds, &Windows::USUAL, out, &mut report)
            .and_then(|()| components::measure(rounds, out, &mut report))
    } else {
        Ok(())
    };
    // What was measured is told, even if a part failed after it.
    report.print();
    report.write(out, false)?;
    parts
}

/// Its figures go beside those of `make bench`.
fn keep_pace(args: &Pace, out: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let ask = Rate {
        rate: args.rate,
        seconds: args.seconds,
        connections: args.connections,
        units: args.units,
    };
    rate::measure(&ask, out, &mut report)?;
    report.print();
    report.write(out, true)
}

fn beside(args: &Standers, out: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let crowd = Crowd {
        idle: args.idle as usize,
        rounds: args.rounds,
        shot: Shot {
            connections: args.connections,
            seconds: args.seconds,
            warmup_seconds: 1.0,
            rate: None,
        },
    };
    crowd::measure(&crowd, out, &mut report)?;
    report.print();
    report.write(out, true)
}

fn be_paid(args: &Pays, out: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let shot = Shot {
        connections: args.connections,
        seconds: args.seconds,
        warmup_seconds: 1.0,
        rate: None,
    };
    paid::measure(usize::from(args.rounds), shot, out, &mut report)?;
    report.print();
    report.write(out, true)
}

fn end_windows(args: &Ends, out: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let asked = Windows {
        orders: args.orders,
        rate: args.rate,
        connections: args.connections,
    };
    windows::measure(usize::from(args.rounds), &asked, out, &mut report)?;
    report.print();
    report.write(out, true)
}

/// Prints alone: what two builds are to each other is no figure of this one.
fn compare_builds(builds: Builds, out: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let asked = Compare {
        other: builds.other,
        figure: builds.figure,
        rounds: builds.rounds,
        shot: Shot {
            connections: builds.connections,
            seconds: builds.seconds,
            warmup_seconds: 0.2,
            rate: None,
        },
    };
    compare::measure(&asked, out, &mut report)?;
    report.print();
    Ok(())
}
