//! The engine put together: stages are built bottom-up and stopped top-down.

mod open;
mod scrub;

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use floodgate_ledger::Seq;
use prometheus::{IntGaugeVec, Opts, Registry};
use tokio::sync::watch;

use self::scrub::Scrub;
use crate::admission::{AdmissionMetrics, Limits};
use crate::config::{Config, Patience};
use crate::descriptors;
use crate::disk::DiskWatch;
use crate::domain::ids::NodeNo;
use crate::domain::time::{Clock, UnixMs};
use crate::grant::{GrantMetrics, GrantParts, Grants};
use crate::http::{
    self, Admin, Bounds, ClientCap, ConnectionMetrics, HttpMetrics, Listener, Policies, Public,
};
use crate::paying;
use crate::reconcile::{Books, ReconcileMetrics, Reconciler};
use crate::sale::{Owed, SaleMetrics, Selling, SellingParts, Stored};
use crate::stream::{Letters, StreamMetrics, StreamState, StreamWorker, WorkerConfig, retention};
use crate::workers::Workers;

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

/// Wall time at the start, monotonic from there: a clock that jumps while the
/// engine runs closes no pay window early.
struct SystemClock {
    started: Instant,
    started_ms: u64,
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        let run = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        UnixMs(self.started_ms.saturating_add(run))
    }

    fn wall(&self) -> UnixMs {
        wall()
    }
}

fn wall() -> UnixMs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock {
        started: Instant::now(),
        started_ms: wall().0,
    })
}

/// Runs the engine until `stop` resolves or the ledger fails. `started` is told
/// the addresses once requests are taken.
pub async fn run(
    config: Config,
    workers: Arc<Workers>,
    stop: impl Future<Output = ()>,
    started: impl FnOnce(Addresses),
) -> Result<(), String> {
    let registry = Registry::new();
    let text = |e: prometheus::Error| format!("register metrics: {e}");
    build_info(&registry).map_err(text)?;

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
    let token = match &config.http.admin_token {
        Some(token) => token.clone(),
        None => open::own_token(&config.data_dir)?,
    };
    let secrets = match &config.payment.secrets {
        Some(secrets) => secrets.clone(),
        None => open::own_secrets(&config.data_dir)?,
    };
    let token_keys = match &config.grant.keys {
        Some(keys) => keys.clone(),
        None => open::own_grant_key(&config.data_dir)?,
    };
    let stored = Stored::default();
    let store = open::store_in_step(&config, &ledger, &stored).await?;
    let host = stock_host(&config.stock, &workers).await?;

    let clock = clock();
    let admission = AdmissionMetrics::register(&registry).map_err(text)?;
    let seed = || getrandom::u64().map_err(|e| format!("draw a seed: {e}"));
    let (owed, owed_list) = Owed::channel();
    let selling = Selling::recover(SellingParts {
        ledger: ledger.clone(),
        host,
        clock: Arc::clone(&clock),
        metrics: SaleMetrics::register(&registry).map_err(text)?,
        node: NodeNo(NODE),
        seed: seed()?,
        run: seed()?,
        limits: Limits::new(&config.buyers, seed()?, &admission),
        under_way_max: config.under_way_max,
        answer_max: config.answer_max,
        stored: stored.clone(),
        owed,
        takes_over: false,
    })
    .await
    .map_err(|e| e.to_string())?;
    for sale in &config.sales {
        open::sale(&selling, sale).await?;
    }
    let lease = tokio::spawn(Arc::clone(&selling).keep_lease());

    let stream_metrics = StreamMetrics::register(&registry).map_err(text)?;
    let letters = Letters::open(
        ledger.clone(),
        Arc::clone(&store),
        NODE,
        Arc::clone(&clock),
        stream_metrics.dead_letters.clone(),
    )
    .map_err(|e| e.to_string())?;
    let letters = Arc::new(letters);
    let disk = DiskWatch::start(
        &config.data_dir,
        config.low_water_bytes,
        Arc::clone(&selling),
        &registry,
    )
    .map_err(text)?;
    let watching = tokio::spawn(disk.run());

    let stream = StreamWorker::start(
        ledger.clone(),
        Arc::clone(&store),
        Arc::clone(&letters),
        WorkerConfig {
            node: NODE,
            seed: seed()?,
            ..WorkerConfig::default()
        },
        stream_metrics,
        Box::new(workers.busy()),
    )
    .map_err(|e| format!("start the stream: {e}"))?;
    let stream = Arc::new(stream);
    let telling = tokio::spawn(tell_stored(Arc::clone(&stream), stored));
    let marked = Arc::clone(&stream);
    let trimming = tokio::spawn(retention::run(
        ledger.clone(),
        move || marked.mark_in_step(),
        move || clock.now(),
        config.retention,
    ));
    let books = Books::new(
        Arc::clone(&store),
        Arc::clone(&letters),
        ledger.clone(),
        NODE,
    );
    let books = Arc::new(books);
    let metrics = ReconcileMetrics::register(&registry).map_err(text)?;
    let reconciler = Reconciler::new(Arc::clone(&selling), Arc::clone(&books), metrics);
    let reconciler = Arc::new(reconciler);
    let glancing = tokio::spawn(Arc::clone(&reconciler).watch(config.reconcile_every));
    let reconciling = tokio::spawn(Arc::clone(&reconciler).run(config.reconcile_every));

    let (stop_paying, paying_stops) = watch::channel(false);
    let (payments, refunding) = paying::start(
        &config.payment,
        secrets,
        &selling,
        owed_list,
        addresses.public,
        (seed()?, paying_stops),
        &registry,
    )
    .map_err(text)?;

    let ready = Arc::new(AtomicBool::new(true));
    let connections = ConnectionMetrics::register(&registry).map_err(text)?;
    let (stop_http, stopping) = watch::channel(false);
    let (stop_admin, stopping_admin) = watch::channel(false);
    let run_id = u32::try_from(ledger.incarnation() & 0xFFFF_FFFF).unwrap_or(0);
    let grants = Arc::new(Grants::new(GrantParts {
        config: config.grant.clone(),
        keys: token_keys,
        ledger: ledger.clone(),
        clock: Arc::clone(selling.clock()),
        revoked: Arc::clone(selling.revoked()),
        metrics: GrantMetrics::register(&registry).map_err(text)?,
        run: seed()?,
        seed: seed()?,
    }));
    let public = Arc::new(Public {
        selling: Arc::clone(&selling),
        grants,
        policies: Policies::new(&config.buyers),
        config: config.http.clone(),
        metrics: HttpMetrics::register(&registry).map_err(text)?,
        ready: Arc::clone(&ready),
        payments,
        run_id,
    });
    let admin = Arc::new(Admin {
        selling: Arc::clone(&selling),
        store,
        stream: Arc::clone(&stream),
        letters,
        reconciler,
        registry,
        token,
        node: NODE,
        ready: Arc::clone(&ready),
    });
    let (of_public, of_admin) = (connections.of("public"), connections.of("admin"));
    // Before anybody can ask for metrics: a bound of none would be an alarm.
    of_public.bound(descriptors.connections_max);
    of_admin.bound(ADMIN_CONNECTIONS);
    let serving = tokio::spawn(http::serve(
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
    let serving_admin = tokio::spawn(http::serve(
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
    let scrub = Scrub::start(ledger.clone(), &open::ledger_folder(&config))
        .map_err(|e| format!("start a thread: {e}"))?;
    tracing::info!(public = %addresses.public, admin = %addresses.admin, "floodgate is open");
    started(addresses);

    let (failed, fallen) = (ledger.failed(), selling.fallen());
    let stopped = tokio::select! {
        () = stop => Ok(()),
        failure = failed => Err(format!("the ledger is shut: {}", failure.why)),
        why = fallen => Err(why),
    };
    ready.store(false, Ordering::Relaxed);
    books.stop();
    // After a failed write, or without a desk, nothing more can be promised: what is
    // under way must not be answered, and the process ends.
    if stopped.is_err() {
        carried(&stream, ledger.tip().seq).await;
    }
    stopped?;
    tracing::info!("stopping: no new connections, requests under way finish");
    selling.close_gates();
    let _ = stop_http.send(true);
    let _ = serving.await;
    glancing.abort();
    reconciling.abort();
    watching.abort();
    lease.abort();
    trimming.abort();
    telling.abort();
    // They hold the stream, which is to end here and not somewhere else.
    let _ = tokio::join!(trimming, telling);
    // What it is in the middle of is asked again at the next start.
    let _ = stop_paying.send(true);
    let _ = refunding.await;
    // A desk whose stock does not answer has nothing that it could finish.
    if tokio::time::timeout(GRACE, selling.stop()).await.is_err() {
        tracing::warn!("a stock host does not answer; the next start brings its buckets back");
    }
    let _ = stop_admin.send(true);
    let _ = serving_admin.await;
    let scrubbed = tokio::task::spawn_blocking(move || drop(scrub)).await;
    scrubbed.map_err(|e| e.to_string())?;
    if let Some(stream) = Arc::into_inner(stream) {
        stream.stop();
    }
    drop(selling);
    tokio::task::spawn_blocking(move || ledger.close())
        .await
        .map_err(|e| e.to_string())?;
    tracing::info!("stopped");
    Ok(())
}

fn build_info(registry: &Registry) -> Result<(), prometheus::Error> {
    let info = IntGaugeVec::new(
        Opts::new("floodgate_build_info", "Always 1; what is running"),
        &["version"],
    )?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(info))
}

/// What was promised before the end stands in a ledger that may not be read again: as much
/// as the order store takes in a moment gets there.
async fn carried(stream: &StreamWorker, through: Seq) {
    let carried = async {
        while stream.mark().map_or(Seq::ZERO, |mark| mark.seq) < through
            && !matches!(stream.state(), StreamState::Stopped(_))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(GRACE, carried).await.is_err() {
        tracing::error!("the order store lacks records that stand in the ledger alone");
    }
}

/// What the order store has needs no second copy elsewhere.
async fn tell_stored(stream: Arc<StreamWorker>, stored: Stored) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Some(mark) = stream.mark_in_step() {
            stored.set(mark);
        }
    }
}
