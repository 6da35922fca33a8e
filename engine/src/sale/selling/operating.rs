//! What an operator does to sales: create one, pause, resume, end. One at a time, and
//! durable before it counts.

use std::sync::Arc;

use floodgate_ledger::{AppendError, CommitError, Draft, Group};

use super::super::adopt;
use super::super::facts;
use super::super::live::LiveSale;
use super::super::recovery::{self, RecoveryError};
use super::super::tail::Tails;
use super::{SalesById, Selling};
use crate::domain::allotment::Allotment;
use crate::domain::ids::{BucketNo, SaleNo};
use crate::domain::sale::{Sale, SaleRecord, Switches};
use crate::domain::time::UnixMs;

#[derive(Debug)]
pub enum Created {
    New(Arc<LiveSale>),
    Same(Arc<LiveSale>),
    /// Another definition has this id; field by field.
    Different(Vec<String>),
    Refused(String),
}

#[derive(Debug)]
pub enum Switched {
    Done(Arc<LiveSale>),
    Missing,
    Refused(&'static str),
}

/// Why a group is not known to be durable.
enum NotCommitted {
    /// It can never be, as it is.
    Refused(String),
    /// The ledger closed, before it took the group or after; the text says which.
    Unconfirmed(String),
}

impl Selling {
    /// Creates a sale once by its id; its units are durable before it opens.
    pub async fn create(&self, sale: Sale) -> Result<Created, RecoveryError> {
        let mut last_number = self.creating.lock().await;
        let sales = self.sales.load_full();
        if let Some(there) = sales.get(&sale.id) {
            return Ok(match there.sale().difference(&sale) {
                same if same.is_empty() => Created::Same(Arc::clone(there)),
                difference => Created::Different(difference),
            });
        }
        let group = sale.id.as_bytes();
        if self
            .tools
            .ledger
            .entity(group, facts::SALE, group)?
            .is_some()
        {
            return Ok(Created::Refused(
                "the ledger has it and could not open it; the next start does".into(),
            ));
        }
        // Before anything is written: a sale that another ledger sold must not begin anew.
        if let Err(error) = adopt::check(&sale, &self.tools).await {
            return Ok(Created::Refused(error.to_string()));
        }
        let Some(number) = last_number.checked_add(1) else {
            return Ok(Created::Refused(
                "the ledger has 65,535 sales; start a new one".into(),
            ));
        };
        *last_number = number;
        let record = SaleRecord {
            definition: sale.clone(),
            number: SaleNo(number),
            switches: Switches::default(),
        };
        let drafts = first_drafts(&record, self.tools.clock.now());
        match self
            .commit(Group {
                drafts,
                meta: Vec::new(),
            })
            .await
        {
            Ok(()) => {}
            // The definition's own fault: too many buckets for one commit, say.
            Err(NotCommitted::Refused(why)) => return Ok(Created::Refused(why)),
            Err(NotCommitted::Unconfirmed(why)) => return Err(RecoveryError::Unconfirmed(why)),
        }
        let live = recovery::open_sale(record, &self.tools, &mut Tails::default()).await?;
        let mut sales = SalesById::clone(&sales);
        sales.insert(sale.id.clone(), Arc::clone(&live));
        self.sales.store(Arc::new(sales));
        tracing::info!(sale = %sale.id, units = sale.units_opened(), "sale created");
        Ok(Created::New(live))
    }

    /// Pause, resume, end. Durable before it counts.
    pub async fn switch(&self, id: &str, change: impl FnOnce(Switches) -> Switches) -> Switched {
        let _one = self.switching.lock().await;
        let Some(live) = self.sale(id) else {
            return Switched::Missing;
        };
        let (was, to) = (live.switches(), change(live.switches()));
        if was.ended && !to.ended {
            return Switched::Refused("an ended sale cannot be opened again");
        }
        if was != to {
            let record = SaleRecord {
                definition: live.sale().clone(),
                number: live.number(),
                switches: to,
            };
            let version = match self
                .tools
                .ledger
                .entity(id.as_bytes(), facts::SALE, id.as_bytes())
            {
                Ok(Some(snapshot)) => snapshot.version + 1,
                Ok(None) | Err(_) => return Switched::Refused("the ledger cannot be read"),
            };
            let draft = facts::sale_draft(&record, version, self.tools.clock.now());
            if self
                .commit(Group {
                    drafts: vec![draft],
                    meta: Vec::new(),
                })
                .await
                .is_err()
            {
                return Switched::Refused(
                    "the ledger closed before it confirmed the switch; the next start tells",
                );
            }
            live.switch(to);
        }
        Switched::Done(live)
    }

    async fn commit(&self, group: Group) -> Result<(), NotCommitted> {
        let receipt = match self.tools.ledger.append(group).await {
            Ok(receipt) => receipt,
            Err(error @ AppendError::Closed) => {
                return Err(NotCommitted::Unconfirmed(error.to_string()));
            }
            Err(
                error @ (AppendError::Draft { .. }
                | AppendError::MetaKey { .. }
                | AppendError::GroupTooLarge { .. }),
            ) => return Err(NotCommitted::Refused(error.to_string())),
        };
        match receipt.await {
            Ok(_) => Ok(()),
            Err(error @ CommitError::UniqueTaken { .. }) => {
                Err(NotCommitted::Refused(error.to_string()))
            }
            Err(error @ CommitError::Closed) => Err(NotCommitted::Unconfirmed(error.to_string())),
        }
    }
}

/// What the ledger has of a new sale: its definition, and each bucket's share of the units.
fn first_drafts(record: &SaleRecord, now: UnixMs) -> Vec<Draft> {
    let sale = &record.definition;
    let mut drafts = vec![facts::sale_draft(record, 1, now)];
    for bucket in 0..sale.buckets {
        let lines = sale
            .skus
            .iter()
            .enumerate()
            .map(|(at, s)| (s.id.clone(), i64::from(sale.share(at, bucket))))
            .filter(|(_, units)| *units > 0)
            .collect();
        let allotment = Allotment {
            bucket: BucketNo(bucket),
            lines,
        };
        drafts.push(facts::allotment_draft(
            &sale.id,
            &format!("open-{bucket}"),
            &allotment,
            now,
        ));
    }
    drafts
}
