//! Who is sent when, and what follows an answer.

use super::*;
use crate::journal::{Header, Journal};
use crate::scenario::{Overrides, Scenario};

const SCENARIO: &str = r#"
    dropAfterMs = 1000
    outageSeconds = 10
    pendingMax = 2
    [sale]
    id = "tea"
    [[sale.skus]]
    id = "green"
    priceCent = 450
    currency = "EUR"
    units = 5
    [[phases]]
    kind = "constant"
    rate = 10.0
    seconds = 1.0
    [mix]
"#;

struct World {
    floor: Floor,
    folder: tempfile::TempDir,
}

fn world(mix: &str) -> World {
    let scenario = Scenario::parse(&format!("{SCENARIO}{mix}"), &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        key_prefix: "k-".into(),
        ..scenario.plan.clone()
    };
    let header = Header {
        plan: plan.clone(),
        attempts: 10,
        started_unix_ms: 0,
        defined: None,
    };
    let journal = Writer::create(&folder.path().join("journal"), &header).unwrap();
    World {
        floor: Floor::new(&scenario, plan, journal),
        folder,
    }
}

impl World {
    fn job(&mut self, now_us: u64) -> Job {
        match self.floor.take(now_us) {
            Take::Job(job) => job,
            Take::Wait | Take::Finished => panic!("nothing is due at {now_us}"),
        }
    }

    fn answer(&mut self, job: Job, outcome: Option<Outcome>, body: &[u8], now_us: u64) {
        let end = End {
            outcome,
            status: 200,
            retry_after_s: None,
            body,
        };
        self.floor.book(job, &end, job.intended_us, now_us);
    }
}

#[test]
fn sends_leave_when_due_and_late_ones_are_dropped_not_hidden() {
    let mut world = world("");
    assert_eq!(world.job(0).attempt, 0);
    assert!(matches!(world.floor.take(99_999), Take::Wait));
    // Attempts 1 and 2 were due at 0.1 and 0.2 s; 3 at 0.3 s is just in time.
    let job = world.job(1_300_000);
    assert_eq!(
        (job.attempt, job.intended_us, world.floor.stats.dropped),
        (3, 300_000, 2)
    );
}

#[test]
fn the_second_click_has_the_same_key_and_does_not_wait_for_the_first() {
    let mut world = world("doubleClickShare = 1.0");
    let (first, second) = (world.job(0), world.job(40_000));
    assert_eq!((first.attempt, second.attempt), (0, 0));
    assert_eq!((first.step, second.step), (Step::Buy, Step::Click));
}

#[test]
fn unknown_outcomes_are_tried_again_with_patience_that_ends() {
    let mut world = world("");
    let job = world.job(0);
    world.answer(job, Some(Outcome::Cut), b"", 1_000);
    let again = world.job(90_000);
    assert_eq!((again.attempt, again.n_tries, again.since_us), (0, 1, 0));
    world.answer(again, None, b"", 9_999_999);
    assert_eq!(
        (
            world.floor.stats.gave_up,
            world.floor.stats.connect_failures
        ),
        (1, 1)
    );
}

#[test]
fn a_winner_cancels_the_order_that_was_won() {
    let mut world = world("cancelShare = 1.0");
    let job = world.job(0);
    world.answer(job, Some(Outcome::Won), br#"{"orderId":"the-id"}"#, 1_000);
    let cancel = loop {
        let job = world.job(900_000);
        if job.step == Step::Cancel {
            break job;
        }
    };
    assert_eq!(
        (cancel.attempt, world.floor.about(&cancel)),
        (0, About::Order("the-id".into()))
    );
}

#[test]
fn follow_ups_beyond_the_bound_are_given_up_and_counted() {
    let mut world = world("");
    for i in 0..4 {
        let job = world.job(i * 100_000);
        world.answer(job, Some(Outcome::TimedOut), b"", i * 100_000);
        // Keep the retries from coming due before the next attempt.
        world.floor.pending = world
            .floor
            .pending
            .drain()
            .map(|Reverse(job)| {
                Reverse(Job {
                    intended_us: 5_000_000,
                    ..job
                })
            })
            .collect();
    }
    assert_eq!(
        (world.floor.pending.len(), world.floor.stats.gave_up),
        (2, 2)
    );
}

#[test]
fn a_closed_floor_serves_who_is_inside_and_nobody_else() {
    let mut world = world("");
    let job = world.job(0);
    world.floor.close();
    world.answer(job, Some(Outcome::TimedOut), b"", 1_000);
    let again = world.job(9_000_000);
    assert_eq!((again.attempt, again.n_tries), (0, 1));
    world.answer(again, Some(Outcome::SoldOut), b"", 9_000_001);
    assert!(matches!(world.floor.take(9_999_999), Take::Finished));
    assert_eq!(world.floor.stats.gave_up, 0);
}

#[test]
fn a_stopped_floor_finishes_and_its_journal_has_every_answer() {
    let mut world = world("");
    let job = world.job(0);
    world.floor.stop();
    assert!(matches!(world.floor.take(9_000_000), Take::Wait));
    world.answer(job, Some(Outcome::SoldOut), b"", 2_000);
    assert!(matches!(world.floor.take(9_000_000), Take::Finished));
    let journal = Journal::read(&world.floor.journal.finish(false).unwrap()).unwrap();
    assert!(!journal.whole);
    assert_eq!(
        journal
            .entries()
            .map(|entry| entry.outcome)
            .collect::<Vec<_>>(),
        [Outcome::SoldOut]
    );
    drop(world.folder);
}
