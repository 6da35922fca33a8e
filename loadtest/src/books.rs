//! Fetching the engine's books for the audit: waits until the sale is settled and
//! the order store has caught up, then pages both enumerations, asks the engine
//! to reconcile, and looks up a sample of wins as their buyers would. Where winners
//! paid, the payments as well, and what a sample of the buyers was granted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::api::{Api, ApiError, From};
use crate::audit::{Books, Granted, Lookup};
use crate::pay::wire::{Entitlement, Payment, PaymentStatus};
use crate::wire::{Order, Status, show_id};

pub struct Fetcher {
    pub public: Api,
    pub admin: Api,
    pub sale_id: String,
    /// How long the store may go without coming nearer, and what is due may take to be
    /// done.
    pub quiet_timeout: Duration,
    /// Whether winners paid.
    pub money: bool,
}

/// A win to look up: order id and the user who was told.
#[derive(Clone, Debug)]
pub struct Probe {
    pub id: u128,
    pub user: String,
}

/// Both enumerations of the ledger, looked at when this was the engine's time.
struct Ledger {
    at_us: i64,
    orders: Vec<Order>,
    seq: u64,
    payments: Option<Vec<Payment>>,
}

const PAGE_ORDERS: u32 = 10_000;
const PAGE_PAYMENTS: u32 = 1_000;
const POLL: Duration = Duration::from_millis(200);
/// Between two looks at everything.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Buyers who are asked what they were granted, and of each kind of order at least a third.
const BUYERS_ASKED: usize = 900;

impl Fetcher {
    /// None when quiet; else what did not settle within the time.
    pub async fn wait_until_quiet(&mut self) -> Result<Option<String>, ApiError> {
        let mut nearer_at = Instant::now();
        let (mut before, mut lag_least) = (None, u64::MAX);
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
            let lag = sale.durable_seq.saturating_sub(mark);
            if lag < lag_least {
                (lag_least, nearer_at) = (lag, Instant::now());
            }
            if nearer_at.elapsed() >= self.quiet_timeout {
                // A busy ledger is no fault of the store: judge what is there.
                return Ok((!caught_up).then(|| {
                    format!(
                        "the store's mark is {mark}, the ledger's durable seq {}, and no nearer for {} s",
                        sale.durable_seq,
                        nearer_at.elapsed().as_secs()
                    )
                }));
            }
            before = Some(now);
            tokio::time::sleep(POLL).await;
        }
    }

    /// Once nothing is due any more, or was for too long.
    async fn settled_ledger(&mut self) -> Result<(Option<String>, Ledger), ApiError> {
        let mut quiet_at = None;
        loop {
            let stuck = self.wait_until_quiet().await?;
            let quiet_at = *quiet_at.get_or_insert_with(Instant::now);
            let at = self.admin.sale(&self.sale_id).await?.server_time;
            let (orders, seq) = self.page_all(From::Ledger).await?;
            let payments = match self.money {
                true => Some(self.page_payments().await?),
                false => None,
            };
            let ledger = Ledger {
                at_us: at.as_microsecond(),
                orders,
                seq,
                payments,
            };
            let patience = self.quiet_timeout.saturating_sub(quiet_at.elapsed());
            // Where winners paid, windows are short, and their ends are awaited.
            let ahead_us = if self.money { patience.as_micros() } else { 0 };
            let until_us = ledger.at_us + i64::try_from(ahead_us).unwrap_or(0);
            if stuck.is_some() || patience.is_zero() || !ledger.owes(until_us) {
                return Ok((stuck, ledger));
            }
            tokio::time::sleep(LOOK_AGAIN.min(patience)).await;
        }
    }

    pub async fn fetch(&mut self, probes: &[Probe]) -> Result<Books, ApiError> {
        let (stuck, ledger) = self.settled_ledger().await?;
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
        let mut grants = Vec::new();
        if self.money {
            for user in buyers_to_ask(&ledger.orders) {
                let entitlements = match self.public.entitlements(&user).await? {
                    Some(entitlements) => entitlements,
                    None => self.granted(&user, &ledger.orders).await?,
                };
                grants.push(Granted { user, entitlements });
            }
        }
        let reconciliation = self.admin.reconcile().await?;
        let sale = self.admin.sale(&self.sale_id).await?;
        Ok(Books {
            sale,
            settled_us: ledger.at_us,
            ledger: ledger.orders,
            ledger_seq: ledger.seq,
            payments: ledger.payments,
            grants,
            store,
            store_mark,
            stuck,
            lookups,
            reconciliation,
        })
    }

    /// What a buyer's orders were granted, order by order.
    async fn granted(
        &mut self,
        user: &str,
        orders: &[Order],
    ) -> Result<Result<Vec<Entitlement>, String>, ApiError> {
        let mut all = Vec::new();
        for order in orders.iter().filter(|order| order.user == user) {
            match self.admin.granted(order.id).await? {
                Ok(entitlements) => all.extend(entitlements),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(all))
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
                    return Err(
                        self.leads_nowhere(&format!("sales/{}/orders", self.sale_id), &next)
                    );
                }
                Some(next) => cursor = Some(next),
            }
        }
    }

    async fn page_payments(&mut self) -> Result<Vec<Payment>, ApiError> {
        let mut payments = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self
                .admin
                .payments(&self.sale_id, cursor.as_deref(), PAGE_PAYMENTS)
                .await?;
            let empty = page.payments.is_empty();
            payments.extend(page.payments);
            match page.next {
                None => return Ok(payments),
                Some(next) if empty || cursor.as_ref() == Some(&next) => {
                    return Err(self.leads_nowhere("payments", &next));
                }
                Some(next) => cursor = Some(next),
            }
        }
    }

    fn leads_nowhere(&self, list: &str, cursor: &str) -> ApiError {
        ApiError::Sale {
            call: format!("GET /admin/v1/{list}"),
            why: format!("the cursor {cursor:?} leads nowhere"),
        }
    }
}

impl Ledger {
    /// Whether something has still to happen by itself before this moment.
    fn owes(&self, until_us: i64) -> bool {
        let order = self.orders.iter().any(|order| match order.status {
            Status::PendingPayment => order.deadline_us <= until_us,
            Status::RefundDue => true,
            Status::Paid | Status::Delivered | Status::Closed | Status::Refunded => false,
        });
        let mut payments = self.payments.iter().flatten();
        order
            || payments.any(|payment| match payment.status {
                PaymentStatus::Captured | PaymentStatus::RefundDue => true,
                PaymentStatus::Applied | PaymentStatus::Refunded | PaymentStatus::Review => false,
            })
    }
}

/// Spread evenly over those who have something, those who had it, and the others.
fn buyers_to_ask(orders: &[Order]) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    let kinds: [fn(Status) -> bool; 3] = [
        |status| matches!(status, Status::Paid | Status::Delivered),
        |status| matches!(status, Status::RefundDue | Status::Refunded),
        |status| matches!(status, Status::PendingPayment | Status::Closed),
    ];
    for kind in kinds {
        let of_kind: Vec<_> = orders.iter().filter(|order| kind(order.status)).collect();
        let step = of_kind.len().div_ceil(BUYERS_ASKED / 3).max(1);
        let some = of_kind.iter().step_by(step);
        asked.extend(some.map(|order| order.user.to_string()));
    }
    asked
}
