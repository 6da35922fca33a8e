//! Opens what a configuration names, and says in its owner's words what stands in the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use floodgate_ledger::{BatchLimits, Ledger, LedgerConfig, LedgerMetrics, OpenError};
use prometheus::Registry;

use super::{NODE, scrub};
use crate::config::{AdminToken, Config, StockConfig, TokenKey, TokenKeys};
use crate::descriptors::Shares;
use crate::domain::sale::Sale;
use crate::domain::sign::{Secret, Secrets};
use crate::own_file;
use crate::recover;
use crate::sale::{Created, Selling, Stored};
use crate::stock::StockHost;
use crate::stock::embedded::{EmbeddedConfig, EmbeddedHost};
use crate::stock::redis::RedisHost;
use crate::stream::{self, OrderStore, witness};
use crate::workers::Workers;

pub(super) fn ledger(
    config: &Config,
    descriptors: &Shares,
    registry: &Registry,
) -> Result<Ledger, String> {
    if recover::is_unfinished(&config.data_dir) {
        return Err("a recovery was broken off: run `floodgate recover` again".into());
    }
    let folder = ledger_folder(config);
    if let Some(damage) = scrub::known_damage(&folder) {
        return Err(refused(&damage));
    }
    let mut ledger = LedgerConfig::new(folder);
    ledger.batch = BatchLimits {
        records_max: config.batch_records_max,
        ..ledger.batch
    };
    ledger.queue_records_max = config.queue_records_max;
    ledger.open_files_max = Some(descriptors.ledger_files_max);
    let metrics = LedgerMetrics::default();
    metrics
        .register(registry)
        .map_err(|e| format!("register metrics: {e}"))?;
    ledger.metrics = metrics;
    Ledger::open(ledger).map_err(|error| match &error {
        OpenError::Damaged { .. } | OpenError::Corrupt { .. } => refused(&error.to_string()),
        OpenError::Limits(_)
        | OpenError::InUse { .. }
        | OpenError::Format { .. }
        | OpenError::Io { .. } => format!("open the ledger: {error}"),
    })
}

pub(super) fn ledger_folder(config: &Config) -> PathBuf {
    config.data_dir.join("ledger")
}

/// Nothing is sold on a ledger that is known to be damaged.
pub(super) fn refused(damage: &str) -> String {
    format!("{damage}; put a backup of it in its place, or run `floodgate recover`")
}

pub(crate) async fn order_store(config: &Config) -> Result<Arc<dyn OrderStore>, String> {
    let (kind, data_dir) = (config.store.clone(), config.data_dir.clone());
    tokio::task::spawn_blocking(move || stream::open(&kind, &data_dir))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("open the order store: {e}"))
}

pub(crate) async fn stock_host(
    config: &StockConfig,
    workers: &Arc<Workers>,
) -> Result<Arc<dyn StockHost>, String> {
    let workers = Arc::clone(workers);
    Ok(match config {
        StockConfig::Embedded => Arc::new(EmbeddedHost::on(workers, &EmbeddedConfig::default())?),
        StockConfig::Redis(config) => Arc::new(RedisHost::connect(config, workers).await?),
    })
}

/// Refuses to sell from a ledger that the order store has seen further.
pub(super) async fn store_in_step(
    config: &Config,
    ledger: &Ledger,
    stored: &Stored,
) -> Result<Arc<dyn OrderStore>, String> {
    let (store, ledger, stored) = (order_store(config).await?, ledger.clone(), stored.clone());
    let folder = config.data_dir.display().to_string();
    // A store may be far away, and whoever asks it waits.
    tokio::task::spawn_blocking(move || {
        let mark = store.mark(NODE).map_err(|e| e.to_string())?;
        let Some(mark) = mark else { return Ok(store) };
        witness::check(&ledger, &mark).map_err(|why| {
            format!(
                "{why}. Selling on would sell units and keys a second time. Put the right ledger \
                 back into {folder}/ledger; or bring together what the order store and the stock \
                 host know with `floodgate recover`"
            )
        })?;
        stored.set(mark.seq);
        Ok(store)
    })
    .await
    .map_err(|e| e.to_string())?
}

pub(super) async fn sale(selling: &Selling, sale: &Sale) -> Result<(), String> {
    match selling
        .create(sale.clone())
        .await
        .map_err(|e| e.to_string())?
    {
        Created::New(_) | Created::Same(_) => Ok(()),
        Created::Different(fields) => Err(format!(
            "sale {}: the configuration changes a sale that exists: {}; give the new sale a new id",
            sale.id,
            fields.join("; ")
        )),
        Created::Refused(why) => Err(format!("sale {}: {why}", sale.id)),
    }
}

/// A token of our own making, for its owner's eyes only, kept over restarts.
pub(super) fn own_token(data_dir: &Path) -> Result<AdminToken, String> {
    let read = |text: &str| match text.len() {
        0..16 => Err("has fewer than 16 characters"),
        16.. => Ok(AdminToken::new(text)),
    };
    let make = |random: [u8; 32]| random[..24].iter().map(|b| format!("{b:02x}")).collect();
    own_file::read_or_make(&data_dir.join("admin-token"), "an admin token", read, make)
}

/// Who signs callbacks, where nobody said: whoever may read our data folder.
pub(super) fn own_secrets(data_dir: &Path) -> Result<Secrets, String> {
    let make = |random| Secret::from_key(random).reveal();
    let path = data_dir.join("payment-secret");
    let secret = own_file::read_or_make(&path, "a payment secret", Secret::parse, make)?;
    Ok(Secrets::new(vec![secret]).expect("one is enough"))
}

/// What tokens are signed with, where nobody said: kept over restarts, so that players
/// play on.
pub(super) fn own_grant_key(data_dir: &Path) -> Result<TokenKeys, String> {
    let make = |random| TokenKey::new(random).reveal();
    let path = data_dir.join("grant-key");
    let newest = own_file::read_or_make(&path, "a key for tokens", TokenKey::parse, make)?;
    Ok(TokenKeys {
        newest,
        others: Vec::new(),
    })
}
