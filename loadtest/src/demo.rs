//! The demo on a cluster: Redis servers, PostgreSQL and an engine of our own, one scenario, its
//! verdict, and nothing left behind but the report.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use crate::cli::Failure;
use crate::servers::process::bound;
use crate::servers::{self, Asked, Engine, Postgres, StoreKind, engine, redis};

#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the engine; our own servers take the place of those it names.
    #[arg(long, default_value = "config/cluster.toml")]
    config: PathBuf,
    /// Who comes, when, and what they want.
    #[arg(long, default_value = "loadtest/scenarios/double-eleven.toml")]
    scenario: PathBuf,
    /// Folder for the report.
    #[arg(long, default_value = "loadtest-report")]
    report: PathBuf,
    /// Redis servers: primaries of one cluster.
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Where orders go.
    #[arg(long, value_enum, default_value_t = StoreKind::Postgres)]
    store: StoreKind,
}

/// Enough for each of a few servers to have some: slots are given out by hash.
const BUCKETS: u32 = 12;
const STOP: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const LOG_LINES: usize = 20;

/// Ended with whoever holds it.
struct Harness(Child);

impl Drop for Harness {
    fn drop(&mut self) {
        // Both fail only for one that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn main(args: &Args) -> Result<bool, Failure> {
    if args.servers < 3 {
        return Err("--servers: a cluster has 3 or more".into());
    }
    let config = std::fs::read_to_string(&args.config)
        .map_err(|error| format!("{}: {error}", args.config.display()))?;
    let asked = Asked::listen()?;
    // An earlier report is not to be taken for this one.
    std::fs::create_dir_all(&args.report)?;
    let _ = std::fs::remove_file(args.report.join("report.json"));
    let folder = tempfile::Builder::new()
        .prefix("floodgate-cluster.")
        .tempdir()?;
    let stock = redis::cluster(folder.path(), &vec![None; args.servers])?;
    let ports: Vec<u16> = stock.iter().map(|server| server.port).collect();
    let store = match args.store {
        StoreKind::Sqlite => None,
        StoreKind::Postgres => Some(Postgres::start()?),
    };
    let store_port = store.as_ref().map(|store| store.port);
    let config = servers::configuration(&config, &ports, store_port, folder.path())?;
    let mut engine = Engine::start(&engine::program()?, &folder.path().join("engine"), &config)?;
    println!(
        "{} Redis primaries on ports {ports:?}; orders go to {}; the engine sells at http://{} and reports at http://{}.",
        ports.len(),
        args.store.name(),
        engine.public,
        engine.admin
    );
    let log = engine.log();
    let explain = |why: &str| {
        eprintln!(
            "{why}\nThe engine's last words:\n{}",
            engine::last_words(&log, LOG_LINES)
        );
        Ok(false)
    };
    let mut command = bound(&std::env::current_exe()?);
    command
        .args(["run", "--target", &format!("http://{}", engine.public)])
        .args(["--admin", &format!("http://{}", engine.admin)])
        .arg("--admin-token-file")
        .arg(engine.token_file())
        .args(["--buckets", &BUCKETS.to_string()])
        .arg("--scenario")
        .arg(&args.scenario)
        .arg("--report")
        .arg(&args.report);
    let mut harness = Harness(Command::spawn(&mut command)?);
    // Whichever ends first: an engine that goes before its harness has failed, whatever
    // the answers were.
    let status = loop {
        if let Some(status) = harness.0.try_wait()? {
            break status;
        }
        if asked.to_stop() {
            return Err("stopped before the verdict".into());
        }
        if let Some(ended) = engine.ended() {
            return explain(&format!("The engine {ended} amid the stampede."));
        }
        std::thread::sleep(POLL);
    };
    if !status.success() {
        return explain(&format!("Verdict: NOT passed ({status})."));
    }
    if let Err(why) = engine.stop(STOP) {
        return explain(&why);
    }
    drop((stock, store));
    println!(
        "Verdict: every promise held. Report: {}",
        args.report.display()
    );
    Ok(true)
}
