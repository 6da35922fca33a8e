//! Sockets: who may connect, and how all of it ends.
//!
//! A place is taken before a connection is accepted, so that the engine stops
//! accepting when it is full and the kernel's queue holds the rest back.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::connection;
use super::places::{ClientCap, ClientPlaces, ListenerMetrics};
use super::respond::Body;
use crate::config::Patience;
use crate::workers::Workers;

/// Descriptors and memory come back when something is closed, not at once.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How many connections, and for how long.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub connections_max: usize,
    pub client_cap: ClientCap,
    pub patience: Patience,
    /// Requests under way at the end have this long.
    pub grace: Duration,
}

pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Says plainly which address is taken.
    pub fn bind(address: SocketAddr) -> Result<Self, String> {
        let bind = || -> io::Result<TcpListener> {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(address),
                socket2::Type::STREAM,
                Some(socket2::Protocol::TCP),
            )?;
            // A restart must not wait for the last connections' TIME_WAIT.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(4_096)?;
            TcpListener::from_std(socket.into())
        };
        let socket = bind().map_err(|e| format!("listen on {address}: {e}"))?;
        Ok(Self { socket })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Resolves when told to stop, or when whoever could tell is gone.
pub(super) async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Serves until `stop` says so, on these workers in turn (none: where it is called),
/// then lets requests under way finish.
pub async fn serve<S, F>(
    listener: Listener,
    workers: Option<Arc<Workers>>,
    service: S,
    bounds: Bounds,
    metrics: ListenerMetrics,
    mut stop: watch::Receiver<bool>,
) where
    S: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let mut door = Door {
        connections: JoinSet::new(),
        clients: ClientPlaces::new(bounds.client_cap),
        patience: bounds.patience,
        workers,
        service,
        stop: stop.clone(),
        metrics,
    };
    // Told once a streak: a log that fills up with it would be the next trouble.
    let mut failing = false;
    loop {
        while door.connections.try_join_next().is_some() {}
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => match place {
                Ok(place) => place,
                Err(_) => break,
            },
            () = told_to(&mut stop) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = told_to(&mut stop) => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                failing = false;
                door.open(socket, peer.ip(), place);
            }
            Err(error) => {
                door.metrics.accept_errors.inc();
                if !failing {
                    tracing::warn!(%error, "accept a connection");
                }
                failing = true;
                if !is_of_one_connection(&error) {
                    tokio::select! {
                        () = tokio::time::sleep(BACK_OFF) => {}
                        () = told_to(&mut stop) => break,
                    }
                }
            }
        }
    }
    // Whoever stands in the kernel's queue by now has been let in, as far as it knows:
    // to close the socket would cut it off without a word.
    if let Ok(queue) = listener.socket.into_std() {
        while let Ok(place) = Arc::clone(&places).try_acquire_owned()
            && let Ok((socket, peer)) = queue.accept()
            && socket.set_nonblocking(true).is_ok()
            && let Ok(socket) = TcpStream::from_std(socket)
        {
            door.open(socket, peer.ip(), place);
        }
    }
    let mut connections = door.connections;
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.grace, finish).await.is_err() {
        tracing::warn!(
            n = connections.len(),
            "connections cut at the end of the grace time"
        );
        connections.shutdown().await;
    }
}

/// What every connection of a listener is given.
struct Door<S> {
    connections: JoinSet<()>,
    clients: Arc<ClientPlaces>,
    patience: Patience,
    workers: Option<Arc<Workers>>,
    service: S,
    stop: watch::Receiver<bool>,
    metrics: ListenerMetrics,
}

impl<S, F> Door<S>
where
    S: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    fn open(&mut self, socket: TcpStream, peer: IpAddr, place: OwnedSemaphorePermit) {
        // A socket of both families shows IPv4 peers in IPv6 clothes.
        let peer = peer.to_canonical();
        let Ok(client_place) = self.clients.take(peer) else {
            // Closed here and now; nothing was read and nothing is said.
            self.metrics.refused.inc();
            return;
        };
        // Answers are single small writes: waiting to fill a segment only delays them.
        let _ = socket.set_nodelay(true);
        let (service, stop) = (self.service.clone(), self.stop.clone());
        let (patience, metrics) = (self.patience, self.metrics.clone());
        let open = Open::count(&metrics);
        let worker = match &self.workers {
            Some(workers) => workers.next().clone(),
            None => Handle::current(),
        };
        // Its events shall wake the worker that answers them.
        let Ok(socket) = socket.into_std() else {
            return;
        };
        let serve = async move {
            let _places = (place, client_place, open);
            let Ok(socket) = TcpStream::from_std(socket) else {
                return;
            };
            let late = connection::serve(socket, peer, patience, service, stop).await;
            if let Some(waited_for) = late {
                metrics.late(waited_for).inc();
            }
        };
        self.connections.spawn_on(serve, &worker);
    }
}

/// Counts itself, also when its task is cut.
struct Open(prometheus::IntGauge);

impl Open {
    fn count(metrics: &ListenerMetrics) -> Self {
        metrics.open.inc();
        Self(metrics.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Such an error is the end of one connection; the next one may be taken at once. Any
/// other (no descriptors, no memory) would come again at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::super::places::ConnectionMetrics;
    use super::*;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    struct Served {
        at: SocketAddr,
        stop: watch::Sender<bool>,
        serving: JoinHandle<()>,
        metrics: ListenerMetrics,
    }

    fn bounds() -> Bounds {
        let long = Duration::from_secs(60);
        Bounds {
            connections_max: 9,
            client_cap: ClientCap::default(),
            patience: Patience {
                idle: long,
                header: long,
                body: long,
                request: long,
                write: long,
            },
            grace: Duration::from_secs(20),
        }
    }

    fn started(bounds: Bounds, bytes: usize) -> Served {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any).expect("a port");
        let at = listener.address().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let page = Bytes::from(vec![b'x'; bytes]);
        let service = move |_, _| std::future::ready(Response::new(Body::from(page.clone())));
        let metrics = ConnectionMetrics::register(&prometheus::Registry::new()).expect("metrics");
        let metrics = metrics.of("public");
        metrics.bound(bounds.connections_max);
        let serving = tokio::spawn(serve(
            listener,
            None,
            service,
            bounds,
            metrics.clone(),
            stopped,
        ));
        Served {
            at,
            stop,
            serving,
            metrics,
        }
    }

    async fn ask(line: &mut TcpStream) -> io::Result<()> {
        line.write_all(ASK).await?;
        let mut answer = Vec::new();
        let whole = async {
            while !answer.ends_with(b"\r\n\r\nx") {
                answer.push(line.read_u8().await?);
            }
            Ok::<_, io::Error>(())
        };
        let heard = tokio::time::timeout(Duration::from_secs(20), whole).await;
        heard.expect("an answer or an end")?;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        Ok(())
    }

    /// The only place there is, taken by a client that asks and never reads.
    #[tokio::test]
    async fn who_does_not_read_gives_up_the_place() {
        let mut few = bounds();
        few.connections_max = 1;
        few.patience.write = Duration::from_millis(50);
        let served = started(few, 1 << 20);
        let mut deaf = TcpStream::connect(served.at).await.expect("the place");
        deaf.write_all(&ASK.repeat(100)).await.expect("sent");
        let mut next = TcpStream::connect(served.at).await.expect("in the queue");
        ask(&mut next).await.expect("a place came free");
        assert_eq!(served.metrics.max.get(), 1);
        served.stop.send(true).expect("serving");
        drop(next);
        served.serving.await.expect("no panic");
        assert_eq!(served.metrics.open.get(), 0);
    }

    #[tokio::test]
    async fn a_client_with_as_many_lines_as_it_may_have_is_closed_at_once() {
        let mut capped = bounds();
        capped.client_cap.max = Some(2);
        let served = started(capped, 1);
        let mut lines = Vec::new();
        for _ in 0..2 {
            let mut line = TcpStream::connect(served.at).await.expect("a place");
            ask(&mut line).await.expect("answered");
            lines.push(line);
        }
        let mut third = TcpStream::connect(served.at).await.expect("the kernel's");
        assert!(ask(&mut third).await.is_err(), "closed");
        assert_eq!(served.metrics.refused.get(), 1);
        ask(&mut lines[0]).await.expect("the others go on");
        served.stop.send(true).expect("serving");
        drop(lines);
        served.serving.await.expect("no panic");
    }

    /// Let in by the kernel before the engine was told to stop, looked at after it.
    #[tokio::test]
    async fn who_stands_in_the_queue_at_the_end_is_answered() {
        let mut few = bounds();
        few.connections_max = 4;
        let served = started(few, 1);
        let mut first = TcpStream::connect(served.at).await.expect("a place");
        ask(&mut first).await.expect("answered");
        let mut queued = Vec::new();
        // The one thread of this test does not accept before it is awaited below.
        for _ in 0..3 {
            let line = std::net::TcpStream::connect(served.at).expect("in the queue");
            line.set_nonblocking(true).expect("a flag");
            queued.push(TcpStream::from_std(line).expect("registered"));
        }
        served.stop.send(true).expect("serving");
        for line in &mut queued {
            ask(line).await.expect("answered");
        }
        drop((first, queued));
        served.serving.await.expect("no panic");
    }

    #[test]
    fn only_what_concerns_one_connection_is_passed_over_at_once() {
        let error = |code: rustix::io::Errno| io::Error::from_raw_os_error(code.raw_os_error());
        for one in [
            rustix::io::Errno::CONNABORTED,
            rustix::io::Errno::CONNRESET,
            rustix::io::Errno::INTR,
            rustix::io::Errno::NETDOWN,
        ] {
            assert!(is_of_one_connection(&error(one)), "{one}");
        }
        for lasting in [
            rustix::io::Errno::MFILE,
            rustix::io::Errno::NFILE,
            rustix::io::Errno::NOBUFS,
            rustix::io::Errno::NOMEM,
        ] {
            assert!(!is_of_one_connection(&error(lasting)), "{lasting}");
        }
    }
}
