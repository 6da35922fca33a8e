//! The mock's way to the engine: callbacks, signed and sent over HTTP like anybody's.
//!
//! A message is sent until it is taken (2xx): each attempt is signed anew and waits
//! longer than the one before. Only "this message is wrong" (400, 413, 415) ends it
//! before that: no repetition would make it right.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::backoff::Backoff;
use crate::domain::sign::Secret;
use crate::domain::time::Clock;

/// Messages that are not taken yet; more are not begun.
const UNDER_WAY_MAX: usize = 4_096;
/// Connections to the engine at once.
const AT_ONCE: usize = 32;
const ANSWER_MAX: Duration = Duration::from_secs(15);
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(30),
};

pub struct Deliverer {
    to: SocketAddr,
    secret: Secret,
    clock: Arc<dyn Clock>,
    seed: u64,
    under_way: Arc<Semaphore>,
    connections: Semaphore,
}

/// One message to send.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub body: Bytes,
    pub after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Taken,
    /// It can never be taken.
    Wrong(StatusCode),
    Again(StatusCode),
}

fn heard(status: StatusCode) -> Heard {
    match status {
        taken if taken.is_success() => Heard::Taken,
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE => Heard::Wrong(status),
        other => Heard::Again(other),
    }
}

impl Deliverer {
    /// `to` is where the engine listens; of all interfaces, the loopback one.
    pub fn new(to: SocketAddr, secret: Secret, clock: Arc<dyn Clock>, seed: u64) -> Self {
        let mut to = to;
        if to.ip().is_unspecified() {
            to.set_ip(match to {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self {
            to,
            secret,
            clock,
            seed,
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
            connections: Semaphore::new(AT_ONCE),
        }
    }

    /// Places for `n` messages; `None` when too many are under way.
    pub fn places(&self, n: usize) -> Option<Vec<OwnedSemaphorePermit>> {
        let n = u32::try_from(n).ok()?;
        let mut all = Arc::clone(&self.under_way).try_acquire_many_owned(n).ok()?;
        let mut places = Vec::new();
        while let Some(one) = all.split(1) {
            places.push(one);
        }
        Some(places)
    }

    /// Until it is taken.
    pub async fn deliver(&self, message: Message, _place: OwnedSemaphorePermit) {
        tokio::time::sleep(message.after).await;
        for n_tries in 1_u32.. {
            let why = match self.post(&message).await {
                Ok(status) => match heard(status) {
                    Heard::Taken => return,
                    Heard::Wrong(status) => {
                        tracing::error!(id = message.id, %status, "the engine refuses a callback");
                        return;
                    }
                    Heard::Again(status) => status.to_string(),
                },
                Err(why) => why,
            };
            tracing::debug!(id = message.id, why, n_tries, "a callback was not taken");
            let wait = BACKOFF.wait(n_tries, message.id.as_bytes(), self.seed);
            tokio::time::sleep(wait).await;
        }
    }

    async fn post(&self, message: &Message) -> Result<StatusCode, String> {
        // Nobody closes it.
        let _connection = self.connections.acquire().await;
        match tokio::time::timeout(ANSWER_MAX, self.post_once(message)).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
        }
    }

    async fn post_once(&self, message: &Message) -> Result<StatusCode, String> {
        const ANSWER_BYTES_MAX: usize = 64 * 1024;
        let seconds = self.clock.wall().0 / 1_000;
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/payments/callback")
            .header(HOST, self.to.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", seconds)
            .header(
                "webhook-signature",
                self.secret.sign(&message.id, seconds, &message.body),
            )
            .body(Full::new(message.body.clone()))
            .map_err(|e| e.to_string())?;
        let stream = TcpStream::connect(self.to)
            .await
            .map_err(|e| format!("connect to {}: {e}", self.to))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            // Read to the end, so that the engine is not cut off in its answer.
            let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            Ok::<_, hyper::Error>(status)
        };
        tokio::pin!(answered, connection);
        let mut open = true;
        loop {
            tokio::select! {
                answered = &mut answered => return answered.map_err(|e| e.to_string()),
                _ = &mut connection, if open => open = false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use crate::domain::sign::{Secrets, Signed, verify};
    use crate::domain::time::UnixMs;

    /// Every look at it is a minute later.
    struct Minutes(AtomicU64);

    impl Clock for Minutes {
        fn now(&self) -> UnixMs {
            UnixMs(60_000 * self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    fn deliverer(listens: SocketAddr) -> Deliverer {
        let clock = Arc::new(Minutes(AtomicU64::new(100)));
        Deliverer::new(listens, Secret::from_key([1; 32]), clock, 0)
    }

    /// Answers one request with this status, and gives it back.
    async fn answer(listener: &TcpListener, status: &str) -> String {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert_ne!(socket.read_buf(&mut request).await.expect("bytes"), 0);
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.expect("told");
        String::from_utf8(request).expect("ASCII")
    }

    #[tokio::test]
    async fn a_message_is_sent_until_it_is_taken_and_signed_anew_each_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let deliverer = deliverer(listener.local_addr().expect("bound"));
        let secrets = Secrets::new(vec![Secret::from_key([1; 32])]).expect("one");
        let message = Message {
            id: "msg-1".into(),
            body: Bytes::from_static(b"{}"),
            after: Duration::ZERO,
        };
        let place = deliverer.places(1).expect("room").remove(0);
        let engine = async {
            for (n, status) in ["503 Busy", "401 No", "200 OK"].into_iter().enumerate() {
                let request = answer(&listener, status).await;
                let header = |name: &str| {
                    let line = request.lines().find_map(|l| l.strip_prefix(name));
                    line.map(|value| value.trim().as_bytes())
                };
                let signed = Signed {
                    id: header("webhook-id:"),
                    timestamp: header("webhook-timestamp:"),
                    signature: header("webhook-signature:"),
                };
                let at = UnixMs(60_000 * (100 + n as u64));
                assert_eq!(
                    signed.timestamp,
                    Some((at.0 / 1_000).to_string().as_bytes())
                );
                assert_eq!(verify(&secrets, signed, b"{}", at), Ok(()));
            }
        };
        tokio::join!(deliverer.deliver(message, place), engine);
        assert_eq!(deliverer.under_way.available_permits(), UNDER_WAY_MAX);
        assert!(deliverer.places(UNDER_WAY_MAX + 1).is_none());
    }

    #[test]
    fn it_calls_where_the_engine_listens() {
        for (listens, called) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
        ] {
            let listens = listens.parse().expect("an address");
            assert_eq!(deliverer(listens).to.to_string(), called);
        }
    }

    #[test]
    fn what_is_wrong_with_the_message_is_not_sent_again() {
        for (status, expected) in [
            (200, Heard::Taken),
            (204, Heard::Taken),
            (400, Heard::Wrong(StatusCode::BAD_REQUEST)),
            (401, Heard::Again(StatusCode::UNAUTHORIZED)),
            (404, Heard::Again(StatusCode::NOT_FOUND)),
            (503, Heard::Again(StatusCode::SERVICE_UNAVAILABLE)),
        ] {
            assert_eq!(
                heard(StatusCode::from_u16(status).expect("a status")),
                expected
            );
        }
    }
}
