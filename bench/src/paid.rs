//! What comes after a win: how many payments a second become durable, and how many
//! tokens a second are checked for whoever serves the works?
//!
//! Each callback is a provider's: for an order of its own, with a transaction of its own,
//! with a body as providers send them. They are signed before the clock starts: what a
//! provider spends on them is not the engine's. Each must be answered APPLIED.

use std::path::Path;
use std::sync::Arc;

use floodgate_engine::domain::time::UnixMs;
use floodgate_loadtest::fire::{Answered, Requests};
use floodgate_loadtest::pay::Secret;
use floodgate_loadtest::pay::wire::Told;
use parking_lot::Mutex;
use serde::Deserialize;
use tempfile::TempDir;

use crate::components::orders::now_ms;
use crate::engine::{PRICE_CENT, Server, binary, scratch, sku};
use crate::ratios;
use crate::report::Report;
use crate::shoot::{BODY, Line, Shot, host, run, send, write_get, write_post, write_purchase};

/// Orders for each second of a shot. A faster engine has all of them paid before its
/// time is over, and its figure is of the time it took.
const ORDERS_PER_S: f64 = 40_000.0;
/// Buyers whose tokens are checked in turn.
const N_PLAYERS: u32 = 4;
const GRANT: &str = r#", grant = { workId = "film", validDays = 30 }"#;
const DEVICE: &str = "tv-1";

/// What a payment brings its buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goods {
    /// Payment and order are written.
    Parcel,
    /// Payment, order, entitlement, and the order again.
    Film,
}

impl Goods {
    fn grant(self) -> &'static str {
        match self {
            Self::Parcel => "",
            Self::Film => GRANT,
        }
    }
}

/// Alone, without what comes before a payment; the echo is measured in every round.
pub fn measure(rounds: usize, shot: Shot, out: &Path, report: &mut Report) -> Result<(), String> {
    for round in 1..=rounds {
        let ceiling = ratios::ceiling(shot)?;
        report.push("ceiling_rps", ceiling);
        let line = self::round(shot, ceiling, out, report)?;
        eprintln!("round {round} of {rounds}: echo {ceiling:.0}/s{line}");
    }
    Ok(())
}

/// All figures once, and what to say of them.
pub fn round(shot: Shot, ceiling: f64, out: &Path, report: &mut Report) -> Result<String, String> {
    let paid = callbacks(shot, Goods::Parcel, out)?;
    let granted = callbacks(shot, Goods::Film, out)?;
    let checks = checks(shot, out)?;
    report.push("callbacks_rps", paid);
    report.push("callbacks_over_ceiling", paid / ceiling);
    report.push("callbacks_granting_rps", granted);
    report.push("token_checks_rps", checks);
    report.push("token_checks_over_ceiling", checks / ceiling);
    Ok(format!(
        ", payments {paid:.0}/s, with grants {granted:.0}/s, checks of tokens {checks:.0}/s"
    ))
}

/// Callbacks a second, each durable when it is answered.
fn callbacks(shot: Shot, goods: Goods, out: &Path) -> Result<f64, String> {
    Till::open(&binary()?, out, orders_of(shot), goods)?.callbacks(shot, 0)
}

/// More orders than can be paid in a shot.
pub fn orders_of(shot: Shot) -> u32 {
    ((shot.seconds + shot.warmup_seconds) * ORDERS_PER_S) as u32
}

/// Checks of tokens a second, each of them good.
fn checks(shot: Shot, out: &Path) -> Result<f64, String> {
    let till = Till::open(&binary()?, out, N_PLAYERS, Goods::Film)?;
    let provider = till.provider()?;
    let requests = run(async {
        let mut line = Line::to(till.engine.public())?;
        let mut requests = Vec::new();
        for n in 0..N_PLAYERS {
            let token = token(&mut line, &provider, &format!("buyer-{n}")).await?;
            let path = format!("/v1/play/check?token={token}&device={DEVICE}&work=film");
            let mut request = Vec::new();
            write_get(&mut request, &till.host, &path, "");
            requests.push(request);
        }
        Ok::<_, String>(requests)
    })??;
    run(send(shot, till.engine.public(), Checks(requests)))?.map(|report| report.rps)
}

/// What a buyer has who bought the film, paid, and asked for a licence.
async fn token(line: &mut Line, provider: &Provider, user: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Play {
        play_token: String,
    }
    let host = &provider.host;
    let order: Won = line.json(&line.purchase(user, "key"), 201).await?;
    let mut callback = Vec::new();
    provider.write(&order.order_id, &mut callback);
    line.json::<serde_json::Value>(&callback, 200).await?;
    let buyer = format!("x-user-id: {user}\r\nx-device-id: {DEVICE}\r\n");
    let body = format!(r#"{{"workId":"film","deviceId":"{DEVICE}"}}"#);
    let mut license = Vec::new();
    write_post(&mut license, host, "/v1/licenses", &buyer, &body);
    line.json::<serde_json::Value>(&license, 200).await?;
    let mut play = Vec::new();
    write_get(&mut play, host, "/v1/play/auth/film", &buyer);
    line.json(&play, 200)
        .await
        .map(|play: Play| play.play_token)
}

/// An engine whose provider's secret we know.
pub struct Till {
    // Before its folder: it goes first.
    engine: Server,
    folder: TempDir,
    host: String,
}

impl Till {
    pub fn open(binary: &Path, out: &Path, units: u32, goods: Goods) -> Result<Self, String> {
        let folder = scratch(out)?;
        let skus = sku("unit", units, goods.grant());
        let engine = Server::build_in(binary, folder.path(), &skus)?;
        Ok(Self {
            host: host(engine.public())?,
            engine,
            folder,
        })
    }

    pub fn engine(&self) -> &Server {
        &self.engine
    }

    fn provider(&self) -> Result<Provider, String> {
        let secret = self.folder.path().join("data/payment-secret");
        let now_ms = now_ms()?;
        Ok(Provider {
            host: self.host.clone(),
            secret: Secret::read(&secret).map_err(|e| e.to_string())?,
            unix_s: i64::try_from(now_ms / 1_000).map_err(|e| e.to_string())?,
            paid_at: UnixMs(now_ms).rfc3339(),
        })
    }

    /// Callbacks a second, for orders that buyers from `first` on win before.
    pub fn callbacks(&self, shot: Shot, first: u32) -> Result<f64, String> {
        let orders = self.win(shot, first)?;
        let callbacks = self.provider()?.callbacks(&orders);
        let report = run(send(shot, self.engine.public(), callbacks))??;
        if report.answers == 0 {
            return Err("all orders were paid before the measured time".into());
        }
        Ok(report.rps)
    }

    /// Orders for a shot, and their ids; not measured.
    fn win(&self, shot: Shot, first: u32) -> Result<Vec<String>, String> {
        let n = orders_of(shot);
        let wins = Arc::new(Wins {
            host: self.host.clone(),
            first,
            n,
            orders: Mutex::new(Vec::with_capacity(n as usize)),
        });
        let shot = Shot {
            // However long it takes: all units have a buyer then.
            seconds: 3_600.0,
            warmup_seconds: 0.0,
            ..shot
        };
        run(send(shot, self.engine.public(), Arc::clone(&wins)))??;
        let orders = std::mem::take(&mut *wins.orders.lock());
        Ok(orders)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Won {
    order_id: String,
}

/// Buyers of one unit each.
struct Wins {
    host: String,
    first: u32,
    n: u32,
    orders: Mutex<Vec<String>>,
}

impl Requests for Wins {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        let buyer = u64::from(self.first) + n;
        write_purchase(out, &self.host, &format!("buyer-{buyer}"), "key", BODY);
        n < u64::from(self.n)
    }

    fn answered(&self, answer: &Answered<'_>) -> Result<(), String> {
        match serde_json::from_slice::<Won>(answer.body) {
            Ok(won) if answer.status == 201 => {
                self.orders.lock().push(won.order_id);
                Ok(())
            }
            Ok(_) | Err(_) => Err(objection("a purchase", answer)),
        }
    }
}

/// Says what was paid, as payment providers do.
struct Provider {
    host: String,
    secret: Secret,
    /// A run takes less time than a timestamp is good for.
    unix_s: i64,
    paid_at: String,
}

impl Provider {
    /// Half a kilobyte of body: what it must say, and what providers add.
    fn write(&self, order: &str, out: &mut Vec<u8>) {
        let paid_at = &self.paid_at;
        let body = format!(
            r#"{{"channel":"card","orderId":"{order}","channelTxnNo":"ch_{order}","status":"SUCCESS","amountCent":{PRICE_CENT},"currency":"EUR","paidAt":"{paid_at}","raw":{{"id":"ch_{order}","object":"charge","livemode":true,"method":{{"type":"card","brand":"visa","last4":"4242","country":"DE","expMonth":11,"expYear":2029}},"outcome":{{"networkStatus":"approved_by_network","riskLevel":"normal","authorizationCode":"A1B2C3"}},"fee":{{"amountCent":4,"currency":"EUR"}}}}}}"#
        );
        let id = format!("evt_{order}");
        let unix_s = self.unix_s;
        let signature = self.secret.sign(&id, unix_s, body.as_bytes());
        let headers = format!(
            "webhook-id: {id}\r\nwebhook-timestamp: {unix_s}\r\nwebhook-signature: {signature}\r\n"
        );
        write_post(out, &self.host, "/v1/payments/callback", &headers, &body);
    }

    fn callbacks(&self, orders: &[String]) -> Callbacks {
        let mut all = Callbacks::default();
        for order in orders {
            self.write(order, &mut all.bytes);
            all.ends.push(all.bytes.len());
        }
        all
    }
}

/// One for each order, in one piece of memory.
#[derive(Default)]
struct Callbacks {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Callbacks {
    fn get(&self, n: usize) -> Option<&[u8]> {
        let from = match n.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(from..*self.ends.get(n)?)
    }
}

impl Requests for Callbacks {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        let callback = usize::try_from(n).ok().and_then(|n| self.get(n));
        out.extend_from_slice(callback.unwrap_or_default());
        callback.is_some()
    }

    fn answered(&self, answer: &Answered<'_>) -> Result<(), String> {
        match Told::parse(answer.body) {
            Ok(Told::Applied) if answer.status == 200 => Ok(()),
            Ok(_) | Err(_) => Err(objection("a callback", answer)),
        }
    }
}

/// The same few again and again, as a film is asked for piece by piece.
struct Checks(Vec<Vec<u8>>);

impl Requests for Checks {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.0[n as usize % self.0.len()]);
        true
    }

    fn answered(&self, answer: &Answered<'_>) -> Result<(), String> {
        match answer.status {
            204 => Ok(()),
            _ => Err(objection("a check", answer)),
        }
    }
}

fn objection(what: &str, answer: &Answered<'_>) -> String {
    let body = String::from_utf8_lossy(answer.body);
    format!("{what} was answered {} {body}", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_signed_and_of_the_size_that_providers_send() {
        let provider = Provider {
            host: "127.0.0.1:1".into(),
            secret: Secret::parse("whsec_c2VjcmV0").expect("a secret"),
            unix_s: 1_800_000_000,
            paid_at: "2027-01-15T08:00:00Z".into(),
        };
        let mut out = Vec::new();
        provider.write("01932b7e-0000-8000-8000-00000000000a", &mut out);
        let text = String::from_utf8(out).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let id = "evt_01932b7e-0000-8000-8000-00000000000a";
        let signature = provider.secret.sign(id, 1_800_000_000, body.as_bytes());
        assert!(head.contains(&format!("webhook-signature: {signature}\r\n")));
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        assert!((400..1_000).contains(&body.len()), "{}", body.len());
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["amountCent"], 100);
    }

    #[test]
    fn each_order_has_its_callback_and_then_there_are_no_more() {
        let provider = Provider {
            host: "127.0.0.1:1".into(),
            secret: Secret::parse("whsec_c2VjcmV0").expect("a secret"),
            unix_s: 1_800_000_000,
            paid_at: "2027-01-15T08:00:00Z".into(),
        };
        let all = provider.callbacks(&["first".into(), "second".into()]);
        for (n, order) in ["first", "second"].into_iter().enumerate() {
            let (mut alone, mut written) = (Vec::new(), Vec::new());
            provider.write(order, &mut alone);
            assert!(all.write(n as u64, &mut written));
            assert_eq!(written, alone);
        }
        let mut out = Vec::new();
        assert!(!all.write(2, &mut out) && out.is_empty());
    }

    #[test]
    fn an_answer_that_is_not_applied_is_no_figure() {
        let callbacks = |body: &str, status| {
            let now = std::time::Instant::now();
            Callbacks::default().answered(&Answered {
                n: 0,
                status,
                body: body.as_bytes(),
                intended: now,
                at: now,
            })
        };
        assert_eq!(callbacks(r#"{"status":"APPLIED"}"#, 200), Ok(()));
        assert!(callbacks(r#"{"status":"REFUND_DUE"}"#, 200).is_err());
        assert!(callbacks(r#"{"status":"APPLIED"}"#, 503).is_err());
        assert!(callbacks("", 200).is_err());
    }
}
