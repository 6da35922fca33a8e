//! The command line: `run`, `audit`, `fire`, `chaos`, `cluster`.
//!
//! The last line on standard output is the verdict; the exit code agrees with it:
//! 0 pass, 1 fail, 2 when the question could not be asked (bad scenario, no engine).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use crate::api::{Api, ApiError};
use crate::audit::Verdict;
use crate::chaos;
use crate::client::Target;
use crate::demo;
use crate::fire::{FireConfig, Pace, fire};
use crate::journal::Header;
use crate::judge::judge;
use crate::pay::{Secret, Till};
use crate::progress;
use crate::report::{About, Report};
use crate::run::{Doors, RunError, run};
use crate::scenario::{Overrides, Scenario};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(
    name = "floodgate-loadtest",
    version,
    about = "A stampede, and an audit of what it was told"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create the sale, send the scenario, audit, report.
    Run(RunArgs),
    /// Audit journals of earlier runs again.
    Audit(AuditArgs),
    /// Measure one URL: answers a second and percentiles, as JSON.
    Fire(FireArgs),
    /// Start an engine on real servers, play faults while it sells, audit every answer.
    Chaos(chaos::Args),
    /// Start an engine on a cluster of real servers, run a scenario on it.
    Cluster(demo::Args),
}

#[derive(Args)]
struct Engine {
    /// The public API.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    target: String,
    /// The admin API.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    admin: String,
    /// File with the admin token; without it, the variable FLOODGATE_ADMIN_TOKEN is the token.
    #[arg(long)]
    admin_token_file: Option<PathBuf>,
    /// Allow targets that are not on this machine.
    #[arg(long)]
    allow_remote: bool,
    /// Seconds the order store may go without catching up further before the audit says so.
    #[arg(long, default_value_t = 60)]
    quiet_timeout: u64,
}

#[derive(Args)]
struct RunArgs {
    /// Who comes, when, and what they want: a file as in loadtest/scenarios/.
    #[arg(long)]
    scenario: PathBuf,
    #[command(flatten)]
    engine: Engine,
    /// Where winners pay: file with the payment provider's secret, whsec_ and base64; by
    /// default payment-secret beside the admin token's file, where the engine writes it.
    #[arg(long)]
    payment_secret: Option<PathBuf>,
    /// Folder for report.json, report.html and the journal.
    #[arg(long, default_value = "loadtest-report")]
    report: PathBuf,
    /// Where the journal goes; journal.fgj in the report's folder by default.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Attack the sale that is there instead of creating it.
    #[arg(long)]
    no_create: bool,
    /// Another id for the scenario's sale.
    #[arg(long)]
    sale_id: Option<String>,
    /// Replace the phases by one constant rate (with --seconds).
    #[arg(long)]
    rate: Option<f64>,
    /// How long that rate lasts.
    #[arg(long)]
    seconds: Option<f64>,
    /// Connections, instead of what the scenario says.
    #[arg(long)]
    connections: Option<u32>,
    /// The same seed sends the same buyers; instead of what the scenario says.
    #[arg(long)]
    seed: Option<u64>,
    /// Shards of the sale's stock, instead of what the scenario says.
    #[arg(long)]
    buckets: Option<u32>,
    /// No line a second.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct AuditArgs {
    /// Journals of one sale; may be given several times.
    #[arg(long, required = true)]
    journal: Vec<PathBuf>,
    #[command(flatten)]
    engine: Engine,
    /// Print the whole verdict as JSON before the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct FireArgs {
    /// What to ask for, http only; {n} as in a header.
    url: String,
    /// GET, POST, …
    #[arg(long, default_value = "GET")]
    method: String,
    /// 'name: value'; {n} becomes a number of its own in every request.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Sent with every request; {n} as in a header.
    #[arg(long, default_value = "")]
    body: String,
    /// How many requests are under way at once.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that, which do not count.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Requests a second; without it, as fast as answers come.
    #[arg(long)]
    rate: Option<f64>,
    /// Where {n} begins to count.
    #[arg(long, default_value_t = 0)]
    first_n: u64,
    /// Allow targets that are not on this machine.
    #[arg(long)]
    allow_remote: bool,
}

pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => block_on(run_scenario(&args)),
        Command::Audit(args) => block_on(audit_again(&args)),
        Command::Fire(args) => block_on(fire_once(&args)),
        // Servers live as long as the thread that started them: this one.
        Command::Chaos(args) => chaos::main(&args),
        Command::Cluster(args) => demo::main(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => explain(error.as_ref()),
    }
}

/// On one thread, so that the harness takes one core at most.
pub(crate) fn block_on<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(asked)
}

fn explain(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("floodgate-loadtest: {error}");
    ExitCode::from(2)
}

/// An engine that is killed and started again is awaited this long.
const ENGINE_PATIENCE: Duration = Duration::from_secs(60);
/// Time for the engine to open the sale before the first attempt.
const LEAD: Duration = Duration::from_millis(1_000);

impl Engine {
    fn public(&self) -> Result<Target, Failure> {
        Ok(Target::parse(&self.target, self.allow_remote)?)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.quiet_timeout)
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.admin_token_file else {
            // No flag: every user of the machine sees the flags of a process.
            return Ok(std::env::var("FLOODGATE_ADMIN_TOKEN").ok());
        };
        let text = std::fs::read_to_string(path).map_err(|source| ApiError::Token {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Some(text.trim().to_owned()))
    }

    fn apis(&self) -> Result<(Api, Api), Failure> {
        let token = self.token()?;
        let admin = Target::parse(&self.admin, self.allow_remote)?;
        Ok((
            Api::new(&self.public()?, None, ENGINE_PATIENCE),
            Api::new(&admin, token, ENGINE_PATIENCE),
        ))
    }
}

impl RunArgs {
    /// Where money moves; none where the scenario has nobody who pays.
    fn till(&self, scenario: &Scenario) -> Result<Option<Till>, Failure> {
        let beside = |token: &PathBuf| token.with_file_name("payment-secret");
        let beside = self.engine.admin_token_file.as_ref().map(beside);
        if scenario.plan.pay.is_none() {
            return Ok(None);
        }
        let Some(path) = self.payment_secret.as_ref().or(beside.as_ref()) else {
            return Err(RunError::NoTill.into());
        };
        Ok(Some(Till {
            secret: Secret::read(path)?,
            admin: Target::parse(&self.engine.admin, self.engine.allow_remote)?,
            token: self.engine.token()?,
        }))
    }
}

async fn run_scenario(args: &RunArgs) -> Result<bool, Failure> {
    let overrides = Overrides {
        rate: args.rate,
        seconds: args.seconds,
        connections: args.connections,
        sale_id: args.sale_id.clone(),
        seed: args.seed,
        buckets: args.buckets,
    };
    let scenario = Scenario::read(&args.scenario, &overrides)?;
    let target = args.engine.public()?;
    let (mut public, mut admin) = args.engine.apis()?;
    let till = args.till(&scenario)?;
    std::fs::create_dir_all(&args.report)?;
    let journal_path = args
        .journal
        .clone()
        .unwrap_or_else(|| args.report.join("journal.fgj"));

    let starts = Instant::now() + LEAD;
    let started_at = jiff::Timestamp::now() + jiff::SignedDuration::try_from(LEAD)?;
    if !args.no_create {
        admin
            .create_sale(&scenario.sale.to_json(started_at).to_string())
            .await?;
    }
    public.look_at_sale(&scenario.plan.sale_id).await?;

    let header = Header {
        plan: crate::plan::Plan {
            key_prefix: format!("{:x}-", started_at.as_millisecond()),
            ..scenario.plan.clone()
        },
        attempts: scenario.pace.total() as u32,
        started_unix_ms: started_at.as_millisecond(),
        defined: (!args.no_create).then(|| scenario.sale.defined.clone()),
    };
    println!(
        "sale {}: {} attempts in {:.1} s over {} connections to {}",
        scenario.plan.sale_id,
        scenario.pace.total(),
        scenario.pace.seconds(),
        scenario.connections,
        args.engine.target
    );
    let ran = run(
        &scenario,
        &header,
        &target,
        &journal_path,
        starts,
        Doors {
            till,
            ..Doors::open(args.quiet)
        },
    )
    .await?;
    println!("{}", progress::table(&ran.stats, ran.seconds));

    let audited = judge(
        std::slice::from_ref(&ran.journal),
        public,
        admin,
        args.engine.patience(),
    )
    .await;
    let about = About {
        sale: scenario.plan.sale_id.clone(),
        target: args.engine.target.clone(),
        started_at: format!("{started_at:.0}"),
        attempts: scenario.pace.total(),
        connections: scenario.connections,
        seed: scenario.plan.seed,
    };
    if let Ok(verdict) = &audited {
        print_verdict(verdict);
    }
    let report = Report::new(about, &ran, audited.map_err(|error| error.to_string()));
    let page = report.write(&args.report)?;
    println!("report: {}", page.display());
    println!("{}", report.verdict);
    Ok(report.audit.is_some_and(|verdict| verdict.passed()))
}

async fn audit_again(args: &AuditArgs) -> Result<bool, Failure> {
    let (public, admin) = args.engine.apis()?;
    let verdict = judge(&args.journal, public, admin, args.engine.patience()).await?;
    print_verdict(&verdict);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&verdict)?);
    }
    println!("{}", verdict.line());
    Ok(verdict.passed())
}

pub(crate) fn print_verdict(verdict: &Verdict) {
    println!(
        "audit: {} sends, {} wins told, {} orders, {} units live of {} opened, {} wins looked up",
        verdict.sends,
        verdict.told_wins,
        verdict.orders,
        verdict.live_units,
        verdict.opened_units,
        verdict.lookups
    );
    if let Some(money) = &verdict.money {
        println!("{money}");
    }
    for note in &verdict.notes {
        println!("note: {note}");
    }
    for finding in &verdict.findings {
        println!(
            "{} is broken, {} times:",
            finding.promise.name(),
            finding.count
        );
        for evidence in &finding.evidence {
            println!("  {evidence}");
        }
    }
}

async fn fire_once(args: &FireArgs) -> Result<bool, Failure> {
    let config = FireConfig {
        target: Target::parse(&args.url, args.allow_remote)?,
        method: args.method.clone(),
        headers: args.headers.clone(),
        body: args.body.clone(),
        pace: Pace {
            connections: args.connections,
            seconds: args.seconds,
            warmup_seconds: args.warmup,
            rate: args.rate,
            first_n: args.first_n,
            answer_timeout: Duration::from_secs(10),
        },
    };
    let report = fire(&config).await?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(report.answers > 0)
}
