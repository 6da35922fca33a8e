//! What an operator of the engine does about a fault, as README says: by the admin API and
//! the program's own commands.

use std::time::{Duration, Instant};

use super::buyers::Shop;
use super::day::STUCK;
use crate::cli::{Failure, block_on};

const POLL: Duration = Duration::from_millis(50);
/// A store that is not what it was is noticed by the next batch; this is some batches.
const NOTICED: Duration = Duration::from_secs(1);

/// Waits until every bucket stands in Redis as the ledger has it: one that Redis lost and
/// nobody buys from is only missed when somebody looks. `false`: they never did.
pub(super) fn stock_is_whole(shop: &Shop) -> Result<bool, Failure> {
    let (_, mut admin) = shop.apis()?;
    let began = Instant::now();
    while began.elapsed() < STUCK {
        // A look brings back what is gone; what it found then, the next one finds no more.
        let found = block_on(async { Ok(admin.reconcile().await?) })?;
        if found.differences == 0 {
            return Ok(true);
        }
        std::thread::sleep(POLL);
    }
    Ok(false)
}

/// Waits until the order store has all that happened before now. `false`: it never came to it.
pub(super) fn store_is_even(shop: &Shop) -> Result<bool, Failure> {
    let began = Instant::now();
    while began.elapsed() < STUCK {
        let lag = block_on(lag_seconds(shop))?;
        let since = began.elapsed().saturating_sub(NOTICED).as_secs_f64();
        if lag < since {
            return Ok(true);
        }
        std::thread::sleep(POLL);
    }
    Ok(false)
}

/// Age of the oldest record that the order store lacks.
async fn lag_seconds(shop: &Shop) -> Result<f64, Failure> {
    let (_, mut admin) = shop.apis()?;
    let (_, body) = admin.call("GET", "/metrics", None, "").await?;
    String::from_utf8_lossy(body)
        .lines()
        .find_map(|line| line.strip_prefix("floodgate_stream_lag_seconds "))
        .and_then(|lag| lag.trim().parse().ok())
        .ok_or_else(|| "/metrics tells no floodgate_stream_lag_seconds".into())
}

/// After a recovery no sale sells before somebody said so.
pub(super) fn resume_sales(shop: &Shop) -> Result<(), Failure> {
    let (_, mut admin) = shop.apis()?;
    block_on(async {
        for sale in admin.sales_in_phase("PAUSED").await? {
            admin.resume(&sale).await?;
        }
        Ok(())
    })
}
