//! Asking desks for anything but a purchase: who asks waits as long as a buyer would and
//! no longer. What is still unknown then may happen all the same.

use tokio::sync::oneshot;

use super::super::answer::Changed;
use super::super::bucket::BucketAudit;
use super::super::desk::{Act, Command, Wish};
use super::super::live::LiveSale;
use super::Selling;
use crate::domain::ids::OrderId;
use crate::domain::order::OrderEvent;

/// What came of asking a desk.
pub(super) enum Wished<T> {
    Heard(T),
    NoDesk,
    Silence,
}

impl Selling {
    /// Asks the order's desk for a change.
    pub async fn change(&self, id: OrderId, event: OrderEvent) -> Changed {
        let act = |reply| Act::Step {
            event,
            reply: Some(reply),
        };
        match self.wish(id, act).await {
            Wished::Heard(changed) => changed,
            Wished::NoDesk => Changed::Missing(id),
            Wished::Silence => Changed::Unknown,
        }
    }

    pub(super) async fn wish<T>(
        &self,
        order: OrderId,
        act: impl FnOnce(oneshot::Sender<T>) -> Act,
    ) -> Wished<T> {
        let Some(live) = self.sale_of(order) else {
            return Wished::NoDesk;
        };
        let Some(desk) = live.desk(order.bucket()) else {
            return Wished::NoDesk;
        };
        let (reply, answer) = oneshot::channel();
        let act = act(reply);
        // A desk that is stuck takes nothing either: both waits are one.
        let asked = async {
            desk.send(Command::Change(Wish { order, act })).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(self.answer_max, asked).await {
            Ok(Some(heard)) => Wished::Heard(heard),
            Ok(None) | Err(_) => Wished::Silence,
        }
    }

    /// Each bucket's counters and the ledger's facts, at one place in its call order.
    pub async fn audit(&self, live: &LiveSale) -> Vec<BucketAudit> {
        let mut audits = Vec::new();
        for (desk, silence) in live.desks.iter().zip(&live.silences) {
            let (reply, answer) = oneshot::channel();
            let audit = async {
                desk.send(Command::Audit { reply }).await.ok()?;
                answer.await.ok()
            };
            // A bucket that stays silent would keep all others from being looked at.
            let mut silence = silence.clone();
            let patience = async {
                silence.begins().await;
                tokio::time::sleep(self.answer_max).await;
            };
            tokio::select! {
                biased;
                audit = audit => audits.extend(audit),
                () = patience => {}
            }
        }
        audits
    }
}
