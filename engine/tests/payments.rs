//! Payments over HTTP: sessions, callbacks, late and wrong money, refunds, and the mock
//! provider's own page.

mod common;
mod provider;

use common::{Answer, Engine, call, open_sale};
use provider::{Shop, now, shop, shop_without_provider};
use serde_json::{Value, json};

#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.code(), (status, code), "{}", answer.body);
}

#[test]
fn a_session_gives_its_order_grace_once_and_is_the_same_again() {
    let shop = shop(3, "");
    let order = shop.win("ana", "k1");
    let before = shop.order("ana", &order);
    let path = format!("/v1/payments/{order}/status");
    let idle = shop.engine.get("ana", &path).json;
    assert_eq!(
        (&idle["inProgress"], &idle["channels"]),
        (&json!(false), &json!(["card", "wallet"]))
    );

    let first = shop.prepay("ana", &order, r#"{"channel":"card"}"#);
    assert_eq!(first.status, 200, "{}", first.body);
    for (field, value) in [
        ("orderId", json!(order)),
        ("channel", json!("card")),
        ("amountCent", json!(100)),
        ("currency", json!("EUR")),
    ] {
        assert_eq!(first.json[field], value);
    }
    let deadline = |v: &Value| v["payDeadlineAt"].as_str().map(ToOwned::to_owned);
    let later = |text: Option<String>, s: u64| {
        use floodgate_engine::domain::time::UnixMs;
        let at = UnixMs::parse_rfc3339(&text.expect("a time")).expect("RFC 3339");
        at.plus(std::time::Duration::from_secs(s)).rfc3339()
    };
    let grown = later(deadline(&before), 60);
    assert_eq!(deadline(&first.json), Some(grown.clone()));
    assert_eq!(deadline(&shop.order("ana", &order)), Some(grown.clone()));

    let again = shop.prepay("ana", &order, r#"{"channel":"card"}"#);
    assert_eq!(again.json, first.json);
    let other = shop.prepay("ana", &order, r#"{"channel":"wallet"}"#);
    assert_ne!(other.json["prepayToken"], first.json["prepayToken"]);
    assert_eq!(deadline(&other.json), Some(grown), "grace is given once");

    let status = shop.engine.get("ana", &path).json;
    assert_eq!(status["inProgress"], true);
    assert_eq!(status["session"]["prepayToken"], other.json["prepayToken"]);
    assert_eq!(status["payments"], json!([]));

    // Somebody else's order does not exist, and what cannot be paid is not.
    problem(
        &shop.prepay("bob", &order, r#"{"channel":"card"}"#),
        404,
        "NOT_FOUND",
    );
    problem(&shop.engine.get("bob", &path), 404, "NOT_FOUND");
    for (body, said) in [
        (r#"{"channel":"cash"}"#, "allowed are card, wallet"),
        (
            r#"{"channel":"card","returnUrl":"javascript:alert(1)"}"#,
            "returnUrl: allowed",
        ),
        (
            r#"{"channel":"card","returnUrl":"/here"}"#,
            "returnUrl: allowed",
        ),
    ] {
        let answer = shop.prepay("ana", &order, body);
        problem(&answer, 400, "INVALID_FIELD");
        assert!(answer.body.contains(said), "{}", answer.body);
    }
    problem(
        &shop.prepay("ana", &order, r#"{"chanel":"card"}"#),
        400,
        "MALFORMED_BODY",
    );
    shop.engine
        .post("ana", &format!("/v1/orders/{order}/cancel"));
    problem(
        &shop.prepay("ana", &order, r#"{"channel":"card"}"#),
        423,
        "ORDER_STATE_INVALID",
    );
    assert_eq!(shop.engine.get("ana", &path).json["inProgress"], false);
}

#[test]
fn without_a_provider_nobody_is_sent_to_pay_but_money_counts() {
    let shop = shop_without_provider(2);
    let order = shop.win("ana", "k1");
    let before = shop.order("ana", &order);
    let answer = shop.prepay("ana", &order, r#"{"channel":"card"}"#);
    problem(&answer, 503, "PAYMENT_UNAVAILABLE");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(shop.order("ana", &order), before, "no grace was used up");
    let status = shop
        .engine
        .get("ana", &format!("/v1/payments/{order}/status"));
    assert_eq!(status.json["channels"], json!([]));
    assert_eq!(shop.engine.get("x", "/mock-pay/abc").status, 404);
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    assert_eq!(shop.order("ana", &order)["status"], "PAID");
}

#[test]
fn a_capture_is_applied_once_however_often_it_is_told() {
    let shop = shop(2, "");
    let order = shop.win("ana", "k1");
    let words = ("raw", json!({"acquirer": "test"}));
    let body = shop.body(&order, "t1", &[words]);
    let first = shop.told(&body, "APPLIED", false);
    for _ in 0..4 {
        let again = shop.told(&body, "APPLIED", true);
        assert_eq!(again["paymentId"], first["paymentId"]);
    }
    let status = shop
        .engine
        .get("ana", &format!("/v1/payments/{order}/status"));
    assert_eq!(status.json["orderStatus"], "PAID");
    assert_eq!(status.json["payments"].as_array().map(Vec::len), Some(1));
    assert_eq!(status.json["payments"][0]["channelTxnNo"], "t1");
    let cancel = shop
        .engine
        .post("ana", &format!("/v1/orders/{order}/cancel"));
    problem(&cancel, 423, "ORDER_STATE_INVALID");
    problem(
        &shop.prepay("ana", &order, r#"{"channel":"card"}"#),
        423,
        "ORDER_STATE_INVALID",
    );

    // The same transaction with other words is the first one still.
    for change in [
        ("amountCent", json!(101)),
        ("currency", json!("USD")),
        ("orderId", json!("4711")),
    ] {
        shop.told(&shop.body(&order, "t1", &[change]), "APPLIED", true);
    }
    assert_eq!(
        shop.metric("floodgate_payment_callbacks_total{result=\"conflict\"}"),
        3
    );
    assert_eq!(
        shop.metric("floodgate_payment_callbacks_total{result=\"replayed\"}"),
        4
    );
    assert_eq!(
        shop.metric("floodgate_payment_callbacks_total{result=\"applied\"}"),
        1
    );
    assert_eq!(
        shop.metric("floodgate_payment_callback_delay_seconds_count"),
        1
    );
    let whole = shop
        .engine
        .admin("GET", &format!("/admin/v1/orders/{order}"), "")
        .json;
    assert_eq!(
        (&whole["userId"], &whole["entitlements"]),
        (&json!("ana"), &json!([]))
    );
    assert_eq!(whole["payments"][0]["raw"], "{\"acquirer\":\"test\"}");
    assert_eq!(json!(shop.payments("")), whole["payments"]);
    assert_eq!(shop.engine.differences(), 0);
}

/// A shop whose tea, once it is paid for, comes to this state.
fn tea_that_is(state: &str) -> Shop {
    let grant = match state {
        "DELIVERED" => "units = 2, grant = { workId = \"film\", validDays = 30 } }",
        _ => "units = 2 }",
    };
    let sale = open_sale("tea", 2, 1, "").replace("units = 2 }", grant);
    let folder = tempfile::tempdir().expect("a folder");
    Shop::at(Engine::start(&folder, &sale), folder)
}

/// The order store may be far behind, and nobody asks it: the desk knows the order.
#[test]
fn a_capture_counts_before_the_order_store_heard_of_its_order() {
    for state in ["PAID", "DELIVERED"] {
        let shop = tea_that_is(state);
        let store = shop.engine.held_store();
        let order = shop.win("ana", "k1");
        let body = shop.body(&order, "t1", &[]);
        shop.told(&body, "APPLIED", false);
        shop.told(&body, "APPLIED", true);
        assert_eq!(shop.order("ana", &order)["status"], state);
        let rows = |sql: &str| -> i64 {
            let count = format!("SELECT count(*) FROM {sql}");
            store.query_row(&count, [], |row| row.get(0)).expect(sql)
        };
        let known = (rows("orders"), rows("payments"), rows("outbox"));
        assert_eq!(known, (0, 0, 0), "nothing can have been streamed");

        store.execute_batch("ROLLBACK").expect("let go");
        assert_eq!(shop.compared(), 0);
        assert_eq!(rows(&format!("orders WHERE status = '{state}'")), 1);
        assert_eq!(rows("payments WHERE status = 'APPLIED'"), 1);
    }
}

#[test]
fn what_is_paid_for_is_not_canceled() {
    for state in ["PAID", "DELIVERED"] {
        let shop = tea_that_is(state);
        let order = shop.win("ana", "k1");
        shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
        let paid = shop.order("ana", &order);
        assert_eq!(paid["status"], state);
        let stock = || {
            let sale = shop.engine.admin("GET", "/admin/v1/sales/tea", "").json;
            sale["skus"][0]["stock"].clone()
        };
        let sold = stock();
        assert_eq!((&sold["available"], &sold["sold"]), (&json!(1), &json!(1)));
        for _ in 0..2 {
            let path = format!("/v1/orders/{order}/cancel");
            problem(&shop.engine.post("ana", &path), 423, "ORDER_STATE_INVALID");
            assert_eq!(shop.order("ana", &order), paid, "it is as it was");
            assert_eq!(stock(), sold, "its unit did not come back");
        }
        assert_eq!(shop.payment("t1")["status"], "APPLIED");
        assert_eq!(shop.compared(), 0);
    }
}

#[test]
fn what_is_not_signed_by_us_has_no_effect() {
    let shop = shop(1, "");
    let order = shop.win("ana", "k1");
    let body = shop.body(&order, "t1", &[]);
    let (id, at) = ("msg_1", now());
    let good = shop.secret.sign(id, at, body.as_bytes());
    let send = |id: &str, at: &str, signature: &str, body: &str| {
        let mut headers = vec![("content-type", "application/json")];
        let named = [
            ("webhook-id", id),
            ("webhook-timestamp", at),
            ("webhook-signature", signature),
        ];
        headers.extend(named.iter().filter(|(_, value)| !value.is_empty()));
        call(
            &shop.engine.public,
            "POST",
            "/v1/payments/callback",
            &headers,
            body,
        )
    };
    let text = at.to_string();
    let refused = |answer: &Answer, why: &str| {
        assert_eq!(
            answer.code(),
            (401, "UNAUTHENTICATED"),
            "{why}: {}",
            answer.body
        );
        let detail = answer.json["detail"].as_str().expect("a detail");
        assert!(!detail.contains(&good[3..]), "it helps a forger: {detail}");
    };
    for (at, byte) in good.bytes().enumerate() {
        let mut flipped = good.clone().into_bytes();
        flipped[at] = if byte == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).expect("ASCII");
        refused(&send(id, &text, &flipped, &body), "signature");
    }
    for at in (0..body.len()).step_by(7) {
        let mut altered = body.clone().into_bytes();
        altered[at] ^= 1;
        let altered = String::from_utf8(altered).expect("ASCII");
        refused(&send(id, &text, &good, &altered), "body");
    }
    refused(&send("msg_2", &text, &good, &body), "another id");
    refused(
        &send(id, &(at + 1).to_string(), &good, &body),
        "another time",
    );
    refused(&send("", &text, &good, &body), "no id");
    refused(&send(id, "", &good, &body), "no time");
    refused(&send(id, &text, "", &body), "no signature");
    for off in [-400_i64, 400] {
        let at = at.checked_add_signed(off).expect("a time");
        let signed = shop.secret.sign(id, at, body.as_bytes());
        refused(&send(id, &at.to_string(), &signed, &body), "old or future");
    }
    // Two of one header are none, also when both are right: somebody on the way may have
    // read the other one.
    for twice in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let right = [
            ("webhook-id", id),
            ("webhook-timestamp", &text),
            ("webhook-signature", &good),
        ];
        let of = right.iter().find(|(name, _)| *name == twice);
        let (_, value) = *of.expect("one of them");
        for (more, first) in [(value, false), ("x", false), ("x", true)] {
            let mut headers = right.to_vec();
            headers.insert(if first { 0 } else { 3 }, (twice, more));
            let path = "/v1/payments/callback";
            let answer = call(&shop.engine.public, "POST", path, &headers, &body);
            refused(&answer, &format!("{twice} twice, {more}"));
        }
    }
    assert_eq!(shop.order("ana", &order)["status"], "PENDING_PAYMENT");
    let n_refused = shop.metric("floodgate_payment_callbacks_total{result=\"unsigned\"}");
    assert!(n_refused > 50);

    // Signed, but nothing that can be read.
    for (body, code) in [
        ("{", "MALFORMED_BODY"),
        ("[]", "MALFORMED_BODY"),
        (
            &*body.replace("\"amountCent\":", "\"amountCent\":-"),
            "INVALID_FIELD",
        ),
        (&*body.replace("SUCCESS", "PAID"), "INVALID_FIELD"),
        (&*body.replace("\"t1\"", "\"t 1\""), "INVALID_FIELD"),
    ] {
        problem(&shop.tell(body), 400, code);
    }
    let large = body.replace("\"t1\"", &format!("\"{}\"", "x".repeat(9_000)));
    problem(&shop.tell(&large), 413, "BODY_TOO_LARGE");
    // What only somebody who has the secret can cause is counted by itself.
    let stranger = call(
        &shop.engine.public,
        "POST",
        "/v1/payments/callback",
        &[],
        &large,
    );
    problem(&stranger, 413, "BODY_TOO_LARGE");
    let n = |result: &str| {
        shop.metric(&format!(
            "floodgate_payment_callbacks_total{{result=\"{result}\"}}"
        ))
    };
    assert_eq!((n("malformed"), n("unread")), (5, 2));

    assert_eq!(shop.order("ana", &order)["status"], "PENDING_PAYMENT");
    assert_eq!(shop.payments("").len(), 0);
    // The very first bytes count still.
    assert_eq!(send(id, &text, &good, &body).status, 200);
    assert_eq!(shop.order("ana", &order)["status"], "PAID");
}

#[test]
fn money_that_does_not_match_waits_for_a_person() {
    let shop = shop(3, "");
    let order = shop.win("ana", "k1");
    let odd = [
        ("t1", ("amountCent", json!(99))),
        ("t2", ("amountCent", json!(101))),
        ("t3", ("currency", json!("USD"))),
        ("t4", ("orderId", json!("4711"))),
        (
            "t5",
            ("orderId", json!("019a0000-0000-8000-8000-000000000001")),
        ),
    ];
    for (txn, change) in &odd {
        let body = shop.body(&order, txn, std::slice::from_ref(change));
        shop.told(&body, "REVIEW", false);
        shop.told(&body, "REVIEW", true);
    }
    assert_eq!(shop.order("ana", &order)["status"], "PENDING_PAYMENT");
    let review = shop.payments("?state=REVIEW");
    assert_eq!(review.len(), 5);
    assert!(review.iter().all(|p| p["note"] != ""), "a person reads why");
    let note = shop.payment("t4")["note"].to_string();
    assert!(note.contains("4711"), "whose money it may be: {note}");
    assert_eq!(shop.payments("?sale=tea&state=REVIEW").len(), 3);
    assert_eq!(shop.payments("?state=APPLIED").len(), 0);

    let id = |txn: &str| {
        shop.payment(txn)["paymentId"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let decide = |txn: &str, what: &str, body: &str| {
        let path = format!("/admin/v1/payments/{}/{what}", id(txn));
        shop.engine.admin("POST", &path, body)
    };
    let why = r#"{"reason":"the shop gave a discount"}"#;
    problem(
        &decide("t1", "accept", r#"{"reason":" "}"#),
        400,
        "INVALID_FIELD",
    );
    problem(&decide("t4", "accept", why), 423, "ORDER_STATE_INVALID");
    let accepted = decide("t1", "accept", why);
    assert_eq!(
        (accepted.status, &accepted.json["status"]),
        (200, &json!("APPLIED"))
    );
    assert_eq!(accepted.json["saleId"], "tea");
    assert_eq!(shop.order("ana", &order)["status"], "PAID");
    assert_eq!(
        decide("t1", "accept", why).json["status"],
        "APPLIED",
        "said twice"
    );
    problem(&decide("t1", "reject", why), 423, "ORDER_STATE_INVALID");
    problem(&decide("t2", "accept", why), 423, "ORDER_STATE_INVALID");
    for txn in ["t2", "t3", "t4", "t5"] {
        assert_eq!(decide(txn, "reject", why).status, 200);
        shop.until(txn, "REFUNDED");
    }
    let missing = shop
        .engine
        .admin("POST", "/admin/v1/payments/pay_0/accept", why);
    problem(&missing, 404, "NOT_FOUND");
    assert_eq!(shop.order("ana", &order)["status"], "PAID");
    assert_eq!(shop.engine.differences(), 0);
}

#[test]
fn somebody_who_pays_again_after_a_rejected_payment_is_seen_to_pay() {
    let shop = shop(2, "");
    let order = shop.win("ana", "k1");
    let status = || {
        let path = format!("/v1/payments/{order}/status");
        shop.engine.get("ana", &path).json
    };
    let wrong = shop.body(&order, "t1", &[("amountCent", json!(99))]);
    shop.told(&wrong, "REVIEW", false);
    let id = shop.payment("t1")["paymentId"]
        .as_str()
        .expect("an id")
        .to_owned();
    let path = format!("/admin/v1/payments/{id}/reject");
    let rejected = shop
        .engine
        .admin("POST", &path, r#"{"reason":"wrong amount"}"#);
    assert_eq!(rejected.status, 200, "{}", rejected.body);
    shop.until("t1", "REFUNDED");
    assert_eq!(status()["inProgress"], false);

    let open = shop.prepay("ana", &order, r#"{"channel":"card"}"#);
    assert_eq!(open.status, 200, "{}", open.body);
    assert_eq!(status()["inProgress"], true);
    assert_eq!(status()["session"]["prepayToken"], open.json["prepayToken"]);
    // Told again, the old payment does not end what was begun since.
    shop.told(&wrong, "REFUNDED", true);
    assert_eq!(status()["inProgress"], true);
    shop.told(&shop.body(&order, "t2", &[]), "APPLIED", false);
    assert_eq!(status()["inProgress"], false);
    assert_eq!(status()["orderStatus"], "PAID");
}

#[test]
fn a_failed_attempt_takes_nothing_back() {
    let shop = shop(2, "");
    let order = shop.win("ana", "k1");
    let failed = ("status", json!("FAILED"));
    let lost = shop.body(&order, "t1", std::slice::from_ref(&failed));
    shop.told(&lost, "IGNORED", false);
    assert_eq!(shop.payments("").len(), 0);
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    shop.told(&lost, "IGNORED", false);
    assert_eq!(shop.order("ana", &order)["status"], "PAID");
    assert_eq!(shop.payment("t1")["status"], "APPLIED");
}

#[test]
fn money_that_comes_late_finds_fresh_units_or_goes_back() {
    let shop = shop(1, "");
    let cancel = |user: &str, order: &str| {
        let path = format!("/v1/orders/{order}/cancel");
        assert_eq!(shop.engine.post(user, &path).status, 200);
    };
    let order = shop.win("ana", "k1");
    cancel("ana", &order);
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    assert_eq!(shop.order("ana", &order)["status"], "PAID");
    // It was paid: a second payment goes back by itself.
    shop.told(&shop.body(&order, "t2", &[]), "REFUND_DUE", false);
    shop.until("t2", "REFUNDED");
    let again = shop.told(&shop.body(&order, "t2", &[]), "REFUNDED", true);
    assert_eq!(again["orderId"], json!(order));

    // Refunded with its unit back on sale, which somebody else then has.
    let path = format!("/admin/v1/orders/{order}/refund");
    let asked = r#"{"restock":true,"reason":"does not fit"}"#;
    let refunded = shop.engine.admin("POST", &path, asked);
    assert_eq!(refunded.status, 200, "{}", refunded.body);
    shop.until("t1", "REFUNDED");
    assert_eq!(shop.order("ana", &order)["status"], "REFUNDED");
    let again = shop.engine.admin("POST", &path, asked);
    assert_eq!(
        (again.status, &again.json["status"]),
        (200, &json!("REFUNDED"))
    );
    assert_eq!(again.json["payments"].as_array().map(Vec::len), Some(2));
    shop.told(&shop.body(&order, "t3", &[]), "REFUND_DUE", false);
    shop.until("t3", "REFUNDED");

    let other = shop.win("bob", "k1");
    cancel("bob", &other);
    let third = shop.win("cid", "k1");
    shop.told(&shop.body(&other, "t4", &[]), "REFUND_DUE", false);
    shop.until("t4", "REFUNDED");
    assert_eq!(shop.order("bob", &other)["status"], "CLOSED");
    let path = format!("/admin/v1/orders/{third}/refund");
    problem(
        &shop.engine.admin("POST", &path, asked),
        423,
        "ORDER_STATE_INVALID",
    );
    assert_eq!(shop.engine.differences(), 0);
    shop.wait("nothing is due", || {
        shop.metric("floodgate_refunds_due") == 0
    });
}

#[test]
fn a_refund_that_nobody_gave_back_is_done_after_a_restart() {
    let shop = shop_without_provider(1);
    let order = shop.win("ana", "k1");
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    let path = format!("/admin/v1/orders/{order}/refund");
    let asked = r#"{"restock":false,"reason":"recalled"}"#;
    let due = shop.engine.admin("POST", &path, asked);
    assert_eq!(due.json["status"], "REFUND_DUE", "{}", due.body);
    let again = shop
        .engine
        .admin("POST", &path, r#"{"restock":true,"reason":"x"}"#);
    let stands = (&again.json["status"], &again.json["restocked"]);
    assert_eq!(
        stands,
        (&json!("REFUND_DUE"), &json!(false)),
        "as it was asked first"
    );
    shop.wait("the refund is shown", || {
        shop.metric("floodgate_refunds_due") == 1
    });
    assert_eq!(shop.payment("t1")["status"], "REFUND_DUE");

    let shop = shop.again_with_provider("[payment.mock]\nrefunds_fail = 2\n");
    shop.until("t1", "REFUNDED");
    assert_eq!(
        shop.payment("t1")["refundNo"],
        json!(format!(
            "mock-refund-{}",
            shop.payment("t1")["paymentId"].as_str().expect("an id")
        ))
    );
    shop.wait("nothing is due", || {
        shop.metric("floodgate_refunds_due") == 0
    });
    assert_eq!(
        shop.metric("floodgate_refund_calls_total{result=\"failed\"}"),
        2
    );
    assert_eq!(shop.order("ana", &order)["status"], "REFUNDED");
    assert_eq!(
        shop.engine.remaining("tea"),
        0,
        "its unit does not come back"
    );
    assert_eq!(shop.engine.differences(), 0);
}

/// What the mock sends comes over the network, signed, as from anybody.
#[test]
fn the_mock_keeps_its_word_and_its_bad_days() {
    let shop = shop(6, "");
    let press = |user: &str, query: &str| {
        let order = shop.win(user, "k1");
        let body = r#"{"channel":"card","returnUrl":"https://shop.example/?a=1&b=2"}"#;
        let session = shop.prepay(user, &order, body);
        let url = session.json["payUrl"].as_str().expect("a page").to_owned();
        let page = shop.engine.get(user, &url);
        assert_eq!(page.status, 200);
        assert!(page.body.contains("1.00 EUR") && page.body.contains("?a=1&amp;b=2"));
        assert!(page.header("content-security-policy").is_some());
        let pressed = shop.engine.post(user, &format!("{url}?{query}"));
        assert_eq!(pressed.status, 200, "{}", pressed.body);
        (order, url)
    };
    let (order, _) = press("ana", "do=pay&repeat=5&reorder=1");
    shop.wait("ana has paid", || {
        shop.order("ana", &order)["status"] == "PAID"
    });
    let (failed, url) = press("bob", "do=fail&repeat=2");
    shop.wait("bob's attempts were told", || {
        shop.metric("floodgate_payment_callbacks_total{result=\"ignored\"}") >= 7
    });
    assert_eq!(shop.order("bob", &failed)["status"], "PENDING_PAYMENT");
    // He tries again, in the same session.
    assert_eq!(
        shop.engine.post("bob", &format!("{url}?do=pay")).status,
        200
    );
    shop.wait("bob has paid", || {
        shop.order("bob", &failed)["status"] == "PAID"
    });

    let (lied, _) = press("cid", "do=lie&lie_cent=7");
    shop.wait("the lie waits", || {
        shop.payments("?state=REVIEW").len() == 1
    });
    assert_eq!(shop.payments("?state=REVIEW")[0]["amountCent"], 107);
    assert_eq!(shop.order("cid", &lied)["status"], "PENDING_PAYMENT");

    let (twice, _) = press("dan", "do=twice");
    shop.wait("one of two goes back", || {
        let payments = shop.payments("?state=REFUNDED");
        payments.len() == 1 && payments[0]["orderId"] == json!(twice)
    });
    assert_eq!(shop.order("dan", &twice)["status"], "PAID");

    problem(
        &shop.engine.post("x", &format!("{url}?do=dance")),
        400,
        "INVALID_FIELD",
    );
    problem(
        &shop.engine.post("x", &format!("{url}?repeat=99")),
        400,
        "INVALID_FIELD",
    );
    problem(&shop.engine.get("x", "/mock-pay/0123"), 404, "NOT_FOUND");
    assert_eq!(shop.engine.differences(), 0);
}

#[test]
fn two_secrets_are_accepted_while_one_replaces_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Shop::secret(1), Shop::secret(2));
    let file = folder.path().join("secrets");
    let text = format!("# new, then old\n{}\n{}\n", new.reveal(), old.reveal());
    std::fs::write(&file, text).expect("a file");
    let shop = Shop::open(
        folder,
        2,
        &format!("[payment]\nsecrets_file = {file:?}\n"),
        Some(new),
    );
    let order = shop.win("ana", "k1");
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    let body = shop.body(&order, "t1", &[]);
    assert_eq!(shop.tell_by(&old, &body).status, 200);
    problem(
        &shop.tell_by(&Shop::secret(3), &body),
        401,
        "UNAUTHENTICATED",
    );
    assert!(!shop.engine.data.join("payment-secret").exists());
}

#[test]
fn lists_of_payments_page_and_filter() {
    let shop = shop(30, "");
    let mut told = Vec::new();
    for n in 0..12 {
        let order = shop.win(&format!("u{n}"), "k");
        let odd = if n % 3 == 0 { 101 } else { 100 };
        let body = shop.body(&order, &format!("t{n}"), &[("amountCent", json!(odd))]);
        assert_eq!(shop.tell(&body).status, 200);
        told.push(format!("t{n}"));
    }
    shop.tell(&shop.body("4711", "nobody", &[]));
    let walk = |query: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/v1/payments?limit=2{query}&cursor={cursor}");
            let page = shop.engine.admin("GET", &path, "").json;
            for payment in page["payments"].as_array().expect("a list") {
                found.push(payment["channelTxnNo"].as_str().expect("a text").to_owned());
            }
            match page["next"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        found.sort_unstable();
        found
    };
    told.sort_unstable();
    assert_eq!(walk("&sale=tea"), told);
    assert_eq!(walk("&sale=tea&state=REVIEW"), ["t0", "t3", "t6", "t9"]);
    assert_eq!(walk("").len(), 13);
    for (query, code) in [
        ("?sale=coffee", (404, "NOT_FOUND")),
        ("?state=LOST", (400, "INVALID_FIELD")),
        ("?limit=0", (400, "INVALID_FIELD")),
        ("?cursor=x", (400, "INVALID_FIELD")),
        ("?cursor=coffee.pay_0", (400, "INVALID_FIELD")),
        ("?sale=tea&cursor=.pay_0", (400, "INVALID_FIELD")),
    ] {
        let answer = shop
            .engine
            .admin("GET", &format!("/admin/v1/payments{query}"), "");
        assert_eq!(answer.code(), code, "{query}");
    }
    let bare = call(&shop.engine.admin, "GET", "/admin/v1/payments", &[], "");
    problem(&bare, 401, "UNAUTHENTICATED");
    let wrong = shop.engine.admin("POST", "/admin/v1/payments", "");
    problem(&wrong, 405, "METHOD_NOT_ALLOWED");
    let _: &Engine = &shop.engine;
}
