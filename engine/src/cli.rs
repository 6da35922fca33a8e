//! The command line: `serve`, `check`, `recover`, `ledger` and `dead-letters`. Flags and variables are gathered here and
//! nowhere else; what they say is judged by `config/`.

mod dead_letters;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::app;
use crate::config::{Config, Given, Overrides};
use crate::ledger_cli::{self, LedgerCommand};
use crate::workers::Workers;

#[derive(Parser)]
#[command(
    name = "floodgate",
    version,
    about = "A flash-sale edge engine: never oversells, never takes back a win"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the engine until SIGTERM or Ctrl-C
    Serve(Serve),
    /// Check a configuration and say what is wrong with it
    Check(Serve),
    /// Make a new ledger from what the order store and the stock host know; for one that
    /// is gone or was put back from a copy. No engine may be running
    Recover(Serve),
    /// What the order store of a running engine refuses: see it, try it again
    #[command(subcommand)]
    DeadLetters(dead_letters::Ask),
    /// Look into a ledger; nothing is written, and an engine may be running on it
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

// No flag takes a secret: every user of the machine sees the flags of a process.
#[derive(Args)]
#[command(
    after_help = "The admin token comes from FLOODGATE_ADMIN_TOKEN or from the file that \
    http.admin_token_file names;\nwithout both the engine writes one into its data folder."
)]
struct Serve {
    /// TOML file; without it every setting has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Public listener, wins over FLOODGATE_HTTP_LISTEN and http.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_listen: Option<String>,
    /// Admin listener, wins over FLOODGATE_ADMIN_LISTEN and http.admin_listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Data folder, wins over FLOODGATE_DATA_DIR and data.dir
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl Serve {
    fn config(self) -> Result<Config, String> {
        let (file, text) = match &self.config {
            Some(path) => (
                path.display().to_string(),
                std::fs::read_to_string(path)
                    .map_err(|e| format!("read {}: {e}", path.display()))?,
            ),
            None => ("built-in defaults".to_owned(), String::new()),
        };
        // Not clap's own reading of the environment: it would blame the flag.
        let said = Overrides::from_environment(std::env::vars_os()).map_err(|e| e.to_string())?;
        let overrides = Overrides {
            http_listen: flag("--http-listen", self.http_listen).or(said.http_listen),
            admin_listen: flag("--admin-listen", self.admin_listen).or(said.admin_listen),
            data_dir: flag("--data-dir", self.data_dir).or(said.data_dir),
            admin_token: said.admin_token,
            redis_password: said.redis_password,
            store_password: said.store_password,
        };
        Config::parse(&file, &text, &overrides).map_err(|e| e.to_string())
    }
}

fn flag<T>(by: &'static str, value: Option<T>) -> Option<Given<T>> {
    value.map(|value| Given { by, value })
}

pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Check(args) => args.config().map(|config| {
            println!(
                "ok: {} sales, public on {}, admin on {}",
                config.sales.len(),
                config.http.listen,
                config.http.admin_listen
            );
        }),
        Command::Serve(args) => args.config().and_then(serve),
        Command::Recover(args) => args.config().and_then(recover),
        Command::DeadLetters(ask) => dead_letters::run(ask),
        Command::Ledger(command) => ledger_cli::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever has closed it hears the exit code.
            let _ = writeln!(std::io::stderr(), "floodgate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        // It would say on stderr that stderr is gone, and panic over that.
        .log_internal_errors(false)
        .init();
}

fn recover(config: Config) -> Result<(), String> {
    logs();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("start the runtime: {e}"))?;
    let workers = Arc::new(Workers::start(config.http.workers)?);
    let report = runtime.block_on(crate::recover::recover(&config, &workers));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    workers.end();
    let text = serde_json::to_string_pretty(&report?).map_err(|e| e.to_string())?;
    println!("{text}");
    Ok(())
}

fn serve(config: Config) -> Result<(), String> {
    logs();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("start the runtime: {e}"))?;
    let workers = Arc::new(Workers::start(config.http.workers)?);
    let outcome = runtime.block_on(async {
        let stop = stop_signal()?;
        app::run(config, Arc::clone(&workers), stop, |at| {
            // Nobody need be there to read it.
            let _ = writeln!(
                std::io::stdout(),
                "floodgate: public http://{}  admin http://{}",
                at.public,
                at.admin
            );
        })
        .await
    });
    // A ledger that failed must not keep the process: nothing after it is durable.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    workers.end();
    outcome
}

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| format!("listen for signals: {e}"));
    let (mut term, mut int) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            std::process::exit(130);
        });
    })
}
