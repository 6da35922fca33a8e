//! Selling to the buyers of a turn: script, guard, ledger, all of them at once. Whoever
//! wins hears of it from the teller, after the fsync; whoever is refused hears of it here.

use std::cmp::Reverse;
use std::sync::Arc;

use bytes::Bytes;
use floodgate_ledger::Group;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::super::answer::{Answer, Refusal};
use super::super::facts;
use super::super::guard::Units;
use super::super::index::Claim;
use super::super::teller::Winner;
use super::Desk;
use crate::domain::ids::DeviceId;
use crate::domain::order::{Item, Order, OrderState, StockMove, Version};
use crate::domain::time::UnixMs;
use crate::stock::Verdict;

/// A purchase that knows its key is free.
#[derive(Debug)]
pub struct Ask {
    pub claim: Claim,
    pub units: Units,
    pub device: Option<DeviceId>,
}

/// A buyer at the desk.
pub(super) struct Buyer {
    pub ask: Ask,
    pub order: Order,
    pub place: OwnedSemaphorePermit,
    pub reply: oneshot::Sender<Answer>,
}

impl Desk {
    /// The order as it will be if it wins.
    pub(super) fn draft(&mut self, ask: &Ask, now: UnixMs) -> Option<Order> {
        let sale = &self.parts.sale;
        let id = self.parts.ids.next(&self.parts.lease, now)?;
        let until = UnixMs(now.0 + sale.pay_window_ms);
        Some(Order {
            id,
            sale: sale.id.clone(),
            user: ask.claim.user().clone(),
            key: ask.claim.key().clone(),
            fingerprint: ask.claim.fingerprint(),
            items: ask
                .units
                .iter()
                .map(|(sku, quantity)| Item {
                    sku: sale.skus[*sku].id.clone(),
                    quantity: *quantity,
                    price: sale.skus[*sku].price,
                })
                .collect(),
            currency: sale.skus[0].currency,
            state: OrderState::PendingPayment {
                until,
                grace_used: false,
            },
            version: Version::first(self.parts.bucket.epoch()),
            created_at: now,
            updated_at: now,
            pay_deadline: until,
            device: ask.device.clone(),
        })
    }

    /// Script, guard, ledger. A host that says what the ledger's facts forbid
    /// has lost or invented something: the bucket is rebuilt and asked again.
    pub(super) async fn sell(&mut self, now: UnixMs, mut buyers: Vec<Buyer>) {
        self.parts.metrics.batch_orders.observe(buyers.len() as f64);
        while !buyers.is_empty() {
            let bodies: Vec<Bytes> = buyers
                .iter()
                .map(|b| self.encoder.encode(&b.order).into())
                .collect();
            fail::fail_point!("desk-before-script", |_| std::process::abort());
            let timer = Instant::now();
            let verdicts = self
                .parts
                .bucket
                .reserve(
                    now,
                    false,
                    self.parts.sale.units_per_user,
                    buyers.iter().map(|b| &b.order).zip(&bodies),
                )
                .await;
            self.parts
                .metrics
                .stock_seconds
                .observe(timer.elapsed().as_secs_f64());
            fail::fail_point!("desk-after-script", |_| std::process::abort());
            let Some(verdicts) = verdicts else {
                // The bucket changed under us; nothing of this batch reached the
                // ledger, so the same orders are asked for again.
                self.parts
                    .metrics
                    .reserve_errors
                    .with_label_values(&["changed"])
                    .inc();
                self.rebuild("changed").await;
                continue;
            };
            buyers = self.judge(buyers, bodies, verdicts).await;
            if !buyers.is_empty() {
                self.parts
                    .metrics
                    .reserve_errors
                    .with_label_values(&["guard"])
                    .inc();
                self.rebuild("guard").await;
            }
        }
    }

    /// Returns the buyers about whom host and ledger facts disagree.
    async fn judge(
        &mut self,
        buyers: Vec<Buyer>,
        bodies: Vec<Bytes>,
        verdicts: Vec<Verdict>,
    ) -> Vec<Buyer> {
        let mut drafts = Vec::with_capacity(buyers.len());
        let mut winners = Vec::with_capacity(buyers.len());
        let mut disputed = Vec::new();
        for ((buyer, body), verdict) in buyers.into_iter().zip(bodies).zip(verdicts) {
            let refusal = match verdict {
                Verdict::Held => {
                    let n_units = buyer.order.units();
                    if !self.parts.guard.allows(&buyer.ask.units)
                        || !buyer.ask.claim.place(buyer.order.id, n_units)
                    {
                        disputed.push(buyer);
                        continue;
                    }
                    self.parts.guard.hold(&buyer.ask.units, buyer.order.mark());
                    self.publish(&buyer.ask.units, StockMove::None, true);
                    self.windows
                        .push(Reverse((buyer.order.pay_deadline, buyer.order.id)));
                    drafts.push(facts::order_draft(&buyer.order, body));
                    winners.push(Winner {
                        claim: buyer.ask.claim,
                        order: Arc::new(buyer.order),
                        reply: buyer.reply,
                        place: buyer.place,
                    });
                    continue;
                }
                // The index knows every key of the ledger, and it let this one pass.
                Verdict::Replay | Verdict::KeyReused | Verdict::UnknownSku => {
                    disputed.push(buyer);
                    continue;
                }
                Verdict::NotOpen => Refusal::NotOpen,
                Verdict::Ended => Refusal::Ended,
                Verdict::OverLimit => Refusal::OverLimit,
                // Short of units that the ledger says are here.
                Verdict::NotEnough if self.parts.guard.short(&buyer.ask.units).is_empty() => {
                    disputed.push(buyer);
                    continue;
                }
                Verdict::NotEnough if self.may_refill(&buyer.ask.units) => {
                    self.line.push(buyer);
                    continue;
                }
                Verdict::NotEnough => Refusal::NotEnough,
            };
            self.refuse(buyer, refusal);
        }
        if !drafts.is_empty() {
            fail::fail_point!("win-judged", |_| std::process::abort());
            match self
                .parts
                .ledger
                .append(Group {
                    drafts,
                    meta: Vec::new(),
                })
                .await
            {
                Ok(receipt) => self.teller.tell(receipt, winners).await,
                Err(error) => {
                    tracing::error!(%error, "hand a batch to the ledger");
                    self.parts
                        .metrics
                        .reserve_errors
                        .with_label_values(&["ledger"])
                        .inc();
                    for winner in winners {
                        winner.unknown();
                    }
                }
            }
        }
        disputed
    }

    pub(super) fn refuse(&self, buyer: Buyer, refusal: Refusal) {
        let answer = Answer::Refused(refusal);
        buyer.ask.claim.refused(&answer);
        self.parts.metrics.count(&answer);
        // A buyer who left hears the same under the same key.
        let _ = buyer.reply.send(answer);
    }
}
