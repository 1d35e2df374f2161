//! Asking a running standalone over its Unix socket.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends a GET over a Unix socket; the status code and the body.
///
/// # Errors
/// Where nothing listens, or no answer comes.
pub async fn get(socket: &Path, path: &str) -> Result<(u16, String), String> {
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let request = Request::get(path).header("host", "portolan").body(Empty::<Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        driver.abort();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(format!("no answer to {path}")))
}
