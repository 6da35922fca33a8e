//! The command line: `serve` and `check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app;
use crate::config::{Config, Overrides};

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
}

#[derive(Args)]
struct Serve {
    /// TOML file; without it every setting has its default
    #[arg(long)]
    config: Option<PathBuf>,
    /// Public listener, wins over http.listen
    #[arg(long, env = "FLOODGATE_HTTP_LISTEN")]
    http_listen: Option<String>,
    /// Admin listener, wins over http.admin_listen
    #[arg(long, env = "FLOODGATE_ADMIN_LISTEN")]
    admin_listen: Option<String>,
    /// Data folder, wins over data.dir
    #[arg(long, env = "FLOODGATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Bearer token of the admin listener; only from the environment
    #[arg(
        long,
        env = "FLOODGATE_ADMIN_TOKEN",
        hide_env_values = true,
        hide = true
    )]
    admin_token: Option<String>,
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
        let overrides = Overrides {
            http_listen: self.http_listen,
            admin_listen: self.admin_listen,
            data_dir: self.data_dir,
            admin_token: self.admin_token,
        };
        Config::parse(&file, &text, &overrides).map_err(|e| e.to_string())
    }
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
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floodgate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("start the runtime: {e}"))?;
    let outcome = runtime.block_on(async {
        let stop = stop_signal()?;
        app::run(config, stop, |at| {
            println!(
                "floodgate: public http://{}  admin http://{}",
                at.public, at.admin
            );
        })
        .await
    });
    // A ledger that failed must not keep the process: nothing after it is durable.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
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
