//! Rules about what money does to orders: paid, refunded, granted, closed.

use super::*;

#[test]
fn an_order_that_took_two_payments() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Twice, Status::Paid);
    evening.payment(attempt, PaymentStatus::Refunded).status = PaymentStatus::Applied;
    evening.breaks(
        P5,
        2,
        &["took 2 payments", "was told RefundDue and is Applied"],
    );
}

#[test]
fn an_order_that_is_paid_without_a_payment() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Never, Status::Closed);
    let film = evening.books.ledger[attempt as usize].items[0].sku_id == "film";
    evening.order(attempt, |order| {
        order.status = if film {
            Status::Delivered
        } else {
            Status::Paid
        };
        (order.closed, order.events) = (None, Some(3));
    });
    if film {
        let mut entitlement = evening.books.grants.iter().find_map(|granted| {
            let all = granted.entitlements.as_ref().ok()?;
            all.iter()
                .find(|e| e.status == EntitlementStatus::Active)
                .cloned()
        });
        let id = evening.id(attempt);
        entitlement.as_mut().unwrap().order = id;
        evening.entitlements(attempt).extend(entitlement);
    }
    evening.breaks(P5, 1, &["without a payment"]);
}

#[test]
fn a_payment_that_was_applied_to_an_order_that_is_not_paid() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Paid);
    evening.order(attempt, |order| {
        (order.status, order.closed) = (Status::Closed, Some(ClosedReason::Timeout));
    });
    evening.breaks(P5, 1, &["took a payment and is Closed"]);
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Paid);
    evening.payment(attempt, PaymentStatus::Applied).order = Some(7);
    evening.breaks(
        P5,
        3,
        &[
            "was applied to no order",
            "is of order",
            "is Paid without a payment",
        ],
    );
}

#[test]
fn money_in_time_that_the_order_did_not_take() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Paid);
    evening.payment(attempt, PaymentStatus::Applied).status = PaymentStatus::Refunded;
    for entry in &mut evening.entries {
        if entry.0 == attempt && matches!(entry.1, Act::Callback(_)) {
            entry.5 = told("REFUND_DUE");
        }
    }
    evening.order(attempt, |order| {
        (order.status, order.closed) = (Status::Closed, Some(ClosedReason::Timeout));
    });
    evening.breaks(P5, 1, &["before its window ended and is closed"]);
}

#[test]
fn an_order_that_outlived_its_window() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Never, Status::Closed);
    evening.order(attempt, |order| {
        (order.status, order.closed) = (Status::PendingPayment, None);
        (order.version, order.events) = (1, Some(1));
    });
    evening.breaks(P5, 1, &["is unpaid, its window ended"]);
    // Also where nobody was to pay.
    evening.books.payments = None;
    evening.breaks(P5, 1, &["is unpaid, its window ended"]);
    evening.books.settled_us = evening.books.ledger[attempt as usize].deadline_us;
    evening.passes();
}

#[test]
fn a_refund_that_is_stuck_forgotten_or_was_never_asked() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Refunded);
    evening.order(attempt, |order| order.status = Status::RefundDue);
    evening.breaks(P5, 1, &["is stuck as RefundDue"]);

    let mut evening = Evening::new();
    let film = evening.books.ledger[attempt as usize].items[0].sku_id == "film";
    evening.payment(attempt, PaymentStatus::Refunded).status = PaymentStatus::Applied;
    evening.order(attempt, |order| {
        order.status = if film {
            Status::Delivered
        } else {
            Status::Paid
        };
    });
    for entitlement in evening.entitlements(attempt) {
        entitlement.status = EntitlementStatus::Active;
    }
    evening.breaks(P5, 1, &["was told refunded and is"]);

    let mut evening = Evening::new();
    evening
        .entries
        .retain(|entry| (entry.0, entry.1) != (attempt, Act::Refund));
    evening.breaks(P4, 1, &["was refunded, nobody asked for that"]);
}

#[test]
fn a_refund_without_money() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Refunded);
    let id = evening.id(attempt);
    evening.payments().retain(|p| p.order != Some(id));
    evening.breaks(
        P5,
        2,
        &["no payment of it went back", "the ledger does not have it"],
    );
}

#[test]
fn a_refund_or_a_callback_that_is_refused() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Refunded);
    let (refused, body) = (Outcome::StateInvalid, "{\"code\":\"ORDER_STATE_INVALID\"}");
    evening
        .entries
        .push((attempt, Act::Refund, refused, 423, 90_000_000, body.into()));
    evening.breaks(
        P5,
        1,
        &["its refund is refused with 423", "ORDER_STATE_INVALID"],
    );
    let mut evening = Evening::new();
    let (refused, body) = (Outcome::Unexpected, "{\"code\":\"UNAUTHENTICATED\"}");
    evening.entries.push((
        attempt,
        Act::Callback(0),
        refused,
        401,
        90_000_000,
        body.into(),
    ));
    evening.breaks(
        P5,
        1,
        &["the callback was refused with 401", "UNAUTHENTICATED"],
    );
}

#[test]
fn an_answer_that_cannot_be_read_and_callbacks_that_none_took() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Paid);
    let body = "{\"status\":\"FINE\"}".into();
    evening.entries.push((
        attempt,
        Act::Callback(0),
        Outcome::Taken,
        200,
        90_000_000,
        body,
    ));
    evening.breaks(P5, 1, &["answer to a callback", "FINE"]);
    let mut evening = Evening::new();
    evening.entries.retain(|entry| entry.1 != Act::Refund);
    for entry in &mut evening.entries {
        if matches!(entry.1, Act::Callback(_)) {
            (entry.2, entry.3) = (Outcome::NotReady, 503);
        }
    }
    let evidence = &evening.verdict().findings;
    let none = |e: &String| e.contains("callbacks were sent and none was taken");
    assert!(
        evidence
            .iter()
            .any(|f| f.promise == P5 && f.evidence.iter().any(none))
    );
}

#[test]
fn a_grant_that_is_missing_double_wrong_or_left_behind() {
    let evening = Evening::new();
    let delivered = evening.first(Payer::OnTime, Status::Delivered);
    let paid = evening.first(Payer::OnTime, Status::Paid);
    let refunded = (0..ATTEMPTS)
        .find(|&attempt| {
            let entitlements = evening.books.grants[attempt as usize].entitlements.as_ref();
            let mut all = entitlements.unwrap().iter();
            all.any(|e| e.status == EntitlementStatus::Revoked)
        })
        .unwrap();

    let mut evening = Evening::new();
    evening.entitlements(delivered).clear();
    evening.breaks(P5, 1, &["0 active entitlements, expected 1"]);

    let mut evening = Evening::new();
    let twin = evening.entitlements(delivered)[0].clone();
    evening.entitlements(delivered).push(twin.clone());
    evening.breaks(P5, 1, &["2 active entitlements, expected 1"]);
    evening.entitlements(delivered)[1].status = EntitlementStatus::Revoked;
    evening.breaks(P5, 1, &["2 entitlements for one grant"]);

    let mut evening = Evening::new();
    evening.entitlements(delivered)[0].work = "sequel".into();
    evening.breaks(P5, 1, &["is granted sequel, defined is Some(\"premiere\")"]);

    let mut evening = Evening::new();
    evening.entitlements(refunded)[0].status = EntitlementStatus::Active;
    evening.breaks(P5, 1, &["1 active entitlements, expected 0"]);

    // Somebody else's, and one for what grants nothing.
    let mut evening = Evening::new();
    evening.entitlements(paid).push(twin);
    evening.breaks(P5, 1, &["and no such order"]);
    let mut evening = Evening::new();
    let mut poster = evening.entitlements(delivered)[0].clone();
    (poster.order, poster.sku) = (evening.id(paid), "poster".into());
    evening.entitlements(paid).push(poster);
    evening.breaks(
        P5,
        2,
        &["1 active entitlements, expected 0", "defined is None"],
    );

    let mut evening = Evening::new();
    evening.books.grants[delivered as usize].entitlements = Err("answered 404".into());
    evening.breaks(P5, 1, &["asks for what was granted: answered 404"]);
}

#[test]
fn an_order_that_was_paid_and_never_delivered_or_delivered_for_nothing() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Delivered);
    evening.order(attempt, |order| order.status = Status::Paid);
    evening.entitlements(attempt).clear();
    evening.breaks(P5, 1, &["was paid and never delivered"]);
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Paid);
    evening.order(attempt, |order| {
        (order.status, order.events) = (Status::Delivered, Some(3));
    });
    evening.breaks(P5, 1, &["is delivered, nothing in it is granted"]);
}

#[test]
fn units_that_a_refund_lost_or_found() {
    for moved in [1, -1] {
        let mut evening = Evening::new();
        let stock = &mut evening.books.sale.skus[0].stock;
        stock.withdrawn += moved;
        stock.available -= moved;
        evening.breaks(P8, 1, &["withdrawn, refunds without restock have"]);
    }
}
