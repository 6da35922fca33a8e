//! Everything between the ledger and the sockets, built bottom-up and ended top-down. What
//! it waits for (a stock host, an order store) may take its time, so whoever builds it may
//! stop waiting at any moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use floodgate_ledger::Ledger;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::background::Background;
use super::open;
use super::{GRACE, NODE, clock};
use crate::admission::{AdmissionMetrics, Limits};
use crate::config::Config;
use crate::disk::DiskWatch;
use crate::domain::ids::NodeNo;
use crate::grant::{GrantMetrics, GrantParts, Grants};
use crate::http::{Admin, HttpMetrics, Policies, Public};
use crate::paying;
use crate::reconcile::{Books, ReconcileMetrics, Reconciler};
use crate::sale::{Owed, SaleMetrics, Selling, SellingParts, Stored};
use crate::stream::{Letters, StreamMetrics, StreamWorker, WorkerConfig, retention};
use crate::workers::Workers;

pub(super) struct Stages {
    pub selling: Arc<Selling>,
    pub stream: Arc<StreamWorker>,
    /// What the listeners serve.
    pub public: Arc<Public>,
    pub admin: Arc<Admin>,
    pub background: Background,
    books: Arc<Books>,
    ready: Arc<AtomicBool>,
}

impl Stages {
    /// `public_at`: where the built-in provider finds the engine that it calls back.
    pub async fn build(
        config: &Config,
        ledger: &Ledger,
        workers: &Arc<Workers>,
        public_at: SocketAddr,
        registry: Registry,
    ) -> Result<Self, String> {
        let text = |e: prometheus::Error| format!("register metrics: {e}");
        let seed = || getrandom::u64().map_err(|e| format!("draw a seed: {e}"));
        build_info(&registry).map_err(text)?;
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
        let store = open::store_in_step(config, ledger, &stored).await?;
        let host = open::stock_host(&config.stock, workers).await?;
        let clock = clock();
        let admission = AdmissionMetrics::register(&registry).map_err(text)?;
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
        let mut background = Background::default();
        background.spawn("the lease of order ids", Arc::clone(&selling).keep_lease());
        let disk = DiskWatch::start(
            &config.data_dir,
            config.low_water_bytes,
            Arc::clone(&selling),
            &registry,
        );
        background.spawn("the watch over the disk", disk.map_err(text)?.run());

        let stream_metrics = StreamMetrics::register(&registry).map_err(text)?;
        let letters = Letters::open(
            ledger.clone(),
            Arc::clone(&store),
            NODE,
            Arc::clone(&clock),
            stream_metrics.dead_letters.clone(),
        );
        let letters = Arc::new(letters.map_err(|e| e.to_string())?);
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
        );
        let stream = Arc::new(stream.map_err(|e| format!("start the stream: {e}"))?);
        background.spawn(
            "who tells how far the order store is",
            tell_stored(Arc::clone(&stream), stored),
        );
        let marked = Arc::clone(&stream);
        background.spawn(
            "the trimming of the ledger",
            retention::run(
                ledger.clone(),
                move || marked.mark_in_step(),
                move || clock.now(),
                config.retention,
            ),
        );
        let books = Arc::new(Books::new(
            Arc::clone(&store),
            Arc::clone(&letters),
            ledger.clone(),
            NODE,
        ));
        let metrics = ReconcileMetrics::register(&registry).map_err(text)?;
        let reconciler = Reconciler::new(Arc::clone(&selling), Arc::clone(&books), metrics);
        let reconciler = Arc::new(reconciler);
        let every = config.reconcile_every;
        background.spawn("the glances", Arc::clone(&reconciler).watch(every));
        background.spawn("the reconciler", Arc::clone(&reconciler).run(every));

        let (payments, refunder) = paying::build(
            &config.payment,
            secrets,
            &selling,
            owed_list,
            public_at,
            seed()?,
            &registry,
        )
        .map_err(text)?;
        background.spawn("who gives money back", refunder.run());
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
        let ready = Arc::new(AtomicBool::new(true));
        let public = Arc::new(Public {
            selling: Arc::clone(&selling),
            grants,
            policies: Policies::new(&config.buyers),
            config: config.http.clone(),
            metrics: HttpMetrics::register(&registry).map_err(text)?,
            ready: Arc::clone(&ready),
            payments,
            run_id: u32::try_from(ledger.incarnation() & 0xFFFF_FFFF).unwrap_or(0),
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
        Ok(Self {
            selling,
            stream,
            public,
            admin,
            background,
            books,
            ready,
        })
    }

    /// Nobody new is sent here, and passes under way end.
    pub fn turn_away(&self) {
        self.ready.store(false, Ordering::Relaxed);
        self.books.stop();
    }

    /// Ends what sells and what goes on beside it, after the last request. What is left
    /// carries the last orders to the order store.
    pub async fn end_selling(self) -> Arc<StreamWorker> {
        // What a refund is in the middle of is asked again at the next start.
        self.background.end().await;
        // A desk whose stock does not answer has nothing that it could finish.
        let stopped = tokio::time::timeout(GRACE, self.selling.stop()).await;
        if stopped.is_err() {
            tracing::warn!("a stock host does not answer; the next start brings its buckets back");
        }
        self.stream
    }
}

fn build_info(registry: &Registry) -> Result<(), prometheus::Error> {
    let info = IntGaugeVec::new(
        Opts::new("floodgate_build_info", "Always 1; what is running"),
        &["version"],
    )?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(info))
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
