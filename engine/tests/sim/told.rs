//! What buyers were told, against each other and against what is there: P3 and P4,
//! and that every "no" had a reason.

use std::collections::HashMap;

use floodgate_engine::domain::ids::{IdemKey, OrderId, UserId};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::sale::Refusal;

use crate::check::{Facts, broken, units};
use crate::journal::{Heard, Journal, Request};
use crate::world::World;

/// What was told against what is there.
pub fn told(world: &World, journal: &Journal, facts: &Facts) {
    let sale = &world.setup.sale;
    // Per key: the order that was told first, when, and how often as new.
    let mut wins: HashMap<(&UserId, &IdemKey), (OrderId, u64, u32)> = HashMap::new();
    let mut heard: Vec<(usize, u64)> = (journal.requests.iter().enumerate())
        .filter_map(|(at, request)| request.heard.as_ref().map(|(moment, _)| (at, *moment)))
        .collect();
    heard.sort_by_key(|(_, moment)| *moment);
    for (at, moment) in heard {
        let request = &journal.requests[at];
        let Some((_, answer)) = &request.heard else {
            continue;
        };
        let Request { user, key, .. } = request;
        if let Heard::Won { order: id, new } = answer {
            match facts.orders.get(id) {
                None => broken!(
                    world,
                    "P4 never take back a win: {id}, told to request {at}, is gone"
                ),
                Some(order)
                    if order.user != *user
                        || order.key != *key
                        || units(sale, order) != request.units =>
                {
                    broken!(
                        world,
                        "P3 one key, one order: request {at} was told {id}, another's order"
                    );
                }
                Some(_) => {}
            }
            let (first, _, n_new) = wins.entry((user, key)).or_insert((*id, moment, 0));
            *n_new += u32::from(*new);
            if first != id {
                broken!(
                    world,
                    "P3 one key, one order: {user} {key} was told {first} and {id}"
                );
            }
            if *n_new > 1 {
                broken!(
                    world,
                    "P3 one key, one order: {user} {key} was told twice that {id} is new"
                );
            }
            continue;
        }
        // Whoever asks again after a win hears of that win, whatever else is the case.
        if let Some((id, since, _)) = wins.get(&(user, key))
            && *since < request.sent
            && let Some(order) = facts.orders.get(id)
        {
            let same = units(sale, order) == request.units;
            let right = match answer {
                Heard::Refused(Refusal::KeyReused) => !same,
                Heard::Refused(_)
                | Heard::Shed
                | Heard::NoRoom
                | Heard::Unknown
                | Heard::InProgress => false,
                Heard::NotReady | Heard::Won { .. } => true,
            };
            if !right {
                broken!(
                    world,
                    "P3 one key, one order: request {at} came after {id} was told and heard {answer:?}"
                );
            }
        }
        refused(world, journal, at, answer);
    }
}

/// A "no" needs a reason.
fn refused(world: &World, journal: &Journal, at: usize, answer: &Heard) {
    let sale = &world.setup.sale;
    let (earliest, latest) = world.clocks();
    let request = &journal.requests[at];
    let others = |wanted: fn(&Request, &Request) -> bool| {
        let all = journal.requests.iter().enumerate();
        all.filter(move |(i, other)| {
            *i != at && other.user == request.user && wanted(other, request)
        })
    };
    let n_units = |request: &Request| request.units.iter().map(|(_, n)| *n).sum::<u32>();
    let reason = match answer {
        Heard::Refused(Refusal::NotOpen) => UnixMs(earliest) < sale.starts_at,
        Heard::Refused(Refusal::Ended) => journal.ended || UnixMs(latest) >= sale.ends_at,
        Heard::Refused(Refusal::Paused) => journal.paused,
        Heard::Refused(Refusal::KeyReused) => {
            others(|other, me| other.key == me.key && other.units != me.units).count() > 0
        }
        Heard::Refused(Refusal::OverLimit) => {
            let theirs: u32 = others(|_, _| true).map(|(_, other)| n_units(other)).sum();
            theirs + n_units(request) > sale.units_per_user
                || others(|_, _| true).count() >= sale.orders_per_user_max as usize
        }
        Heard::NoRoom => journal.no_room,
        // When units were short only the engine knew; `last units` asks that once it is quiet.
        Heard::Refused(Refusal::NotEnough)
        | Heard::Won { .. }
        | Heard::Shed
        | Heard::InProgress
        | Heard::Unknown
        | Heard::NotReady => true,
    };
    if !reason {
        broken!(world, "request {at} heard {answer:?} for no reason");
    }
}
