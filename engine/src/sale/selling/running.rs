//! From the start to the stop: every sale the ledger knows is opened before anybody is
//! let in, order ids stay leased ahead of the clock, and whoever stands in line when it
//! ends is told.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use floodgate_ledger::{Group, Ledger};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::Instant;

use super::super::adopt;
use super::super::desk::Command;
use super::super::facts::{self, FactError};
use super::super::metrics::SaleMetrics;
use super::super::order_ids::{IdLease, LEASE_MS};
use super::super::owed::Owed;
use super::super::recovery::{self, RecoveryError, Tools};
use super::super::tail::{Stored, Tails};
use super::super::unclaimed::Unclaimed;
use super::{SalesById, Selling};
use crate::admission::Limits;
use crate::domain::codec::decode_sale;
use crate::domain::ids::NodeNo;
use crate::domain::sale::SaleRecord;
use crate::domain::time::Clock;
use crate::stock::{Owner, StockHost};

/// What [`Selling`] is built from.
pub struct SellingParts {
    pub ledger: Ledger,
    pub host: Arc<dyn StockHost>,
    pub clock: Arc<dyn Clock>,
    pub metrics: SaleMetrics,
    pub limits: Limits,
    pub node: NodeNo,
    pub seed: u64,
    /// Of this run, and of no other: two engines on one stock host are told apart by it.
    pub run: u64,
    pub under_way_max: u32,
    /// Longest a buyer waits for an answer; after it the outcome is "unknown".
    pub answer_max: Duration,
    /// How far the order store has the ledger.
    pub stored: Stored,
    /// Where payments go whose money must go back.
    pub owed: Owed,
    /// Whether buckets that another ledger served are taken over.
    pub takes_over: bool,
}

impl Selling {
    /// Opens every sale the ledger knows.
    pub async fn recover(parts: SellingParts) -> Result<Arc<Self>, RecoveryError> {
        let SellingParts {
            ledger,
            host,
            clock,
            metrics,
            limits,
            node,
            seed,
            run,
            under_way_max,
            answer_max,
            stored,
            owed,
            takes_over,
        } = parts;
        let (records, floor) = read_sales(&ledger)?;
        let last_number = records.iter().map(|r| r.number.0).max().unwrap_or(0);
        let (fallen, _) = watch::channel(None);
        let lease = Arc::new(IdLease::new(above(floor), 0));
        let unclaimed = Unclaimed::new(ledger.clone(), Arc::clone(&clock), owed.clone());
        let owner = Owner {
            ledger: ledger.id().to_string(),
            run,
        };
        let tools = Tools {
            ledger,
            host,
            clock,
            lease,
            metrics,
            node,
            seed,
            owner,
            under_way_max,
            takes_over,
            stored,
            owed,
            revoked: Arc::default(),
            fallen: fallen.clone(),
        };
        let selling = Arc::new(Self {
            sales: ArcSwap::default(),
            tools,
            answer_max,
            limits,
            started: Instant::now(),
            disk_low: AtomicBool::new(false),
            creating: Mutex::new(last_number),
            switching: Mutex::default(),
            unclaimed,
            fallen,
        });
        for record in &records {
            adopt::check(&record.definition, &selling.tools).await?;
        }
        selling.extend_lease().await;
        let mut sales = SalesById::new();
        let mut tails = Tails::default();
        if selling.tools.host.is_second_copy() {
            tails = Tails::read(&selling.tools.ledger, selling.tools.stored.get())?;
        }
        for record in records {
            let live = recovery::open_sale(record, &selling.tools, &mut tails).await?;
            sales.insert(live.sale().id.clone(), live);
        }
        selling.sales.store(Arc::new(sales));
        Ok(selling)
    }

    /// Keeps the floor of order ids durable ahead of the clock; ends with the runtime.
    pub async fn keep_lease(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(LEASE_MS / 10)).await;
            self.extend_lease().await;
        }
    }

    async fn extend_lease(&self) {
        let Some(ceiling) = self.tools.lease.wanted(self.tools.clock.now()) else {
            return;
        };
        let meta = vec![(
            Bytes::from_static(facts::ID_FLOOR),
            Bytes::copy_from_slice(&ceiling.to_be_bytes()),
        )];
        let committed = match self
            .tools
            .ledger
            .append(Group {
                drafts: Vec::new(),
                meta,
            })
            .await
        {
            Ok(receipt) => receipt.await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match committed {
            Ok(_) => self.tools.lease.extend(ceiling),
            Err(error) => tracing::error!(error, "lease order ids"),
        }
    }

    /// Resolves when a desk or what serves it fell. The process should then end: what
    /// the task knew is lost, and the next start reads it from the ledger.
    pub fn fallen(&self) -> impl Future<Output = String> + Send + 'static {
        let mut fallen = self.fallen.subscribe();
        async move {
            loop {
                let why = fallen.borrow_and_update().clone();
                if let Some(why) = why {
                    return why;
                }
                if fallen.changed().await.is_err() {
                    // Nobody is left who could fall.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Whoever stands in line for a token goes home: there will be none.
    pub fn close_gates(&self) {
        for live in self.sales.load().values() {
            live.gate.stop();
        }
    }

    /// Everything handed to a desk is finished and told; then the desks are closed.
    pub async fn stop(&self) {
        for live in self.sales.load_full().values() {
            for desk in &live.desks {
                let (reply, done) = oneshot::channel();
                if desk.send(Command::Stop { reply }).await.is_ok() {
                    // An error means that the desk had ended before.
                    let _ = done.await;
                }
            }
        }
    }
}

/// Every sale the ledger knows, and the highest milliseconds that an order id of any of
/// them may have.
fn read_sales(ledger: &Ledger) -> Result<(Vec<SaleRecord>, u64), RecoveryError> {
    let mut records: Vec<SaleRecord> = Vec::new();
    let mut floor = ledger
        .meta(facts::ID_FLOOR)?
        .and_then(|b| <[u8; 8]>::try_from(&b[..]).ok())
        .map_or(0, u64::from_be_bytes);
    for found in ledger.entities(None, Some(facts::SALE), false) {
        let snapshot = found?;
        let record = decode_sale(&snapshot.body).map_err(|source| FactError::Body {
            seq: snapshot.seq.0,
            source,
        })?;
        floor = floor.max(recovery::highest_id_ms(ledger, &record.definition)?);
        if let Some(other) = records.iter().find(|r| r.number == record.number) {
            // An order id would name two sales.
            return Err(RecoveryError::OneNumber {
                number: record.number.0,
                sales: [&other.definition.id, &record.definition.id].map(ToString::to_string),
            });
        }
        records.push(record);
    }
    Ok((records, floor))
}

/// Where ids begin after a restart: above all that were given, unless a test wants
/// to see what becomes of ids that repeat.
fn above(floor: u64) -> u64 {
    fail::fail_point!("ids-without-floor", |_| 0);
    floor + 1
}
