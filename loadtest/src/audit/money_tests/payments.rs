//! Rules about a payment: there once, over what was told, and where it should be.

use super::*;

#[test]
fn a_payment_that_was_taken_and_is_gone() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Closed);
    let id = evening.id(attempt);
    evening.payments().retain(|p| p.order != Some(id));
    evening.breaks(
        P5,
        1,
        &["was taken, the ledger does not have it", &show_id(id)],
    );
}

#[test]
fn a_payment_that_is_there_twice() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Closed);
    let twin = Payment {
        id: "twin".into(),
        ..evening.payment(attempt, PaymentStatus::Refunded).clone()
    };
    evening.payments().push(twin);
    evening.breaks(P5, 1, &["payment twin", "is in the ledger twice"]);
}

#[test]
fn a_payment_over_another_amount_currency_or_order() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::OnTime, Status::Paid);
    evening.payment(attempt, PaymentStatus::Applied).amount_cent = 451;
    evening.breaks(P5, 1, &["is over 451 EUR, told was 450 EUR"]);
    let mut evening = Evening::new();
    evening.payment(attempt, PaymentStatus::Applied).currency = "USD".into();
    evening.breaks(P5, 1, &["is over 450 USD"]);
    let mut evening = Evening::new();
    let late = evening.first(Payer::Late, Status::Closed);
    let other = evening.id(attempt);
    evening.payment(late, PaymentStatus::Refunded).order = Some(other);
    evening.breaks(P5, 1, &[&format!("is of order {}", show_id(other))]);
}

#[test]
fn a_payment_that_nobody_told() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Never, Status::Closed);
    let mut invented = evening.books.payments.as_ref().unwrap()[0].clone();
    invented.status = PaymentStatus::Refunded;
    invented.txn = evening.plan.txn_text(attempt, 0).into();
    evening.payments().push(invented.clone());
    evening.breaks(P5, 1, &["nobody ever told of it"]);
    // Another provider's is another provider's business.
    evening.payments().pop();
    invented.txn = "elsewhere".into();
    evening.payments().push(invented);
    let notes = evening.passes().notes;
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("1 payments were told"))
    );
}

#[test]
fn a_failed_attempt_that_became_money() {
    let mut evening = Evening::new();
    let (attempt, failed) = (0..ATTEMPTS)
        .find_map(|attempt| {
            let callbacks = evening.plan.callbacks(attempt);
            let failed = callbacks
                .iter()
                .find(|c| c.claim == Claim::Failed && c.txn != 0)?;
            Some((attempt, *failed))
        })
        .unwrap();
    let payment = Payment {
        id: "pay_failed".into(),
        order: Some(evening.id(attempt)),
        channel: evening.plan.channel(attempt, failed.txn).into(),
        txn: evening.plan.txn_text(attempt, failed.txn).into(),
        status: PaymentStatus::Refunded,
        amount_cent: 450,
        currency: "EUR".into(),
    };
    evening.payments().push(payment);
    evening.breaks(P5, 1, &["pay_failed", "told were only failed attempts"]);
}

#[test]
fn a_payment_that_is_stuck() {
    for (stuck, name) in [
        (PaymentStatus::Captured, "CAPTURED"),
        (PaymentStatus::RefundDue, "REFUND_DUE"),
    ] {
        let mut evening = Evening::new();
        let attempt = evening.first(Payer::Late, Status::Closed);
        evening.payment(attempt, PaymentStatus::Refunded).status = stuck;
        // What was told as due and is only captured is wrong once more.
        let times = 1 + u64::from(stuck == PaymentStatus::Captured);
        evening.breaks(P5, times, &[&format!("is stuck as {name}")]);
    }
}

#[test]
fn a_lie_that_was_applied_and_a_truth_under_review() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::LiedAbout, Status::Closed);
    evening.payment(attempt, PaymentStatus::Review).status = PaymentStatus::Applied;
    // The order stayed closed, which is wrong by itself.
    evening.breaks(
        P5,
        2,
        &[
            "was applied although it did not match",
            "took a payment and is Closed",
        ],
    );
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Closed);
    evening.payment(attempt, PaymentStatus::Refunded).status = PaymentStatus::Review;
    evening.breaks(
        P5,
        2,
        &[
            "is under review although it matched",
            "was told RefundDue and is Review",
        ],
    );
}

#[test]
fn a_payment_that_was_told_applied_and_went_back_by_itself() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Paid);
    evening.payment(attempt, PaymentStatus::Applied).status = PaymentStatus::Refunded;
    evening.order(attempt, |order| {
        (order.status, order.closed) = (Status::Closed, Some(ClosedReason::Timeout));
    });
    evening.breaks(P5, 1, &["was told Applied and is Refunded"]);
}

#[test]
fn a_payment_that_was_told_to_go_back_and_was_applied() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Closed);
    let poster = |evening: &Evening, attempt: u32| {
        evening.books.ledger[attempt as usize].items[0].sku_id == "poster"
    };
    let attempt = (attempt..ATTEMPTS)
        .find(|&a| {
            evening.plan.payer(a) == Payer::Late
                && evening.books.ledger[a as usize].status == Status::Closed
                && poster(&evening, a)
        })
        .unwrap();
    evening.payment(attempt, PaymentStatus::Refunded).status = PaymentStatus::Applied;
    evening.order(attempt, |order| {
        (order.status, order.closed) = (Status::Paid, None);
    });
    evening.breaks(P5, 1, &["was told RefundDue and is Applied"]);
}

#[test]
fn a_success_that_was_ignored() {
    let mut evening = Evening::new();
    let attempt = evening.first(Payer::Late, Status::Closed);
    let id = evening.id(attempt);
    for entry in &mut evening.entries {
        if entry.0 == attempt && matches!(entry.1, Act::Callback(_)) {
            entry.5 = told("IGNORED");
        }
    }
    evening.breaks(P5, 1, &["was told Ignored and is Refunded", &show_id(id)]);
}

#[test]
fn a_lie_that_no_person_looked_at() {
    let mut evening = Evening::new();
    let lied = evening.first(Payer::LiedAbout, Status::Closed);
    evening.payment(lied, PaymentStatus::Review).status = PaymentStatus::Refunded;
    for entry in &mut evening.entries {
        if entry.0 == lied && matches!(entry.1, Act::Callback(_)) && entry.5.contains("REVIEW") {
            entry.5 = told("REFUND_DUE");
        }
    }
    evening.breaks(P5, 1, &["did not match the order and was told RefundDue"]);
}
