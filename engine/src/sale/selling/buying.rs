//! A purchase, from key to answer: what is known of its key comes before everything else,
//! then the limits and the line, then the desk that owns the buyer's stock.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::answer::{Answer, Refusal};
use super::super::desk::{Ask, Command};
use super::super::facts;
use super::super::guard::Units;
use super::super::index::{Claimed, Known};
use super::super::live::LiveSale;
use super::Selling;
use crate::admission::{Asker, Shed, Standing};
use crate::domain::ids::{DeviceId, Fingerprint, IdemKey, UserId, home_bucket};
use crate::domain::order::Order;

/// A purchase as the door understood it.
#[derive(Debug)]
pub struct Purchase {
    pub user: UserId,
    pub key: IdemKey,
    pub units: Units,
    pub device: Option<DeviceId>,
    /// Whose request it is for the limits by address.
    pub ip: IpAddr,
}

/// What a purchase came to.
#[derive(Debug)]
pub enum Bought {
    New(Arc<Order>),
    Replay(Arc<Order>),
    Refused(Refusal),
    Shed(Shed),
    /// The same key is being worked on, longer than this buyer may wait.
    InProgress,
    Unknown,
    /// Nothing happened, and cannot now.
    NotReady(&'static str),
    /// The disk is nearly full: nobody new buys until there is room.
    NoRoom,
}

impl Selling {
    /// One purchase, from key to answer. `standing` tells afterwards how its buyer
    /// stands with the limits, where they were asked.
    pub async fn buy(
        &self,
        live: &LiveSale,
        purchase: Purchase,
        standing: &mut Standing,
    ) -> Bought {
        let Purchase {
            user,
            key,
            units,
            device,
            ip,
        } = purchase;
        let sale = live.sale();
        let fingerprint = Fingerprint::of_request(
            &sale.id,
            units.iter().map(|(at, n)| (&sale.skus[*at].id, *n)),
            device.as_ref(),
        );
        let bucket = home_bucket(&sale.id, &user, sale.buckets);
        let n_units: u32 = units
            .iter()
            .fold(0_u32, |sum, (_, n)| sum.saturating_add(*n));
        loop {
            // What is known of the key comes before every other answer.
            let claimed = match live.refuse_now(self.tools.clock.now(), &units) {
                None if self.is_disk_low() => match live.index.look(&user, &key, fingerprint) {
                    Some(known) => Claimed::Known(known),
                    None => return Bought::NoRoom,
                },
                None if live.is_silent(bucket) => match live.index.look(&user, &key, fingerprint) {
                    Some(known) => Claimed::Known(known),
                    None => return Bought::NotReady("the buyer's stock does not answer"),
                },
                None => live.index.claim(&user, &key, fingerprint, n_units),
                Some(refusal) => match live.index.look(&user, &key, fingerprint) {
                    Some(known) => Claimed::Known(known),
                    None => Claimed::Refused(refusal),
                },
            };
            let asked_at = Instant::now();
            let claim = match claimed {
                Claimed::Mine(claim) => claim,
                Claimed::Known(known) => {
                    match self.replay(live, known, asked_at + self.answer_max).await {
                        Some(bought) => return bought,
                        None => continue,
                    }
                }
                Claimed::Refused(refusal) => {
                    self.tools.metrics.refused(refusal).inc();
                    return Bought::Refused(refusal);
                }
            };
            let asker = Asker {
                user: &user,
                device: device.as_ref(),
                ip,
            };
            let now = asked_at.saturating_duration_since(self.started);
            let (left, cleared) = self.limits.clear(claim, &asker, now);
            *standing = left;
            let cleared = match cleared {
                Ok(cleared) => cleared.map(|claim| Ask {
                    claim,
                    units,
                    device,
                }),
                Err(shed) => return Bought::Shed(self.counted(shed)),
            };
            let admitted = live.gate.admit(cleared).await;
            let admitted_at = Instant::now();
            self.tools
                .metrics
                .admit_seconds
                .observe((admitted_at - asked_at).as_secs_f64());
            let ask = match admitted {
                Ok(ask) => ask,
                Err(shed) => return Bought::Shed(self.counted(shed)),
            };
            // The sale may have been paused or ended while this one stood in line.
            if let Some(refusal) = live.refuse_now(self.tools.clock.now(), &[]) {
                self.tools.metrics.refused(refusal).inc();
                return Bought::Refused(refusal);
            }
            let (reply, answer) = oneshot::channel();
            let Some(desk) = live.desk(bucket) else {
                return Bought::NotReady("the desk is not open");
            };
            let buy = Command::Buy {
                ask,
                asked_at: admitted_at,
                reply,
            };
            if desk.try_send(buy).is_err() {
                return Bought::NotReady("the desk is closed");
            }
            // The wait for admission is bounded on its own and not part of this one.
            return match tokio::time::timeout_at(admitted_at + self.answer_max, answer).await {
                Ok(Ok(Answer::Won(order))) => Bought::New(order),
                Ok(Ok(Answer::Refused(refusal))) => Bought::Refused(refusal),
                Ok(Ok(Answer::Unknown)) | Err(_) => {
                    self.tools.metrics.count(&Answer::Unknown);
                    Bought::Unknown
                }
                // The desk dropped the request, and nothing is set aside for it.
                Ok(Err(_)) => Bought::NotReady("no ids, or stock that does not answer"),
            };
        }
    }

    /// `None`: whoever held the key gave up; look again.
    async fn replay(&self, live: &LiveSale, known: Known, deadline: Instant) -> Option<Bought> {
        match known {
            Known::Reused => {
                self.tools.metrics.refused(Refusal::KeyReused).inc();
                Some(Bought::Refused(Refusal::KeyReused))
            }
            Known::Won(id) => Some(
                match facts::load_order(&self.tools.ledger, &live.sale().id, id) {
                    Ok(Some(order)) => Bought::Replay(Arc::new(order)),
                    Ok(None) => {
                        tracing::error!(order = %id, "the index names an order that the ledger does not have");
                        Bought::Unknown
                    }
                    Err(error) => {
                        tracing::error!(%error, order = %id, "read an order");
                        Bought::Unknown
                    }
                },
            ),
            Known::Join(answer) => match tokio::time::timeout_at(deadline, answer).await {
                Err(_) => Some(Bought::InProgress),
                Ok(Err(_)) => None,
                Ok(Ok(Answer::Won(order))) => Some(Bought::Replay(order)),
                Ok(Ok(Answer::Refused(refusal))) => Some(Bought::Refused(refusal)),
                Ok(Ok(Answer::Unknown)) => Some(Bought::Unknown),
            },
        }
    }
}
