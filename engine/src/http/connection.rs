//! One connection: what it is waited for, and for how long at most.
//!
//! ```text
//!   Request ──first byte──▶ Head ──whole head──▶ Answer ──made──▶ Request
//!                                         (not read in time: Room ──read──▶ Request)
//! ```
//! Whoever lets any of these last too long gives up the place. One timer serves all
//! four, and it moves only when it fires before its time or must fire sooner: a
//! request in good time costs a look at the clock.
//!
//! Told to stop, a connection answers what comes with `Connection: close` and lingers
//! a moment, because a request may be on its way.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_io_timeout::TimeoutStream;

use super::respond::Body;
use crate::config::Patience;

/// Enough for our largest request head.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long a connection without a request lives on when the engine stops.
const LINGER: Duration = Duration::from_millis(500);
/// For a head that does not end; who sends one is not owed more.
const LATE_HEAD: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a connection is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// The client may begin a request.
    Request,
    /// The client should end the head it began.
    Head,
    /// We should answer; the body has a limit of its own within this one.
    Answer,
    /// The client should read what we answered.
    Room,
}

impl Waits {
    pub const ALL: [Self; 4] = [Self::Request, Self::Head, Self::Answer, Self::Room];

    /// The label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Head => "head",
            Self::Answer => "answer",
            Self::Room => "room",
        }
    }

    fn at_most(self, patience: &Patience) -> Duration {
        match self {
            Self::Request => patience.idle,
            Self::Head => patience.header,
            // Of an answer that is read slowly each piece has its own time as well.
            Self::Answer | Self::Room => patience.request,
        }
    }
}

/// Where a connection stands; its socket, its service and its timer all run in its one
/// task, so nothing here needs an order.
#[derive(Debug, Default)]
struct Stage {
    /// What it waits for in the lowest two bits, above them how often that changed.
    waits: AtomicU32,
    leaving: AtomicBool,
}

impl Stage {
    fn change(&self) -> u32 {
        self.waits.load(Ordering::Relaxed)
    }

    fn waits(&self) -> Waits {
        Waits::ALL[(self.change() & 3) as usize]
    }

    fn enter(&self, waits: Waits) {
        let next = (self.change() | 3).wrapping_add(1) | waits as u32;
        self.waits.store(next, Ordering::Relaxed);
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

/// Serves one connection to its end; says what it was waiting for if that took too long.
pub(super) async fn serve<IO, S, F>(
    socket: IO,
    peer: IpAddr,
    patience: Patience,
    service: S,
    mut stop: watch::Receiver<bool>,
) -> Option<Waits>
where
    IO: AsyncRead + AsyncWrite,
    S: Fn(Request<Incoming>, IpAddr) -> F,
    F: Future<Output = Response<Body>>,
{
    let stage = Arc::new(Stage::default());
    // The word may be there before this connection's task has heard it.
    let word = stop.clone();
    let serve = service_fn(|request| {
        stage.enter(Waits::Answer);
        let (service, stage, word) = (&service, &stage, &word);
        async move {
            let mut response = service(request, peer).await;
            stage.enter(Waits::Request);
            if stage.is_leaving() || *word.borrow() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut socket = TimeoutStream::new(socket);
    // A client that reads nothing would hold its place for as long as a request may.
    socket.set_write_timeout(Some(patience.write));
    let heard = Heard {
        socket: Box::pin(socket),
        stage: Arc::clone(&stage),
    };
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(false)
        // Head and body of an answer are small: one copy costs less than a second piece
        // does on its way through the kernel.
        .writev(false)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(heard), serve);
    let mut timer = Timer::new(patience);
    let late = loop {
        tokio::select! {
            // First, so that the timer sees what has just come.
            biased;
            // Errors here are the client's: cut lines and broken requests.
            ended = &mut connection => {
                return ended.err().filter(is_timeout).map(|_| Waits::Room);
            }
            waits = timer.lapsed(&stage) => break waits,
            () = super::accept::told_to(&mut stop), if !stage.is_leaving() => {
                stage.leaving.store(true, Ordering::Relaxed);
                timer.leave();
            }
        }
    };
    match late {
        Waits::Request | Waits::Room => {}
        Waits::Head => {
            let mut socket = connection.into_parts().io.into_inner().socket;
            // It may have left, and need not read this.
            let told = async {
                socket.write_all(LATE_HEAD).await?;
                socket.shutdown().await
            };
            let _ = tokio::time::timeout(patience.write, told).await;
        }
        // Every step of an answer has a limit of its own, and they are shorter together.
        Waits::Answer => tracing::error!("a request was not answered in time: connection cut"),
    }
    Some(late)
}

/// Only writes have a limit in the socket itself.
fn is_timeout(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|e| e.downcast_ref::<io::Error>())
        .is_some_and(|e| e.kind() == io::ErrorKind::TimedOut)
}

/// Fires when what is waited for is late.
struct Timer {
    patience: Patience,
    /// The change of the stage that `since` belongs to.
    change: u32,
    since: Instant,
    /// When the word to stop came: a request may have crossed it.
    leaving_since: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn new(patience: Patience) -> Self {
        let since = Instant::now();
        Self {
            patience,
            change: 0,
            since,
            leaving_since: None,
            sleep: Box::pin(tokio::time::sleep_until(since + patience.idle)),
        }
    }

    fn leave(&mut self) {
        self.leaving_since = Some(Instant::now());
    }

    async fn lapsed(&mut self, stage: &Stage) -> Waits {
        poll_fn(|cx| self.poll(cx, stage)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, stage: &Stage) -> Poll<Waits> {
        if self.change != stage.change() {
            (self.change, self.since) = (stage.change(), Instant::now());
        }
        let waits = stage.waits();
        let mut due_at = self.since + waits.at_most(&self.patience);
        if let (Waits::Request, Some(leaving_since)) = (waits, self.leaving_since) {
            due_at = due_at.min(self.since.max(leaving_since) + LINGER);
        }
        if due_at < self.sleep.deadline() {
            self.sleep.as_mut().reset(due_at);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if due_at <= self.sleep.deadline() {
                return Poll::Ready(waits);
            }
            self.sleep.as_mut().reset(due_at);
        }
    }
}

/// A socket that notes when a request begins and when an answer gets stuck.
struct Heard<IO> {
    socket: Pin<Box<TimeoutStream<IO>>>,
    stage: Arc<Stage>,
}

impl<IO> Heard<IO> {
    fn note(&self, from: Waits, to: Waits, if_so: bool) {
        if if_so && self.stage.waits() == from {
            self.stage.enter(to);
        }
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncRead for Heard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.socket.as_mut().poll_read(cx, buf);
        self.note(Waits::Request, Waits::Head, buf.filled().len() > before);
        polled
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncWrite for Heard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.socket.as_mut().poll_write(cx, buf);
        self.note(Waits::Request, Waits::Room, polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.socket.as_mut().poll_write_vectored(cx, bufs);
        self.note(Waits::Request, Waits::Room, polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// Asked for when everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.socket.as_mut().poll_flush(cx);
        self.note(Waits::Room, Waits::Request, polled.is_ready());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const SECOND: Duration = Duration::from_secs(1);

    /// Each time another one, so that a test sees which of them it was.
    fn patience() -> Patience {
        Patience {
            idle: 20 * SECOND,
            header: 10 * SECOND,
            body: 5 * SECOND,
            request: 60 * SECOND,
            write: 15 * SECOND,
        }
    }

    struct Line {
        client: DuplexStream,
        stop: watch::Sender<bool>,
        served: JoinHandle<Option<Waits>>,
    }

    /// A service that reads the body and answers after `takes` with `bytes` bytes.
    fn line(takes: Duration, bytes: usize) -> Line {
        let (client, server) = duplex(1_024);
        let (stop, stopped) = watch::channel(false);
        let service = move |request: Request<Incoming>, _| async move {
            let _ = request.into_body().collect().await;
            tokio::time::sleep(takes).await;
            Response::new(Body::from(Bytes::from(vec![b'x'; bytes])))
        };
        let peer = IpAddr::from([192, 0, 2, 1]);
        let served = serve(server, peer, patience(), service, stopped);
        Line {
            client,
            stop,
            served: tokio::spawn(served),
        }
    }

    impl Line {
        /// The head of one answer; its body is read as well.
        async fn answer(&mut self, bytes: usize) -> String {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.client.read_u8().await.expect("an answer"));
            }
            let mut body = vec![0; bytes];
            self.client.read_exact(&mut body).await.expect("its body");
            String::from_utf8(head).expect("text").to_lowercase()
        }

        /// What is still said until the line is closed, and why it was.
        async fn end(mut self) -> (String, Option<Waits>) {
            let mut rest = Vec::new();
            self.client.read_to_end(&mut rest).await.expect("closed");
            let late = self.served.await.expect("no panic");
            (String::from_utf8_lossy(&rest).into_owned(), late)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_gives_up_the_place_when_idle_time_is_over() {
        let start = Instant::now();
        let line = line(Duration::ZERO, 1);
        assert_eq!(line.end().await, (String::new(), Some(Waits::Request)));
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_begins_anew_with_each_answer() {
        let start = Instant::now();
        let mut line = line(SECOND, 1);
        for _ in 0..5 {
            tokio::time::sleep(19 * SECOND).await;
            line.client.write_all(ASK).await.expect("open");
            assert!(line.answer(1).await.starts_with("http/1.1 200"));
        }
        assert_eq!(line.end().await, (String::new(), Some(Waits::Request)));
        assert_eq!(start.elapsed().as_secs(), 5 * 20 + 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_ends_with_408_however_often_a_byte_comes() {
        let start = Instant::now();
        let line = line(Duration::ZERO, 1);
        let (mut read, mut write) = tokio::io::split(line.client);
        let trickle = tokio::spawn(async move {
            write.write_all(b"GET / HTTP/1.1\r\nx: ").await?;
            loop {
                tokio::time::sleep(SECOND).await;
                write.write_all(b"x").await?;
            }
            #[allow(unreachable_code)]
            io::Result::Ok(())
        });
        let mut said = String::new();
        read.read_to_string(&mut said).await.expect("closed");
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        assert!(said.contains("connection: close\r\n"), "{said}");
        assert_eq!(line.served.await.expect("no panic"), Some(Waits::Head));
        assert_eq!(start.elapsed().as_secs(), 10);
        assert!(trickle.await.expect("no panic").is_err(), "the line is cut");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_its_own_time_and_not_that_of_an_idle_line() {
        let mut line = line(59 * SECOND, 1);
        line.client.write_all(ASK).await.expect("open");
        assert!(line.answer(1).await.starts_with("http/1.1 200"));
        let start = Instant::now();
        assert_eq!(line.end().await.1, Some(Waits::Request));
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_ends_the_line() {
        let start = Instant::now();
        let mut line = line(600 * SECOND, 1);
        line.client.write_all(ASK).await.expect("open");
        assert_eq!(line.end().await, (String::new(), Some(Waits::Answer)));
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_slowly_is_finished_and_one_not_read_is_not() {
        let mut slow = line(Duration::ZERO, 4_000);
        slow.client.write_all(ASK).await.expect("open");
        let mut read = 0;
        // Longer than a line may idle, never longer than a piece may take.
        while read < 4_000 {
            tokio::time::sleep(10 * SECOND).await;
            let mut piece = [0; 1_024];
            read += slow.client.read(&mut piece).await.expect("more");
        }
        assert_eq!(slow.end().await.1, Some(Waits::Request));

        let mut deaf = line(Duration::ZERO, 4_000);
        deaf.client.write_all(ASK).await.expect("open");
        let late = (&mut deaf.served).await.expect("no panic");
        assert_eq!(late, Some(Waits::Room));
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_stop_it_answers_what_is_on_its_way_and_closes() {
        let mut busy = line(5 * SECOND, 1);
        busy.client.write_all(ASK).await.expect("open");
        tokio::time::sleep(SECOND).await;
        busy.stop.send(true).expect("serving");
        let head = busy.answer(1).await;
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(busy.end().await, (String::new(), None));

        // The request and the word to stop cross on their way, however long the line was
        // without one before.
        for before in [Duration::ZERO, 10 * SECOND] {
            let mut idle = line(Duration::ZERO, 1);
            tokio::time::sleep(before).await;
            idle.stop.send(true).expect("serving");
            tokio::time::sleep(LINGER / 2).await;
            idle.client.write_all(ASK).await.expect("open");
            let head = idle.answer(1).await;
            assert!(head.contains("connection: close"), "{head}");
            assert_eq!(idle.end().await, (String::new(), None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_stop_an_idle_line_is_closed_after_a_moment() {
        let start = Instant::now();
        let line = line(Duration::ZERO, 1);
        tokio::time::sleep(SECOND).await;
        line.stop.send(true).expect("serving");
        let stopped = line.served.await.expect("no panic");
        assert_eq!(stopped, Some(Waits::Request));
        assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    }
}
