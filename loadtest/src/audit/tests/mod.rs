//! Each promise is broken on purpose and must be named; a clean sale passes.

mod broken;

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

/// The verdict on a journal of these entries: attempt, act, outcome, status, when it was
/// sent, body.
pub(super) fn judged(
    header: &Header,
    entries: &[(u32, Act, Outcome, u16, u64, String)],
    whole: bool,
    books: &Books,
) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut writer = Writer::create(&path, header).unwrap();
    for &(attempt, act, outcome, status, sent_us, ref body) in entries {
        writer.append(&Entry {
            attempt,
            act,
            outcome,
            status,
            sent_us,
            took_us: 10,
            body: body.as_bytes(),
        });
    }
    writer.finish(whole).unwrap();
    audit(&[Journal::read(&path).unwrap()], books)
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
        let header = Header {
            plan: self.plan.clone(),
            attempts: 10,
            started_unix_ms: 0,
            defined: self.defined.clone(),
        };
        judged(&header, &self.entries, true, &self.books)
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
