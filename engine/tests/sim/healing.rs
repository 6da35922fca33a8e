//! After the trouble: nothing fails any more, and what was promised must be so.

use std::sync::Arc;

use floodgate_engine::domain::ids::{IdemKey, OrderId, UserId};
use floodgate_engine::domain::order::OrderState;
use floodgate_engine::domain::payment::PaymentState;
use floodgate_engine::domain::sale::{Phase, Switches};
use floodgate_engine::sale::{BucketAudit, Refusal, Units};
use tokio::time::timeout;

use crate::balance;
use crate::cash;
use crate::check::{self, Facts};
use crate::journal::Heard;
use crate::life::{Engine, Ground, PATIENCE_MS};
use crate::line::Line;
use crate::schedule::{End, Restart, Stage};
use crate::told;
use crate::world::ms;

/// Buyers who try to buy a SKU out in the end.
const PROBES_MAX: u32 = 40;

pub async fn healed(ground: &mut Ground, engine: &Engine) -> End {
    let world = Arc::clone(&ground.world);
    world.count("schedules that healed");
    engine.selling.set_disk_low(false);
    answered(ground).await;
    // Nobody waits any more, but what they asked for may still be under way.
    balance::no_drift(&world, &audit(ground, engine).await);
    decided(ground, engine).await;
    if !world.is_broken() {
        settled(ground, engine).await;
    }
    if world.is_broken() {
        return End::Done;
    }
    look(ground, engine).await;
    last_units(ground, engine).await;
    if world.is_broken() {
        return End::Done;
    }
    let facts = look(ground, engine).await;
    let last = facts.orders.values().filter_map(|order| match order.state {
        OrderState::PendingPayment { until, .. } => Some(until.0),
        _ => None,
    });
    let last = last.max().unwrap_or(0);
    let now = world.now();
    if last.saturating_sub(now) < 20_000 && ground.rng.bool() {
        // The closer at work.
        tokio::time::sleep(ms(last.saturating_sub(now) + 3_000)).await;
        return over(ground, engine).await;
    }
    End::Goes(Stage::Over, Restart::After(last))
}

pub async fn over(ground: &mut Ground, engine: &Engine) -> End {
    let world = Arc::clone(&ground.world);
    tokio::time::sleep(ms(3_000)).await;
    let facts = look(ground, engine).await;
    check::all_closed(&world, &facts, world.now());
    if world.setup.paying && !world.is_broken() {
        late(ground, engine, &facts).await;
        settled(ground, engine).await;
    }
    // Keys outlive their orders, their sale and the engine.
    let won: Vec<_> = {
        let journal = ground.journal.lock();
        let all = journal.requests.iter();
        all.filter(|r| matches!(r.heard, Some((_, Heard::Won { .. }))))
            .cloned()
            .collect()
    };
    for request in won.into_iter().take(4) {
        ask(ground, engine, request.user, request.key, request.units).await;
    }
    let facts = look(ground, engine).await;
    found(ground, engine, &facts);
    cash::all_settled(&world, &ground.journal.lock(), &facts);
    ground.stop(engine).await;
    End::Done
}

/// P4: whoever was told of an order finds it, as the ledger has it; others do not.
fn found(ground: &Ground, engine: &Engine, facts: &Facts) {
    let stranger = UserId::parse("stranger").expect("an id");
    for (user, id) in &ground.journal.lock().known {
        let (world, selling) = (&ground.world, &engine.selling);
        let theirs = selling.order(user, *id).ok().flatten();
        if theirs.is_none() || theirs.as_ref() != facts.orders.get(id) {
            world.breaks(format_args!(
                "P4 never take back a win: {user} does not find {id}"
            ));
        }
        if !matches!(selling.order(&stranger, *id), Ok(None)) {
            world.breaks(format_args!("{id} of {user} is shown to others"));
        }
    }
}

/// P5: whoever asked has heard something.
async fn answered(ground: &Ground) {
    let mut waited = 0;
    while ground.journal.lock().open().count() > 0 {
        tokio::time::sleep(ms(100)).await;
        waited += 100;
        if waited > PATIENCE_MS {
            let open: Vec<usize> = ground.journal.lock().open().collect();
            ground.world.breaks(format_args!(
                "P5 nothing stays stuck: requests {open:?} are not answered"
            ));
            return;
        }
    }
}

async fn ask(
    ground: &Ground,
    engine: &Engine,
    user: UserId,
    key: IdemKey,
    units: Units,
) -> Option<Heard> {
    let (at, _) = ground.send(engine, user, key, units);
    answered(ground).await;
    let heard = ground.journal.lock().requests[at].heard.clone();
    heard.map(|(_, heard)| heard)
}

/// P5: asked again with the same key, every "unknown" becomes a yes or a no.
async fn decided(ground: &Ground, engine: &Engine) {
    let undecided = ground.journal.lock().undecided();
    for at in undecided {
        let request = ground.journal.lock().requests[at].clone();
        let mut last = None;
        for _ in 0..20 {
            let (user, key) = (request.user.clone(), request.key.clone());
            last = ask(ground, engine, user, key, request.units.clone()).await;
            if last.as_ref().is_some_and(Heard::is_definite) || ground.world.is_broken() {
                break;
            }
            tokio::time::sleep(ms(500)).await;
        }
        if !last.as_ref().is_some_and(Heard::is_definite) {
            ground.world.breaks(format_args!(
                "P5 nothing stays stuck: request {at} is never decided, the last word is {last:?}"
            ));
            return;
        }
    }
}

/// P5: every capture is answered, and what is owed goes back.
async fn settled(ground: &Ground, engine: &Engine) {
    let (world, line) = (&ground.world, Line::new(ground, engine));
    let n = ground.journal.lock().captures.len();
    for at in 0..n {
        if !ground.journal.lock().captures[at].is_answered && !world.is_broken() {
            line.tell_until_heard(at).await;
        }
    }
    for _ in 0..PATIENCE_MS / 100 {
        match engine.selling.payments_owed(usize::MAX) {
            Ok(owed) if owed.is_empty() => return,
            Ok(_) => tokio::time::sleep(ms(100)).await,
            Err(error) => return world.breaks(format_args!("payments owed: {error}")),
        }
    }
    world.breaks(format_args!(
        "P5 nothing stays stuck: money that is owed does not go back"
    ));
}

/// Money for orders that are closed, while nothing else happens: whoever may have fresh
/// units gets them, and everybody else the money.
async fn late(ground: &mut Ground, engine: &Engine, facts: &Facts) {
    let (world, line) = (Arc::clone(&ground.world), Line::new(ground, engine));
    let known: Vec<OrderId> = {
        let journal = ground.journal.lock();
        let all = journal.known.iter().map(|(_, id)| *id);
        let closed = |id: &OrderId| {
            let order = facts.orders.get(id);
            order.is_some_and(|o| matches!(o.state, OrderState::Closed { .. }))
        };
        all.filter(closed).collect()
    };
    for id in known.into_iter().take(3) {
        let Some(payment) = ground.bill(engine, id) else {
            return;
        };
        let facts = look(ground, engine).await;
        let order = &facts.orders[&id];
        let sale = &world.setup.sale;
        let mut needed = check::units(sale, order).into_iter();
        let units = needed.all(|(sku, n)| facts.free(sale, sku) >= u64::from(n));
        let limit = facts.units_of(&order.user) + order.units() <= sale.units_per_user;
        let open = engine.live.phase(engine.selling.clock().now()) == Phase::Open;
        let at = ground.captured(payment);
        let wanted = if units && limit && open {
            world.count("late money applied");
            PaymentState::Applied
        } else {
            world.count("late money given back");
            PaymentState::RefundDue
        };
        let heard = line.tell_until_heard(at).await;
        if heard != Some(wanted) {
            world.breaks(format_args!(
                "late money for {id} is {heard:?}; units: {units}, limit: {limit}, open: {open}"
            ));
            return;
        }
    }
}

async fn audit(ground: &Ground, engine: &Engine) -> Vec<BucketAudit> {
    let world = &ground.world;
    let mut audits = Vec::new();
    for _ in 0..20 {
        match timeout(ms(PATIENCE_MS), engine.selling.audit(&engine.live)).await {
            Ok(answered) => audits = answered,
            Err(_) => world.breaks(format_args!("P5 nothing stays stuck: an audit hangs")),
        }
        if audits.len() == usize::from(world.setup.sale.buckets) || world.is_broken() {
            break;
        }
        // One that was silent until now rests before it is tried again.
        tokio::time::sleep(ms(500)).await;
    }
    audits
}

/// Every promise, now that nothing is under way.
async fn look(ground: &Ground, engine: &Engine) -> Facts {
    let (world, journal) = (&ground.world, &ground.journal);
    // A window may end while the audits go from bucket to bucket: what they tell
    // is compared when the ledger stood still meanwhile.
    let mut audits = Vec::new();
    for _ in 0..100 {
        let tip = engine.ledger.tip().seq;
        audits = audit(ground, engine).await;
        if engine.ledger.tip().seq == tip {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    let journal = journal.lock();
    let facts = check::history(world, &journal, &engine.ledger);
    told::told(world, &journal, &facts);
    cash::told(world, &journal, &facts);
    balance::adds_up(world, &engine.live, &audits, &facts);
    facts
}

/// The last unit sells: whoever asks for what is free gets it, wherever it stands.
async fn last_units(ground: &mut Ground, engine: &Engine) {
    let world = Arc::clone(&ground.world);
    let sale = &world.setup.sale;
    if engine.live.switches().paused {
        let resume = |mut switches: Switches| {
            switches.paused = false;
            switches
        };
        engine.selling.switch(sale.id.as_str(), resume).await;
    }
    match engine.live.phase(engine.selling.clock().now()) {
        Phase::Open | Phase::SoldOut => {}
        Phase::Scheduled | Phase::Paused | Phase::Ended => return,
    }
    let mut n = 0;
    let mut fresh = || {
        n += 1;
        (
            UserId::parse(&format!("late-{n}")).expect("an id"),
            IdemKey::parse("key").expect("an id"),
        )
    };
    // First a crowd that wants more than there is.
    for _ in 0..ground.rng.u8(..6) {
        let ((user, key), units) = (fresh(), ground.units());
        ground.send(engine, user, key, units);
    }
    answered(ground).await;
    for sku in 0..sale.skus.len() {
        let mut refusals = 0;
        // Short pay windows give units back while a narrow gate lets buyers in.
        for _ in 0..PROBES_MAX {
            if world.is_broken() {
                return;
            }
            let free = {
                let journal = ground.journal.lock();
                check::history(&world, &journal, &engine.ledger).free(sale, sku)
            };
            let Ok(wanted @ 1..) = u32::try_from(free.min(sale.units_per_user.into())) else {
                break;
            };
            let (user, key) = fresh();
            let units: Units = std::iter::once((sku, wanted)).collect();
            match ask(ground, engine, user, key, units).await {
                Some(Heard::Won { .. }) => {
                    world.count("last units sold");
                    refusals = 0;
                }
                Some(Heard::Refused(Refusal::Ended)) => return,
                other => {
                    refusals += 1;
                    if refusals > 20 {
                        world.breaks(format_args!(
                            "{wanted} of {free} free units of {} do not sell: {other:?}",
                            sale.skus[sku].id
                        ));
                    }
                    // Units of an order that closed just now are on their way back.
                    tokio::time::sleep(ms(100)).await;
                }
            }
        }
    }
}
