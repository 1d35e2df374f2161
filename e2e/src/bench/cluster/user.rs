//! What a user sees: the first 200 after a change (t4), asked for every 5 ms over a kept connection, as gateway-api-bench does.
//!
//! Endpoints on loopback addresses are refused from Kubernetes, so the backend has the machine's own address; packets to it go over
//! the loopback interface all the same, and nobody else is answered.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

use super::BenchError;
use crate::rig::client::{Ask, Connection, Target};

/// From one question to the next.
const POLL: Duration = Duration::from_millis(5);

/// Answers every request of this machine with 200. Ends with this value.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Backend {
    pub(super) async fn start() -> Result<Self, BenchError> {
        let ip = own_address()?;
        let listener = TcpListener::bind((ip, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                if from.ip() != ip {
                    continue;
                }
                let answer = service_fn(|_: Request<Incoming>| async {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The address that this machine would send from. Connecting a UDP socket sends nothing.
fn own_address() -> Result<IpAddr, BenchError> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let found = socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).and_then(|()| socket.local_addr());
    let found = found.map(|address| address.ip()).ok().filter(|ip| !ip.is_loopback());
    found.ok_or_else(|| {
        let why = "this machine has no address but loopback's, and Kubernetes allows no endpoint there";
        BenchError::Setting(why.into())
    })
}

/// Asks a proxy.
#[derive(Debug)]
pub(super) struct User {
    proxy: SocketAddr,
    connection: Option<Connection>,
    /// Whether it has had any answer: from then on somebody listens.
    answered: bool,
    /// Answers that were neither the expected one nor "not yet", and connections that broke, were closed or were refused.
    pub(super) wrong: usize,
}

impl User {
    /// Of a proxy on this port.
    pub(super) fn new(port: u16) -> Self {
        Self {
            proxy: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            connection: None,
            answered: false,
            wrong: 0,
        }
    }

    /// Asks until the answer is 200 and carries the marker; gives when it was. A 404, and a 200 with another marker, is "not
    /// yet"; anything else is counted.
    pub(super) async fn served(&mut self, host: &str, marker: &str) -> Result<Instant, BenchError> {
        const LIMIT: Duration = Duration::from_mins(2);
        let started = Instant::now();
        let ask = Ask::get(host, "/");
        loop {
            let next = Instant::now() + POLL;
            if self.is_served(&ask, marker).await {
                return Ok(Instant::now());
            }
            if started.elapsed() > LIMIT {
                let of = format!("{host} is served with the marker {marker}");
                return Err(BenchError::Late { of, seconds: LIMIT.as_secs() });
            }
            tokio::time::sleep_until(next.into()).await;
        }
    }

    async fn is_served(&mut self, ask: &Ask, marker: &str) -> bool {
        let kept = self.connection.take();
        let closed = kept.as_ref().is_some_and(Connection::is_closed);
        self.wrong += usize::from(closed);
        let mut connection = if let Some(connection) = kept.filter(|_| !closed) {
            connection
        } else if let Ok(connection) = Target::http(self.proxy).connect().await {
            connection
        } else {
            // Nobody listens before the first configuration came: that is "not yet" too.
            self.wrong += usize::from(self.answered);
            return false;
        };
        let Ok(answer) = connection.ask(ask).await else {
            self.wrong += 1;
            return false;
        };
        (self.connection, self.answered) = (Some(connection), true);
        match answer.status {
            200 => answer.headers.get("x-marker").is_some_and(|value| value == marker),
            404 => false,
            _ => {
                self.wrong += 1;
                false
            }
        }
    }
}
