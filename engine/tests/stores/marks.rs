//! The mark says how far a store has come. Whoever moves it names where it stands, and
//! writes nothing if somebody else was faster.

use floodgate_engine::stream::{Batch, Mark, Put};
use floodgate_ledger::{ChainHash, LedgerId};

use crate::orders::{all_of, batch, mark, newest, ordered};
use crate::places::Fresh;

fn a_mark_that_somebody_else_moved_is_left_to_them(fresh: Fresh) {
    let place = fresh();
    // Two engines, two handles, one store.
    let (ours, theirs) = (place.open().unwrap(), place.open().unwrap());
    ours.put(0, &batch([&ordered("tea", 1)]), None, &mark(1))
        .unwrap();
    theirs
        .put(0, &batch([&ordered("tea", 2)]), Some(&mark(1)), &mark(2))
        .unwrap();

    let before = place.tables();
    let lost = ours
        .put(0, &batch([&ordered("tea", 3)]), Some(&mark(1)), &mark(5))
        .unwrap();
    assert_eq!(lost, Put::MarkMoved(Some(mark(2))));
    assert_eq!(place.tables(), before);

    // The seq alone is not the mark: another ledger, another history.
    for stranger in [
        Mark {
            ledger: LedgerId([8; 16]),
            ..mark(2)
        },
        Mark {
            hash: ChainHash([9; 32]),
            ..mark(2)
        },
    ] {
        let lost = ours
            .put(0, &batch([&ordered("tea", 3)]), Some(&stranger), &mark(5))
            .unwrap();
        assert_eq!(lost, Put::MarkMoved(Some(mark(2))));
    }
    assert_eq!(place.tables(), before);

    let won = ours
        .put(0, &batch([&ordered("tea", 3)]), Some(&mark(2)), &mark(5))
        .unwrap();
    assert_eq!(won, Put::Advanced);
    assert_eq!(theirs.mark(0).unwrap(), Some(mark(5)));
}

fn a_mark_that_is_gone_is_not_made_up(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    assert_eq!(store.mark(0).unwrap(), None);
    let put = store
        .put(0, &batch([&ordered("tea", 1)]), Some(&mark(4)), &mark(5))
        .unwrap();
    assert_eq!(put, Put::MarkMoved(None));
    assert_eq!(store.mark(0).unwrap(), None);
    assert!(place.tables().values().all(Vec::is_empty));
}

fn the_first_mark_is_set_once_whoever_comes(fresh: Fresh) {
    let place = fresh();
    let gate = std::sync::Barrier::new(8);
    let stores: Vec<_> = (0..8).map(|_| place.open().unwrap()).collect();
    let puts: Vec<Put> = std::thread::scope(|scope| {
        let engines: Vec<_> = (0_u16..)
            .zip(&stores)
            .map(|(n, store)| {
                let gate = &gate;
                scope.spawn(move || {
                    gate.wait();
                    let to = mark(1 + u64::from(n));
                    store
                        .put(0, &batch([&ordered("tea", n)]), None, &to)
                        .unwrap()
                })
            })
            .collect();
        engines.into_iter().map(|e| e.join().unwrap()).collect()
    });

    let winners: Vec<u16> = (0_u16..)
        .zip(&puts)
        .filter(|(_, put)| **put == Put::Advanced)
        .map(|(n, _)| n)
        .collect();
    let [winner] = winners[..] else {
        panic!("winners: {winners:?}");
    };
    let stands = mark(1 + u64::from(winner));
    let n_told = puts
        .iter()
        .filter(|put| **put == Put::MarkMoved(Some(stands.clone())))
        .count();
    assert_eq!(n_told, 7);
    let there = all_of(&*stores[0], "tea", 10);
    assert_eq!(there, newest([&ordered("tea", winner)]));
}

fn every_node_has_a_mark_of_its_own(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    store
        .put(0, &batch([&ordered("tea", 1)]), None, &mark(3))
        .unwrap();
    store
        .put(1023, &batch([&ordered("tea", 2)]), None, &mark(8))
        .unwrap();
    assert_eq!(store.mark(0).unwrap(), Some(mark(3)));
    assert_eq!(store.mark(1023).unwrap(), Some(mark(8)));
    assert_eq!(store.mark(1).unwrap(), None);
}

fn a_mark_moves_without_any_rows(fresh: Fresh) {
    let place = fresh();
    let store = place.open().unwrap();
    store.put(0, &Batch::default(), None, &mark(1)).unwrap();
    let put = store
        .put(0, &Batch::default(), Some(&mark(1)), &mark(2))
        .unwrap();
    assert_eq!(put, Put::Advanced);
    assert_eq!(store.mark(0).unwrap(), Some(mark(2)));
}

every_case!(
    a_mark_that_somebody_else_moved_is_left_to_them,
    a_mark_that_is_gone_is_not_made_up,
    the_first_mark_is_set_once_whoever_comes,
    every_node_has_a_mark_of_its_own,
    a_mark_moves_without_any_rows,
);
