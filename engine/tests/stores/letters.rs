//! A dead letter that was replayed is in the store, and in no backup from before: a store
//! that is put back to one gets its row and event again.

use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::stream::{Letters, Replayed};

use crate::orders::{life, ordered, rush};
use crate::places::Fresh;
use crate::till::{Stream, Till, seq};

fn buyers(of: std::ops::Range<u16>) -> Vec<Order> {
    of.map(|n| ordered("tea", n)).collect()
}

fn carry(till: &Till) {
    let stream = till.start(till.store(), 20);
    stream.until_even(till);
    stream.stop();
}

/// Orders of which buyer 3's are dead letters: 4, and 11 of when it was paid.
fn with_letters(till: &Till) {
    till.sell(&buyers(0..10));
    let paid = life(ordered("tea", 3), &[OrderEvent::PaymentApplied]);
    till.sell(&paid[1..]);
    till.place.refuse("NEW.user_id = 'buyer-3'", "no");
    carry(till);
}

fn replay(till: &Till, letters: &Letters) {
    till.place.accept_all();
    for seq in [4, 11] {
        assert_eq!(letters.replay(seq).unwrap(), Replayed::Taken);
    }
    // Nobody sees them any more.
    assert_eq!(letters.count(), 0);
    assert_eq!(letters.page(0, 10).unwrap(), []);
    assert_eq!(letters.of_sale(Some(&ordered("tea", 3).sale)), [].into());
    assert_eq!(letters.replay(4).unwrap(), Replayed::Missing);
    assert_eq!(till.tables(), till.whole());
}

fn a_backup_from_before_the_replay_gets_it_again(fresh: Fresh) {
    // Put back at the very mark of the replay, or long after.
    for n_later in [0, 5] {
        let till = Till::new(fresh);
        with_letters(&till);
        till.place.accept_all();
        till.place.keep();
        replay(&till, &till.letters(till.store()));
        till.sell(&buyers(10..10 + n_later));
        carry(&till);
        let till = till.reopen();
        carry(&till);
        // And a second time.
        for _ in 0..2 {
            till.place.put_back();
            assert_ne!(till.tables(), till.whole());
            let stream = till.start(till.store(), 20);
            stream.until_even(&till);
            assert_eq!(stream.letters.count(), 0);
            stream.stop();
            assert_eq!(till.tables(), till.whole());
        }
    }
}

/// The newest backup is older than the second newest's replay, so to speak: a replay into
/// a store that was put back counts for backups of later days as well.
fn a_replay_into_an_old_backup_counts_for_a_newer_one(fresh: Fresh) {
    let (till, newer) = (Till::new(fresh), fresh());
    with_letters(&till);
    till.place.accept_all();
    till.place.keep();
    till.sell(&buyers(10..20));
    carry(&till);
    // As a backup of the store as it is now: without buyer 3.
    let rows = till.rows(1, 21);
    let rows = rows
        .rows
        .into_iter()
        .filter(|row| ![4, 11].contains(&row.seq()));
    let batch = floodgate_engine::stream::Batch {
        rows: rows.collect(),
        ..Default::default()
    };
    newer
        .open()
        .unwrap()
        .put(0, &batch, None, &till.tip())
        .unwrap();
    assert_eq!(newer.tables(), till.tables());

    till.place.put_back();
    replay_early(&till);
    carry(&till);
    let mut till = till;
    till.place = newer;
    carry(&till);
    assert_eq!(till.tables(), till.whole());
}

/// Before the stream has carried anything into the backup.
fn replay_early(till: &Till) {
    let letters = till.letters(till.store());
    for seq in [4, 11] {
        assert_eq!(letters.replay(seq).unwrap(), Replayed::Taken);
    }
}

fn a_running_stream_puts_it_again_too(fresh: Fresh) {
    let till = Till::new(fresh);
    with_letters(&till);
    till.place.accept_all();
    till.place.keep();
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    replay(&till, &stream.letters);
    till.place.put_back();
    stream.until("noticed", |_| stream.metrics.errors.get() > 0);
    till.sell(&buyers(10..15));
    stream.until_even(&till);
    stream.stop();
    assert_eq!(till.tables(), till.whole());
}

fn until_both_are_known(stream: &Stream) {
    stream.until("known", |_| stream.letters.count() == 2);
    assert_eq!(stream.metrics.dead_letters.get(), 2);
}

fn what_the_backup_refuses_is_a_letter_again(fresh: Fresh) {
    let till = Till::new(fresh);
    with_letters(&till);
    till.place.keep();
    replay(&till, &till.letters(till.store()));
    till.sell(&buyers(10..15));
    carry(&till);
    till.place.put_back();
    let till = till.reopen();
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    until_both_are_known(&stream);
    stream.stop();
    let till = till.reopen();
    replay(&till, &till.letters(till.store()));
}

fn a_line_that_breaks_in_between_is_no_end(fresh: Fresh) {
    use crate::till::between::{Between, away};
    let till = Till::new(fresh);
    with_letters(&till);
    till.place.accept_all();
    till.place.keep();
    replay(&till, &till.letters(till.store()));
    till.sell(&buyers(10..15));
    carry(&till);
    till.place.put_back();
    let between = Between::new(till.store(), |call| match call.nth {
        1 | 2 | 4 => Err(away()),
        _ => call.pass(),
    });
    let stream = till.start(between, 20);
    stream.until_even(&till);
    stream.stop();
    assert_eq!(till.tables(), till.whole());
}

/// A store that is older gets everything as it is now, and no events of before.
fn it_goes_with_the_last_record_that_a_backup_may_stand_at(fresh: Fresh) {
    let till = Till::new(fresh);
    with_letters(&till);
    replay(&till, &till.letters(till.store()));
    let at_replay = till.tip().seq;
    till.sell(&rush("coffee", 5));
    carry(&till);
    let trim = |through| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async { till.ledger.trim(through).await.unwrap().await.unwrap() });
        carry(&till);
        till.ledger.dead_letters(seq(0), 10).unwrap().len()
    };
    assert_eq!(trim(at_replay), 2);
    assert_eq!(trim(at_replay.next()), 0);
    carry(&till.reopen());
}

every_case!(
    a_backup_from_before_the_replay_gets_it_again,
    a_replay_into_an_old_backup_counts_for_a_newer_one,
    a_running_stream_puts_it_again_too,
    what_the_backup_refuses_is_a_letter_again,
    a_line_that_breaks_in_between_is_no_end,
    it_goes_with_the_last_record_that_a_backup_may_stand_at,
);
