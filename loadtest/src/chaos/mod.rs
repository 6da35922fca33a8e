//! A bad day, on purpose: real Redis servers behind proxies, a real engine, buyers who
//! keep coming, and a fault every few seconds, drawn from a seed. In the end everything
//! heals, and the audit holds every answer that a buyer ever heard against the books.
//!
//! It passes only if nothing that was told turned out untrue, nobody's answer stayed
//! unknown, every fault was followed by new wins, and the engine ended well.

mod buyers;
mod day;
mod frames;
mod operator;
mod plan;
mod proxy;
mod stage;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use buyers::{Buyers, Shop, Sold};
use day::{Day, STUCK, rebuilds};
use stage::Stage;
use verdict::{Audited, Chaos};

use crate::cli::{Failure, block_on};
use crate::client::Target;
use crate::judge::judge;
use crate::pay::{Secret, Till};
use crate::servers::{self, Asked, StoreKind, engine};

#[derive(clap::Args)]
pub struct Args {
    /// How long buyers come and faults are played.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// From the begin of a fault to the next one's.
    #[arg(long, default_value_t = 10.0)]
    every: f64,
    /// Instead of a time: each kind of fault once, the next one as soon as buyers win again.
    #[arg(long)]
    each_once: bool,
    /// The same seed plays the same faults; drawn, and printed, when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Redis servers: one alone, or a cluster of at least three.
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Where orders go.
    #[arg(long, value_enum, default_value_t = StoreKind::Postgres)]
    store: StoreKind,
    /// Longest time that anything stands still, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    still_ms: u64,
    /// Purchases a second.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// How long one sale is open before the next one begins; by default 30, or a
    /// twentieth of the whole time where that is longer.
    #[arg(long)]
    sale_seconds: Option<f64>,
    /// Folder for chaos.json and the engine's log.
    #[arg(long, default_value = "chaos-report")]
    report: PathBuf,
    /// The engine; by default the one that was built beside this program.
    #[arg(long)]
    engine: Option<PathBuf>,
}

const SERVED: Duration = Duration::from_secs(300);
const QUIET: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
const LOG_LINES: usize = 30;

impl Args {
    fn sale_seconds(&self) -> f64 {
        let share = self.seconds as f64 / 20.0;
        self.sale_seconds.unwrap_or(share.max(30.0))
    }
}

pub fn main(args: &Args) -> Result<bool, Failure> {
    if args.servers == 0 || args.servers == 2 {
        return Err("--servers: use 1, or 3 and more for a cluster".into());
    }
    if !(args.every > 0.0 && args.rate > 0.0 && args.sale_seconds() > 0.0) {
        return Err("--every, --rate, --sale-seconds: use more than 0".into());
    }
    let seed = args.seed.unwrap_or_else(|| {
        let now = jiff::Timestamp::now().as_nanosecond();
        (now as u64) % 1_000_000
    });
    println!("seed {seed}: --seed {seed} plays the same faults again");
    let program = match &args.engine {
        Some(program) => program.clone(),
        None => engine::program()?,
    };
    let asked = Asked::listen()?;
    // An earlier report is not to be taken for this one.
    std::fs::create_dir_all(&args.report)?;
    let _ = std::fs::remove_file(args.report.join(verdict::FILE));
    for journal in journals(&args.report)? {
        std::fs::remove_file(journal)?;
    }
    let folder = tempfile::Builder::new()
        .prefix("floodgate-chaos.")
        .tempdir()?;
    let stage = Stage::open(
        folder.path(),
        &program,
        servers::CONFIG,
        args.servers,
        args.store,
    )?;
    let log = stage.log();
    let chaos = a_day(args, seed, folder.path(), stage, asked);
    // Whatever came of it, somebody may want to read on.
    let copied = std::fs::copy(&log, args.report.join("engine.log"));
    let chaos = match chaos {
        Ok(chaos) => chaos,
        Err(error) => {
            eprintln!(
                "The engine's last words:\n{}",
                engine::last_words(&log, LOG_LINES)
            );
            keep_journals(folder.path(), &args.report)?;
            return Err(error);
        }
    };
    copied?;
    chaos.print();
    let path = chaos.write(&args.report)?;
    if !chaos.passed() {
        eprintln!(
            "The engine's last words:\n{}",
            engine::last_words(&log, LOG_LINES)
        );
        keep_journals(folder.path(), &args.report)?;
    }
    println!("report: {}", path.display());
    println!("{}", chaos.audit);
    println!("chaos: {} (seed {seed})", chaos.verdict);
    Ok(chaos.passed())
}

/// Evidence, for `floodgate-loadtest audit` and for eyes.
fn keep_journals(folder: &Path, report: &Path) -> std::io::Result<()> {
    for path in journals(folder)? {
        if let Some(name) = path.file_name() {
            std::fs::copy(&path, report.join(name))?;
        }
    }
    Ok(())
}

fn journals(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "fgj") {
            found.push(path);
        }
    }
    Ok(found)
}

/// From the first buyer to the verdict.
fn a_day(
    args: &Args,
    seed: u64,
    folder: &Path,
    mut stage: Stage,
    asked: Asked,
) -> Result<Chaos, Failure> {
    let token = std::fs::read_to_string(stage.engine.token_file())?;
    let token = token.trim().to_owned();
    let till = Till {
        secret: Secret::read(&stage.engine.payment_secret_file())?,
        admin: Target::parse(&format!("http://{}", stage.engine.admin), false)?,
        token: Some(token.clone()),
    };
    let shop = Shop {
        public: stage.engine.public.clone(),
        admin: stage.engine.admin.clone(),
        token,
        folder: folder.to_owned(),
        till,
        seed,
        attempts_per_second: args.rate,
        sale_seconds: args.sale_seconds(),
    };
    let mut chaos = Chaos {
        seed,
        servers: args.servers,
        store: args.store.name(),
        ..Chaos::default()
    };
    let began = Instant::now();
    let buyers = Buyers::start(shop.clone(), asked)?;
    let mut day = Day {
        args,
        shop: &shop,
        buyers: &buyers,
        began,
        chaos: &mut chaos,
    };
    day.play(seed, &mut stage)?;
    stage.heal();
    chaos.seconds = began.elapsed().as_secs_f64();
    let interrupted = buyers.was_interrupted();
    if !buyers.close(SERVED) {
        let why = format!(
            "buyers still did not know what became of their purchases {} s after the last fault",
            SERVED.as_secs()
        );
        chaos.findings.push(why);
        chaos.judge(interrupted);
        chaos.count_kinds();
        // Without their answers there is nothing to audit.
        return Ok(chaos);
    }
    let sold = buyers.sold()?;
    // Before the first audit, so that none looks at books that still move.
    for sold in sold.iter().filter(|sold| sold.closes) {
        if !block_on(until_closed(&shop, &sold.sale))? {
            let why = format!("sale {}: unpaid orders outlived their window", sold.sale);
            chaos.findings.push(why);
        }
    }
    for sold in &sold {
        audit(&shop, sold, interrupted, &mut chaos)?;
    }
    chaos.calls_repeated = stage.n_repeated();
    chaos.buckets_rebuilt += rebuilds(&shop)?;
    if let Some(ended) = stage.engine.ended() {
        chaos.findings.push(format!("the engine {ended} by itself"));
    } else if let Err(why) = stage.engine.stop(STOP) {
        chaos.findings.push(why);
    }
    chaos.count_kinds();
    chaos.judge(interrupted);
    Ok(chaos)
}

/// One sale's answers against the books.
fn audit(shop: &Shop, sold: &Sold, interrupted: bool, chaos: &mut Chaos) -> Result<(), Failure> {
    chaos.sales += 1;
    chaos.sends += sold.sends;
    for (outcome, count) in &sold.outcomes {
        *chaos.answers.entry(outcome).or_default() += count;
    }
    if sold.gave_up > 0 && !interrupted {
        let why = format!(
            "sale {}: {} buyers never heard a definite answer",
            sold.sale, sold.gave_up
        );
        chaos.findings.push(why);
    }
    let (public, admin) = shop.apis()?;
    let journal = std::slice::from_ref(&sold.journal);
    let verdict = block_on(judge(journal, public, admin, QUIET))?;
    chaos.audits.push(Audited {
        sale: sold.sale.clone(),
        verdict,
    });
    Ok(())
}

/// Whether all unpaid orders closed by themselves within a time that forgives much.
async fn until_closed(shop: &Shop, sale: &str) -> Result<bool, Failure> {
    let (_, mut admin) = shop.apis()?;
    let began = Instant::now();
    while began.elapsed() < STUCK {
        let sale = admin.sale(sale).await?;
        if sale.skus.iter().all(|sku| sku.stock.held == 0) {
            return Ok(true);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(false)
}
