//! One life of the engine: what it is started with, and what stays when it dies.

use std::sync::Arc;

use fastrand::Rng;
use floodgate_engine::admission::{AdmissionMetrics, Limits};
use floodgate_engine::config::BuyerRules;
use floodgate_engine::domain::ids::NodeNo;
use floodgate_engine::domain::time::Clock;
use floodgate_engine::sale::{Created, LiveSale, Owed, SaleMetrics, Selling, SellingParts, Stored};
use floodgate_engine::stock::StockHost;
use floodgate_engine::stream::{Mark, witness};
use floodgate_ledger::{BatchLimits, Kind, Ledger, LedgerConfig, MemoryDisk, Tip};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::disk::{self, Before, SimDevice};
use crate::host::SimHost;
use crate::journal::Journal;
use crate::line::Line;
use crate::world::{World, ms};

/// Whatever takes longer in virtual time, all being well, hangs.
pub const PATIENCE_MS: u64 = 120_000;
/// Kinds of the ledger's entities; part of its format.
pub const ORDER: Kind = Kind(1);
/// Random bits of order ids: the same in every life, so that nothing but the
/// floor keeps ids apart.
const SEED: u64 = 7;

/// Registered once in a thread: names are taken, and nobody reads them here.
#[derive(Clone)]
pub struct Meters {
    sale: SaleMetrics,
    admission: AdmissionMetrics,
    ledger: LedgerConfig,
}

impl Meters {
    pub fn new() -> Self {
        let mut ledger = LedgerConfig::new("memory");
        ledger.batch = BatchLimits {
            records_max: 64,
            ..ledger.batch
        };
        ledger.queue_records_max = 128;
        let registry = prometheus::Registry::new();
        Self {
            sale: SaleMetrics::register(&registry).expect("an empty registry"),
            admission: AdmissionMetrics::register(&registry).expect("names of its own"),
            ledger,
        }
    }
}

/// What stays when the engine dies.
pub struct Ground {
    pub world: Arc<World>,
    pub host: Arc<SimHost>,
    pub disk: MemoryDisk,
    pub before: Before,
    /// The newest records are damaged: a start must be refused.
    pub damaged: bool,
    /// What the ledger came to in the life before this one.
    pub tip: Option<watch::Receiver<Tip>>,
    /// What an order store that was even then would say: it has seen so much.
    pub mark: Option<Mark>,
    pub journal: Arc<Mutex<Journal>>,
    pub meters: Meters,
    /// Of buyers and operators.
    pub rng: Rng,
    pub actions_left: u32,
}

/// A running engine.
pub struct Engine {
    pub selling: Arc<Selling>,
    pub live: Arc<LiveSale>,
    pub ledger: Ledger,
}

pub enum Started {
    Running(Engine),
    /// The ledger would not open, or recovery would not start.
    Refused(String),
}

impl Ground {
    pub async fn start(&mut self, clock: Arc<dyn Clock>) -> Started {
        let world = &self.world;
        let device = SimDevice {
            disk: self.disk.clone(),
            world: Arc::clone(world),
            before: Arc::clone(&self.before),
        };
        *self.before.lock() = None;
        let opened = Ledger::open_driven(self.meters.ledger.clone(), &self.disk, Box::new(device));
        let (ledger, driver) = match opened {
            Ok(opened) => opened,
            Err(error) => return Started::Refused(error.to_string()),
        };
        tokio::spawn(disk::turn(driver, Arc::clone(world)));
        if let Some(Err(why)) = self.mark.as_ref().map(|mark| witness::check(&ledger, mark)) {
            return Started::Refused(why.to_string());
        }
        self.tip = Some(ledger.watch());
        let (owed, owed_list) = Owed::channel();
        let parts = SellingParts {
            ledger: ledger.clone(),
            host: Arc::clone(&self.host) as Arc<dyn StockHost>,
            clock,
            limits: Limits::new(&BuyerRules::default(), SEED, &self.meters.admission),
            metrics: self.meters.sale.clone(),
            node: NodeNo(0),
            seed: SEED,
            run: SEED,
            under_way_max: world.setup.under_way_max,
            answer_max: ms(world.setup.answer_ms),
            stored: Stored::default(),
            owed,
            takes_over: false,
        };
        let selling = match timeout(ms(PATIENCE_MS), Selling::recover(parts)).await {
            Ok(Ok(selling)) => selling,
            Ok(Err(error)) => return Started::Refused(error.to_string()),
            Err(_) => return Started::Refused("recovery hangs".into()),
        };
        let live = match selling.sale(world.setup.sale.id.as_str()) {
            Some(live) => live,
            None => {
                let create = selling.create(world.setup.sale.clone());
                match timeout(ms(PATIENCE_MS), create).await {
                    Ok(Ok(Created::New(live) | Created::Same(live))) => live,
                    Ok(Ok(Created::Refused(why))) => return Started::Refused(why),
                    Ok(Ok(Created::Different(_))) => {
                        return Started::Refused("another sale".into());
                    }
                    Ok(Err(error)) => return Started::Refused(error.to_string()),
                    Err(_) => return Started::Refused("the creation of a sale hangs".into()),
                }
            }
        };
        tokio::spawn(Arc::clone(&selling).keep_lease());
        world.note(format_args!("the engine is open"));
        let engine = Engine {
            selling,
            live,
            ledger,
        };
        tokio::spawn(Line::new(self, &engine).send_back(owed_list));
        Started::Running(engine)
    }
}
