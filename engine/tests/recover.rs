//! Payments and entitlements in a whole engine: carried into the order store, compared
//! there, and brought back from it when the ledger is gone.

#[path = "places/after.rs"]
mod after;
mod common;
mod provider;

use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use common::{Engine, open_sale, recover};
use floodgate_engine::config::StoreConfig;
use floodgate_engine::domain::codec::{decode_entitlement, decode_order, decode_payment};
use floodgate_engine::domain::order::{Order, OrderEvent, OrderState};
use floodgate_engine::domain::payment::{Payment, PaymentState};
use floodgate_engine::domain::time::UnixMs;
use floodgate_engine::stream::{Batch, Put, open};
use floodgate_ledger::{Draft, Group, Kind, Ledger, LedgerConfig, Snapshot};
use serde_json::{Value, json};

use after::{entitlement_draft, order_draft, payment, payment_draft, row, stray};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

struct Site {
    folder: tempfile::TempDir,
    config: String,
}

impl Site {
    fn new() -> Self {
        let quiet = "[limits]\nreconcile_seconds = 3600\n";
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            config: open_sale("tea", 9, 2, quiet),
        }
    }

    fn start(&self) -> Engine {
        Engine::start(&self.folder, &self.config)
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("data/ledger")
    }

    /// With the ledger, while no engine has it.
    fn with_ledger<T>(&self, work: impl FnOnce(&Ledger) -> T) -> T {
        let ledger = Ledger::open(LedgerConfig::new(self.ledger())).expect("it opens");
        let done = work(&ledger);
        ledger.close();
        done
    }

    fn orders(&self) -> Vec<Order> {
        self.with_ledger(|ledger| {
            let found = ledger.entities(Some(b"tea"), Some(Kind(1)), false);
            let orders = found.map(|s| decode_order(&s.expect("reads").body).expect("an order"));
            orders.collect()
        })
    }

    fn write(&self, drafts: Vec<Draft>) {
        self.with_ledger(|ledger| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let group = Group {
                    drafts,
                    meta: Vec::new(),
                };
                let receipt = ledger.append(group).await.expect("taken");
                receipt.await.expect("durable");
            });
        });
    }

    fn sql(&self, sql: &str) {
        let store = self.folder.path().join("data/orders.sqlite");
        let db = rusqlite::Connection::open(store).expect("the store");
        db.busy_timeout(std::time::Duration::from_secs(5))
            .expect("a timeout");
        db.execute_batch(sql).expect(sql);
    }

    /// Orders and what happened to them, as others are told.
    fn told(&self) -> Vec<(String, String)> {
        let store = self.folder.path().join("data/orders.sqlite");
        let db = rusqlite::Connection::open(store).expect("the store");
        let all = "SELECT aggregateid, type FROM outbox ORDER BY type";
        let mut asked = db.prepare(all).expect("the outbox");
        let rows = asked.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.expect("rows").map(|row| row.expect("a row")).collect()
    }

    fn recover(&self) -> Value {
        recover(self.folder.path())
    }
}

/// A reconciliation that could look at the order store.
#[track_caller]
fn compared(engine: &Engine) -> Value {
    for _ in 0..10_000 {
        let pass = engine.admin("POST", "/admin/v1/reconcile", "").json;
        let sale = &pass["sales"][0];
        if sale["storeCompared"] == true && sale["storeLagRecords"] == 0 {
            return pass;
        }
    }
    panic!("the store was never compared");
}

fn ended(engine: Engine) {
    assert!(engine.stop(), "SIGTERM ends it well");
}

/// Ana, Bob and Cid have an order each. Ana's was paid and granted, Bob's payment alone
/// made it (the ledger's tail was cut there), Cid paid nothing, and somebody unknown did.
fn bought(site: &Site) -> [Order; 3] {
    let engine = site.start();
    for user in ["ana", "bob", "cid"] {
        assert_eq!(engine.buy(user, "k", ONE).status, 201);
    }
    ended(engine);
    let orders = site.orders();
    let of = |user: &str| {
        let order = orders.iter().find(|order| order.user.as_str() == user);
        order.expect("an order").clone()
    };
    let [ana, bob, cid] = ["ana", "bob", "cid"].map(of);
    let now = UnixMs(ana.updated_at.0 + 5);
    let (paid, _) = ana
        .step(OrderEvent::PaymentApplied, ana.version.epoch(), now)
        .expect("legal")
        .expect("a change");
    let captured = |order: &Order, n| {
        let payment = payment(Some(order), n, PaymentState::Applied);
        Draft {
            uniques: vec![key(&payment)],
            ..payment_draft(Some(&order.sale), &payment)
        }
    };
    site.write(vec![
        captured(&ana, 1),
        order_draft(&paid),
        entitlement_draft(&ana, 1, 1, false),
        stray(7),
    ]);
    site.write(vec![
        entitlement_draft(&ana, 1, 2, false),
        captured(&bob, 2),
    ]);
    [ana, bob, cid]
}

fn key(payment: &Payment) -> Bytes {
    format!("pay:{}:{}", payment.channel, payment.channel_txn_no).into()
}

fn entity(ledger: &Ledger, group: &[u8], kind: u8, id: &[u8]) -> Snapshot {
    let found = ledger.entity(group, Kind(kind), id).expect("reads");
    found.expect("it is there")
}

#[test]
fn payments_and_entitlements_come_back_from_the_order_store() {
    let site = Site::new();
    let [ana, bob, cid] = bought(&site);
    let engine = site.start();
    assert_eq!(compared(&engine)["differences"], 0);
    ended(engine);
    std::fs::remove_dir_all(site.ledger()).expect("removed");

    let report = site.recover();
    assert_eq!(report["recovered"], true, "{report}");
    assert_eq!(report["loosePayments"], 1, "{report}");
    let sale = &report["sales"][0];
    let counts = ["orders", "payments", "entitlements"].map(|name| sale[name].clone());
    assert_eq!(counts, [json!(3), json!(2), json!(1)], "{report}");
    assert_eq!(sale["differing"], json!([]), "{report}");
    let said = format!("order {}: paid, as its payment says", bob.id);
    assert_eq!(sale["mended"], json!([said]), "{report}");

    site.with_ledger(|ledger| {
        for (n, order, is_paid) in [(1, &ana, true), (2, &bob, true), (3, &cid, false)] {
            let found = entity(ledger, b"tea", 1, order.id.as_bytes());
            let found = decode_order(&found.body).expect("an order");
            assert_eq!(found.state == OrderState::Paid, is_paid, "{}", order.user);
            if !is_paid {
                continue;
            }
            let applied = payment(Some(order), n, PaymentState::Applied);
            let found = entity(ledger, b"tea", 5, applied.id.as_bytes());
            assert_eq!(decode_payment(&found.body), Ok(applied.clone()));
            assert_eq!((found.version, found.live), (3, false));
            // The same capture again is the same payment, now as before.
            let holder = ledger.unique(&key(&applied));
            let holder = holder.expect("reads").expect("held");
            assert_eq!(holder.id, applied.id.as_bytes());
            let owned = ledger.by_owner(order.id.as_bytes(), Kind(5), None, 9);
            assert_eq!(owned.expect("reads").len(), 1);
        }
        let granted = after::entitlement(&ana, 1, 2, false);
        let found = entity(ledger, b"tea", 6, granted.id.as_bytes());
        assert_eq!(decode_entitlement(&found.body), Ok(granted));
        assert_eq!((found.version, found.live), (2, true));
        let owned = ledger.by_owner(b"ana", Kind(6), None, 9);
        assert_eq!(owned.expect("reads").len(), 1);
        let nobodys = payment(None, 7, PaymentState::Review);
        let found = entity(ledger, b"*payments", 5, nobodys.id.as_bytes());
        assert_eq!((found.version, found.live), (2, true));
    });
    assert_eq!(site.recover()["recovered"], false, "once is enough");

    let engine = site.start();
    assert_eq!(compared(&engine)["differences"], 0);
    let again = engine.buy("ana", "k", ONE);
    assert_eq!(again.json["status"], "PAID", "{}", again.body);
    ended(engine);
}

#[test]
fn what_an_older_ledger_has_counts_too() {
    let site = Site::new();
    let [_, bob, cid] = bought(&site);
    let engine = site.start();
    assert_eq!(compared(&engine)["differences"], 0);
    ended(engine);
    // The store forgets Bob's payment, as one that was put back would; what it has
    // besides, the ledger never heard of.
    let gone = payment(Some(&bob), 2, PaymentState::Applied).id;
    let strange = payment(Some(&cid), 3, PaymentState::Applied);
    site.sql(&format!(
        "DELETE FROM payments WHERE payment_id = '{gone}';
         UPDATE stream_marks SET seq = seq + 1"
    ));
    let report = site.recover();
    assert_eq!(report["recovered"], true, "{report}");
    assert_eq!(report["sales"][0]["payments"], 2, "{report}");
    site.with_ledger(|ledger| {
        entity(ledger, b"tea", 5, gone.as_bytes());
        let none = ledger.unique(&key(&strange));
        assert_eq!(none.expect("reads"), None);
    });
    let engine = site.start();
    assert_eq!(
        compared(&engine)["differences"],
        0,
        "and the store has it again"
    );
    ended(engine);
}

/// What the store had when the ledger went it was told before, and whoever read it has
/// moved on; of what it lacked it hears every step, and so it does when it is erased later.
#[test]
fn the_order_store_is_told_what_it_lacks() {
    let site = Site::new();
    let engine = site.start();
    let bought = |user: &str| {
        let order = engine.buy(user, "k", ONE).json["orderId"].clone();
        order.as_str().expect("won").to_owned()
    };
    let [ana, dan, bob, cid] = ["ana", "dan", "bob", "cid"].map(bought);
    assert_eq!(compared(&engine)["differences"], 0);
    site.sql("CREATE TABLE before AS SELECT * FROM orders");
    for (user, order) in [("bob", &bob), ("cid", &cid)] {
        let canceled = engine.post(user, &format!("/v1/orders/{order}/cancel"));
        assert_eq!(canceled.status, 200, "{}", canceled.body);
    }
    assert_eq!(compared(&engine)["differences"], 0);
    ended(engine);
    // All messages were read. Of Bob's order the store had heard nothing when the ledger
    // broke, of Cid's not that it was closed.
    site.sql(&format!(
        "DELETE FROM outbox;
         DELETE FROM orders WHERE order_id IN ('{bob}', '{cid}');
         INSERT INTO orders SELECT * FROM before WHERE order_id = '{cid}';
         DROP TABLE before;
         DELETE FROM order_items WHERE order_id = '{bob}';
         DELETE FROM order_events WHERE order_id = '{bob}'
           OR (order_id = '{cid}' AND event_type = 'order.closed')"
    ));
    std::fs::write(site.ledger().join("damage"), "its disk tells lies").expect("written");
    let report = site.recover();
    assert_eq!(report["recovered"], true, "{report}");
    let engine = site.start();
    assert_eq!(compared(&engine)["differences"], 0);
    let told = site.told();
    let of = |order: &str| -> Vec<&str> {
        let of_order = told.iter().filter(|(id, _)| id == order);
        of_order.map(|(_, event)| event.as_str()).collect()
    };
    assert_eq!(of(&bob), ["order.closed", "order.created"]);
    assert_eq!(of(&cid), ["order.closed"]);
    // One that it has, which shows that it takes orders.
    assert_eq!(of(&dan), ["order.created"]);
    assert!(of(&ana).is_empty(), "{told:?}");
    ended(engine);

    std::fs::remove_file(site.folder.path().join("data/orders.sqlite")).expect("erased");
    let engine = site.start();
    assert_eq!(compared(&engine)["differences"], 0);
    assert_eq!(site.told().len(), 6, "{:?}", site.told());
    ended(engine);
}

/// What the store refused before the recovery it refuses after it, and that is no reason to
/// take its schema for broken: then nothing would be told any more.
#[test]
fn orders_that_the_store_refuses_are_letters_again_after_a_recovery() {
    let site = Site::new();
    let engine = site.start();
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    compared(&engine);
    site.sql(
        "CREATE TRIGGER refuses BEFORE INSERT ON orders WHEN new.user_id IN ('bob', 'cid')
         BEGIN SELECT RAISE(ABORT, 'not these'); END",
    );
    for user in ["bob", "cid", "dan"] {
        assert_eq!(engine.buy(user, "k", ONE).status, 201);
        let letters =
            || engine.admin("GET", "/admin/v1/dead-letters", "").json["deadLetters"].clone();
        let n = letters().as_array().map_or(0, Vec::len);
        if user != "dan" {
            let began = std::time::Instant::now();
            while letters().as_array().map_or(0, Vec::len) == n {
                assert!(began.elapsed().as_secs() < 60, "{user}: no letter");
            }
        }
    }
    compared(&engine);
    ended(engine);
    std::fs::write(site.ledger().join("damage"), "its disk tells lies").expect("written");
    assert_eq!(site.recover()["recovered"], true);
    let engine = site.start();
    compared(&engine);
    let letters = engine.admin("GET", "/admin/v1/dead-letters", "");
    let letters = letters.json["deadLetters"].as_array().map(Vec::len);
    assert_eq!(letters, Some(2), "the stream goes on");
    ended(engine);
}

#[test]
fn a_store_that_tells_another_story_of_money_is_found() {
    let site = Site::new();
    let [_, _, cid] = bought(&site);
    let engine = site.start();
    let sale = |pass: &Value| {
        // The one that differs, or the only one there is.
        let sales = pass["sales"].as_array().expect("sales");
        let odd = sales.iter().find(|sale| sale["differences"] != json!([]));
        let sale = odd.or(sales.last()).expect("one");
        let drift = ["driftPayments", "driftEntitlements"].map(|name| sale[name].clone());
        (sale["saleId"].clone(), drift)
    };
    let tea = |payments, entitlements| (json!("tea"), [json!(payments), json!(entitlements)]);
    let pass = compared(&engine);
    assert_eq!(
        (pass["differences"].clone(), sale(&pass)),
        (json!(0), tea(0, 0))
    );

    let keep = "CREATE TABLE kept AS SELECT * FROM payments;
                CREATE TABLE kept_too AS SELECT * FROM entitlements;";
    let back = "DELETE FROM payments; INSERT INTO payments SELECT * FROM kept;
                DELETE FROM entitlements; INSERT INTO entitlements SELECT * FROM kept_too;";
    site.sql(keep);
    // One that is missing, one in another version.
    for (sql, expected) in [
        (
            "DELETE FROM payments WHERE channel_txn_no = 'txn-1'",
            tea(1, 0),
        ),
        (
            "UPDATE payments SET version = 4 WHERE channel_txn_no = 'txn-1'",
            tea(1, 0),
        ),
        ("DELETE FROM entitlements", tea(0, 1)),
        ("UPDATE entitlements SET version = 1", tea(0, 1)),
        (
            "DELETE FROM payments WHERE sale_id IS NULL",
            (json!("*payments"), [json!(1), json!(0)]),
        ),
    ] {
        site.sql(sql);
        let pass = compared(&engine);
        assert_eq!(pass["differences"], 1, "{sql}: {pass}");
        assert_eq!(sale(&pass), expected, "{sql}: {pass}");
        site.sql(back);
    }
    // One that the ledger never heard of.
    let store = open(&StoreConfig::Sqlite, &site.folder.path().join("data")).expect("opens");
    let mark = store.mark(0).expect("reads");
    let strange = payment(Some(&cid), 3, PaymentState::Applied);
    let batch = Batch {
        rows: vec![row(&payment_draft(Some(&cid.sale), &strange))],
        ..Batch::default()
    };
    let to = mark.clone().expect("a mark");
    let put = store.put(0, &batch, mark.as_ref(), &to);
    assert_eq!(put.expect("taken"), Put::Advanced);
    let pass = compared(&engine);
    assert_eq!(sale(&pass), tea(1, 0), "{pass}");
    site.sql(back);
    // What cannot be read at all is a difference, and no comparison.
    for column in [
        "status = 'REFUNDED'",
        "payment_id = 'zzz'",
        "version = 'high'",
    ] {
        site.sql(&format!(
            "UPDATE payments SET {column} WHERE channel_txn_no = 'txn-1'"
        ));
        let pass = engine.admin("POST", "/admin/v1/reconcile", "").json;
        assert_eq!(pass["differences"], 1, "{column}: {pass}");
        assert_eq!(pass["sales"][0]["storeCompared"], false, "{column}: {pass}");
        site.sql(back);
    }
    assert_eq!(compared(&engine)["differences"], 0);
    ended(engine);
}

#[test]
fn the_ledger_dump_tells_them_in_words() {
    let site = Site::new();
    bought(&site);
    let done = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["ledger", "dump", "--data-dir"])
        .arg(site.folder.path().join("data"))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&done.stdout);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |kind: &str| -> Vec<&Value> { lines.iter().filter(|l| l["kind"] == kind).collect() };
    let [ana, nobody, bob] = of("payment")[..] else {
        panic!("{text}");
    };
    assert_eq!(ana["uniques"], json!(["pay:card:txn-1"]));
    assert_eq!(bob["body"]["raw"], r#"{"card":"*4711"}"#);
    assert_eq!(nobody["group"], "*payments");
    assert_eq!(nobody["body"]["state"], "REVIEW");
    assert_eq!(of("entitlement").len(), 2);
    assert_eq!(of("entitlement")[1]["body"]["work"], "symphony");
}

/// There is nothing that a refund could send back, and it would be due for ever.
#[test]
fn an_order_whose_payment_no_copy_has_is_refunded_once_it_is_told_again() {
    let shop = provider::shop(4, "");
    let (order, kept) = (shop.win("ana", "k1"), shop.win("bob", "k1"));
    shop.told(&shop.body(&order, "t1", &[]), "APPLIED", false);
    shop.told(&shop.body(&kept, "t2", &[]), "APPLIED", false);
    let store = shop.engine.data.join("orders.sqlite");
    shop.wait("the store has both payments", || {
        let store = rusqlite::Connection::open(&store).expect("it opens");
        store.query_row("SELECT count(*) FROM payments", [], |row| row.get(0)) == Ok(2)
    });
    let shop = shop.meanwhile(|folder| {
        std::fs::remove_dir_all(folder.join("data/ledger")).expect("its ledger is lost");
        let store = rusqlite::Connection::open(folder.join("data/orders.sqlite"));
        let lost = store.expect("it opens").execute("DELETE FROM payments", []);
        assert_eq!(lost.expect("it deletes"), 2);
        let mut unproven = [order.as_str(), kept.as_str()];
        unproven.sort_unstable();
        assert_eq!(recover(folder)["sales"][0]["unproven"], json!(unproven));
    });
    let refund = |order: &str| {
        let path = format!("/admin/v1/orders/{order}/refund");
        let asked = r#"{"restock":true,"reason":"does not fit"}"#;
        shop.engine.admin("POST", &path, asked)
    };
    let refused = refund(&order);
    assert_eq!(refused.code(), (423, "ORDER_STATE_INVALID"));
    assert!(
        refused.body.contains("tell the payment again"),
        "{}",
        refused.body
    );
    assert_eq!(shop.order("ana", &order)["status"], "PAID");

    for (order, txn) in [(&order, "t1"), (&kept, "t2")] {
        shop.told(&shop.body(order, txn, &[]), "APPLIED", false);
        shop.told(&shop.body(order, txn, &[]), "APPLIED", true);
    }
    // What comes beside it is too much, as ever.
    shop.told(&shop.body(&kept, "t3", &[]), "REFUND_DUE", false);
    shop.until("t3", "REFUNDED");
    assert_eq!(refund(&order).status, 200);
    shop.until("t1", "REFUNDED");
    assert_eq!(shop.order("ana", &order)["status"], "REFUNDED");
    assert_eq!(shop.order("bob", &kept)["status"], "PAID");
    assert_eq!(shop.payment("t2")["status"], "APPLIED");
    assert_eq!(shop.engine.differences(), 0);
}
