//! Clients of TCP, TLS and UDP listeners: they talk to the echo backends, which put their name before what they give back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use super::client::LIMIT;
use super::tls;

/// A connection to an echo, through clear text or TLS.
pub struct Stream {
    io: Box<dyn Io>,
    certificate: Option<Vec<u8>>,
    greeted: bool,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("greeted", &self.greeted).finish_non_exhaustive()
    }
}

impl Stream {
    /// Connects in clear text.
    ///
    /// # Errors
    /// Where the connection is refused.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = limited(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { io: Box::new(stream), certificate: None, greeted: false })
    }

    /// Connects over TLS with that server name (none sends none); any certificate is taken.
    ///
    /// # Errors
    /// Where the connection is refused, or closed during the handshake.
    pub async fn tls(address: SocketAddr, server_name: Option<&str>) -> io::Result<Self> {
        let stream = limited(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(tls::config(&[], server_name.is_some(), None));
        let name = server_name.unwrap_or("unnamed.example").to_owned();
        let name = ServerName::try_from(name).expect("a host name");
        let stream = limited(connector.connect(name, stream)).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|one| one.as_ref().to_vec());
        Ok(Self { io: Box::new(stream), certificate, greeted: false })
    }

    /// The certificate that the server showed, DER.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Sends a text and reads it back. The first time, the backend's name comes before it: that is returned.
    ///
    /// # Errors
    /// Where the connection ends, or something else comes back.
    pub async fn ask(&mut self, text: &str) -> io::Result<String> {
        limited(self.io.write_all(text.as_bytes())).await?;
        let mut seen = Vec::new();
        let greets = !std::mem::replace(&mut self.greeted, true);
        loop {
            let end = seen.len();
            seen.resize(end + 1024, 0);
            let length = limited(self.io.read(&mut seen[end..])).await?;
            seen.truncate(end + length);
            if length == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed"));
            }
            let all = String::from_utf8_lossy(&seen);
            let body = if greets { all.split_once(':') } else { Some(("", &*all)) };
            match body {
                Some((name, body)) if body == text => return Ok(name.to_owned()),
                Some((_, body)) if !text.starts_with(body) => {
                    return Err(io::Error::other(format!("not an echo: {all}")));
                }
                _ => {}
            }
        }
    }

    /// Waits for the end of the connection from the other side. What comes before it is an error.
    ///
    /// # Errors
    /// Where something comes, or nothing within the limit.
    pub async fn closed(&mut self) -> io::Result<()> {
        let mut byte = [0];
        match limited(self.io.read(&mut byte)).await {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("it goes on")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            Err(_) => Ok(()),
        }
    }
}

/// Which backend answers a fresh connection in clear text; `closed` where none does.
pub async fn whom(address: SocketAddr) -> String {
    answered(Stream::tcp(address).await).await
}

/// Which backend answers a fresh connection over TLS; `closed` where none does.
pub async fn whom_tls(address: SocketAddr, server_name: Option<&str>) -> String {
    answered(Stream::tls(address, server_name).await).await
}

async fn answered(stream: io::Result<Stream>) -> String {
    let answer = async { stream?.ask("hello").await }.await;
    match answer {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("neither answered nor closed"),
        Err(_) => "closed".to_owned(),
    }
}

async fn limited<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came")))
}

/// A UDP session: a client's socket to one address.
#[derive(Debug)]
pub struct Session(UdpSocket);

impl Session {
    /// A new one; nothing is sent yet.
    ///
    /// # Panics
    /// Where the system gives no socket.
    pub async fn open(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(address).await.unwrap();
        Self(socket)
    }

    /// Sends a datagram and waits so long for the answer to it: which backend it is from. An answer to an earlier one is
    /// passed over.
    pub async fn try_ask(&self, text: &str, wait: Duration) -> Option<String> {
        // A port that is closed is told by the next send; to send is all that is wanted.
        let _ = self.0.send(text.as_bytes()).await;
        let mut buffer = vec![0; 65_536];
        let answer = async {
            loop {
                let Ok(length) = self.0.recv(&mut buffer).await else { continue };
                let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if let Some((name, body)) = answer.split_once(':')
                    && body == text
                {
                    return name.to_owned();
                }
            }
        };
        tokio::time::timeout(wait, answer).await.ok()
    }

    /// The same; fails the test where no answer comes.
    ///
    /// # Panics
    /// Where no answer comes.
    pub async fn ask(&self, text: &str) -> String {
        self.try_ask(text, LIMIT).await.expect("an answer")
    }
}
