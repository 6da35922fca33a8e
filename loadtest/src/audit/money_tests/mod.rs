//! An honest evening of payments passes; each rule about money is broken on purpose and
//! must be named.

mod orders;
mod payments;

use super::tests::{document, judged};
use super::*;
use crate::answer::Outcome;
use crate::journal::{Act, Defined, DefinedSku, Header};
use crate::pay::wire::{EntitlementStatus, PaymentStatus};
use crate::pay::{Claim, Payer};
use crate::plan::{Plan, Variant};
use crate::wire::{ClosedReason, Item, SaleSku, Status, Stock, show_id};

const SECOND_US: i64 = 1_000_000;
const STARTED_S: i64 = 1_800_000_000;
const WINDOW_US: i64 = 8 * SECOND_US;
const ATTEMPTS: u32 = 120;
/// Everything told and done.
const NOW_US: i64 = (STARTED_S + 100) * SECOND_US;

/// Every attempt wins a unit; what follows is what an honest engine makes of the plan.
struct Evening {
    plan: Plan,
    entries: Vec<(u32, Act, Outcome, u16, u64, String)>,
    books: Books,
    /// Whether the run went to its end.
    whole: bool,
}

fn order(plan: &Plan, attempt: u32) -> Order {
    let created_us = STARTED_S * SECOND_US + 1_000 * i64::from(attempt);
    let ask = plan.ask(attempt, Variant::First);
    let sku_id = plan.skus[ask.sku].as_str();
    Order {
        id: 0x0193_0000_0000_8000_8000_0000_0000_0000 + u128::from(attempt),
        sale_id: "tea".into(),
        status: Status::PendingPayment,
        items: vec![Item {
            sku_id: sku_id.into(),
            quantity: 1,
            price_cent: 450,
        }],
        amount_cent: 450,
        currency: "EUR".into(),
        created_us,
        deadline_us: created_us + WINDOW_US,
        closed: None,
        user: plan.user_text(attempt).into(),
        key: plan.key_text(attempt).into(),
        version: 1,
        events: Some(1),
    }
}

fn told(status: &str) -> String {
    format!(r#"{{"paymentId":"pay_x","status":"{status}","replayed":false}}"#)
}

impl Evening {
    fn new() -> Self {
        let mut plan = Plan {
            users: u64::from(ATTEMPTS),
            key_prefix: "k7-".into(),
            ..crate::plan::tests::plan()
        };
        plan.skus = vec!["film".into(), "poster".into()];
        (plan.mix.again, plan.mix.cancel, plan.mix.reuse) = (0.0, 0.0, 0.0);
        plan.pay = crate::pay::tests::paying().pay;
        let sku = |id: &str| SaleSku {
            id: id.into(),
            price_cent: 450,
            currency: "EUR".into(),
            stock: Stock::default(),
        };
        let books = Books {
            sale: Sale {
                id: "tea".into(),
                phase: "ENDED".into(),
                units_per_user: Some(1),
                server_time: jiff::Timestamp::from_microsecond(NOW_US).unwrap(),
                durable_seq: 9,
                skus: vec![sku("film"), sku("poster")],
            },
            settled_us: NOW_US,
            ledger: Vec::new(),
            ledger_seq: 9,
            payments: Some(Vec::new()),
            grants: Vec::new(),
            store: Vec::new(),
            store_mark: 9,
            stuck: None,
            lookups: Vec::new(),
            reconciliation: Reconciliation {
                differences: 0,
                detail: Vec::new(),
            },
        };
        let mut evening = Self {
            plan,
            entries: Vec::new(),
            books,
            whole: true,
        };
        for attempt in 0..ATTEMPTS {
            evening.one(attempt);
        }
        evening.books.store = evening.books.ledger.clone();
        for sku in &mut evening.books.sale.skus {
            sku.stock.opened = i64::from(ATTEMPTS);
        }
        evening.count_stock();
        evening
    }

    fn one(&mut self, attempt: u32) {
        let mut order = order(&self.plan, attempt);
        let won_us = 1_000 * u64::from(attempt) + 500;
        let body = document(&order);
        let buy = Act::Buy(Variant::First);
        self.entries
            .push((attempt, buy, Outcome::Won, 201, won_us, body));
        let payer = self.plan.payer(attempt);
        // Every other late payment finds units.
        let revived = attempt.is_multiple_of(2);
        let film = order.items[0].sku_id == "film";
        let mut paid = false;
        let mut callbacks = self.plan.callbacks(attempt);
        callbacks.sort_by_key(|callback| callback.after_ms);
        for callback in callbacks {
            let mut answer = "IGNORED";
            if callback.claim != Claim::Failed {
                let status = match callback.claim {
                    Claim::Lie(_) => PaymentStatus::Review,
                    Claim::Success | Claim::Failed if paid => PaymentStatus::Refunded,
                    Claim::Success | Claim::Failed if payer == Payer::Late && !revived => {
                        PaymentStatus::Refunded
                    }
                    Claim::Success | Claim::Failed => PaymentStatus::Applied,
                };
                answer = match status {
                    PaymentStatus::Applied => "APPLIED",
                    PaymentStatus::Review => "REVIEW",
                    PaymentStatus::Captured
                    | PaymentStatus::RefundDue
                    | PaymentStatus::Refunded => "REFUND_DUE",
                };
                paid |= status == PaymentStatus::Applied;
                let number = self.payments().len();
                let payment = Payment {
                    id: format!("pay_{number}").into(),
                    order: Some(order.id),
                    channel: self.plan.channel(attempt, callback.txn).into(),
                    txn: self.plan.txn_text(attempt, callback.txn).into(),
                    status,
                    amount_cent: callback.claim.amount(450),
                    currency: callback.claim.currency("EUR").into(),
                };
                self.payments().push(payment);
            }
            let at_us = won_us + 1_000 * callback.after_ms;
            let act = Act::Callback(callback.no);
            for copy in 0..u64::from(callback.n_copies) {
                self.entries.push((
                    attempt,
                    act,
                    Outcome::Taken,
                    200,
                    at_us + copy,
                    told(answer),
                ));
            }
        }
        let status = match (paid, self.plan.refund(attempt)) {
            (true, Some(_)) => {
                let at_us = won_us + 60_000_000;
                let (given, body) = (Outcome::GivenBack, String::new());
                self.entries
                    .push((attempt, Act::Refund, given, 200, at_us, body));
                let mut applied = self.payments().iter_mut();
                let applied = applied
                    .find(|p| p.order == Some(order.id) && p.status == PaymentStatus::Applied);
                applied.unwrap().status = PaymentStatus::Refunded;
                Status::Refunded
            }
            (true, None) if film => Status::Delivered,
            (true, None) => Status::Paid,
            (false, _) => Status::Closed,
        };
        order.status = status;
        order.closed = (status == Status::Closed).then_some(ClosedReason::Timeout);
        (order.version, order.events) = match status {
            Status::Closed | Status::Paid => (2, Some(2)),
            _more => (4, Some(4)),
        };
        let mut entitlements = Vec::new();
        if film && paid {
            let active = status == Status::Delivered;
            entitlements.push(Entitlement {
                id: format!("ent_{attempt}").into(),
                order: order.id,
                sale: Some("tea".into()),
                sku: "film".into(),
                work: "premiere".into(),
                status: match active {
                    true => EntitlementStatus::Active,
                    false => EntitlementStatus::Revoked,
                },
            });
        }
        self.books.grants.push(Granted {
            user: order.user.to_string(),
            entitlements: Ok(entitlements),
        });
        self.books.ledger.push(order);
    }

    fn payments(&mut self) -> &mut Vec<Payment> {
        self.books.payments.as_mut().unwrap()
    }

    /// Stock as the orders have it, so that a bent order is not also bent stock.
    fn count_stock(&mut self) {
        let orders = &self.books.ledger;
        for sku in &mut self.books.sale.skus {
            let of_sku = orders.iter().filter(|o| o.items[0].sku_id == sku.id);
            let (mut held, mut sold, mut withdrawn) = (0, 0, 0);
            for order in of_sku {
                let attempt = self.plan.attempt_of(&order.key).unwrap();
                let refund = self.plan.refund(attempt);
                match order.status {
                    Status::PendingPayment => held += 1,
                    Status::Paid | Status::Delivered => sold += 1,
                    Status::RefundDue | Status::Refunded => {
                        withdrawn += i64::from(refund.is_some_and(|refund| !refund.restock));
                    }
                    Status::Closed => {}
                }
            }
            let stock = &mut sku.stock;
            (stock.held, stock.sold, stock.withdrawn) = (held, sold, withdrawn);
            stock.available = stock.opened - held - sold - withdrawn;
        }
    }

    /// The first attempt of this kind whose order ended so.
    fn first(&self, payer: Payer, status: Status) -> u32 {
        let mut attempts = 0..ATTEMPTS;
        let found = attempts.find(|&attempt| {
            self.plan.payer(attempt) == payer
                && self.books.ledger[attempt as usize].status == status
        });
        found.expect("the plan deals one")
    }

    fn id(&self, attempt: u32) -> u128 {
        self.books.ledger[attempt as usize].id
    }

    fn payment(&mut self, attempt: u32, status: PaymentStatus) -> &mut Payment {
        let id = self.id(attempt);
        let mut payments = self.payments().iter_mut();
        let found = payments.find(|p| p.order == Some(id) && p.status == status);
        found.expect("it has one")
    }

    /// The same change to ledger and store.
    fn order(&mut self, attempt: u32, change: impl Fn(&mut Order)) {
        change(&mut self.books.ledger[attempt as usize]);
        change(&mut self.books.store[attempt as usize]);
        self.count_stock();
    }

    fn entitlements(&mut self, attempt: u32) -> &mut Vec<Entitlement> {
        let granted = &mut self.books.grants[attempt as usize];
        granted.entitlements.as_mut().unwrap()
    }

    fn verdict(&self) -> Verdict {
        let sku = |id: &str, work: Option<&str>| DefinedSku {
            id: id.into(),
            price_cent: 450,
            currency: "EUR".into(),
            units: i64::from(ATTEMPTS),
            work: work.map(ToOwned::to_owned),
        };
        let header = Header {
            plan: self.plan.clone(),
            attempts: ATTEMPTS,
            started_unix_ms: 1_000 * STARTED_S,
            defined: Some(Defined {
                units_per_user: Some(1),
                skus: vec![sku("film", Some("premiere")), sku("poster", None)],
            }),
        };
        judged(&header, &self.entries, self.whole, &self.books)
    }

    #[track_caller]
    fn passes(&self) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.findings, [], "{verdict:#?}");
        verdict
    }

    /// Exactly this promise is broken, so often, and the evidence contains the words.
    #[track_caller]
    fn breaks(&self, promise: Promise, times: u64, words: &[&str]) {
        let verdict = self.verdict();
        let found: Vec<_> = verdict.findings.iter().map(|f| f.promise).collect();
        assert_eq!(found, [promise], "{:#?}", verdict.findings);
        let finding = &verdict.findings[0];
        assert_eq!(finding.count, times, "{finding:#?}");
        assert!(verdict.line().contains(promise.name()));
        for word in words {
            let said = finding.evidence.iter().any(|e| e.contains(word));
            assert!(said, "{word:?} is missing in {:#?}", finding.evidence);
        }
    }
}

use Promise::{P4, P5, P8};

#[test]
fn an_honest_evening_passes_and_is_counted() {
    let evening = Evening::new();
    let money = evening.passes().money.unwrap();
    assert_eq!(money.callbacks_sent, money.callbacks_taken);
    assert_eq!(money.transactions, money.payments);
    assert_eq!(
        money.payments,
        money.applied + money.refunded + money.review
    );
    let some = [
        money.applied,
        money.refunded,
        money.review,
        money.late_applied,
        money.late_refunded,
        money.twice_refunded,
        money.refunds_asked,
        money.orders_paid,
        money.orders_delivered,
        money.orders_refunded,
        money.orders_closed,
        money.entitlements_active,
        money.entitlements_revoked,
    ];
    assert!(some.iter().all(|&count| count > 0), "{money:#?}");
    let orders = money.orders_paid
        + money.orders_delivered
        + money.orders_refunded
        + money.orders_closed
        + money.orders_unpaid;
    assert_eq!((orders, money.buyers_asked), (120, 120));
}

#[test]
fn a_person_may_decide_a_review() {
    let mut evening = Evening::new();
    let lied = evening.first(Payer::LiedAbout, Status::Closed);
    evening.payment(lied, PaymentStatus::Review).status = PaymentStatus::Refunded;
    evening.passes();
}

#[test]
fn who_was_not_answered_to_the_end_of_a_run_was_failed_unless_the_run_was_cut_off() {
    let unanswered = |attempt, act: fn(&Act) -> bool| {
        let mut evening = Evening::new();
        for entry in &mut evening.entries {
            if entry.0 == attempt && act(&entry.1) {
                (entry.2, entry.3) = (Outcome::ServerError, 500);
                entry.5.clear();
            }
        }
        evening
    };
    let dealt = Evening::new();
    let (late, refunded) = (
        dealt.first(Payer::Late, Status::Closed),
        dealt.first(Payer::OnTime, Status::Refunded),
    );
    let mut evening = unanswered(late, |act| matches!(act, Act::Callback(_)));
    // Taken and not answered: whoever asks the books finds it.
    evening.passes();
    let id = evening.id(late);
    evening.payments().retain(|p| p.order != Some(id));
    evening.breaks(P5, 1, &["never taken", &show_id(id)]);
    evening.whole = false;
    evening.passes();

    let mut evening = unanswered(refunded, |act| *act == Act::Refund);
    evening.passes();
    let film = evening.books.ledger[refunded as usize].items[0].sku_id == "film";
    let status = if film {
        Status::Delivered
    } else {
        Status::Paid
    };
    evening.order(refunded, |order| order.status = status);
    evening.payment(refunded, PaymentStatus::Refunded).status = PaymentStatus::Applied;
    for entitlement in evening.entitlements(refunded) {
        entitlement.status = EntitlementStatus::Active;
    }
    evening.breaks(P5, 1, &["its refund was asked for until"]);
    evening.whole = false;
    evening.passes();
}

#[test]
fn more_time_to_pay_is_the_same_deal_and_less_is_not() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Paid);
    evening.order(attempt, |order| order.deadline_us += 3 * SECOND_US);
    evening.passes();
    evening.order(attempt, |order| order.deadline_us -= 4 * SECOND_US);
    evening.breaks(P4, 1, &["was told as"]);
    // Where nobody pays nobody has a reason to wait longer.
    let order = evening.books.ledger[attempt as usize].clone();
    let longer = Order {
        deadline_us: order.deadline_us + 1,
        ..order.clone()
    };
    assert!(longer.keeps_deal(&order, true) && !longer.keeps_deal(&order, false));
}
