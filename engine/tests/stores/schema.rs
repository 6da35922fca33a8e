//! A store is opened as often as anybody likes, and by many at once, and not at all if a
//! newer engine was there.

use floodgate_engine::stream::StoreError;

use crate::orders::{all_of, batch, mark, newest, ordered, rush};
use crate::places::Fresh;

fn opening_again_changes_nothing(fresh: Fresh) {
    let place = fresh();
    let orders = rush("tea", 12);
    let store = place.open().unwrap();
    store.put(0, &batch(&orders), None, &mark(30)).unwrap();
    let before = place.tables();
    let beside = place.open().unwrap();
    assert_eq!(place.tables(), before);
    drop((store, beside));

    let store = place.open().unwrap();
    assert_eq!(place.tables(), before);
    assert_eq!(store.mark(0).unwrap(), Some(mark(30)));
    assert_eq!(all_of(&*store, "tea", 5), newest(&orders));
}

fn engines_that_start_together_all_come_up(fresh: Fresh) {
    for _ in 0..5 {
        let place = fresh();
        let gate = std::sync::Barrier::new(6);
        std::thread::scope(|scope| {
            let engines: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        gate.wait();
                        place.open().map(|store| store.mark(0).unwrap())
                    })
                })
                .collect();
            for engine in engines {
                assert_eq!(engine.join().unwrap().unwrap(), None);
            }
        });
    }
}

fn a_newer_schema_is_refused_plainly(fresh: Fresh) {
    let place = fresh();
    place
        .open()
        .unwrap()
        .put(0, &batch([&ordered("tea", 1)]), None, &mark(1))
        .unwrap();
    place.age();
    let before = place.tables();
    let refused = place.open().err().unwrap();
    assert!(
        matches!(refused, StoreError::Newer { found, known } if found > known),
        "{refused}"
    );
    assert!(refused.to_string().contains("newer engine"), "{refused}");
    assert_eq!(place.tables(), before);
}

every_case!(
    opening_again_changes_nothing,
    engines_that_start_together_all_come_up,
    a_newer_schema_is_refused_plainly,
);
