//! The network between the engine and a server, as bad as it is told to be: a TCP proxy
//! on a port of its own, which can delay, lose, cut and repeat what passes.
//!
//! It has a thread and a runtime of its own, so that nobody who stands still for a drill
//! makes it stand still, too. Its port stays; where it leads to may change.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::frames::Requests;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// To the engine.
    Down,
}

/// What happens to the connections there are, and to those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Pass,
    /// Nobody gets through: lines are cut, new ones too.
    Closed,
    /// Each piece waits so long, each way.
    Slow(Duration),
    /// What goes this way is lost; the connection stands, as if nothing were wrong.
    Lost(Way),
    /// So many bytes pass this way, then the connection is cut.
    CutAfter(Way, u64),
    /// This way is closed in good order, the other one stays open.
    HalfClosed(Way),
}

struct Control {
    leads_to: AtomicU16,
    rule: watch::Sender<Rule>,
    /// Raised to cut every connection there is.
    cuts: watch::Sender<u64>,
    /// Script calls that are still to be repeated.
    repeats: AtomicU32,
    n_repeated: AtomicU64,
}

pub struct Proxy {
    pub port: u16,
    control: Arc<Control>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A copy of a call comes after the call, and some come long after it.
const REPEATED_AFTER: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(150),
    Duration::from_millis(900),
];
const CONNECT_MAX: Duration = Duration::from_secs(10);

impl Proxy {
    pub fn open() -> io::Result<Self> {
        let listener = StdListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let control = Arc::new(Control {
            leads_to: AtomicU16::new(0),
            rule: watch::Sender::new(Rule::Pass),
            cuts: watch::Sender::new(0),
            repeats: AtomicU32::new(0),
            n_repeated: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (end, ended) = oneshot::channel();
        let with = Arc::clone(&control);
        let thread = std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = listen(listener, with) => {}
                        _ = ended => {}
                    }
                });
            })?;
        Ok(Self {
            port,
            control,
            end: Some(end),
            thread: Some(thread),
        })
    }

    pub fn lead_to(&self, port: u16) {
        self.control.leads_to.store(port, Ordering::Relaxed);
    }

    pub fn rule(&self, rule: Rule) {
        self.control.rule.send_replace(rule);
    }

    /// Ends all connections there are; new ones are welcome.
    pub fn cut(&self) {
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next script calls reach the server several times, the copies late.
    pub fn repeat(&self, calls: u32) {
        self.control.repeats.store(calls, Ordering::Relaxed);
    }

    pub fn n_repeated(&self) -> u64 {
        self.control.n_repeated.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // It carries no result.
        }
    }
}

async fn listen(listener: StdListener, control: Arc<Control>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(serve(client, Arc::clone(&control)));
            }
            // No descriptors, or a client that left at once.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(client: TcpStream, control: Arc<Control>) {
    let mut cuts = control.cuts.subscribe();
    if *control.rule.borrow() == Rule::Closed {
        return;
    }
    let Some(server) = connect(&control).await else {
        return;
    };
    // Small words go at once; without it they would only be slower.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let both = async {
        tokio::try_join!(
            carry(Way::Up, from_client, to_server, &control),
            carry(Way::Down, from_server, to_client, &control),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = cuts.changed() => {}
    }
}

async fn connect(control: &Control) -> Option<TcpStream> {
    let port = control.leads_to.load(Ordering::Relaxed);
    let stream = timeout(CONNECT_MAX, TcpStream::connect(("127.0.0.1", port))).await;
    stream.ok()?.ok()
}

/// Both ways end with one of them.
struct Cut;

/// Carries one way until it ends; its end alone does not end the other way.
async fn carry(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    control: &Arc<Control>,
) -> Result<(), Cut> {
    let mut rules = control.rule.subscribe();
    let mut requests = Requests::default();
    let mut piece = vec![0; 16 << 10];
    let mut is_torn = false;
    let mut rule = *rules.borrow_and_update();
    let mut left = allowance(rule, way);
    loop {
        // What was lost must not be followed by what comes after it.
        if rule == Rule::Closed || (is_torn && rule != Rule::Lost(way)) {
            return Err(Cut);
        }
        if rule == Rule::HalfClosed(way) {
            // An error says that it is closed already.
            let _ = to.shutdown().await;
            return Ok(());
        }
        let n = tokio::select! {
            // A rule holds for everything that comes after it.
            biased;
            changed = rules.changed() => {
                if changed.is_err() {
                    return Err(Cut);
                }
                rule = *rules.borrow_and_update();
                left = allowance(rule, way);
                continue;
            }
            read = from.read(&mut piece) => read.unwrap_or(0),
        };
        if n == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        let bytes = &piece[..n];
        let calls = match way {
            Way::Up => requests.feed(bytes),
            Way::Down => Vec::new(),
        };
        if rule == Rule::Lost(way) {
            is_torn = true;
            continue;
        }
        if let Rule::Slow(wait) = rule {
            sleep(wait).await;
        }
        let n = usize::try_from(left).map_or(n, |left| n.min(left));
        if to.write_all(&bytes[..n]).await.is_err() {
            return Err(Cut);
        }
        left = left.saturating_sub(n as u64);
        if left == 0 {
            return Err(Cut);
        }
        for call in calls {
            repeat(call, control);
        }
    }
}

fn allowance(rule: Rule, way: Way) -> u64 {
    match rule {
        Rule::CutAfter(cut, bytes) if cut == way => bytes.max(1),
        Rule::Pass
        | Rule::Closed
        | Rule::Slow(_)
        | Rule::Lost(_)
        | Rule::CutAfter(..)
        | Rule::HalfClosed(_) => u64::MAX,
    }
}

/// Sends copies of a call over connections of their own, as if they had been on their way
/// all the time.
fn repeat(call: Vec<u8>, control: &Arc<Control>) {
    let one_less = |left: u32| left.checked_sub(1);
    let (more, less) = (Ordering::Relaxed, Ordering::Relaxed);
    if control.repeats.fetch_update(more, less, one_less).is_err() {
        return;
    }
    let control = Arc::clone(control);
    tokio::spawn(async move {
        for after in REPEATED_AFTER {
            sleep(after).await;
            let Some(mut line) = connect(&control).await else {
                continue;
            };
            let mut answer = [0; 1 << 10];
            let told = async {
                line.write_all(&call).await?;
                line.read(&mut answer).await
            };
            // Only a copy that was answered is known to have arrived.
            if matches!(timeout(CONNECT_MAX, told).await, Ok(Ok(1..))) {
                control.n_repeated.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
