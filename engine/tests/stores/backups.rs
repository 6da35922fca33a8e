//! A store that is put back, or lost, under a running stream: the stream notices and the
//! store gets what it lacks.

use floodgate_engine::domain::order::Order;

use crate::carrying::{BATCH, assert_even};
use crate::orders::{rush, some_life};
use crate::places::Fresh;
use crate::till::{Stream, Till};

/// A stream that is even, and a backup from before its last orders.
fn begun(till: &Till) -> (Vec<Order>, Stream) {
    let mut orders = rush("tea", 20);
    till.sell(&orders);
    let stream = till.start(till.store(), BATCH);
    stream.until_even(till);
    stream.stop();
    till.place.keep();
    let later: Vec<Order> = (100..110).flat_map(|n| some_life("tea", n)).collect();
    till.sell(&later);
    orders.extend(later);
    let stream = till.start(till.store(), BATCH);
    stream.until_even(till);
    (orders, stream)
}

fn until_noticed(stream: &Stream) {
    stream.until("noticed", |_| stream.metrics.errors.get() > 0);
}

fn goes_on(till: &Till, mut orders: Vec<Order>, stream: Stream) {
    let last: Vec<Order> = (200..205).flat_map(|n| some_life("tea", n)).collect();
    till.sell(&last);
    orders.extend(last);
    stream.until_even(till);
    stream.stop();
    assert_even(till, &orders);
}

fn a_backup_put_back_in_a_quiet_moment_gets_what_it_lacks(fresh: Fresh) {
    let till = Till::new(fresh);
    let (orders, stream) = begun(&till);
    till.place.put_back();
    until_noticed(&stream);
    goes_on(&till, orders, stream);
}

/// The stream has something to put before it looks for the mark.
fn a_backup_put_back_while_orders_come_gets_what_it_lacks(fresh: Fresh) {
    let till = Till::new(fresh);
    let (orders, stream) = begun(&till);
    till.place.put_back();
    goes_on(&till, orders, stream);
}

fn a_store_that_is_lost_gets_its_schema_and_everything(fresh: Fresh) {
    let till = Till::new(fresh);
    let (orders, stream) = begun(&till);
    till.place.lose();
    until_noticed(&stream);
    goes_on(&till, orders, stream);
}

fn whoever_reads_sees_the_backup_too(fresh: Fresh) {
    let till = Till::new(fresh);
    let (_, stream) = begun(&till);
    stream.stop();
    let store = till.store();
    let n_sales = || store.sales().map(|sales| sales.len());
    assert_eq!(n_sales().unwrap(), 1);
    till.place.lose();
    // Once it may say that it was away.
    let seen = n_sales().or_else(|_| n_sales()).unwrap();
    assert_eq!(seen, 0);
    assert_eq!(store.mark(0).unwrap(), None);
}

every_case!(
    a_backup_put_back_in_a_quiet_moment_gets_what_it_lacks,
    a_backup_put_back_while_orders_come_gets_what_it_lacks,
    a_store_that_is_lost_gets_its_schema_and_everything,
    whoever_reads_sees_the_backup_too,
);
