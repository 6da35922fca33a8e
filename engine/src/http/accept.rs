//! Sockets: who may connect, for how long, and how all of it ends.
//!
//! A place is taken before a connection is accepted, so that the engine stops
//! accepting when it is full and the kernel's queue holds the rest back.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::respond::Body;
use crate::workers::Workers;

/// How long a connection may keep us waiting: for a request's head, which is also
/// how long it may idle, and for room to write more of an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Enough for our largest request head.
const BUFFER_BYTES: usize = 16 * 1024;

pub struct Listener {
    pub socket: TcpListener,
    pub connections_max: usize,
    pub patience: Duration,
}

impl Listener {
    /// Says plainly which address is taken.
    pub fn bind(address: SocketAddr, connections_max: usize) -> Result<Self, String> {
        let bind = || -> std::io::Result<TcpListener> {
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
        Ok(Self {
            socket,
            connections_max,
            patience: PATIENCE,
        })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Resolves when told to stop, or when whoever could tell is gone.
async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Serves until `stop` says so, on these workers in turn (none: where it is called), then lets requests under way finish, at most `grace`.
pub async fn serve<S, F>(
    listener: Listener,
    workers: Option<Arc<Workers>>,
    service: S,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
) where
    S: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(listener.connections_max));
    let mut connections = JoinSet::new();
    let patience = listener.patience;
    loop {
        while connections.try_join_next().is_some() {}
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
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: wait for some to come back.
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are single small writes: waiting to fill a segment only delays them.
        let _ = socket.set_nodelay(true);
        let (service, mut stop) = (service.clone(), stop.clone());
        let worker = workers
            .as_ref()
            .map_or_else(Handle::current, |w| w.next().clone());
        let Ok(socket) = socket.into_std() else {
            continue;
        };
        connections.spawn_on(
            async move {
                let _place = place;
                // Its events belong to the worker that answers them.
                let Ok(socket) = TcpStream::from_std(socket) else {
                    return;
                };
                let serve = service_fn(move |request| {
                    let answer = service(request, peer.ip());
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let mut socket = TimeoutStream::new(socket);
                // A client that reads nothing would hold its place for ever.
                socket.set_write_timeout(Some(patience));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(patience)
                    .half_close(false)
                    .max_buf_size(BUFFER_BYTES)
                    .serve_connection(TokioIo::new(Box::pin(socket)), serve);
                tokio::pin!(connection);
                // Errors here are the client's: cut lines and broken requests.
                let stopped = tokio::select! {
                    _ = connection.as_mut() => false,
                    () = told_to(&mut stop) => true,
                };
                if stopped {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            },
            &worker,
        );
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finish).await.is_err() {
        tracing::warn!(
            n = connections.len(),
            "connections cut at the end of the grace time"
        );
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The only place there is, taken by a client that asks and never reads.
    #[tokio::test]
    async fn who_does_not_read_gives_up_the_place() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listener = Listener::bind(any, 1).expect("a port");
        listener.patience = Duration::from_millis(50);
        let at = listener.address().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let page = Bytes::from(vec![b'x'; 1 << 20]);
        let service = move |_, _| std::future::ready(Response::new(Body::from(page.clone())));
        let serving = tokio::spawn(serve(listener, None, service, stopped, Duration::ZERO));

        let ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut deaf = TcpStream::connect(at).await.expect("the place");
        deaf.write_all(&ask.repeat(100)).await.expect("sent");
        let mut next = TcpStream::connect(at).await.expect("in the queue");
        next.write_all(ask).await.expect("sent");
        let mut answer = [0; 12];
        let heard = next.read_exact(&mut answer);
        let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
        heard.expect("a place came free").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        stop.send(true).expect("serving");
        serving.await.expect("no panic");
    }
}
