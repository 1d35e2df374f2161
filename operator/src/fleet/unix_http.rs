//! One HTTP request over a Unix socket: to Envoy's admin interface, and to our own.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The largest answer that is read.
const LIMIT: usize = 256 * 1024 * 1024;

/// Sends a request over a connection of its own and reads all of the answer.
///
/// # Errors
/// Says why there is no answer: nobody listens, the connection broke, or it took longer than `patience`.
pub async fn request(
    socket: &Path,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<(StatusCode, Bytes), String> {
    match tokio::time::timeout(patience, exchange(socket, method, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(reason)) => Err(reason.to_string()),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "admin")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    // The connection's own result adds nothing to the request's.
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LIMIT).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        result = &mut answer => result,
        _ = &mut connection => answer.await,
    }
}
