//! Changes of orders (cancel, window end): first the ledger, then the stock, so
//! units return only after the closing is durable.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use floodgate_ledger::Group;
use tokio::sync::oneshot;

use super::super::answer::Changed;
use super::super::bucket::Move;
use super::super::facts;
use super::{BATCH_MAX, Desk};
use crate::domain::ids::OrderId;
use crate::domain::order::{Order, OrderEvent, OrderState, mark};
use crate::domain::time::UnixMs;

impl Desk {
    /// Everything that must happen to orders: durable first, then in the stock.
    pub(super) async fn change(
        &mut self,
        now: UnixMs,
        changes: Vec<(OrderId, OrderEvent, Option<oneshot::Sender<Changed>>)>,
    ) {
        let mut seen: HashMap<OrderId, Order> = HashMap::new();
        let (mut drafts, mut moves, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (id, event, reply) in changes {
            let order = match seen.get(&id) {
                Some(order) => order.clone(),
                None => match facts::load_order(&self.parts.ledger, &self.parts.sale.id, id) {
                    Ok(Some(order)) => order,
                    Ok(None) => {
                        // Its own commit may still be on the way to the disk.
                        if matches!(event, OrderEvent::WindowEnded { .. }) {
                            self.windows
                                .push(Reverse((now.plus(Duration::from_millis(100)), id)));
                        }
                        answers.push((reply, Changed::Missing(id)));
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(%error, order = %id, "read an order");
                        if matches!(event, OrderEvent::WindowEnded { .. }) {
                            self.windows
                                .push(Reverse((now.plus(Duration::from_secs(1)), id)));
                        }
                        answers.push((reply, Changed::Unknown));
                        continue;
                    }
                },
            };
            match order.step(event, self.parts.bucket.epoch(), now) {
                Err(_) => answers.push((reply, Changed::Illegal(Arc::new(order)))),
                Ok(None) => {
                    if let (
                        OrderState::PendingPayment { until, .. },
                        OrderEvent::WindowEnded { .. },
                    ) = (order.state, event)
                    {
                        self.windows.push(Reverse((until, id)));
                    }
                    answers.push((reply, Changed::Now(Arc::new(order))));
                }
                Ok(Some((next, moved))) => {
                    let body = facts::order_body(&next);
                    drafts.push(facts::order_draft(&next, body.clone()));
                    moves.push(Move {
                        units: facts::units_of(&self.parts.sale, &next),
                        was: order
                            .state
                            .is_live()
                            .then(|| mark(&order.id, order.version)),
                        is: next.state.is_live().then(|| next.mark()),
                        from: order.version,
                        moved,
                        body,
                        order: next.clone(),
                    });
                    seen.insert(id, next.clone());
                    answers.push((reply, Changed::Now(Arc::new(next))));
                }
            }
        }
        if !drafts.is_empty() {
            let committed = match self
                .parts
                .ledger
                .append(Group {
                    drafts,
                    meta: Vec::new(),
                })
                .await
            {
                Ok(receipt) => receipt.await.map(|_| ()).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = committed {
                tracing::error!(%error, "commit changes of orders");
                for (reply, _) in answers {
                    send(reply, Changed::Unknown);
                }
                return;
            }
            self.settle(moves).await;
        }
        for (reply, changed) in answers {
            send(reply, changed);
        }
    }

    /// Tells the stock of durable changes, then counts them.
    async fn settle(&mut self, moves: Vec<Move>) {
        let in_step = self.parts.bucket.settle(&moves).await;
        for m in &moves {
            if let Err(error) = self.parts.guard.follow(m.moved, &m.units, m.was, m.is) {
                tracing::error!(%error, order = %m.order.id, "the mirror cannot follow a durable change");
                continue;
            }
            self.publish(&m.units, m.moved, false);
            if m.was.is_some() && m.is.is_none() {
                self.parts.index.release(&m.order.user, m.order.units());
            }
        }
        if !in_step {
            self.rebuild("settle").await;
        }
    }

    pub(super) fn take_due(
        &mut self,
        now: UnixMs,
        changes: &mut Vec<(OrderId, OrderEvent, Option<oneshot::Sender<Changed>>)>,
    ) {
        while changes.len() < BATCH_MAX
            && let Some(Reverse((until, id))) = self.windows.peek().copied()
            && until <= now
        {
            self.windows.pop();
            changes.push((id, OrderEvent::WindowEnded { now }, None));
        }
    }
}

fn send(reply: Option<oneshot::Sender<Changed>>, changed: Changed) {
    if let Some(reply) = reply {
        // Whoever asked may have gone; the change stands all the same.
        let _ = reply.send(changed);
    }
}
