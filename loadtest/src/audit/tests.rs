//! Each promise is broken on purpose and must be named; a clean sale passes.

use super::*;
use crate::answer::Outcome;
use crate::journal::{Act, Defined, DefinedSku, Entry, Header, Writer};
use crate::plan::{Mix, Plan, Variant};
use crate::wire::{ClosedReason, Item, SaleSku, Status, Stock, show_id};

/// Ten attempts on a sale of five units: 0-4 win, 5-8 hear "sold out", 9 never
/// gets an answer. Tests then bend one thing.
struct World {
    plan: Plan,
    entries: Vec<(u32, Act, Outcome, u16, u64, String)>,
    books: Books,
    defined: Option<Defined>,
}

const SECOND_US: i64 = 1_000_000;
const NOW_S: i64 = 1_800_000_000;

fn order(plan: &Plan, attempt: u32) -> Order {
    let created_us = (NOW_S - 60) * SECOND_US + i64::from(attempt);
    Order {
        id: 0x0193_0000_0000_8000_8000_0000_0000_0000 + u128::from(attempt),
        sale_id: "tea".into(),
        status: Status::PendingPayment,
        items: vec![Item {
            sku_id: "green".into(),
            quantity: 1,
            price_cent: 450,
        }],
        amount_cent: 450,
        currency: "EUR".into(),
        created_us,
        deadline_us: created_us + 900 * SECOND_US,
        closed: None,
        user: plan.user_text(attempt).into(),
        key: plan.key_text(attempt).into(),
        version: 1,
        events: Some(1),
    }
}

pub(super) fn document(order: &Order) -> String {
    let at = |us| jiff::Timestamp::from_microsecond(us).unwrap();
    let reason = order.closed.map(|reason| match reason {
        ClosedReason::Timeout => "timeout",
        ClosedReason::Canceled => "canceled",
    });
    serde_json::json!({
        "orderId": show_id(order.id), "saleId": order.sale_id, "status": order.status, "items": order.items,
        "payAmountCent": order.amount_cent, "currency": order.currency,
        "payDeadlineAt": at(order.deadline_us), "createdAt": at(order.created_us), "closedReason": reason,
    })
    .to_string()
}

impl World {
    fn new() -> Self {
        let plan = Plan {
            seed: 1,
            sale_id: "tea".into(),
            skus: vec!["green".into()],
            quantity: 1,
            users: 10,
            user_prefix: "u".into(),
            key_prefix: "k-".into(),
            mix: Mix::default(),
            pay: None,
        };
        let orders: Vec<Order> = (0..5).map(|attempt| order(&plan, attempt)).collect();
        let lookup = |order: &Order| Lookup {
            id: order.id,
            user: order.user.to_string(),
            status: 200,
            order: Some(Ok(Order {
                user: "".into(),
                key: "".into(),
                version: 0,
                events: None,
                ..order.clone()
            })),
        };
        let stock = Stock {
            opened: 5,
            available: 0,
            held: 5,
            ..Stock::default()
        };
        let sku = SaleSku {
            id: "green".into(),
            price_cent: 450,
            currency: "EUR".into(),
            stock,
        };
        let books = Books {
            sale: Sale {
                id: "tea".into(),
                phase: "SOLD_OUT".into(),
                units_per_user: Some(1),
                server_time: jiff::Timestamp::from_second(NOW_S).unwrap(),
                durable_seq: 9,
                skus: vec![sku],
            },
            settled_us: NOW_S * SECOND_US,
            payments: None,
            grants: Vec::new(),
            lookups: orders.iter().map(lookup).collect(),
            ledger: orders.clone(),
            ledger_seq: 9,
            store: orders,
            store_mark: 9,
            stuck: None,
            reconciliation: Reconciliation {
                differences: 0,
                detail: Vec::new(),
            },
        };
        let defined = Defined {
            units_per_user: Some(1),
            skus: vec![DefinedSku {
                id: "green".into(),
                price_cent: 450,
                currency: "EUR".into(),
                units: 5,
                work: None,
            }],
        };
        let mut world = Self {
            plan,
            entries: Vec::new(),
            books,
            defined: Some(defined),
        };
        for attempt in 0..5 {
            world.answer(attempt, Outcome::Won, 201, u64::from(attempt));
        }
        for attempt in 5..9 {
            world.answer(attempt, Outcome::SoldOut, 422, 100);
        }
        world.answer(9, Outcome::Cut, 0, 100);
        world
    }

    /// The answer of attempt `attempt` to its first body, sent at `sent_us`.
    fn answer(&mut self, attempt: u32, outcome: Outcome, status: u16, sent_us: u64) {
        let body = match status {
            200 | 201 => document(&order(&self.plan, attempt)),
            _ => String::new(),
        };
        self.act(
            attempt,
            Act::Buy(Variant::First),
            outcome,
            status,
            sent_us,
            body,
        );
    }

    fn act(
        &mut self,
        attempt: u32,
        act: Act,
        outcome: Outcome,
        status: u16,
        sent_us: u64,
        body: String,
    ) {
        self.entries
            .push((attempt, act, outcome, status, sent_us, body));
    }

    /// The same change to ledger, store and what buyers see.
    fn everywhere(&mut self, attempt: u32, change: impl Fn(&mut Order)) {
        let at = attempt as usize;
        change(&mut self.books.ledger[at]);
        change(&mut self.books.store[at]);
        if let Some(Ok(seen)) = &mut self.books.lookups[at].order {
            change(seen);
        }
    }

    fn close(&mut self, attempt: u32, reason: ClosedReason) {
        self.everywhere(attempt, |order| {
            order.status = Status::Closed;
            order.closed = Some(reason);
            order.version = 2;
            order.events = Some(2);
        });
        let stock = &mut self.books.sale.skus[0].stock;
        stock.held -= 1;
        stock.available += 1;
    }

    /// One more order in ledger and store, stock adjusted to hide it.
    fn add(&mut self, order: Order) {
        self.books.ledger.push(order.clone());
        self.books.store.push(order);
        self.books.sale.skus[0].stock.held += 1;
        self.books.sale.skus[0].stock.available -= 1;
    }

    fn with_room(mut self, units: i64) -> Self {
        self.books.sale.skus[0].stock.opened += units;
        self.books.sale.skus[0].stock.available += units;
        self.defined = None;
        self
    }

    fn verdict(&self) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let header = Header {
            plan: self.plan.clone(),
            attempts: 10,
            started_unix_ms: 0,
            defined: self.defined.clone(),
        };
        let mut writer = Writer::create(&path, &header).unwrap();
        for &(attempt, act, outcome, status, sent_us, ref body) in &self.entries {
            let body = body.as_bytes();
            writer.append(&Entry {
                attempt,
                act,
                outcome,
                status,
                sent_us,
                took_us: 10,
                body,
            });
        }
        writer.finish().unwrap();
        audit(&[Journal::read(&path).unwrap()], &self.books)
    }

    fn broken(&self) -> Vec<Promise> {
        self.verdict()
            .findings
            .iter()
            .map(|finding| finding.promise)
            .collect()
    }

    /// Exactly this promise is broken, and the evidence contains the words.
    #[track_caller]
    fn breaks(&self, promise: Promise, words: &[&str]) {
        let verdict = self.verdict();
        let found: Vec<_> = verdict
            .findings
            .iter()
            .map(|finding| finding.promise)
            .collect();
        assert_eq!(found, [promise], "{:#?}", verdict.findings);
        let line = verdict.line();
        assert!(
            line.starts_with(&format!("audit: fail: {}: ", promise.name())),
            "{line}"
        );
        for word in words {
            assert!(line.contains(word), "{word:?} is missing in {line:?}");
        }
    }

    #[track_caller]
    fn passes(&self) {
        let verdict = self.verdict();
        assert_eq!(verdict.findings, [], "{verdict:#?}");
        assert_eq!(verdict.line(), "audit: pass");
    }
}

#[test]
fn an_honest_sale_passes() {
    let world = World::new();
    world.passes();
    let verdict = world.verdict();
    assert_eq!(
        (
            verdict.told_wins,
            verdict.orders,
            verdict.live_units,
            verdict.opened_units
        ),
        (5, 5, 5, 5)
    );
}

#[test]
fn replays_reuse_refusals_cancels_and_untold_wins_are_honest_too() {
    let mut world = World::new().with_room(5);
    world.answer(0, Outcome::Replayed, 200, 500);
    world.act(
        0,
        Act::Buy(Variant::Other),
        Outcome::KeyReused,
        422,
        500,
        String::new(),
    );
    world.answer(0, Outcome::Throttled, 503, 600);
    world.close(1, ClosedReason::Canceled);
    let closed = document(&world.books.ledger[1]);
    world.act(1, Act::Cancel, Outcome::Canceled, 200, 500, closed);
    // The buyer with the cut connection did win.
    let untold = order(&world.plan, 9);
    world.add(untold);
    world.passes();
    assert!(
        world
            .verdict()
            .notes
            .iter()
            .any(|note| note.starts_with("1 orders belong to buyers who never heard"))
    );
}

#[test]
fn a_key_refused_first_may_win_with_another_body() {
    let mut world = World::new().with_room(5);
    let mut other = order(&world.plan, 5);
    other.items[0].quantity = 2;
    other.amount_cent = 900;
    world.books.sale.units_per_user = Some(2);
    world.act(
        5,
        Act::Buy(Variant::Other),
        Outcome::Won,
        201,
        900,
        document(&other),
    );
    world.add(other);
    world.books.sale.skus[0].stock.held += 1;
    world.books.sale.skus[0].stock.available -= 1;
    world.passes();
}

#[test]
fn p1_more_live_units_than_opened() {
    let mut world = World::new();
    let sixth = order(&world.plan, 9);
    world.add(sixth);
    world.books.sale.skus[0].stock.available = 0;
    let line = world.verdict().line();
    assert_eq!(
        line,
        "audit: fail: P1 never oversell: SKU green: 6 live units in the ledger, 5 opened"
    );
    assert_eq!(world.broken(), [Promise::P1, Promise::P8]);
}

#[test]
fn p2_a_told_win_the_ledger_does_not_have() {
    let mut world = World::new();
    world.books.ledger.pop();
    world.books.store.pop();
    world.books.sale.skus[0].stock.held = 4;
    world.books.sale.skus[0].stock.available = 1;
    world.breaks(
        Promise::P2,
        &["user u4", "key k-4", &show_id(order(&world.plan, 4).id)],
    );
}

#[test]
fn p2_a_win_that_names_no_order() {
    let mut world = World::new();
    world.act(
        9,
        Act::Buy(Variant::First),
        Outcome::Won,
        201,
        500,
        "{\"orderId\":\"soon\"}".into(),
    );
    world.breaks(Promise::P2, &["user u9", "key k-9", "201"]);
}

#[test]
fn p3_two_orders_told_for_one_key() {
    let mut world = World::new().with_room(5);
    let twin = Order {
        id: 77,
        ..order(&world.plan, 0)
    };
    world.act(
        0,
        Act::Buy(Variant::First),
        Outcome::Won,
        201,
        5,
        document(&twin),
    );
    world.add(twin);
    assert!(world.broken().contains(&Promise::P3));
    assert!(world.verdict().findings[0].evidence[0].contains("has two orders in the ledger"));
    let told = |evidence: &String| evidence.contains("user u0, key k-0 was told two orders");
    assert!(world.verdict().findings[0].evidence.iter().any(told));
}

#[test]
fn p3_two_orders_for_one_key_in_the_books_alone() {
    let mut world = World::new().with_room(5);
    world.add(Order {
        id: 77,
        user: "stranger".into(),
        key: "x".into(),
        ..order(&world.plan, 0)
    });
    world.add(Order {
        id: 78,
        user: "stranger".into(),
        key: "x".into(),
        ..order(&world.plan, 0)
    });
    world.books.sale.units_per_user = Some(9);
    world.breaks(
        Promise::P3,
        &["user stranger, key x has two orders in the ledger"],
    );
}

#[test]
fn p3_the_same_key_with_another_body_is_accepted() {
    let mut world = World::new();
    let body = document(&order(&world.plan, 2));
    world.act(
        2,
        Act::Buy(Variant::Other),
        Outcome::Replayed,
        200,
        500,
        body,
    );
    assert!(world.broken().contains(&Promise::P3));
    assert!(
        world
            .verdict()
            .line()
            .contains("same key with another body was accepted too")
    );
}

#[test]
fn p3_another_body_is_refused_for_the_wrong_reason() {
    let mut world = World::new();
    world.act(
        2,
        Act::Buy(Variant::Other),
        Outcome::SoldOut,
        422,
        500,
        String::new(),
    );
    world.breaks(
        Promise::P3,
        &["key k-2", "sold out", "IDEMPOTENCY_KEY_REUSED"],
    );
}

#[test]
fn p3_a_refused_key_owns_an_order() {
    let mut world = World::new().with_room(1);
    let secret = order(&world.plan, 6);
    world.add(secret);
    world.breaks(
        Promise::P3,
        &["user u6, key k-6 was refused by every answer"],
    );
}

#[test]
fn p3_an_order_under_somebody_elses_key() {
    let mut world = World::new().with_room(1);
    world.add(Order {
        user: "u8".into(),
        ..order(&world.plan, 9)
    });
    world.breaks(Promise::P3, &["key k-9 under user u8"]);
}

#[test]
fn p4_a_win_with_other_content() {
    for bend in [
        (|order: &mut Order| order.amount_cent = 1) as fn(&mut Order),
        |order| order.currency = "USD".into(),
        |order| order.created_us += 1_000,
        |order| order.deadline_us -= 1_000,
        |order| order.items[0].price_cent = 1,
    ] {
        let mut world = World::new();
        world.everywhere(3, bend);
        world.breaks(
            Promise::P4,
            &[&show_id(order(&world.plan, 3).id), "was told as"],
        );
    }
}

#[test]
fn p4_a_win_is_denied_to_its_retry() {
    let mut world = World::new();
    world.answer(0, Outcome::SoldOut, 422, 500);
    world.breaks(
        Promise::P4,
        &["user u0, key k-0 won order", "later heard \"sold out\""],
    );
    // A click under way at the same time may hear it: nothing was told yet.
    let mut world = World::new();
    world.answer(0, Outcome::SoldOut, 422, 5);
    world.passes();
}

#[test]
fn p4_a_win_is_closed_too_early_or_by_nobody() {
    let mut world = World::new();
    world.close(0, ClosedReason::Timeout);
    world.breaks(Promise::P4, &["before its deadline"]);
    let mut world = World::new();
    world.close(0, ClosedReason::Canceled);
    world.breaks(Promise::P4, &["never asked for that"]);
    let mut world = World::new();
    world.close(0, ClosedReason::Timeout);
    world.books.sale.server_time = jiff::Timestamp::from_second(NOW_S + 1_000).unwrap();
    world.passes();
}

#[test]
fn p4_a_canceled_order_lives_on() {
    let mut world = World::new();
    let body = document(&Order {
        status: Status::Closed,
        closed: Some(ClosedReason::Canceled),
        ..order(&world.plan, 0)
    });
    world.act(0, Act::Cancel, Outcome::Canceled, 200, 500, body);
    world.breaks(Promise::P4, &["was told canceled and is PendingPayment"]);
}

#[test]
fn p4_a_buyer_cannot_find_the_win_or_sees_another_one() {
    let mut world = World::new();
    world.books.lookups[2] = Lookup {
        status: 404,
        order: None,
        ..world.books.lookups[2].clone()
    };
    world.breaks(Promise::P4, &["user u2 looks up order", "404"]);
    let mut world = World::new();
    if let Some(Ok(seen)) = &mut world.books.lookups[2].order {
        seen.amount_cent = 1;
    }
    world.breaks(Promise::P4, &["user u2 sees order"]);
}

#[test]
fn p4_the_price_or_content_is_not_what_was_offered() {
    let mut world = World::new();
    world.defined.as_mut().unwrap().skus[0].price_cent = 400;
    world.breaks(Promise::P4, &["priced 450 EUR, defined is 400"]);
    let mut world = World::new();
    world.plan.quantity = 2;
    world.breaks(Promise::P4, &["not what was asked for"]);
}

#[test]
fn p6_a_user_has_more_than_the_limit() {
    let mut world = World::new().with_room(1);
    world.books.sale.units_per_user = Some(1);
    world.add(Order {
        user: "u0".into(),
        key: "elsewhere".into(),
        ..order(&world.plan, 9)
    });
    world.breaks(Promise::P6, &["user u0 has 2 live units", "limit is 1"]);
}

#[test]
fn p7_the_store_differs_from_the_ledger() {
    let mut world = World::new();
    world.books.store.remove(1);
    world.breaks(Promise::P7, &["is in the ledger, not in the store"]);
    let mut world = World::new();
    world.books.store.push(Order {
        id: 77,
        user: "s".into(),
        key: "s".into(),
        status: Status::Closed,
        events: Some(2),
        ..order(&world.plan, 1)
    });
    world.breaks(Promise::P7, &["is in the store, not in the ledger"]);
    for (what, bend) in [
        (
            "version",
            (|row: &mut Order| row.version = 2) as fn(&mut Order),
        ),
        ("content", |row| row.amount_cent = 2),
        ("owner", |row| row.user = "eve".into()),
        ("events", |row| row.events = Some(2)),
        ("how many events", |row| row.events = None),
    ] {
        let mut world = World::new();
        bend(&mut world.books.store[1]);
        world.breaks(Promise::P7, &[what]);
    }
    let mut world = World::new();
    let twice = world.books.store[0].clone();
    world.books.store.push(twice);
    world.books.sale.skus[0].stock.opened = 6;
    world.books.sale.skus[0].stock.available = 1;
    world.books.sale.units_per_user = Some(2);
    world.defined = None;
    world.breaks(Promise::P7, &["the store lists order", "twice"]);
}

#[test]
fn p7_the_store_never_catches_up() {
    let mut world = World::new();
    world.books.stuck = Some("the store's mark is 4, the ledger's durable seq 9".into());
    world.breaks(Promise::P7, &["mark is 4"]);
}

#[test]
fn p8_stock_does_not_add_up() {
    let mut world = World::new();
    world.books.sale.skus[0].stock.withdrawn = 1;
    world.breaks(Promise::P8, &["SKU green: opened 5 ≠ 6"]);
    let mut world = World::new();
    world.books.sale.skus[0].stock.held = 4;
    world.books.sale.skus[0].stock.sold = 1;
    world.breaks(Promise::P8, &["4 held, unpaid orders hold 5"]);
    let mut world = World::new();
    world.books.reconciliation = Reconciliation {
        differences: 2,
        detail: vec!["green: 1".into()],
    };
    world.breaks(Promise::P8, &["finds 2 differences: green: 1"]);
    let mut world = World::new();
    world.defined.as_mut().unwrap().skus[0].units = 6;
    world.breaks(Promise::P8, &["6 units were defined, 5 are opened"]);
}

#[test]
fn a_sale_that_sold_nothing_proves_nothing() {
    let mut world = World::new();
    world.entries.clear();
    for attempt in 0..10 {
        world.answer(attempt, Outcome::Throttled, 503, 1);
    }
    world.books.ledger.clear();
    world.books.store.clear();
    world.books.lookups.clear();
    world.books.sale.skus[0].stock = Stock {
        opened: 5,
        available: 5,
        ..Stock::default()
    };
    world.breaks(Promise::NoSale, &["10 sends", "throttled: 10"]);
}

#[test]
fn units_left_while_buyers_heard_sold_out_are_noted() {
    let mut world = World::new();
    world.close(0, ClosedReason::Timeout);
    world.books.sale.server_time = jiff::Timestamp::from_second(NOW_S + 1_000).unwrap();
    world.passes();
    assert!(
        world.verdict().notes[0].contains("1 units are left although 4 answers"),
        "{:?}",
        world.verdict().notes
    );
}

#[test]
fn evidence_is_bounded_and_counted() {
    let mut world = World::new();
    for attempt in 0..5 {
        world.close(attempt, ClosedReason::Canceled);
    }
    for _ in 0..3 {
        for attempt in 0..5 {
            world.answer(attempt, Outcome::Replayed, 200, 500);
        }
    }
    let verdict = world.verdict();
    assert_eq!(
        (
            verdict.findings[0].count,
            verdict.findings[0].evidence.len()
        ),
        (20, EVIDENCE_MAX)
    );
}
