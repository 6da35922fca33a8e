//! Sessions on bad days: a provider that opens none, and an engine that forgot them. An
//! order gets its grace once, whatever goes wrong.

mod common;
mod provider;

use std::time::Duration;

use floodgate_engine::domain::time::UnixMs;
use provider::{Shop, shop};
use serde_json::{Value, json};

const CARD: &str = r#"{"channel":"card"}"#;

/// As the shop's sale says.
const GRACE: Duration = Duration::from_secs(60);

fn deadline(said: &Value) -> UnixMs {
    let text = said["payDeadlineAt"].as_str().expect("a time");
    UnixMs::parse_rfc3339(text).expect("RFC 3339")
}

/// An order whose first session is asked for: as it is before, and how long it may be paid
/// then.
fn won(shop: &Shop, user: &str) -> (String, UnixMs) {
    let order = shop.win(user, "k");
    let graced = deadline(&shop.order(user, &order)).plus(GRACE);
    (order, graced)
}

/// The grace is given before the provider is asked (decision 0019), so a failure keeps it:
/// once. While the provider is left alone orders keep theirs for later.
#[test]
fn a_provider_that_opens_no_sessions_is_left_alone_and_asked_again() {
    let shop = shop(2, "[payment.mock]\nprepays_fail = 6\n");
    let (ana, of_ana) = won(&shop, "ana");
    let (bob, of_bob) = won(&shop, "bob");
    let (failed, resting) = (
        "the payment provider did not answer",
        "the payment provider fails at the moment",
    );
    for _ in 0..5 {
        let answer = shop.prepay("ana", &ana, CARD);
        assert_eq!(answer.code(), (503, "PAYMENT_UNAVAILABLE"), "{answer:?}");
        assert_eq!(answer.json["detail"], failed);
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert_eq!(deadline(&shop.order("ana", &ana)), of_ana);
    }
    let path = format!("/v1/payments/{ana}/status");
    assert_eq!(shop.engine.get("ana", &path).json["inProgress"], false);

    // Five in a row opened the breaker; the sixth is the one call that may try.
    let (mut n_failed, mut n_resting) = (5, 0);
    let open = loop {
        let before = shop.order("bob", &bob);
        let answer = shop.prepay("bob", &bob, CARD);
        if answer.status == 200 {
            break answer;
        }
        assert_eq!(answer.code(), (503, "PAYMENT_UNAVAILABLE"), "{answer:?}");
        if answer.json["detail"] == failed {
            n_failed += 1;
            continue;
        }
        assert_eq!(answer.json["detail"], resting);
        let wait = answer.header("retry-after").and_then(|s| s.parse().ok());
        assert!(
            wait.is_some_and(|s: u64| (1..=5).contains(&s)),
            "{answer:?}"
        );
        assert_eq!(shop.order("bob", &bob), before, "nothing was given");
        n_resting += 1;
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(n_resting > 0, "it was never left alone");
    assert_eq!(n_failed, 6, "whoever heard that it rests did not ask it");
    assert_eq!(deadline(&open.json), of_bob);

    let again = shop.prepay("ana", &ana, CARD);
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(deadline(&again.json), of_ana, "grace is given once");
    assert_eq!(again.json["expireAt"], again.json["payDeadlineAt"]);
    let url = again.json["payUrl"].as_str().expect("a page");
    assert_eq!(
        shop.engine.post("ana", &format!("{url}?do=pay")).status,
        200
    );
    shop.wait("ana has paid", || {
        shop.order("ana", &ana)["status"] == "PAID"
    });
}

/// Sessions are in memory; that an order had its grace is in the ledger.
#[test]
fn a_restart_gives_no_order_its_grace_again() {
    let shop = shop(1, "");
    let (order, graced) = won(&shop, "ana");
    let first = shop.prepay("ana", &order, CARD);
    assert_eq!((first.status, deadline(&first.json)), (200, graced));
    let before = shop.order("ana", &order);

    let shop = shop.again_with_provider("");
    let path = format!("/v1/payments/{order}/status");
    assert_eq!(shop.engine.get("ana", &path).json["inProgress"], false);
    for channel in ["card", "wallet"] {
        let body = json!({ "channel": channel }).to_string();
        let again = shop.prepay("ana", &order, &body);
        assert_eq!(again.status, 200, "{again:?}");
        assert_ne!(again.json["prepayToken"], first.json["prepayToken"]);
        assert_eq!(deadline(&again.json), graced);
        assert_eq!(again.json["expireAt"], before["payDeadlineAt"]);
        assert_eq!(shop.order("ana", &order), before);
    }
}
