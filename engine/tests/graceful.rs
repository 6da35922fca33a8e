//! SIGTERM in the middle of a rush: whoever got a request through is answered, what
//! was told is true after the next start, and the process ends by itself with 0.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Engine, open_sale, parsed};

const ONE: &str = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
const BUYERS: usize = 300;
/// First-hand wins before the word to stop.
const WINS_BEFORE: usize = 2_000;
/// How long a line without a request lives on after the word to stop.
const LINGER: Duration = Duration::from_millis(500);

fn purchase(user: &str, length: usize) -> String {
    format!(
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\nx-user-id: {user}\r\nidempotency-key: k\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// One line that is used again and again.
struct Line {
    reader: BufReader<TcpStream>,
}

#[derive(Debug)]
struct Heard {
    status: u16,
    closes: bool,
    order: Option<String>,
}

impl Line {
    fn to(engine: &Engine) -> Self {
        let line = TcpStream::connect(&engine.public).expect("connect");
        let patience = Some(Duration::from_secs(60));
        line.set_read_timeout(patience).expect("a timeout");
        line.set_nodelay(true).expect("a flag");
        Self {
            reader: BufReader::new(line),
        }
    }

    fn buy(&mut self, user: &str) -> Option<Heard> {
        self.ask(user)?;
        self.hear()
    }

    /// `None`: the line was closed before all of it was sent.
    fn ask(&mut self, user: &str) -> Option<()> {
        let request = purchase(user, ONE.len()) + ONE;
        self.reader.get_mut().write_all(request.as_bytes()).ok()
    }

    /// `None`: the line was closed without an answer.
    fn hear(&mut self) -> Option<Heard> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = parsed(head.as_bytes());
        let length = head.header("content-length").expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.reader.read_exact(&mut body).ok()?;
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        Some(Heard {
            status: head.status,
            closes: head.header("connection") == Some("close"),
            order: body["orderId"].as_str().map(ToOwned::to_owned),
        })
    }
}

/// What the ledger has, by order: who bought it.
fn orders(engine: &Engine) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/admin/v1/sales/tea/orders?from=ledger&limit=500{cursor}");
        let page = engine.admin("GET", &path, "").json;
        for order in page["orders"].as_array().expect("a list") {
            let text = |name: &str| order[name].as_str().expect(name).to_owned();
            found.insert(text("orderId"), text("userId"));
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[test]
fn hundreds_of_buyers_are_all_answered_and_no_win_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 200_000, 1, "");
    let engine = Engine::start(&folder, &config);
    let n_won = AtomicUsize::new(0);
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let (mut n_sent_home, mut n_unanswered) = (0, 0);
    std::thread::scope(|scope| {
        // Before the first of them buys: the word to stop finds nobody on the way here.
        let connected_at = Instant::now();
        let lines: Vec<Line> = (0..BUYERS).map(|_| Line::to(&engine)).collect();
        let buyers: Vec<_> = lines
            .into_iter()
            .enumerate()
            .map(|(buyer, mut line)| {
                let n_won = &n_won;
                scope.spawn(move || {
                    let (mut wins, mut answers) = (Vec::new(), Vec::new());
                    let mut asked_at = connected_at;
                    for n in 0.. {
                        let user = format!("b{buyer}-{n}");
                        let asked = line.ask(&user);
                        // A machine that stood still between two requests may have had the
                        // line without one for longer than it lingers.
                        let in_time = asked_at.elapsed() < LINGER;
                        asked_at = Instant::now();
                        let Some(heard) = asked.and_then(|()| line.hear()) else {
                            return (wins, answers, in_time);
                        };
                        answers.push(heard.status);
                        if heard.status == 201 {
                            n_won.fetch_add(1, Ordering::Relaxed);
                            wins.push((heard.order.expect("an id"), user));
                        }
                        if heard.closes {
                            break;
                        }
                    }
                    (wins, answers, false)
                })
            })
            .collect();
        while n_won.load(Ordering::Relaxed) < WINS_BEFORE {
            std::thread::yield_now();
        }
        engine.terminate();
        for buyer in buyers {
            let (wins, answers, unanswered) = buyer.join().expect("no panic");
            told.extend(wins);
            n_unanswered += usize::from(unanswered);
            let odd: Vec<_> = answers.iter().filter(|s| ![201, 503].contains(s)).collect();
            assert!(odd.is_empty(), "{odd:?}");
            n_sent_home += answers.iter().filter(|s| **s == 503).count();
        }
    });
    assert_eq!(n_unanswered, 0, "a line was closed with a request on it");
    assert_eq!(engine.ended(), Some(0));
    assert!(told.len() >= WINS_BEFORE);
    println!("{} won, {n_sent_home} were sent home", told.len());

    // Nobody was cut off, so what the ledger has is exactly what was told.
    let engine = Engine::start(&folder, &config);
    assert_eq!(orders(&engine), told);
    assert_eq!(engine.differences(), 0);
    for (order, user) in told.iter().step_by(100) {
        let replay = engine.buy(user, "k", ONE);
        assert_eq!(replay.status, 200, "{replay:?}");
        assert_eq!(replay.json["orderId"].as_str(), Some(order.as_str()));
    }
    assert!(engine.stop());
}

#[test]
fn who_stands_in_line_for_a_token_is_sent_home() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale(
        "tea",
        9,
        1,
        "admission = { rate = 1, burst = 1, queueMax = 100, waitMs = 60000 }\n",
    );
    let engine = Engine::start(&folder, &config);
    std::thread::scope(|scope| {
        let buyers: Vec<_> = (0..50)
            .map(|n| {
                let mut line = Line::to(&engine);
                scope.spawn(move || line.buy(&format!("b{n}")))
            })
            .collect();
        let waiting = |engine: &Engine| {
            let metrics = common::call(&engine.admin, "GET", "/metrics", &[], "").body;
            let line = metrics
                .lines()
                .find_map(|l| l.strip_prefix("floodgate_waiting{sale=\"tea\"} "));
            line.and_then(|n| n.parse::<u32>().ok()).unwrap_or(0)
        };
        while waiting(&engine) < 30 {
            std::thread::yield_now();
        }
        engine.terminate();
        let mut answers = BTreeMap::<u16, u32>::new();
        for buyer in buyers {
            let heard = buyer.join().expect("no panic").expect("an answer");
            *answers.entry(heard.status).or_default() += 1;
        }
        // One a second was let in before; the line alone would have taken 50 seconds.
        assert!(answers[&201] >= 1 && answers[&503] >= 20, "{answers:?}");
        assert_eq!(answers.values().sum::<u32>(), 50, "{answers:?}");
    });
    assert_eq!(engine.ended(), Some(0));
}

#[test]
fn a_request_on_its_way_is_finished_and_one_that_never_ends_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 9, 1, "[http]\nbody_ms = 4000");
    let engine = Engine::start(&folder, &config);
    let [mut finished, mut endless] = [0, 1].map(|_| {
        let mut line = Line::to(&engine);
        let request = purchase("ana", ONE.len()) + &ONE[..5];
        // An answer to the one before proves that the line was let in.
        assert_eq!(line.buy("bob").map(|heard| heard.status / 100), Some(2));
        let sent = line.reader.get_mut().write_all(request.as_bytes());
        sent.expect("sent");
        line
    });
    engine.terminate();
    while TcpStream::connect(&engine.public).is_ok() {
        std::thread::yield_now();
    }
    let rest = finished.reader.get_mut().write_all(&ONE.as_bytes()[5..]);
    rest.expect("still open");
    let heard = finished.hear().expect("an answer");
    assert_eq!((heard.status, heard.closes), (503, true), "sent home");
    let heard = endless.hear().expect("an answer");
    assert_eq!((heard.status, heard.closes), (408, true));
    assert_eq!(engine.ended(), Some(0));
}

#[test]
fn a_second_sigterm_ends_it_at_once_and_takes_back_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // Half a body holds up the end for all the grace there is.
    let config = open_sale("tea", 9, 1, "[http]\nbody_ms = 60000");
    let engine = Engine::start(&folder, &config);
    let won = engine.buy("ana", "k", ONE);
    assert_eq!(won.status, 201);
    let mut half = Line::to(&engine);
    assert_eq!(half.buy("bob").map(|heard| heard.status), Some(201));
    let request = purchase("cid", ONE.len()) + &ONE[..5];
    let sent = half.reader.get_mut().write_all(request.as_bytes());
    sent.expect("sent");
    engine.terminate();
    while TcpStream::connect(&engine.public).is_ok() {
        std::thread::yield_now();
    }
    engine.terminate();
    assert_eq!(engine.ended(), Some(130));

    let engine = Engine::start(&folder, &config);
    let replay = engine.buy("ana", "k", ONE);
    assert_eq!((replay.status, replay.json), (200, won.json));
    assert_eq!(engine.remaining("tea"), 7);
    assert!(engine.stop());
}

/// A log that nobody can write any more is nobody's end.
#[test]
fn an_engine_that_cannot_write_its_log_sells_on_and_stops_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let blind = "export RUST_LOG=floodgate_engine=debug && exec 2>/dev/full";
    let engine = Engine::start_under(&folder, &open_sale("tea", 9, 1, ""), blind);
    let engine = engine.expect("it opens");
    for buyer in ["ana", "bob"] {
        assert_eq!(engine.buy(buyer, "k", ONE).status, 201);
    }
    assert_eq!(engine.differences(), 0);
    assert!(engine.stop(), "SIGTERM ends it well");
}
