//! A steady loop of requests while a test changes things. Every request must be answered, and rightly.
//!
//! Lanes ask at the same time, each one request after another: over HTTP fresh connections, one kept-alive HTTP/1.1 connection
//! and one HTTP/2 connection; over TCP and UDP new and kept connections and sessions. A connection that the server asks to
//! close is replaced, as every client does. Nothing is asked twice: a request of which anything was sent, and that is not
//! answered, is a failure.

mod http;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Ask, Target};

/// Pause between two requests of a lane: a busy machine is not what is tested.
const PAUSE: Duration = Duration::from_millis(3);
/// The same for new UDP sessions: Envoy keeps each for a minute, with a socket of its own.
const PAUSE_OF_SESSIONS: Duration = Duration::from_millis(100);
/// A request that waits longer was held up by the change: warming that waits in vain takes 15 s, a busy machine far less.
const HELD_UP: Duration = Duration::from_secs(5);
/// How many failures are told in full.
const TOLD: usize = 8;

/// How a lane connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// An HTTP/1.1 connection per request.
    Fresh,
    /// One kept-alive HTTP/1.1 connection.
    Kept,
    /// One HTTP/2 connection.
    Http2,
    /// A TCP connection per text.
    Tcp,
    /// One TCP connection.
    TcpKept,
    /// A UDP session per datagram.
    Udp,
    /// One UDP session.
    UdpKept,
}

/// All lanes of HTTP.
pub const LANES: [Lane; 3] = [Lane::Fresh, Lane::Kept, Lane::Http2];

/// What a lane saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Requests sent.
    pub sent: u64,
    /// Connections opened.
    pub connections: u64,
    /// Answers per backend, or per status code where it is not 200.
    pub answers: BTreeMap<String, u64>,
    /// When since the start, and what went wrong.
    pub failures: Vec<(Duration, String)>,
    /// Connections that the server ended unasked: with a request on them, or between two without having announced it.
    pub resets: u64,
    /// Connections that the server asked to leave, and that were left: `Connection: close`, GOAWAY.
    pub drained: u64,
    /// When since the start a new connection was refused; see [`Load::may_be_refused`].
    pub refused: Option<Duration>,
    /// The longest wait for an answer.
    pub longest: Duration,
}

/// What all lanes saw.
#[derive(Debug)]
pub struct Report(BTreeMap<Lane, Seen>);

/// A running loop. Dropping it ends it unseen.
#[derive(Debug)]
pub struct Load {
    control: Control,
    lanes: Vec<(Lane, JoinHandle<Seen>)>,
}

/// What all lanes of a loop have in common.
#[derive(Debug, Clone)]
struct Control {
    started: Instant,
    stop: CancellationToken,
    sent: Arc<AtomicU64>,
    may_be_refused: Arc<AtomicBool>,
}

/// Why a request is not answered rightly.
#[derive(Debug)]
struct Loss {
    reason: String,
    /// The server ended the connection.
    reset: bool,
    /// No connection came about that took a request.
    refused: bool,
}

impl Loss {
    /// An answer came, or none, on a connection that is not broken.
    fn plain(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), reset: false, refused: false }
    }
}

/// What asks, one request after another.
trait Client: Send + 'static {
    /// Asks once; after a loss it starts again with a new connection.
    fn ask(&mut self, seen: &mut Seen) -> impl Future<Output = Result<(), Loss>> + Send;
}

impl Load {
    /// Starts all lanes of HTTP; an answer must be a 200 that passes the check.
    pub fn start(
        target: &Target,
        ask: &Ask,
        check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::on(&LANES, target, ask, check)
    }

    /// Starts some lanes of HTTP.
    pub fn on(
        lanes: &[Lane],
        target: &Target,
        ask: &Ask,
        check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let only_200 = move |answer: &Answer| match answer.status {
            200 => check(answer),
            status => Err(format!("status {status}: {}", String::from_utf8_lossy(&answer.body))),
        };
        Self::http(lanes, target, ask, &(Arc::new(only_200) as http::Check))
    }

    /// Starts all lanes of HTTP; the check alone judges, whatever the status is.
    pub fn judged(
        target: &Target,
        ask: &Ask,
        check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::http(&LANES, target, ask, &(Arc::new(check) as http::Check))
    }

    fn http(lanes: &[Lane], target: &Target, ask: &Ask, check: &http::Check) -> Self {
        let mut load = Self::empty();
        for lane in lanes {
            let target = if *lane == Lane::Http2 { target.clone().http2() } else { target.clone() };
            load.spawn(*lane, http::Runner::new(*lane, target, ask.clone(), Arc::clone(check)));
        }
        load
    }

    /// Starts the lanes of TCP, new connections and a kept one; the name of the backend that answers must pass the check.
    pub fn tcp(address: SocketAddr, check: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let check: stream::Check = Arc::new(check);
        let mut load = Self::empty();
        for lane in [Lane::Tcp, Lane::TcpKept] {
            load.spawn(lane, stream::Tcp::new(address, lane == Lane::TcpKept, Arc::clone(&check)));
        }
        load
    }

    /// Starts the lanes of UDP, new sessions and a kept one; the name of the backend that answers must pass the check.
    pub fn udp(address: SocketAddr, check: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let check: stream::Check = Arc::new(check);
        let mut load = Self::empty();
        for lane in [Lane::Udp, Lane::UdpKept] {
            load.spawn(lane, stream::Udp::new(address, lane == Lane::UdpKept, Arc::clone(&check)));
        }
        load
    }

    fn empty() -> Self {
        let control = Control {
            started: Instant::now(),
            stop: CancellationToken::new(),
            sent: Arc::default(),
            may_be_refused: Arc::default(),
        };
        Self { control, lanes: Vec::new() }
    }

    fn spawn(&mut self, lane: Lane, client: impl Client) {
        let pause = if lane == Lane::Udp { PAUSE_OF_SESSIONS } else { PAUSE };
        self.lanes.push((lane, tokio::spawn(run(client, pause, self.control.clone()))));
    }

    /// Waits until that many more requests were answered: what a test just did was under load.
    pub async fn more(&self, requests: u64) {
        let goal = self.control.sent.load(Ordering::Relaxed) + requests;
        let reached = async {
            while self.control.sent.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(super::DEADLINE, reached).await.expect("the steady loop goes on");
    }

    /// From now on the server may be gone: a lane ends, without a failure, with the first new connection that is refused, or
    /// is closed before it answered anything. What was connected before must be answered as ever.
    pub fn may_be_refused(&self) {
        self.control.may_be_refused.store(true, Ordering::SeqCst);
    }

    /// Waits until every lane was refused, and tells what they saw.
    pub async fn refused(mut self) -> Report {
        let lanes = std::mem::take(&mut self.lanes);
        let ended = join_all(lanes.into_iter().map(async |(lane, task)| (lane, task.await.unwrap())));
        let seen =
            tokio::time::timeout(super::DEADLINE, ended).await.expect("every lane is refused in the end");
        Report(seen.into_iter().collect())
    }

    /// Ends the loop after the requests that are under way.
    pub async fn stop(mut self) -> Report {
        self.control.stop.cancel();
        let lanes = std::mem::take(&mut self.lanes);
        let seen = join_all(lanes.into_iter().map(async |(lane, task)| (lane, task.await.unwrap()))).await;
        Report(seen.into_iter().collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.control.stop.cancel();
    }
}

async fn run(mut client: impl Client, pause: Duration, control: Control) -> Seen {
    let mut seen = Seen::default();
    while !control.stop.is_cancelled() {
        let may_be_refused = control.may_be_refused.load(Ordering::SeqCst);
        let asked = Instant::now();
        let outcome = client.ask(&mut seen).await;
        seen.longest = seen.longest.max(asked.elapsed());
        match outcome {
            Ok(()) => {}
            Err(loss) if loss.refused && may_be_refused => {
                seen.refused = Some(control.started.elapsed());
                break;
            }
            Err(loss) => {
                seen.resets += u64::from(loss.reset);
                seen.failures.push((control.started.elapsed(), loss.reason));
            }
        }
        seen.sent += 1;
        control.sent.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
    seen
}

impl Report {
    /// What a lane saw.
    pub fn lane(&self, lane: Lane) -> &Seen {
        &self.0[&lane]
    }

    /// What each lane saw.
    pub fn lanes(&self) -> impl Iterator<Item = (Lane, &Seen)> {
        self.0.iter().map(|(lane, seen)| (*lane, seen))
    }

    /// Requests of all lanes.
    pub fn sent(&self) -> u64 {
        self.0.values().map(|seen| seen.sent).sum()
    }

    /// Requests of all lanes that were not answered rightly.
    pub fn failed(&self) -> u64 {
        self.0.values().map(|seen| seen.failures.len() as u64).sum()
    }

    /// Connections of all lanes that the server ended unasked.
    pub fn resets(&self) -> u64 {
        self.0.values().map(|seen| seen.resets).sum()
    }

    /// Connections of all lanes that the server asked to leave.
    pub fn drained(&self) -> u64 {
        self.0.values().map(|seen| seen.drained).sum()
    }

    /// Answers of all lanes by one backend.
    pub fn answers(&self, instance: &str) -> u64 {
        self.0.values().filter_map(|seen| seen.answers.get(instance)).sum()
    }

    /// Whether every lane asked at least that often, and every request was answered rightly and soon.
    pub fn is_clean(&self, least: u64) -> bool {
        let clean = |seen: &Seen| seen.failures.is_empty() && seen.sent >= least && seen.longest < HELD_UP;
        self.0.values().all(clean)
    }

    /// Fails the test unless [`Report::is_clean`].
    #[track_caller]
    pub fn assert_clean(&self, least: u64) {
        let clean = self.is_clean(least);
        assert!(clean, "requests failed, waited {HELD_UP:?}, or a lane sent fewer than {least}:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (lane, seen) in &self.0 {
            let Seen { sent, connections, answers, failures, resets, drained, longest, refused } = seen;
            let refused = refused.map(|at| format!(", refused after {at:?}")).unwrap_or_default();
            writeln!(
                f,
                "{lane:?}: {sent} requests on {connections} connections, {} failed, {resets} reset, {drained} drained{refused}, longest {longest:?}, answers {answers:?}",
                failures.len()
            )?;
            for (at, reason) in failures.iter().take(TOLD) {
                writeln!(f, "  after {at:?}: {reason}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::backends::Backends;
    use super::*;

    #[tokio::test]
    async fn it_tells_every_failure_there_is() {
        let backends = Backends::default();
        let target = Target::http(backends.start("one"));
        let clean = Load::start(&target, &Ask::get("any.example", "/"), |_| Ok(()));
        clean.more(30).await;
        let report = clean.stop().await;
        report.assert_clean(5);
        assert_eq!(report.answers("one"), report.sent());

        // Answers that are not 200, or not as the check wants them.
        for ask in [Ask::get("any.example", "/status/503"), Ask::get("any.example", "/")] {
            let load = Load::start(&target, &ask, |_| Err("not this".to_owned()));
            load.more(9).await;
            let report = load.stop().await;
            assert!(
                LANES.iter().all(|lane| report.lane(*lane).failures.len() as u64 == report.lane(*lane).sent)
            );
        }

        // A backend that is gone: each lane notices.
        let load = Load::start(&target, &Ask::get("any.example", "/"), |_| Ok(()));
        load.more(9).await;
        backends.end("one");
        load.more(9).await;
        let report = load.stop().await;
        assert!(LANES.iter().all(|lane| !report.lane(*lane).failures.is_empty()), "{report}");
        assert!(report.resets() > 0, "kept connections were ended unasked: {report}");
    }

    #[tokio::test]
    async fn it_tells_every_failure_of_connections_and_datagrams() {
        let backends = Backends::default();
        backends.start("one");
        let addresses = backends.get("one").addresses().clone();
        let (tcp, udp) = (addresses.tcp.unwrap(), addresses.udp.unwrap());
        let start = |name: &'static str| {
            [Load::tcp(tcp, move |from| from == name), Load::udp(udp, move |from| from == name)]
        };
        for load in start("one") {
            load.more(20).await;
            let report = load.stop().await;
            // New UDP sessions are begun slowly.
            report.assert_clean(1);
            assert_eq!(report.answers("one"), report.sent());
        }
        for load in start("another") {
            load.more(8).await;
            let report = load.stop().await;
            assert_eq!(report.failed(), report.sent(), "{report}");
        }
        let [streams, datagrams] = start("one");
        streams.more(8).await;
        datagrams.more(8).await;
        backends.end("one");
        streams.more(8).await;
        datagrams.more(4).await;
        let report = streams.stop().await;
        assert!(report.lanes().all(|(_, seen)| !seen.failures.is_empty()), "{report}");
        assert_eq!(report.lane(Lane::TcpKept).resets, 1, "{report}");
        let report = datagrams.stop().await;
        assert!(report.lanes().all(|(_, seen)| !seen.failures.is_empty()), "{report}");
    }

    #[tokio::test]
    async fn a_server_that_may_go_ends_lanes_without_a_failure() {
        let backends = Backends::default();
        let target = Target::http(backends.start("one"));
        let load = Load::on(&[Lane::Fresh], &target, &Ask::get("any.example", "/"), |_| Ok(()));
        load.more(5).await;
        load.may_be_refused();
        load.more(5).await;
        backends.end("one");
        let report = load.refused().await;
        assert!(report.lane(Lane::Fresh).refused.is_some() && report.failed() == 0, "{report}");
    }
}
