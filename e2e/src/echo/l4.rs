//! TCP and UDP echoes: the instance's name and a colon, then what was sent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::serve::{Context, accept};

/// Largest payload of a UDP datagram over IPv4.
const DATAGRAM: usize = 65_507;

/// Answers each connection with `<instance>:` before its first byte, then with its own bytes.
pub(super) async fn tcp(listener: TcpListener, context: Context) {
    while let Some(stream) = accept(&listener, &context).await {
        let connection = context.clone();
        context.tasks.spawn(async move {
            let served = connection.stop.run_until_cancelled(echo(stream, &connection.state.instance)).await;
            if let Some(Err(error)) = served {
                tracing::debug!(%error, "TCP connection ended");
            }
        });
    }
}

async fn echo(mut stream: TcpStream, instance: &str) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut greeting = Some(format!("{instance}:"));
    loop {
        let length = stream.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return stream.shutdown().await;
        };
        if let Some(greeting) = greeting.take() {
            stream.write_all(greeting.as_bytes()).await?;
        }
        stream.write_all(bytes).await?;
    }
}

/// Answers each datagram with `<instance>:` and its bytes.
pub(super) async fn udp(socket: UdpSocket, context: Context) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            () = context.stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error here is an ICMP answer to an earlier datagram; the socket stays usable.
        let Ok((length, peer)) = received else { continue };
        let mut answer = format!("{}:", context.state.instance).into_bytes();
        answer.extend(buffer.iter().take(length));
        answer.truncate(DATAGRAM);
        if let Err(error) = socket.send_to(&answer, peer).await {
            tracing::debug!(%error, %peer, "UDP answer not sent");
        }
    }
}
