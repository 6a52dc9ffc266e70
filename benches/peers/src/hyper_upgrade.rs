//! The opening handshake by `hyper`, for crates that leave it to that.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Ended;

/// Serves HTTP on the socket: `upgrade` answers a request, or refuses it with `Err`.
///
/// The connection itself must be taken over by a task that `upgrade` starts.
pub async fn serve<E>(
    stream: TcpStream,
    upgrade: impl Fn(Request<Incoming>) -> Result<Response<Empty<Bytes>>, E>,
) -> Ended {
    let service = service_fn(|request| {
        let response = upgrade(request).unwrap_or_else(|_| {
            let mut refusal = Response::new(Empty::new());
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            refusal
        });
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let http = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    Ok(http.with_upgrades().await?)
}
