//! Buyers and operators: what they ask of the engine, and what they write down.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use floodgate_engine::admission::Standing;
use floodgate_engine::domain::ids::{IdemKey, OrderId, UserId};
use floodgate_engine::domain::order::OrderEvent;
use floodgate_engine::domain::sale::Switches;
use floodgate_engine::sale::{Bought, Changed, Purchase, Switched, Units};
use floodgate_ledger::Ledger;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::journal::{Change, Heard};
use crate::life::{Engine, Ground, ORDER, PATIENCE_MS};
use crate::world::{World, ms};

impl Ground {
    pub fn user(&mut self) -> UserId {
        let n = self.rng.u32(..self.world.setup.n_users);
        UserId::parse(&format!("user-{n}")).expect("an id")
    }

    fn key(&mut self) -> IdemKey {
        let n = self.rng.u32(..self.world.setup.n_keys);
        IdemKey::parse(&format!("key-{n}")).expect("an id")
    }

    pub fn units(&mut self) -> Units {
        let sale = &self.world.setup.sale;
        let n_max = sale.units_per_user;
        let mut units = Units::new();
        for sku in 0..sale.skus.len() {
            if units.is_empty() || self.rng.u8(..4) == 0 {
                units.push((sku, self.rng.u32(1..=n_max)));
            }
        }
        if self.rng.bool() {
            units.truncate(1);
            units[0].0 = self.rng.usize(..sale.skus.len());
        }
        units
    }

    pub fn send(
        &self,
        engine: &Engine,
        user: UserId,
        key: IdemKey,
        units: Units,
    ) -> (usize, AbortHandle) {
        let Self { world, journal, .. } = self;
        let at = {
            let mut journal = journal.lock();
            journal.send(user.clone(), key.clone(), units.clone(), world.now())
        };
        world.note(format_args!("{at}: {user} {key} buys {units:?}"));
        let (selling, live) = (Arc::clone(&engine.selling), Arc::clone(&engine.live));
        let (world, journal, ledger) = (
            Arc::clone(world),
            Arc::clone(journal),
            engine.ledger.clone(),
        );
        let task = tokio::spawn(async move {
            let purchase = Purchase {
                user,
                key,
                units,
                device: None,
                ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            };
            let bought = selling.buy(&live, purchase, &mut Standing::default()).await;
            let heard = match bought {
                Bought::New(order) => Heard::Won {
                    order: order.id,
                    new: true,
                },
                Bought::Replay(order) => Heard::Won {
                    order: order.id,
                    new: false,
                },
                Bought::Refused(refusal) => Heard::Refused(refusal),
                Bought::Shed(_) => Heard::Shed,
                Bought::InProgress => Heard::InProgress,
                Bought::Unknown => Heard::Unknown,
                Bought::NotReady(_) => Heard::NotReady,
                Bought::NoRoom => Heard::NoRoom,
            };
            if world.is_frozen() {
                return;
            }
            world.note(format_args!("{at}: {heard:?}"));
            world.count(heard.name());
            if let Heard::Won { order, .. } = heard {
                durable(&world, &ledger, order);
            }
            let mut journal = journal.lock();
            let waited = world.now() - journal.requests[at].sent_ms;
            journal.hear(at, heard);
            // Behind another with the same key, then in line, then for an answer.
            let setup = &world.setup;
            let longest = 2 * (setup.answer_ms + u64::from(setup.sale.admission.wait_ms))
                + world.stood_still_ms()
                + 10;
            if waited > longest {
                world.breaks(format_args!(
                    "P5 nothing stays stuck: request {at} was answered after {waited} ms, {longest} at most"
                ));
            }
        });
        (at, task.abort_handle())
    }
}

/// P2: whoever hears "won" finds it on the disk, at this very moment.
fn durable(world: &World, ledger: &Ledger, order: OrderId) {
    let sale = world.setup.sale.id.as_bytes();
    if !matches!(ledger.entity(sale, ORDER, order.as_bytes()), Ok(Some(_))) {
        world.breaks(format_args!(
            "P2 won means durable: {order} was told and is not in the ledger"
        ));
    }
}

impl Ground {
    /// Buyers and operators at work, until they have done all they wanted; or until
    /// an operator stops the engine: then true.
    pub async fn use_it(&mut self, engine: &Engine) -> bool {
        let world = Arc::clone(&self.world);
        if world.setup.clock_stuck {
            // Punctual as well: the same moment comes again in each life.
            tokio::time::sleep(ms(100_u64.saturating_sub(world.age()))).await;
        }
        let mut tasks: Vec<(usize, AbortHandle)> = Vec::new();
        while self.actions_left > 0 && !world.is_broken() {
            self.actions_left -= 1;
            if self.act(engine, &mut tasks).await {
                return true;
            }
            let gap = match self.rng.u8(..10) {
                0..4 => 0,
                4..8 => self.rng.u64(1..20),
                8 => self.rng.u64(20..200),
                _ => self.rng.u64(200..1_500),
            };
            if gap > 0 {
                tokio::time::sleep(ms(gap)).await;
            } else if self.rng.bool() {
                tokio::task::yield_now().await;
            }
        }
        false
    }

    async fn act(&mut self, engine: &Engine, tasks: &mut Vec<(usize, AbortHandle)>) -> bool {
        let world = Arc::clone(&self.world);
        if world.happens(|r| r.hang_up) {
            tasks.retain(|(at, _)| !self.journal.lock().requests[*at].over);
            if !tasks.is_empty() {
                let (at, task) = tasks.swap_remove(self.rng.usize(..tasks.len()));
                task.abort();
                self.journal.lock().requests[at].over = true;
                world.count("fault: a buyer hung up");
                world.note(format_args!("{at} hangs up"));
                return false;
            }
        }
        if world.happens(|r| r.stopped) {
            world.stand_still(self.rng.u64(100..60_000)).await;
            return false;
        }
        if world.happens(|r| r.operator) {
            if self.rng.u8(..12) == 0 {
                self.stop(engine).await;
                return true;
            }
            self.operate(engine).await;
            return false;
        }
        match self.rng.u8(..if world.setup.paying { 13 } else { 10 }) {
            0..5 => {
                let (user, key, units) = (self.user(), self.key(), self.units());
                tasks.push(self.send(engine, user, key, units));
            }
            5 | 6 => {
                // The same again: impatient, or after a cut.
                let again = {
                    let journal = self.journal.lock();
                    let n = journal.requests.len();
                    (n > 0).then(|| journal.requests[self.rng.usize(..n)].clone())
                };
                if let Some(again) = again {
                    tasks.push(self.send(engine, again.user, again.key, again.units));
                }
            }
            7 | 8 => self.change(engine),
            10.. => self.money(engine),
            _ => {
                let audit = engine.selling.audit(&engine.live);
                // Under faults it may take its time; that it comes is asked after healing.
                if let Ok(audits) = timeout(ms(100), audit).await {
                    world.note(format_args!("audited {} buckets", audits.len()));
                }
            }
        }
        false
    }

    /// As on SIGTERM: who stands in line goes home, what desks have is finished and told.
    pub async fn stop(&self, engine: &Engine) {
        let world = &self.world;
        world.count("operator: stop");
        world.note(format_args!("stop"));
        engine.selling.close_gates();
        if timeout(ms(PATIENCE_MS), engine.selling.stop())
            .await
            .is_ok()
        {
            return;
        }
        if world.is_healed() {
            world.breaks(format_args!("P5 nothing stays stuck: a stop hangs"));
        } else {
            // Without its stock host a desk does not end; the operator asks twice.
            world.count("operator: kill");
            world.note(format_args!("killed"));
        }
    }

    fn change(&mut self, engine: &Engine) {
        let known = {
            let journal = self.journal.lock();
            let n = journal.known.len();
            (n > 0).then(|| journal.known[self.rng.usize(..n)].clone())
        };
        let Some((_, order)) = known else { return };
        let event = if self.world.setup.paying {
            match self.rng.u8(..6) {
                0..3 => OrderEvent::RefundAsked {
                    restock: self.rng.bool(),
                },
                // Where nothing is granted with the money, somebody says it later.
                3 if self
                    .world
                    .setup
                    .sale
                    .skus
                    .iter()
                    .all(|sku| sku.grant.is_none()) =>
                {
                    OrderEvent::Granted
                }
                _ => OrderEvent::Cancel,
            }
        } else {
            OrderEvent::Cancel
        };
        self.journal.lock().changes.push(Change { order, event });
        let (world, selling, ledger) = (
            Arc::clone(&self.world),
            Arc::clone(&engine.selling),
            engine.ledger.clone(),
        );
        world.note(format_args!("{order}: {event:?}"));
        tokio::spawn(async move {
            let changed = selling.change(order, event).await;
            if world.is_frozen() {
                return;
            }
            let name = match changed {
                Changed::Stands { order: now, .. } => {
                    let sale = world.setup.sale.id.as_bytes();
                    let there = ledger.entity(sale, ORDER, order.as_bytes());
                    if !matches!(&there, Ok(Some(there)) if there.version >= now.version.0) {
                        world.breaks(format_args!(
                            "P4 never take back a win: {order} was told to be {} and is not in the ledger",
                            now.state.name()
                        ));
                    }
                    "heard: changed"
                }
                Changed::Illegal(_) => "heard: change not allowed",
                Changed::Unproven(_) => {
                    // No recovery here begins without the ledger.
                    world.breaks(format_args!(
                        "P5 nothing stays stuck: what paid {order} is not known"
                    ));
                    "heard: paid by nothing known"
                }
                Changed::Missing(_) => {
                    world.breaks(format_args!(
                        "P4 never take back a win: {order} was told and is missing"
                    ));
                    "heard: no such order"
                }
                Changed::Unknown => "heard: change unknown",
            };
            world.count(name);
            world.note(format_args!("{order}: {name}"));
        });
    }

    async fn operate(&mut self, engine: &Engine) {
        let world = Arc::clone(&self.world);
        let (now, id) = (engine.live.switches(), world.setup.sale.id.as_str());
        let to = match self.rng.u8(..10) {
            0 => {
                let low = !engine.selling.is_disk_low();
                world.note(format_args!("disk low: {low}"));
                world.count("operator: disk low");
                self.journal.lock().no_room = true;
                engine.selling.set_disk_low(low);
                return;
            }
            1 => {
                world.count("operator: end");
                Switches { ended: true, ..now }
            }
            _ if now.paused => {
                world.count("operator: resume");
                Switches {
                    paused: false,
                    ..now
                }
            }
            _ => {
                world.count("operator: pause");
                Switches {
                    paused: true,
                    ..now
                }
            }
        };
        {
            let mut journal = self.journal.lock();
            journal.paused |= to.paused;
            journal.ended |= to.ended;
        }
        world.note(format_args!("switch to {to:?}"));
        match timeout(ms(PATIENCE_MS), engine.selling.switch(id, |_| to)).await {
            Ok(Switched::Done(_)) => world.note(format_args!("switched")),
            Ok(Switched::Refused(why)) => world.note(format_args!("not switched: {why}")),
            Ok(Switched::Missing) => world.breaks(format_args!("the sale is gone")),
            Err(_) => world.breaks(format_args!("P5 nothing stays stuck: a switch hangs")),
        }
    }
}
