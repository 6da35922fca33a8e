//! Fetching the engine's books for the audit: waits until the sale is quiet and
//! the order store has caught up, then pages both enumerations, asks the engine
//! to reconcile, and looks up a sample of wins as their buyers would.

use std::time::{Duration, Instant};

use crate::api::{Api, ApiError, From};
use crate::audit::{Books, Lookup};
use crate::wire::{Order, show_id};

pub struct Fetcher {
    pub public: Api,
    pub admin: Api,
    pub sale_id: String,
    /// How long the store may take to catch up.
    pub quiet_timeout: Duration,
}

/// A win to look up: order id and the user who was told.
#[derive(Clone, Debug)]
pub struct Probe {
    pub id: u128,
    pub user: String,
}

const PAGE_ORDERS: u32 = 10_000;
const POLL: Duration = Duration::from_millis(200);

impl Fetcher {
    /// None when quiet; else what did not settle within the time.
    pub async fn wait_until_quiet(&mut self) -> Result<Option<String>, ApiError> {
        let began = Instant::now();
        let mut before = None;
        loop {
            let sale = self.admin.sale(&self.sale_id).await?;
            let mark = self
                .admin
                .orders(&self.sale_id, From::Store, None, 1)
                .await?
                .seq;
            let now = (
                sale.durable_seq,
                sale.skus.iter().map(|sku| sku.stock).collect::<Vec<_>>(),
            );
            let caught_up = mark >= sale.durable_seq;
            if caught_up && before.as_ref() == Some(&now) {
                return Ok(None);
            }
            if began.elapsed() >= self.quiet_timeout {
                // A busy ledger is no fault of the store: judge what is there.
                return Ok((!caught_up).then(|| {
                    format!(
                        "the store's mark is {mark}, the ledger's durable seq {} after waiting {} s",
                        sale.durable_seq,
                        began.elapsed().as_secs()
                    )
                }));
            }
            before = Some(now);
            tokio::time::sleep(POLL).await;
        }
    }

    pub async fn fetch(&mut self, probes: &[Probe]) -> Result<Books, ApiError> {
        let stuck = self.wait_until_quiet().await?;
        let (ledger, ledger_seq) = self.page_all(From::Ledger).await?;
        let (store, store_mark) = self.page_all(From::Store).await?;
        let mut lookups = Vec::with_capacity(probes.len());
        for probe in probes {
            let (status, body) = self.public.order(&show_id(probe.id), &probe.user).await?;
            let order =
                (status == 200).then(|| Order::parse(&body).map_err(|error| error.to_string()));
            lookups.push(Lookup {
                id: probe.id,
                user: probe.user.clone(),
                status,
                order,
            });
        }
        let reconciliation = self.admin.reconcile().await?;
        let sale = self.admin.sale(&self.sale_id).await?;
        Ok(Books {
            sale,
            ledger,
            ledger_seq,
            store,
            store_mark,
            stuck,
            lookups,
            reconciliation,
        })
    }

    /// All orders, and the seq that came with the last page.
    async fn page_all(&mut self, from: From) -> Result<(Vec<Order>, u64), ApiError> {
        let mut orders = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self
                .admin
                .orders(&self.sale_id, from, cursor.as_deref(), PAGE_ORDERS)
                .await?;
            let empty = page.orders.is_empty();
            orders.extend(page.orders);
            match page.next_cursor {
                None => return Ok((orders, page.seq)),
                // A cursor that does not move would page for ever.
                Some(next) if empty || cursor.as_ref() == Some(&next) => {
                    return Err(ApiError::Sale {
                        call: format!("GET /admin/v1/sales/{}/orders", self.sale_id),
                        why: format!("the cursor {next:?} leads nowhere"),
                    });
                }
                Some(next) => cursor = Some(next),
            }
        }
    }
}
