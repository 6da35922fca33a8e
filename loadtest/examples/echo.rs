//! A bare hyper server that answers every request with its body, on
//! 127.0.0.1:9099 or the address given: the ceiling of any engine built on hyper,
//! and of the generator.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    Ok(Response::new(Full::new(body)))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9099".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("echo on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(echo);
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A client that leaves mid-request is its own business.
            if let Err(error) = served.await
                && !error.is_incomplete_message()
            {
                eprintln!("connection: {error}");
            }
        });
    }
}
