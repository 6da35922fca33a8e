//! Buyers who keep coming while things go wrong: two lines of sales, one after the
//! other in each, so that one always sells while the other opens, ends, or has sold out.
//! Many of those who win pay, some late, and a sale's money may still move while the next
//! one sells.
//!
//! They never give up: whoever does not know what became of a purchase asks with the same
//! key until it is known, and so does the payment provider. After the last fault, then, no
//! answer may stay unknown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::answer::Outcome;
use crate::api::Api;
use crate::cli::{Failure, block_on};
use crate::client::Target;
use crate::journal::Header;
use crate::pay::Till;
use crate::plan::Plan;
use crate::run::{Doors, run};
use crate::scenario::{Overrides, Scenario};
use crate::servers::Asked;

/// An engine that is frozen or started again is awaited this long.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Unpaid orders of short sales are closed again after this.
pub const SHORT_WINDOW_S: u64 = 8;
/// Of every sale.
pub const BUCKETS: u64 = 4;
/// Time for the first buyers to line up.
const LEAD: Duration = Duration::from_millis(200);

/// What the buyers need to know.
#[derive(Clone)]
pub struct Shop {
    pub public: String,
    pub admin: String,
    pub token: String,
    /// Where their journals go.
    pub folder: PathBuf,
    pub till: Till,
    pub seed: u64,
    /// Of both lines together.
    pub attempts_per_second: f64,
    pub sale_seconds: f64,
}

/// A sale, and what its buyers can tell of it.
pub struct Sold {
    pub sale: String,
    pub journal: PathBuf,
    /// Whether its orders close by themselves before the audit.
    pub closes: bool,
    pub outcomes: BTreeMap<&'static str, u64>,
    pub sends: u64,
    pub gave_up: u64,
}

pub struct Buyers {
    thread: Option<JoinHandle<Result<Vec<Sold>, Failure>>>,
    doors: watch::Sender<bool>,
    /// First-hand wins so far.
    wins: Arc<AtomicU64>,
    /// Of the sale that the first line is in.
    number: Arc<AtomicU64>,
    asked: Asked,
}

impl Shop {
    pub fn apis(&self) -> Result<(Api, Api), Failure> {
        let public = Target::parse(&format!("http://{}", self.public), false)?;
        let admin = Target::parse(&format!("http://{}", self.admin), false)?;
        Ok((
            Api::new(&public, None, PATIENCE),
            Api::new(&admin, Some(self.token.clone()), PATIENCE),
        ))
    }
}

/// The name of a line's sale; both lines begin with number 0.
pub fn sale_name(line: u64, number: u64) -> String {
    format!("chaos-{line}-{number}")
}

/// A scenario of a line's sale. The first line never sells out; the second one does, has
/// a SKU of its last units, and closes what is not paid soon.
fn scenario(shop: &Shop, line: u64, number: u64) -> String {
    let rate = shop.attempts_per_second / 2.0;
    let attempts = (rate * shop.sale_seconds).ceil();
    // Late is only who pays while the day still goes on.
    let (units, window, late) = match line {
        0 => (2.0 * attempts, 7_200, 0.0),
        _others => (0.3 * attempts, SHORT_WINDOW_S, 0.15),
    };
    let units = (units as u64).max(1);
    let scarce = (units / 20).max(1);
    format!(
        r#"
seed = {seed}
connections = 24
quantity = 1
dropAfterMs = 600000
timeoutMs = 5000
outageSeconds = 900
retryShed = true

[mix]
doubleClickShare = 0.1
retryOnCutShare = 0.03
keyReuseShare = 0.02
cancelShare = 0.06
againShare = 0.05

[pay]
onTimeShare = 0.4
lateShare = {late:?}
twiceShare = 0.05
lieShare = 0.02
failedFirstShare = 0.1
reorderShare = 0.3
repeatsMax = 2
refundShare = 0.15
restockShare = 0.5
delayMs = 600

[sale]
id = "{id}"
name = "{id}"
startsIn = 0.0
endsIn = 86400.0
payWindowSeconds = {window}
unitsPerUser = 2
buckets = {BUCKETS}

[sale.admission]
rate = 100000
burst = 100000

[[sale.skus]]
id = "plenty"
name = "Plenty"
priceCent = 4900
currency = "EUR"
units = {units}

[[sale.skus]]
id = "some"
name = "Some"
priceCent = 900
currency = "EUR"
units = {units}
grant = {{ workId = "some-film", validDays = 30 }}

[[sale.skus]]
id = "scarce"
name = "Scarce"
priceCent = 129900
currency = "EUR"
units = {scarce}

[[phases]]
kind = "constant"
rate = {rate:?}
seconds = {seconds:?}
"#,
        seed = shop.seed ^ (line << 32 | number),
        id = sale_name(line, number),
        seconds = shop.sale_seconds,
    )
}

impl Buyers {
    pub fn start(shop: Shop, asked: Asked) -> std::io::Result<Self> {
        let (doors, closed) = watch::channel(false);
        let wins = Arc::<AtomicU64>::default();
        let number = Arc::<AtomicU64>::default();
        let counts = (Arc::clone(&wins), Arc::clone(&number));
        let thread = std::thread::Builder::new()
            .name("buyers".into())
            .spawn(move || block_on(lines(shop, closed, counts)))?;
        Ok(Self {
            thread: Some(thread),
            doors,
            wins,
            number,
            asked,
        })
    }

    pub fn wins(&self) -> u64 {
        self.wins.load(Ordering::Relaxed)
    }

    /// Of the sale that the first line is in.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Whether somebody asked this program to stop, or the buyers could not go on.
    pub fn are_stopped(&self) -> bool {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        ended || self.was_interrupted()
    }

    pub fn was_interrupted(&self) -> bool {
        self.asked.to_stop()
    }

    /// No new buyers; false if those inside were not all served within the time.
    pub fn close(&self, within: Duration) -> bool {
        self.doors.send_replace(true);
        let until = Instant::now() + within;
        while self.thread.as_ref().is_some_and(|t| !t.is_finished()) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// After [`Self::close`] said true.
    pub fn sold(mut self) -> Result<Vec<Sold>, Failure> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(sold)) => sold,
            Some(Err(_)) | None => Err("the buyers' thread panicked".into()),
        }
    }
}

async fn lines(
    shop: Shop,
    closed: watch::Receiver<bool>,
    (wins, number): (Arc<AtomicU64>, Arc<AtomicU64>),
) -> Result<Vec<Sold>, Failure> {
    let (mut first, second) = tokio::try_join!(
        line(&shop, 0, closed.clone(), &wins, Some(&number)),
        line(&shop, 1, closed, &wins, None),
    )?;
    first.extend(second);
    Ok(first)
}

/// One sale after the other until the doors are closed.
async fn line(
    shop: &Shop,
    line: u64,
    closed: watch::Receiver<bool>,
    wins: &Arc<AtomicU64>,
    told: Option<&AtomicU64>,
) -> Result<Vec<Sold>, Failure> {
    let mut selling = JoinSet::new();
    for number in 0.. {
        if *closed.borrow() {
            break;
        }
        if let Some(told) = told {
            told.store(number, Ordering::Relaxed);
        }
        let scenario = Scenario::parse(&scenario(shop, line, number), &Overrides::default())?;
        let doors = Doors {
            closed: closed.clone(),
            wins: Arc::clone(wins),
            quiet: true,
            till: Some(shop.till.clone()),
        };
        let (doors_close, mut came) = watch::channel(false);
        let shop = shop.clone();
        selling.spawn(async move { sell(&shop, &scenario, line > 0, doors, doors_close).await });
        // It ended without a word: the doors were closed, or it failed.
        if came.wait_for(|came| *came).await.is_err() {
            break;
        }
    }
    let sold = selling.join_all().await;
    sold.into_iter().collect()
}

/// Sends word by `came` once nobody new comes: the next sale may begin, though in this one
/// somebody may still wait for an answer, and money may still move.
async fn sell(
    shop: &Shop,
    scenario: &Scenario,
    closes: bool,
    doors: Doors,
    came: watch::Sender<bool>,
) -> Result<Sold, Failure> {
    let (mut public, mut admin) = shop.apis()?;
    let opens_at = jiff::Timestamp::now();
    let definition = scenario.sale.to_json(opens_at).to_string();
    admin.create_sale(&definition).await?;
    let sale = scenario.plan.sale_id.clone();
    public.look_at_sale(&sale).await?;
    let starts = Instant::now() + LEAD;
    let started_at = jiff::Timestamp::now() + jiff::SignedDuration::try_from(LEAD)?;
    let header = Header {
        plan: Plan {
            key_prefix: key_prefix(&sale, started_at.as_millisecond()),
            ..scenario.plan.clone()
        },
        attempts: scenario.pace.total() as u32,
        started_unix_ms: started_at.as_millisecond(),
        defined: Some(scenario.sale.defined.clone()),
    };
    let target = Target::parse(&format!("http://{}", shop.public), false)?;
    let journal = journal_file(&shop.folder, &sale);
    let running = run(scenario, &header, &target, &journal, starts, doors);
    tokio::pin!(running);
    let all_came = starts + Duration::from_secs_f64(scenario.pace.seconds());
    let ran = tokio::select! {
        ran = &mut running => ran?,
        () = tokio::time::sleep_until(all_came.into()) => {
            came.send_replace(true);
            running.await?
        }
    };
    let counted = Outcome::all().map(|outcome| (outcome.name(), ran.stats.count(outcome)));
    Ok(Sold {
        sale,
        journal: ran.journal,
        closes,
        outcomes: counted.filter(|&(_, count)| count > 0).collect(),
        sends: ran.stats.sends,
        gave_up: ran.stats.gave_up,
    })
}

/// Begins every key and transaction number. Two sales may begin in the same millisecond.
fn key_prefix(sale: &str, started_unix_ms: i64) -> String {
    format!("{sale}-{started_unix_ms:x}-")
}

fn journal_file(folder: &Path, sale: &str) -> PathBuf {
    folder.join(format!("{sale}.fgj"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sales_that_begin_at_once_share_no_key_and_no_transaction() {
        assert_ne!(key_prefix("chaos-0-7", 5), key_prefix("chaos-1-7", 5));
        assert_ne!(key_prefix("chaos-0-7", 5), key_prefix("chaos-0-7", 6));
    }
}
