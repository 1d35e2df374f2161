//! A WebSocket client.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::client::LIMIT;

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket(WebSocketStream<TcpStream>);

/// Opens a WebSocket on a host.
///
/// # Errors
/// Where the handshake fails: with the status code of the answer, or in words.
pub async fn open(address: SocketAddr, host: &str, path: &str) -> Result<Socket, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let mut request = format!("ws://{host}{path}").into_client_request().expect("a path");
    request.headers_mut().insert("host", host.parse().expect("a host"));
    let opened = tokio::time::timeout(LIMIT, tokio_tungstenite::client_async(request, stream)).await;
    match opened.map_err(|_| "no handshake".to_owned())? {
        Ok((socket, _)) => Ok(Socket(socket)),
        Err(error) => Err(error.to_string()),
    }
}

impl Socket {
    /// Sends a text and waits for the next one.
    pub async fn exchange(&mut self, text: &str) -> String {
        self.0.send(Message::text(text)).await.unwrap_or_else(|error| panic!("not sent: {error}"));
        let answer = tokio::time::timeout(LIMIT, self.0.next()).await.expect("an answer in time");
        let answer = answer.expect("the socket is open").unwrap_or_else(|error| panic!("no answer: {error}"));
        answer.into_text().expect("a text").to_string()
    }
}
