//! Lanes of TCP and UDP: texts and datagrams that come back with the backend's name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Client, Loss, Seen};
use crate::rig::stream::{Session, Stream};

pub(super) type Check = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A datagram over loopback is answered at once, or never.
const ANSWER: Duration = Duration::from_secs(3);

fn judged(name: &str, check: &Check, seen: &mut Seen) -> Result<(), Loss> {
    *seen.answers.entry(name.to_owned()).or_default() += 1;
    if check(name) { Ok(()) } else { Err(Loss::plain(format!("answered by {name}"))) }
}

/// Sends texts over TCP.
pub(super) struct Tcp {
    address: SocketAddr,
    keep: bool,
    check: Check,
    number: u64,
    /// The open connection, and whom it reached.
    open: Option<(Stream, String)>,
}

impl Tcp {
    pub(super) fn new(address: SocketAddr, keep: bool, check: Check) -> Self {
        Self { address, keep, check, number: 0, open: None }
    }
}

impl Client for Tcp {
    async fn ask(&mut self, seen: &mut Seen) -> Result<(), Loss> {
        self.number += 1;
        let text = self.number.to_string();
        if let Some((mut stream, name)) = self.open.take() {
            stream.ask(&text).await.map_err(|error| loss(&error, false))?;
            // A connection stays with whom it reached: that it was right then is enough.
            *seen.answers.entry(name.clone()).or_default() += 1;
            self.open = Some((stream, name));
            return Ok(());
        }
        seen.connections += 1;
        let refused = |error: io::Error| Loss { reason: error.to_string(), reset: false, refused: true };
        let mut stream = Stream::tcp(self.address).await.map_err(refused)?;
        let name = stream.ask(&text).await.map_err(|error| loss(&error, true))?;
        judged(&name, &self.check, seen)?;
        self.open = self.keep.then_some((stream, name));
        Ok(())
    }
}

fn loss(error: &io::Error, fresh: bool) -> Loss {
    let reset = error.kind() != io::ErrorKind::TimedOut;
    Loss { reason: error.to_string(), reset, refused: reset && fresh }
}

/// Sends datagrams.
pub(super) struct Udp {
    address: SocketAddr,
    keep: bool,
    check: Check,
    number: u64,
    open: Option<Session>,
}

impl Udp {
    pub(super) fn new(address: SocketAddr, keep: bool, check: Check) -> Self {
        Self { address, keep, check, number: 0, open: None }
    }
}

impl Client for Udp {
    async fn ask(&mut self, seen: &mut Seen) -> Result<(), Loss> {
        self.number += 1;
        let session = if let Some(session) = self.open.take() {
            session
        } else {
            seen.connections += 1;
            Session::open(self.address).await
        };
        let answer = session.try_ask(&self.number.to_string(), ANSWER).await;
        // Nobody refuses a datagram: it is silence that tells.
        let silence = || Loss { reason: "no answer".to_owned(), reset: false, refused: true };
        let name = answer.ok_or_else(silence)?;
        self.open = self.keep.then_some(session);
        judged(&name, &self.check, seen)
    }
}
