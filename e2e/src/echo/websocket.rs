//! WebSocket echo over HTTP/1.1 upgrade (RFC 6455).

use futures::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::http::{Body, empty};
use super::serve::Context;

/// The text a client sends to be told of its handshake request instead of hearing itself.
const ASK: &str = "?request";

/// The key of a WebSocket handshake, where the request is one.
pub(super) fn key(request: &Request<Incoming>) -> Option<HeaderValue> {
    let upgrade = request.headers().get(header::UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    request.headers().get(header::SEC_WEBSOCKET_KEY).cloned()
}

/// Accepts the upgrade and echoes messages until the client closes or the backend stops.
pub(super) fn accept(
    mut request: Request<Incoming>,
    key: &HeaderValue,
    about: String,
    context: &Context,
) -> Response<Body> {
    let upgraded = hyper::upgrade::on(&mut request);
    let stop = context.stop.clone();
    context.tasks.spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let (mut sink, mut messages) = socket.split();
        while let Some(Some(Ok(message))) = stop.run_until_cancelled(messages.next()).await {
            let answer = match message {
                Message::Text(text) if text.as_str() == ASK => Message::text(about.as_str()),
                message @ (Message::Text(_) | Message::Binary(_)) => message,
                // Pings and closes are answered by the library.
                _ => continue,
            };
            if sink.send(answer).await.is_err() {
                return;
            }
        }
        sink.close().await.ok();
    });
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    response
}
