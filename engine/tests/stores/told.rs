//! What others are told of an order, a payment and an entitlement: one event a version,
//! with the same id and in the same words from every engine. No store is asked.

use floodgate_engine::domain::order::OrderEvent;
use floodgate_engine::domain::payment::PaymentState;
use floodgate_engine::stream::{OrderRow, Row};

use crate::orders::{self, bought_and_given_back, ordered};
use crate::places::after::{a_life_after, payment, payment_draft, record, row, stray};

#[test]
fn a_version_is_one_event_however_often_it_is_told() {
    let life = bought_and_given_back("tea", 3);
    let rows: Vec<OrderRow> = life.iter().map(orders::row).collect();
    assert_eq!(rows, life.iter().map(orders::row).collect::<Vec<_>>());

    let mut ids: Vec<_> = rows.iter().map(|r| r.outbox.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), life.len());
    let events: Vec<_> = rows.iter().map(|r| r.outbox.event).collect();
    assert_eq!(
        events,
        [
            "order.created",
            "order.extended", // A longer window is the same state, in a new version.
            "order.paid",
            "order.delivered",
            "order.refund_due",
            "order.refunded"
        ]
    );

    for (row, order) in rows.iter().zip(&life) {
        let told: serde_json::Value = serde_json::from_str(&row.outbox.payload).unwrap();
        // By names, so that no version of the engine tells an event in other words.
        assert_eq!(told.to_string(), row.outbox.payload);
        assert_eq!(told["eventId"], row.outbox.id.to_string());
        assert_eq!(told["bizKey"], order.id.to_string());
        assert_eq!(told["payload"]["status"], order.state.name());
        assert_eq!(told["payload"]["version"], order.version.0.to_string());
        assert_eq!(told["payload"]["payAmountCent"], order.pay_amount().0);
        assert_eq!(told["payload"]["items"][0]["skuId"], "cup");
        let restocked = told["payload"].get("restocked").and_then(|v| v.as_bool());
        assert_eq!(restocked, order.state.restocked());
    }
    let canceled = orders::life(ordered("tea", 4), &[OrderEvent::Cancel]);
    let told = orders::row(&canceled[1]).outbox.payload;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["payload"]["closedReason"], "canceled");
}

#[test]
fn what_is_told_of_payments_and_entitlements() {
    let order = ordered("tea", 2);
    let told: Vec<Option<String>> = a_life_after(&order, 2)
        .iter()
        .map(|draft| match row(draft) {
            Row::Order(row) => Some(row.outbox),
            Row::Payment(row) => Some(row.outbox),
            Row::Entitlement(row) => row.outbox,
        })
        .map(|outbox| outbox.map(|o| format!("{} {}", o.event, o.id)))
        .collect();
    // Ids are part of what consumers remember: the same in every version of the engine.
    let expected = [
        Some("payment.applied dc7f63d4-fd3a-8a62-93fd-0bb557e1fbdf"),
        Some("entitlement.granted 80807194-2155-8fdb-a011-508594eedfc2"),
        None,
        None,
        Some("payment.refund_due fa0f031a-70b9-81c3-aa19-1f895ad0304d"),
        Some("entitlement.revoked 85d31334-8dd0-8e2e-aed3-7d6fa12781c9"),
        Some("payment.refunded 1549359e-c4fc-841e-b057-8448f6c395b0"),
    ];
    assert_eq!(told, expected.map(|told| told.map(ToOwned::to_owned)));

    let captured = payment(Some(&order), 2, PaymentState::RefundDue);
    let Row::Payment(row) = row(&payment_draft(Some(&order.sale), &captured)) else {
        panic!("a payment");
    };
    let told: serde_json::Value = serde_json::from_str(&row.outbox.payload).unwrap();
    // By names, so that no version of the engine tells an event in other words.
    assert_eq!(told.to_string(), row.outbox.payload);
    assert_eq!(told["traceId"], order.id.to_string());
    assert_eq!(told["bizKey"], captured.id.to_string());
    assert_eq!(told["occurredAt"], row.fact.at.rfc3339());
    assert_eq!(
        told["payload"],
        serde_json::json!({
            "amountCent": order.pay_amount().0,
            "channel": "card",
            "channelTxnNo": "txn-2",
            "currency": "EUR",
            "note": "as\u{FFFD}asked",
            "orderId": order.id.to_string(),
            "paidAt": captured.paid_at.rfc3339(),
            "paymentId": captured.id.to_string(),
            "receivedAt": captured.received_at.rfc3339(),
            "refundNo": "",
            "saleId": "tea",
            "status": "REFUND_DUE",
            "version": "4",
        })
    );
}

#[test]
fn a_record_of_a_group_that_is_no_sale_is_an_error() {
    let mut draft = stray(1);
    draft.group = "*other".into();
    let said = floodgate_engine::stream::rows_of(&record(&draft, 1)).unwrap_err();
    assert!(said.to_string().contains("group"), "{said}");
}
