//! The engine put together: stages are built bottom-up and stopped top-down.

mod background;
mod clock;
mod open;
mod scrub;
mod stages;

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use floodgate_ledger::Ledger;
use prometheus::Registry;
use tokio::sync::watch;

use self::scrub::Scrub;
use self::stages::Stages;
use crate::config::{Config, Patience};
use crate::descriptors;
use crate::http::{self, Bounds, ClientCap, ConnectionMetrics, Listener};
use crate::workers::Workers;

pub(crate) use self::clock::clock;
pub(crate) use self::open::{order_store, stock_host};
pub(crate) use self::scrub::known_damage;

/// One node owns all buckets for now.
pub(crate) const NODE: u16 = 0;
/// Requests under way when the engine is told to stop have this long.
const GRACE: Duration = Duration::from_secs(10);
/// Audits do not need many connections.
const ADMIN_CONNECTIONS: usize = 64;

/// Where the engine listens, once it does.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub public: SocketAddr,
    pub admin: SocketAddr,
}

/// Runs the engine until `stop` resolves, before it is open or after, or the ledger fails.
/// `started` is told the addresses once requests are taken.
pub async fn run(
    config: Config,
    workers: Arc<Workers>,
    stop: impl Future<Output = ()>,
    started: impl FnOnce(Addresses),
) -> Result<(), String> {
    let mut stop = pin!(stop);
    let registry = Registry::new();
    let text = |e: prometheus::Error| format!("register metrics: {e}");
    let descriptors = descriptors::at_start(config.http.connections_max, ADMIN_CONNECTIONS)?;

    // Sockets first: a port in use should be told before anything is opened.
    let public_socket = Listener::bind(config.http.listen)?;
    let admin_socket = Listener::bind(config.http.admin_listen)?;
    let addresses = Addresses {
        public: public_socket.address().map_err(|e| e.to_string())?,
        admin: admin_socket.address().map_err(|e| e.to_string())?,
    };

    // Orders name their buyers: a folder of ours is nobody else's to read.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|e| format!("create the data folder {}: {e}", config.data_dir.display()))?;
    let ledger = open::ledger(&config, &descriptors, &registry)?;
    let scrub = Scrub::start(ledger.clone(), &open::ledger_folder(&config))
        .map_err(|e| format!("start a thread: {e}"))?;
    let building = Stages::build(
        &config,
        &ledger,
        &workers,
        addresses.public,
        registry.clone(),
    );
    let mut stages = tokio::select! {
        // Asked in this order, so that a ledger that is shut says why by itself.
        biased;
        why = shut(&ledger) => return Err(why),
        built = building => built?,
        () = &mut stop => {
            tracing::info!("told to stop before it was open");
            drop(scrub);
            return close(ledger).await;
        }
    };

    let connections = ConnectionMetrics::register(&registry).map_err(text)?;
    let (stop_http, stopping) = watch::channel(false);
    let (stop_admin, stopping_admin) = watch::channel(false);
    let (of_public, of_admin) = (connections.of("public"), connections.of("admin"));
    // Before anybody can ask for metrics: a bound of none would be an alarm.
    of_public.bound(descriptors.connections_max);
    of_admin.bound(ADMIN_CONNECTIONS);
    let (public, admin) = (Arc::clone(&stages.public), Arc::clone(&stages.admin));
    let mut serving = tokio::spawn(http::serve(
        public_socket,
        Some(workers),
        move |request, peer| Arc::clone(&public).handle(request, peer),
        Bounds {
            connections_max: descriptors.connections_max,
            client_cap: ClientCap {
                max: config.http.connections_per_ip_max,
                exempt: config.http.trusted_proxies.clone(),
            },
            patience: config.http.patience,
            grace: GRACE,
        },
        of_public,
        stopping,
    ));
    let mut serving_admin = tokio::spawn(http::serve(
        admin_socket,
        None,
        move |request, peer| Arc::clone(&admin).handle(request, peer),
        Bounds {
            connections_max: ADMIN_CONNECTIONS,
            client_cap: ClientCap::default(),
            // Reconciliations and long lists take their time.
            patience: Patience {
                request: Duration::from_secs(600),
                ..config.http.patience
            },
            grace: Duration::from_secs(1),
        },
        of_admin,
        stopping_admin,
    ));
    tracing::info!(public = %addresses.public, admin = %addresses.admin, "floodgate is open");
    started(addresses);

    let desks = stages.selling.fallen();
    let stopped = tokio::select! {
        () = stop => Ok(()),
        why = shut(&ledger) => Err(why),
        why = desks => Err(why),
        why = stages.background.fallen() => Err(why),
        ended = &mut serving => Err(format!("the public listener fell: {ended:?}")),
        ended = &mut serving_admin => Err(format!("the admin listener fell: {ended:?}")),
    };
    stages.turn_away();
    // After a failed write, or without a desk, nothing more can be promised: what is
    // under way must not be answered, and the process ends.
    // What was promised before stands in a ledger that may not be read again: as much as
    // the order store takes in a moment gets there.
    if stopped.is_err() && !stages.stream.carried(ledger.tip().seq, GRACE).await {
        tracing::error!("the order store lacks records that stand in the ledger alone");
    }
    stopped?;
    tracing::info!("stopping: no new connections, requests under way finish");
    stages.selling.close_gates();
    let _ = stop_http.send(true);
    let _ = serving.await;
    let stream = stages.end_selling().await;
    let _ = stop_admin.send(true);
    let _ = serving_admin.await;
    let scrubbed = tokio::task::spawn_blocking(move || drop(scrub)).await;
    scrubbed.map_err(|e| e.to_string())?;
    if let Some(stream) = Arc::into_inner(stream) {
        stream.stop();
    }
    close(ledger).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn close(ledger: Ledger) -> Result<(), String> {
    tokio::task::spawn_blocking(move || ledger.close())
        .await
        .map_err(|e| e.to_string())
}

/// Resolves once the ledger takes no more.
async fn shut(ledger: &Ledger) -> String {
    format!("the ledger is shut: {}", ledger.failed().await.why)
}
