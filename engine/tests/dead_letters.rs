//! What the order store refuses becomes a dead letter, and nothing else suffers.
//!
//! A trigger in the store plays the constraint that somebody added in a hurry. Held here: the letter is on disk before the mark passes its record,
//! crashes repeat it without harm, a replay brings the order as it is now, and a
//! store that takes nothing at all stops the stream instead.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

#[macro_use]
mod places;
mod till;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use floodgate_engine::domain::ids::SkuId;
use floodgate_engine::domain::order::{Order, OrderEvent};
use floodgate_engine::stream::{Batch, Letters, Mark, Put, Replayed, Row, StoreError, StreamState};
use floodgate_ledger::Draft;
use places::Fresh;
use places::after::{a_life_after, entitlement_draft, order_draft, stray};
use till::between::{Between, away};
use till::orders::life;
use till::{T0, Till, ordered};

fn refuse_buyers(till: &Till, buyers: &[u16]) {
    let list: Vec<_> = buyers.iter().map(|n| format!("'buyer-{n}'")).collect();
    till.place
        .refuse(&format!("NEW.user_id IN ({})", list.join(",")), "no");
}

fn some(n: u16) -> Vec<Order> {
    (0..n).map(ordered).collect()
}

/// What the trigger said; a store may add a number of its own.
fn is_no(why: &str) -> bool {
    why == "no" || why.starts_with("no (")
}

fn order_of(row: &Row) -> Order {
    match row {
        Row::Order(row) => row.order.clone(),
        Row::Payment(_) | Row::Entitlement(_) => panic!("no order: {row:?}"),
    }
}

/// Record 1 is buyer 0's.
fn seq_of(buyer: u16) -> u64 {
    u64::from(buyer) + 1
}

fn the_refused_are_singled_out_and_everybody_else_flows(fresh: Fresh) {
    const N: u16 = 1_000;
    for poison in [
        vec![500],
        vec![0],
        vec![N - 1],
        vec![499, 500],
        vec![0, 1, 998],
    ] {
        let till = Till::new(fresh);
        till.sell(&some(N));
        refuse_buyers(&till, &poison);
        // A store need not know which row it was.
        let nameless = Between::new(till.store(), |call| {
            call.pass().map_err(|error| match error {
                StoreError::Poison { why, .. } => StoreError::Poison { row: None, why },
                other @ (StoreError::Away(_)
                | StoreError::Newer { .. }
                | StoreError::Damaged(_)) => other,
            })
        });
        let stream = till.start(nameless.clone(), usize::from(N));
        stream.until_even(&till);

        let letters = stream.letters.page(0, 10).unwrap();
        let told: Vec<_> = letters.iter().map(|l| (l.seq, order_of(&l.row))).collect();
        let expected: Vec<_> = poison.iter().map(|n| (seq_of(*n), ordered(*n))).collect();
        assert_eq!(told, expected);
        assert!(letters.iter().all(|l| is_no(&l.why) && l.at.0 == T0));
        assert_eq!(stream.metrics.dead_letters.get(), poison.len() as i64);
        assert_eq!(stream.metrics.errors.get(), 1);
        // By halves: some twenty questions for one row of a thousand, not a thousand.
        let n_puts = nameless.n_puts();
        assert!(n_puts <= 5 + 20 * poison.len(), "{n_puts} puts");
        stream.stop();

        let there = till.tables();
        let whole = till.whole();
        let missing = |table: &str| whole[table].len() - there[table].len();
        assert_eq!(missing("orders"), poison.len());
        assert_eq!(missing("order_events"), poison.len());
        assert_eq!(missing("outbox"), poison.len());
    }
}

fn a_store_that_refuses_everything_stops_the_stream(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&some(100));
    till.place.refuse("true", "the column is gone");
    // And a restart comes to the same end.
    for _ in 0..2 {
        let stream = till.start(till.store(), 40);
        let why = stream.until_stopped();
        assert!(why.contains("refuses every order"), "{why}");
        assert!(why.contains("40 in the batch from record 1 on"), "{why}");
        assert!(why.contains("the column is gone"), "{why}");
        assert_eq!(stream.letters.page(0, 10).unwrap(), []);
        assert_eq!(stream.metrics.dead_letters.get(), 0);
        stream.stop();
        assert_eq!(till.tables()["orders"].len(), 0);
    }
    till.place.accept_all();
    let stream = till.start(till.store(), 40);
    stream.until_even(&till);
    stream.stop();
    assert_eq!(till.tables(), till.whole());
}

fn an_order_alone_in_its_batch_proves_nothing_but_eleven_do(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&some(3));
    till.place.refuse("NEW.user_id <> 'buyer-1'", "no");
    let stream = till.start(till.store(), 1);
    stream.until_even(&till);
    assert_eq!(stream.metrics.dead_letters.get(), 2);
    // Buyer 2 was the first of these.
    till.sell(&(3..20).map(ordered).collect::<Vec<_>>());
    let why = stream.until_stopped();
    assert!(why.contains("from record 13 on"), "{why}");
    assert_eq!(stream.metrics.dead_letters.get(), 1 + 10);
    stream.stop();
}

fn a_store_that_is_away_meanwhile_is_asked_again(fresh: Fresh) {
    // Wherever in the sifting the line goes dead, and however often.
    for every in 2..6 {
        let till = Till::new(fresh);
        till.sell(&some(20));
        refuse_buyers(&till, &[3, 4, 19]);
        let between = Between::new(till.store(), move |call| {
            if call.nth % every == 0 && call.nth < 60 {
                return Err(away());
            }
            call.pass()
        });
        let stream = till.start(between, 20);
        stream.until_even(&till);
        let seqs: Vec<_> = stream.letters.page(0, 10).unwrap();
        let seqs: Vec<_> = seqs.iter().map(|l| l.seq).collect();
        assert_eq!(seqs, [4, 5, 20], "every {every}");
        stream.stop();
        assert_eq!(till.tables()["orders"].len(), 17);
    }
}

fn a_lone_order_whose_mark_cannot_be_moved_is_one_refusal(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&some(1));
    till.place.refuse("true", "no");
    let between = Between::new(till.store(), |call| {
        if call.only_moves_the_mark() && call.nth < 100 {
            return Err(away());
        }
        call.pass()
    });
    let stream = till.start(between, 20);
    stream.until_even(&till);
    assert_eq!(stream.metrics.dead_letters.get(), 1);
    stream.stop();
}

/// Runs until the letter is on disk and the mark cannot move past it.
fn crash_after_burying(till: &Till, n: u16) -> Mark {
    let out = AtomicBool::new(false);
    let between = Between::new(till.store(), move |call| {
        if out.load(Ordering::SeqCst) || call.only_moves_the_mark() {
            out.store(true, Ordering::SeqCst);
            return Err(StoreError::Away("the lights went out".into()));
        }
        call.pass()
    });
    let stream = till.start(between, usize::from(n));
    stream.until("cut off", |worker| {
        matches!(worker.state(), StreamState::Waiting(_))
    });
    assert_eq!(stream.letters.count(), 1);
    stream.stop();
    let mark = till.store().mark(0).unwrap().unwrap();
    assert_eq!(mark, Mark::genesis(&till.ledger));
    mark
}

fn a_crash_between_letter_and_mark_is_done_again(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&some(50));
    refuse_buyers(&till, &[30]);
    crash_after_burying(&till, 50);
    let mut till = till.reopen();
    till.now = T0 + 5_000;
    let stream = till.start(till.store(), 50);
    assert_eq!(stream.metrics.dead_letters.get(), 1, "known from the start");
    stream.until_even(&till);
    let letters = stream.letters.page(0, 10).unwrap();
    // The same letter, of the same moment.
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].seq, letters[0].at.0), (31, T0));
    assert_eq!(stream.metrics.dead_letters.get(), 1);
    stream.stop();
    assert_eq!(till.tables()["orders"].len(), 49);
}

fn a_letter_whose_order_was_taken_after_the_crash_is_gone(fresh: Fresh) {
    for batch in [50, 7] {
        let till = Till::new(fresh);
        till.sell(&some(50));
        refuse_buyers(&till, &[30]);
        crash_after_burying(&till, 50);
        till.place.accept_all();
        let till = till.reopen();
        let stream = till.start(till.store(), batch);
        stream.until_even(&till);
        stream.until("without letters", |_| stream.letters.count() == 0);
        stream.stop();
        assert_eq!(till.tables(), till.whole());
        let till = till.reopen();
        let letters = till.letters(till.store());
        assert_eq!(letters.page(0, 10).unwrap(), []);
    }
}

fn a_replay_brings_the_order_and_takes_the_letter_away(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&some(20));
    refuse_buyers(&till, &[3, 4]);
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    stream.stop();

    // Another run, long after; the stream need not be there.
    let till = till.reopen();
    let letters = till.letters(till.store());
    assert_eq!(letters.count(), 2);
    assert_eq!(letters.replay(0).unwrap(), Replayed::Missing);
    assert_eq!(letters.replay(3).unwrap(), Replayed::Missing);
    let again = letters.replay(4).unwrap();
    assert!(
        matches!(&again, Replayed::Refused(why) if is_no(why)),
        "{again:?}"
    );
    till.place.accept_all();
    let mark = till.store().mark(0).unwrap();
    assert_eq!(letters.replay(5).unwrap(), Replayed::Taken);
    assert_eq!(letters.replay(5).unwrap(), Replayed::Missing);
    assert_eq!(letters.count(), 1);
    assert_eq!(letters.replay(4).unwrap(), Replayed::Taken);
    assert_eq!(till.store().mark(0).unwrap(), mark);
    drop(letters);
    assert_eq!(till.tables(), till.whole());
    let till = till.reopen();
    assert_eq!(till.letters(till.store()).count(), 0);
}

fn a_replay_that_is_refused_again_keeps_the_letter_with_the_new_reason(fresh: Fresh) {
    let mut till = Till::new(fresh);
    till.sell(&some(20));
    refuse_buyers(&till, &[3]);
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    stream.stop();
    till.place.refuse("NEW.user_id = 'buyer-3'", "still no");
    till.now = T0 + 9_000;
    let letters = till.letters(till.store());
    let again = letters.replay(4).unwrap();
    assert!(
        matches!(&again, Replayed::Refused(why) if why.starts_with("still no")),
        "{again:?}"
    );
    drop(letters);
    let till = till.reopen();
    let kept = till.letters(till.store()).page(0, 10).unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].why.starts_with("still no"), "{}", kept[0].why);
    assert_eq!(kept[0].at.0, T0);
    assert_eq!(order_of(&kept[0].row), ordered(3));
}

fn a_later_version_flows_while_the_older_is_dead(fresh: Fresh) {
    let till = Till::new(fresh);
    let paid = life(ordered(3), &[OrderEvent::PaymentApplied]);
    till.sell(&some(10));
    till.sell(&paid[1..]);
    let first = paid[0].version.0;
    let of_first = format!("NEW.user_id = 'buyer-3' AND NEW.version = {first}");
    till.place.refuse(&of_first, "not the first");
    // Each in a batch of its own: a store may look at the newest version alone.
    let stream = till.start(till.store(), 10);
    stream.until_even(&till);
    stream.stop();
    let whole = till.whole();
    let there = till.tables();
    assert_eq!(there["orders"], whole["orders"]);
    assert_eq!(there["order_events"].len() + 1, whole["order_events"].len());

    // What is refused is the old snapshot, and nobody needs that one any more.
    let letters = till.letters(till.store());
    assert_eq!(letters.replay(4).unwrap(), Replayed::Taken);
    assert_eq!(till.tables(), whole);
}

fn a_replay_brings_the_order_as_it_is_now(fresh: Fresh) {
    use OrderEvent::{Granted, PaymentApplied};
    let till = Till::new(fresh);
    let delivered = life(ordered(3), &[PaymentApplied, Granted]);
    till.sell(&some(10));
    till.sell(&delivered[1..]);
    refuse_buyers(&till, &[3]);
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    stream.stop();
    till.place.accept_all();
    let letters = till.letters(till.store());
    assert_eq!(letters.count(), 3);
    // The oldest first: readers see the newest state at once, never a step back.
    assert_eq!(letters.replay(4).unwrap(), Replayed::Taken);
    assert_eq!(till.tables()["orders"], till.whole()["orders"]);
    for seq in [11, 12] {
        assert_eq!(letters.replay(seq).unwrap(), Replayed::Taken);
    }
    assert_eq!(letters.count(), 0);
    assert_eq!(till.tables(), till.whole());
}

fn a_replay_and_a_moving_mark_do_not_disturb_each_other(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&some(10));
    refuse_buyers(&till, &[3]);
    let stream = till.start(till.store(), 10);
    stream.until_even(&till);
    till.place.accept_all();
    // The stream goes on just before the replay's own write, twice.
    let n = Arc::new(AtomicUsize::new(0));
    let (ledger, store) = (till.ledger.clone(), till.store());
    let counted = Arc::clone(&n);
    let more = till.more(10..12);
    let between = Between::new(till.store(), move |call| {
        if counted.fetch_add(1, Ordering::SeqCst) < 2 {
            more();
            let tip = ledger.tip().seq;
            while store.mark(0).unwrap().map(|m| m.seq) != Some(tip) {
                std::thread::yield_now();
            }
            assert!(matches!(call.pass()?, Put::MarkMoved(_)), "{:?}", call.nth);
            return Ok(Put::MarkMoved(store.mark(0)?));
        }
        call.pass()
    });
    let letters = till.letters(between);
    assert_eq!(letters.replay(4).unwrap(), Replayed::Taken);
    assert_eq!(n.load(Ordering::SeqCst), 3);
    drop(letters);
    stream.until_even(&till);
    stream.stop();
    assert_eq!(till.tables(), till.whole());
}

/// Buyer `n` paid and was granted, as one group has it; what follows comes later.
fn paid(n: u16) -> Vec<Draft> {
    let versions = life(ordered(n), &[OrderEvent::PaymentApplied]);
    let after = a_life_after(&versions[0], n);
    let order = order_draft(&versions[1]);
    [vec![after[0].clone(), order], after[1..2].to_vec()].concat()
}

fn sold_and_paid(till: &Till, buyers: std::ops::Range<u16>) {
    till.sell(&buyers.clone().map(ordered).collect::<Vec<_>>());
    for n in buyers {
        till.write(paid(n));
    }
}

fn ids(letters: &Letters) -> Vec<String> {
    let page = letters.page(0, 100).unwrap();
    page.iter().map(|l| l.row.id().to_string()).collect()
}

fn a_refused_payment_is_put_aside_alone_and_comes_back_as_it_is_now(fresh: Fresh) {
    let till = Till::new(fresh);
    till.place
        .refuse_in("payments", "NEW.channel_txn_no = 'txn-3'", "no");
    sold_and_paid(&till, 0..10);
    // Given back since.
    till.write(a_life_after(&ordered(3), 3)[4..].to_vec());
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    let id = format!("pay_{:032x}", 3);
    assert_eq!(ids(&stream.letters), [id.as_str(); 3]);
    let first = stream.letters.page(0, 1).unwrap().remove(0);
    assert_eq!(
        (first.row.version(), first.row.sale()),
        (3, Some(&ordered(3).sale))
    );
    assert_eq!(first.row.order(), Some(ordered(3).id));
    assert_eq!(stream.letters.of_sale(None), [].into());
    assert_eq!(
        stream.letters.of_sale(Some(&ordered(3).sale)),
        [first.row.id()].into()
    );
    stream.stop();
    let (there, whole) = (till.tables(), till.whole());
    assert_eq!(there["payments"].len() + 1, whole["payments"].len());
    for table in ["orders", "entitlements"] {
        assert_eq!(there[table], whole[table], "{table}");
    }

    // Another run: the letter itself says whose it is.
    let till = till.reopen();
    let letters = till.letters(till.store());
    assert_eq!(ids(&letters), [id.as_str(); 3]);
    let again = letters.replay(first.seq).unwrap();
    assert!(
        matches!(&again, Replayed::Refused(why) if is_no(why)),
        "{again:?}"
    );
    assert_eq!(letters.page(0, 1).unwrap()[0].row, first.row);
    till.place.accept_all();
    assert_eq!(letters.replay(first.seq).unwrap(), Replayed::Taken);
    assert_eq!(till.tables()["payments"], whole["payments"]);
    for letter in letters.page(0, 9).unwrap() {
        assert_eq!(letters.replay(letter.seq).unwrap(), Replayed::Taken);
    }
    assert_eq!(letters.count(), 0);
    assert_eq!(till.tables(), whole);
}

fn a_capture_of_nobodys_order_is_a_letter_of_no_sale(fresh: Fresh) {
    let till = Till::new(fresh);
    till.place
        .refuse_in("payments", "NEW.order_id IS NULL", "no strays");
    sold_and_paid(&till, 0..3);
    till.write(vec![stray(9)]);
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    let letter = stream.letters.page(0, 9).unwrap().remove(0);
    assert_eq!((letter.row.sale(), letter.row.order()), (None, None));
    assert_eq!(stream.letters.of_sale(None), [letter.row.id()].into());
    till.place.accept_all();
    assert_eq!(stream.letters.replay(letter.seq).unwrap(), Replayed::Taken);
    stream.stop();
    assert_eq!(till.tables(), till.whole());
}

fn devices_of_a_refused_entitlement_come_back_without_a_word(fresh: Fresh) {
    let till = Till::new(fresh);
    sold_and_paid(&till, 0..4);
    // On the first device that version 2 has; version 3 has another one besides.
    till.write(a_life_after(&ordered(2), 2)[2..3].to_vec());
    let stream = till.start(till.store(), 30);
    stream.until_even(&till);
    stream.stop();
    till.place.refuse_in(
        "entitlements",
        "NEW.version = 3 OR NEW.status = 'REVOKED'",
        "no",
    );
    till.write(a_life_after(&ordered(2), 2)[3..6].to_vec());
    let stream = till.start(till.store(), 30);
    stream.until_even(&till);
    assert_eq!(stream.letters.count(), 2);
    stream.stop();
    till.place.accept_all();
    let letters = till.letters(till.store());
    for letter in letters.page(0, 9).unwrap() {
        assert_eq!(letters.replay(letter.seq).unwrap(), Replayed::Taken);
    }
    assert_eq!(till.tables(), till.whole());
}

fn a_store_that_refuses_every_payment_stops_the_stream(fresh: Fresh) {
    let till = Till::new(fresh);
    till.place
        .refuse_in("payments", "true", "the column is gone");
    sold_and_paid(&till, 0..10);
    // Orders of the same batch are taken, and that says nothing of payments.
    for _ in 0..2 {
        let stream = till.start(till.store(), 40);
        let why = stream.until_stopped();
        assert!(
            why.contains("refuses every payment, 10 in the batch"),
            "{why}"
        );
        assert!(why.contains("the column is gone"), "{why}");
        assert_eq!(stream.letters.count(), 0);
        stream.stop();
    }
    till.place.accept_all();
    let stream = till.start(till.store(), 40);
    stream.until_even(&till);
    stream.stop();
    assert_eq!(till.tables(), till.whole());
}

/// One order is poison, not the schema: whatever it has of a kind is put aside.
fn two_of_a_kind_of_one_order_prove_nothing(fresh: Fresh) {
    let till = Till::new(fresh);
    sold_and_paid(&till, 0..3);
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);

    // Both captures of one order, alone of their kind in their batch.
    let order = ordered(5);
    till.sell([&order]);
    stream.until_even(&till);
    till.place
        .refuse_in("payments", "NEW.channel_txn_no LIKE 'txn-_5'", "no");
    let capture = |n| a_life_after(&order, n)[0].clone();
    till.write(vec![capture(15), capture(25)]);
    stream.until_even(&till);
    assert_eq!(stream.letters.count(), 2);

    // Both of its works.
    till.place
        .refuse_in("entitlements", "NEW.user_id = 'buyer-5'", "no");
    let mut other = order.clone();
    other.items[0].sku = SkuId::parse("score").unwrap();
    let grant = |order: &Order, n| a_life_after(order, n)[1].clone();
    till.write(vec![grant(&order, 15), grant(&other, 25)]);
    stream.until_even(&till);
    assert_eq!(stream.letters.count(), 4);

    // A buyer's two orders.
    till.place.refuse("NEW.user_id = 'buyer-7'", "no");
    let mut second = ordered(8);
    second.user = ordered(7).user;
    till.write([&ordered(7), &second].map(order_draft).to_vec());
    stream.until_even(&till);
    assert_eq!(stream.letters.count(), 6);

    // And everything else flows.
    sold_and_paid(&till, 10..13);
    stream.until_even(&till);
    till.place.accept_all();
    for letter in stream.letters.page(0, 9).unwrap() {
        let seq = letter.seq;
        assert_eq!(stream.letters.replay(seq).unwrap(), Replayed::Taken);
    }
    stream.stop();
    assert_eq!(till.tables(), till.whole());
}

fn one_order_that_comes_often_proves_nothing(fresh: Fresh) {
    let till = Till::new(fresh);
    sold_and_paid(&till, 0..3);
    till.place
        .refuse_in("entitlements", "NEW.user_id = 'buyer-5'", "no");
    let stream = till.start(till.store(), 1);
    let order = ordered(5);
    till.sell([&order]);
    till.write(
        (1..=30)
            .map(|version| entitlement_draft(&order, 5, version, false))
            .collect(),
    );
    stream.until_even(&till);
    assert_eq!(stream.letters.count(), 30);
    stream.stop();
}

fn two_orders_in_a_quiet_moment_are_the_schema(fresh: Fresh) {
    let till = Till::new(fresh);
    sold_and_paid(&till, 0..3);
    till.place
        .refuse_in("entitlements", "NEW.version = 2", "the column is gone");
    till.write(vec![
        entitlement_draft(&ordered(0), 0, 2, false),
        entitlement_draft(&ordered(2), 2, 2, false),
    ]);
    // Three orders, and for each a payment, the order and an entitlement.
    let stream = till.start(till.store(), 12);
    let why = stream.until_stopped();
    assert!(
        why.contains("refuses every entitlement, 2 in the batch from record 13 on"),
        "{why}"
    );
    assert_eq!(stream.letters.count(), 0);
    stream.stop();
}

/// Their first batch had others beside them; another run may cut it elsewhere.
fn what_has_a_letter_already_proves_nothing(fresh: Fresh) {
    let till = Till::new(fresh);
    till.sell(&some(20));
    refuse_buyers(&till, &[4, 5]);
    let stream = till.start(till.store(), 20);
    stream.until_even(&till);
    stream.stop();
    // The store is put back to an older day.
    let older = till.mark_at(4);
    let moved = till
        .store()
        .put(0, &Batch::default(), Some(&till.tip()), &older);
    assert_eq!(moved.unwrap(), Put::Advanced);
    let stream = till.start(till.store(), 2);
    stream.until_even(&till);
    assert_eq!(stream.letters.count(), 2);
    stream.stop();
}

every_case!(
    two_of_a_kind_of_one_order_prove_nothing,
    one_order_that_comes_often_proves_nothing,
    two_orders_in_a_quiet_moment_are_the_schema,
    what_has_a_letter_already_proves_nothing,
    a_refused_payment_is_put_aside_alone_and_comes_back_as_it_is_now,
    a_capture_of_nobodys_order_is_a_letter_of_no_sale,
    devices_of_a_refused_entitlement_come_back_without_a_word,
    a_store_that_refuses_every_payment_stops_the_stream,
    the_refused_are_singled_out_and_everybody_else_flows,
    a_store_that_refuses_everything_stops_the_stream,
    an_order_alone_in_its_batch_proves_nothing_but_eleven_do,
    a_store_that_is_away_meanwhile_is_asked_again,
    a_lone_order_whose_mark_cannot_be_moved_is_one_refusal,
    a_crash_between_letter_and_mark_is_done_again,
    a_letter_whose_order_was_taken_after_the_crash_is_gone,
    a_replay_brings_the_order_and_takes_the_letter_away,
    a_replay_that_is_refused_again_keeps_the_letter_with_the_new_reason,
    a_later_version_flows_while_the_older_is_dead,
    a_replay_brings_the_order_as_it_is_now,
    a_replay_and_a_moving_mark_do_not_disturb_each_other,
);
