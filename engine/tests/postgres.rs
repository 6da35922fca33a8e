//! An engine whose orders go to PostgreSQL, and what becomes of it when the database
//! is stopped, frozen, put back to an older day, erased, or belongs to somebody else.
//!
//! What a store has to hold is tried in `stores/`, for both kinds. Here it is a
//! whole engine, the lines to the server, and TLS.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise; clippy.toml sees only functions marked #[test]"
)]

mod common;
#[macro_use]
#[allow(unused_macros)]
mod places;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use common::{Engine, call, open_sale};
use floodgate_engine::stream::{Batch, Mark, OrderStore, Put, StoreError, open};
use floodgate_ledger::{ChainHash, LedgerId, Seq};
use parking_lot::Mutex;
use places::postgres::Server;
use places::store_config;
use serde_json::Value;

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;

/// A shop with its own engine and database.
struct Shop {
    folder: tempfile::TempDir,
    server: Arc<Server>,
    database: String,
    statement_ms: u32,
    n_bought: u32,
}

impl Shop {
    fn on(server: Arc<Server>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: server.database(),
            server,
            statement_ms: 600_000,
            n_bought: 0,
        }
    }

    fn config(&self) -> String {
        let store = self.server.store(&self.database);
        let limit = format!("statement_ms = {}\n", self.statement_ms);
        let store = store.replace("statement_ms = 600000\n", &limit);
        let limits = "[limits]\nreconcile_seconds = 3600\n";
        open_sale("tea", 100_000, 3, &format!("{store}{limits}"))
    }

    fn start(&self) -> Engine {
        self.try_start().unwrap()
    }

    fn try_start(&self) -> Result<Engine, String> {
        let any = "127.0.0.1:0";
        Engine::start_on(&self.folder, &self.config(), any, any, "")
    }

    /// Every one of them wins.
    fn sell(&mut self, engine: &Engine, n: u32) {
        for _ in 0..n {
            let answer = engine.buy(&format!("buyer-{}", self.n_bought), "k", ONE);
            assert_eq!(answer.status, 201, "{answer:?}");
            self.n_bought += 1;
        }
    }
}

fn page(engine: &Engine, from: &str) -> Value {
    let path = format!("/admin/v1/sales/tea/orders?limit=10000&from={from}");
    engine.admin("GET", &path, "").json
}

/// Looks again and again until the database has every order, as the ledger has it.
#[track_caller]
fn until_even(engine: &Engine, n: u32) {
    for _ in 0..30_000 {
        let (ledger, mut store) = (page(engine, "ledger"), page(engine, "store"));
        if ledger["seq"] != store["seq"] {
            std::thread::sleep(std::time::Duration::from_millis(2));
            continue;
        }
        for order in store["orders"].as_array_mut().unwrap() {
            let n_events = order.as_object_mut().unwrap().remove("events");
            assert_eq!(n_events, Some(1.into()), "{order}");
        }
        assert_eq!(ledger["orders"].as_array().unwrap().len(), n as usize);
        assert_eq!(ledger, store);
        let pass = engine.admin("POST", "/admin/v1/reconcile", "").json;
        assert_eq!(pass["sales"][0]["storeCompared"], true, "{pass}");
        assert_eq!(pass["differences"], 0, "{pass}");
        return;
    }
    let ready = call(&engine.admin, "GET", "/readyz?verbose", &[], "").body;
    panic!("the store never had everything: {ready}");
}

/// Looks again and again until the engine knows that the database is away.
#[track_caller]
fn until_waiting(engine: &Engine) {
    for _ in 0..30_000 {
        let ready = call(&engine.admin, "GET", "/readyz?verbose", &[], "");
        assert_eq!(ready.status, 200, "selling goes on: {}", ready.body);
        if ready.body.contains("waiting") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("it never noticed");
}

#[test]
fn every_order_arrives_and_is_found_there_by_audits() {
    let mut shop = Shop::on(Server::shared());
    let engine = shop.start();
    shop.sell(&engine, 30);
    until_even(&engine, 30);
    assert!(engine.stop());
    let engine = shop.start();
    shop.sell(&engine, 5);
    until_even(&engine, 35);
    // Somebody else's hand is found.
    let sql = "UPDATE order_items SET quantity = 2";
    shop.server.sql(&shop.database, sql);
    let pass = engine.admin("POST", "/admin/v1/reconcile", "").json;
    assert_eq!(pass["differences"], 1, "{pass}");
    assert_eq!(
        pass["sales"][0]["skus"][0]["driftLedgerStore"], 35,
        "{pass}"
    );
}

#[test]
fn no_buyer_notices_a_database_that_is_gone_and_the_backlog_arrives() {
    let mut shop = Shop::on(Arc::new(Server::start()));
    let engine = shop.start();
    shop.sell(&engine, 10);
    until_even(&engine, 10);
    shop.server.kill();
    shop.sell(&engine, 50);
    until_waiting(&engine);
    shop.sell(&engine, 50);
    let store = engine.admin("GET", "/admin/v1/sales/tea/orders?from=store", "");
    assert_eq!(store.code(), (503, "NOT_READY"), "{}", store.body);
    assert_eq!(engine.differences(), 0, "what can be compared adds up");
    shop.server.run().unwrap();
    until_even(&engine, 110);
}

#[test]
fn no_buyer_notices_a_database_that_stands_still() {
    let mut shop = Shop::on(Arc::new(Server::start()));
    shop.statement_ms = 3_000;
    let engine = shop.start();
    shop.sell(&engine, 10);
    until_even(&engine, 10);
    shop.server.freeze();
    shop.sell(&engine, 50);
    until_waiting(&engine);
    shop.sell(&engine, 50);
    shop.server.thaw();
    until_even(&engine, 110);
}

#[test]
fn a_database_that_is_put_back_to_an_older_day_catches_up() {
    let mut shop = Shop::on(Server::shared());
    let engine = shop.start();
    shop.sell(&engine, 20);
    until_even(&engine, 20);
    let older = shop.server.dump(&shop.database);
    shop.sell(&engine, 20);
    until_even(&engine, 40);
    shop.server.restore(&shop.database, &older);
    // Nothing is sold, and nobody has to do anything.
    until_even(&engine, 40);
    shop.server.restore(&shop.database, &older);
    shop.sell(&engine, 1);
    until_even(&engine, 41);
}

#[test]
fn a_database_that_is_erased_is_filled_again() {
    let mut shop = Shop::on(Server::shared());
    let engine = shop.start();
    shop.sell(&engine, 40);
    until_even(&engine, 40);
    let erase = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    shop.server.sql(&shop.database, erase);
    until_even(&engine, 40);
    shop.server.sql(&shop.database, erase);
    shop.sell(&engine, 1);
    until_even(&engine, 41);
}

#[test]
fn an_engine_does_not_start_without_its_witness_or_against_it() {
    let mut shop = Shop::on(Arc::new(Server::start()));
    let engine = shop.start();
    shop.sell(&engine, 3);
    until_even(&engine, 3);
    assert!(engine.stop());

    // Another engine, with a ledger of its own, on the same database.
    let other = Shop {
        folder: tempfile::tempdir().unwrap(),
        server: Arc::clone(&shop.server),
        database: shop.database.clone(),
        statement_ms: shop.statement_ms,
        n_bought: 0,
    };
    let said = other.try_start().err().unwrap();
    assert!(said.contains("was filled from ledger"), "{said}");
    assert!(said.contains("floodgate recover"), "{said}");

    shop.server.kill();
    let said = shop.try_start().err().unwrap();
    assert!(said.contains("open the order store"), "{said}");
    assert!(said.contains("refused"), "{said}");
    shop.server.run().unwrap();

    let wrong = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(wrong.path(), "not the password").unwrap();
    let path = wrong.path().display();
    let config = shop.server.store(&shop.database);
    let config = config.replace(
        "password_file = ",
        &format!("password_file = \"{path}\" # "),
    );
    let said = open(&store_config(&config), "".as_ref()).err().unwrap();
    assert!(said.to_string().contains("SQLSTATE 28P01"), "{said}");
    assert!(!said.to_string().contains("not the password"), "{said}");

    let engine = shop.start();
    until_even(&engine, 3);
}

fn mark(seq: u64) -> Mark {
    Mark {
        ledger: LedgerId([7; 16]),
        seq: Seq(seq),
        hash: ChainHash([1; 32]),
    }
}

fn put(store: &dyn OrderStore, from: u64, to: u64) -> Result<Put, StoreError> {
    let from = (from > 0).then(|| mark(from));
    store.put(0, &Batch::default(), from.as_ref(), &mark(to))
}

/// `put`, and `next` behind it.
fn put_two(store: &dyn OrderStore, [from, to, next]: [u64; 3]) -> Result<(Put, bool), StoreError> {
    let nothing = Batch::default();
    store.put_with_next(
        0,
        &nothing,
        Some(&mark(from)),
        &mark(to),
        (&nothing, &mark(next)),
    )
}

/// What the server says once it has committed.
const COMMITTED: &[u8] = b"COMMIT\0";
/// What it says once the mark has moved.
const MOVED: &[u8] = b"UPDATE 1\0";

/// Which line, counted from 0 as they are drawn, and in place of what.
type Cut = (usize, &'static [u8]);

/// Lines between, each of which can be cut in place of an answer.
struct Proxy {
    port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
}

impl Proxy {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(None));
        let cuts = Arc::clone(&cut);
        std::thread::spawn(move || {
            let lines = listener.incoming().map_while(Result::ok);
            for (line, ours) in lines.enumerate() {
                let theirs = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (there, back) = (ours.try_clone().unwrap(), theirs.try_clone().unwrap());
                let cuts = Arc::clone(&cuts);
                std::thread::spawn(move || pass(there, theirs, |_| true));
                std::thread::spawn(move || {
                    pass(back, ours, |bytes| {
                        let is_it = |cut: &mut Cut| {
                            cut.0 == line && bytes.windows(cut.1.len()).any(|w| w == cut.1)
                        };
                        cuts.lock().take_if(is_it).is_none()
                    });
                });
            }
        });
        Self { port, cut }
    }

    fn store(&self, server: &Server, database: &str) -> Arc<dyn OrderStore> {
        let through = server.store(database).replace(
            &format!("port = {}", server.port),
            &format!("port = {}", self.port),
        );
        open(&store_config(&through), "".as_ref()).unwrap()
    }

    fn cut(&self, line: usize, answer: &'static [u8]) {
        *self.cut.lock() = Some((line, answer));
    }

    #[track_caller]
    fn assert_was_cut(&self) {
        assert_eq!(*self.cut.lock(), None, "the line was cut");
    }
}

/// Until either end is closed, or `go_on` says no: then both are.
fn pass(mut from: TcpStream, mut to: TcpStream, go_on: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 16_384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !go_on(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_commit_whose_answer_is_lost_stands_and_is_not_done_twice() {
    let server = Server::shared();
    let proxy = Proxy::before(server.port);
    let store = proxy.store(&server, &server.database());
    assert_eq!(put(&*store, 0, 1).unwrap(), Put::Advanced);
    proxy.cut(0, COMMITTED);
    // It asks again by itself, and hears that the mark stands where it would have put it.
    let told = put(&*store, 1, 2).unwrap();
    proxy.assert_was_cut();
    assert_eq!(told, Put::MarkMoved(Some(mark(2))));
    assert_eq!(put(&*store, 2, 3).unwrap(), Put::Advanced);
}

#[test]
fn a_second_line_that_is_cut_leaves_a_mark_that_tells() {
    let server = Server::shared();
    let proxy = Proxy::before(server.port);
    let database = server.database();
    let store = proxy.store(&server, &database);
    let stands_at = |seq| assert_eq!(store.mark(0).unwrap(), Some(mark(seq)));
    assert_eq!(put(&*store, 0, 1).unwrap(), Put::Advanced);

    // A new line that is cut before its commit: the batch is not in, and comes again.
    proxy.cut(1, MOVED);
    let told = put_two(&*store, [1, 2, 3]).unwrap();
    proxy.assert_was_cut();
    assert_eq!(told, (Put::Advanced, false));
    stands_at(2);
    assert_eq!(put(&*store, 2, 3).unwrap(), Put::Advanced);

    // It rests for a while: the one that follows goes alone.
    assert_eq!(put_two(&*store, [3, 4, 5]).unwrap(), (Put::Advanced, false));
    stands_at(4);

    // One that stood already is drawn anew and asked again by itself.
    let store = proxy.store(&server, &database);
    let stands_at = |seq| assert_eq!(store.mark(0).unwrap(), Some(mark(seq)));
    assert_eq!(put(&*store, 4, 5).unwrap(), Put::Advanced);
    assert_eq!(put_two(&*store, [5, 6, 7]).unwrap(), (Put::Advanced, true));
    proxy.cut(3, MOVED);
    let told = put_two(&*store, [7, 8, 9]).unwrap();
    proxy.assert_was_cut();
    assert_eq!(told, (Put::Advanced, true));
    stands_at(9);

    // Its commit stands, and only the answer is lost: the mark tells the next time.
    proxy.cut(4, COMMITTED);
    let told = put_two(&*store, [9, 10, 11]).unwrap();
    proxy.assert_was_cut();
    assert_eq!(told, (Put::Advanced, false));
    let moved = put(&*store, 10, 11).unwrap();
    assert_eq!(moved, Put::MarkMoved(Some(mark(11))));

    // The first line's answer is lost, and the second batch is in: the mark tells too.
    let store = proxy.store(&server, &database);
    proxy.cut(6, COMMITTED);
    let (told, _) = put_two(&*store, [11, 12, 13]).unwrap();
    proxy.assert_was_cut();
    let actual = store.mark(0).unwrap();
    assert!([Some(mark(12)), Some(mark(13))].contains(&actual));
    assert!(matches!(told, Put::MarkMoved(_)), "{told:?}");
}

/// Looks again and again until the server says so.
#[track_caller]
fn until_says(server: &Server, database: &str, sql: &str, so: &str) {
    let mut said = String::new();
    for _ in 0..1_000 {
        said = server.sql(database, sql).trim().to_owned();
        if said == so {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("{sql}: never {so}, but {said}");
}

/// The next question may be a minute off, or never come.
#[test]
fn a_line_that_was_given_up_does_not_stay_with_the_server() {
    let server = Server::shared();
    let database = server.database();
    let table = server.store(&database);
    let table = table.replace("statement_ms = 600000", "statement_ms = 3000");
    let store = open(&store_config(&table), "".as_ref()).unwrap();
    let lines = "SELECT count(*) FROM pg_stat_activity
                 WHERE application_name = 'floodgate' AND datname = current_database()";
    until_says(&server, &database, lines, "1");

    let mut somebody = server.session(&database);
    somebody.say("BEGIN");
    somebody.say("LOCK TABLE stream_marks IN ACCESS EXCLUSIVE MODE");
    let locks = "SELECT count(*) FROM pg_locks
                 WHERE granted AND mode = 'AccessExclusiveLock' AND relation = 'stream_marks'::regclass";
    until_says(&server, &database, locks, "1");
    let away = store.mark(0).unwrap_err();
    assert!(matches!(away, StoreError::Away(_)), "{away}");
    drop(somebody);
    until_says(&server, &database, lines, "0");
}

#[test]
fn two_batches_go_on_after_the_server_was_started_again() {
    let server = Server::start();
    let store = open(
        &store_config(&server.store(&server.database())),
        "".as_ref(),
    )
    .unwrap();
    assert_eq!(put(&*store, 0, 1).unwrap(), Put::Advanced);
    assert_eq!(put_two(&*store, [1, 2, 3]).unwrap().0, Put::Advanced);
    assert_eq!(store.mark(0).unwrap(), Some(mark(3)));
    server.kill();
    let away = put_two(&*store, [3, 4, 5]).unwrap_err();
    assert!(matches!(away, StoreError::Away(_)), "{away}");
    server.run().unwrap();
    assert_eq!(store.mark(0).unwrap(), Some(mark(3)));
    assert_eq!(put_two(&*store, [3, 4, 5]).unwrap(), (Put::Advanced, true));
}

/// A certificate for `name`, its key, both as PEM.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_line_is_as_private_as_the_configuration_says() {
    let (cert, key) = certificate("localhost");
    let files = [("server.crt", cert.as_str()), ("server.key", key.as_str())];
    let tls = [
        "ssl=on",
        "ssl_cert_file=../server.crt",
        "ssl_key_file=../server.key",
    ];
    let server = Server::with(&[tls.as_slice(), &["fsync=off"]].concat(), &files).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        format!("ca_file = \"{}\"\n", path.display())
    };
    let (ours, others) = (
        root("ours", &cert),
        root("others", &certificate("localhost").0),
    );
    let lines = |host: &str, mode: &str, more: &str| {
        let database = server.database();
        let table = server.store(&database);
        let table = table.replace("\"disable\"", &format!("\"{mode}\""));
        let table = format!("{table}host = \"{host}\"\n{more}");
        let store = open(&store_config(&table), "".as_ref()).map_err(|e| e.to_string())?;
        put(&*store, 0, 1).map_err(|e| e.to_string())?;
        let sql = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                   WHERE a.application_name = 'floodgate' AND a.datname = current_database() AND s.ssl";
        Ok::<_, String>(server.sql(&database, sql).trim().to_owned())
    };
    assert_eq!(lines("localhost", "disable", ""), Ok("0".to_owned()));
    assert_eq!(lines("127.0.0.1", "require", ""), Ok("1".to_owned()));
    assert_eq!(lines("localhost", "verify-full", &ours), Ok("1".to_owned()));

    // Another name than the certificate's, other roots, this machine's own roots.
    for (host, more) in [
        ("127.0.0.1", ours.as_str()),
        ("localhost", &others),
        ("localhost", ""),
    ] {
        let said = lines(host, "verify-full", more).unwrap_err();
        assert!(said.contains("certificate"), "{said}");
    }
    let plain = Server::shared();
    let table = plain.store(&plain.database()).replace("disable", "require");
    let said = open(&store_config(&table), "".as_ref()).err().unwrap();
    assert!(
        said.to_string().contains("server does not support TLS"),
        "{said}"
    );
}
