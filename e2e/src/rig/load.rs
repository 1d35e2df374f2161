//! A steady loop of requests while a test changes things. Every request must be answered, and rightly.
//!
//! Three lanes ask at the same time, each one request after another: fresh connections, one kept-alive HTTP/1.1 connection, one
//! HTTP/2 connection. A connection that the server closes between requests, or asks to close, is replaced, as every client
//! does; a request that was sent and not answered is a failure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Ask, ClientError, Connection, Target};

/// Pause between two requests of a lane: a busy machine is not what is tested.
const PAUSE: Duration = Duration::from_millis(3);
/// A request that waits longer was held up by the change: warming that waits in vain takes 15 s, a busy machine far less.
const HELD_UP: Duration = Duration::from_secs(5);
/// How many failures are told in full.
const TOLD: usize = 8;

/// How a lane connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A connection per request.
    Fresh,
    /// One kept-alive HTTP/1.1 connection.
    Kept,
    /// One HTTP/2 connection.
    Http2,
}

/// All lanes.
pub const LANES: [Lane; 3] = [Lane::Fresh, Lane::Kept, Lane::Http2];

type Check = Arc<dyn Fn(&Answer) -> Result<(), String> + Send + Sync>;

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
    /// The longest wait for an answer.
    pub longest: Duration,
}

/// What all lanes saw.
#[derive(Debug)]
pub struct Report(BTreeMap<Lane, Seen>);

/// A running loop. Dropping it ends it unseen.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    sent: Arc<AtomicU64>,
    lanes: Vec<(Lane, JoinHandle<Seen>)>,
}

impl Load {
    /// Starts all lanes; an answer must be a 200 that passes the check.
    pub fn start(
        target: &Target,
        ask: &Ask,
        check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::on(&LANES, target, ask, check)
    }

    /// Starts some lanes.
    pub fn on(
        lanes: &[Lane],
        target: &Target,
        ask: &Ask,
        check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let (stop, sent, check): (_, _, Check) = (CancellationToken::new(), Arc::default(), Arc::new(check));
        let lanes = lanes.iter().map(|lane| {
            let target = if *lane == Lane::Http2 { target.clone().http2() } else { target.clone() };
            let runner = Runner {
                lane: *lane,
                target,
                ask: ask.clone(),
                check: check.clone(),
                started: Instant::now(),
                sent: Arc::clone(&sent),
                seen: Seen::default(),
                open: None,
            };
            (*lane, tokio::spawn(runner.run(stop.clone())))
        });
        Self { lanes: lanes.collect(), stop, sent }
    }

    /// Waits until that many more requests were answered: what a test just did was under load.
    pub async fn more(&self, requests: u64) {
        let goal = self.sent.load(Ordering::Relaxed) + requests;
        let reached = async {
            while self.sent.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(super::DEADLINE, reached).await.expect("the steady loop goes on");
    }

    /// Ends the loop after the requests that are under way.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        let lanes = std::mem::take(&mut self.lanes);
        let seen = join_all(lanes.into_iter().map(async |(lane, task)| (lane, task.await.unwrap()))).await;
        Report(seen.into_iter().collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Runner {
    lane: Lane,
    target: Target,
    ask: Ask,
    check: Check,
    started: Instant,
    sent: Arc<AtomicU64>,
    seen: Seen,
    open: Option<Connection>,
}

impl Runner {
    async fn run(mut self, stop: CancellationToken) -> Seen {
        while !stop.is_cancelled() {
            let asked = Instant::now();
            self.seen.sent += 1;
            let outcome = self.once().await;
            self.seen.longest = self.seen.longest.max(asked.elapsed());
            if let Err(reason) = outcome {
                self.open = None;
                self.seen.failures.push((self.started.elapsed(), reason));
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        self.seen
    }

    async fn once(&mut self) -> Result<(), String> {
        let kept = self.open.take().filter(|open| !open.is_closed());
        let open = if let Some(kept) = kept {
            self.open.insert(kept)
        } else {
            self.seen.connections += 1;
            let opened: Result<_, ClientError> = self.target.connect().await;
            self.open.insert(opened.map_err(|error| error.to_string())?)
        };
        let answer = open.ask(&self.ask).await.map_err(|error| error.to_string())?;
        *self.seen.answers.entry(answer.short()).or_default() += 1;
        if self.lane == Lane::Fresh || answer.header("connection").contains(&"close") {
            self.open = None;
        }
        if answer.status != 200 {
            return Err(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
        (self.check)(&answer)
    }
}

impl Report {
    /// What a lane saw.
    pub fn lane(&self, lane: Lane) -> &Seen {
        &self.0[&lane]
    }

    /// Requests of all lanes.
    pub fn sent(&self) -> u64 {
        self.0.values().map(|seen| seen.sent).sum()
    }

    /// Answers of all lanes by one backend.
    pub fn answers(&self, instance: &str) -> u64 {
        self.0.values().filter_map(|seen| seen.answers.get(instance)).sum()
    }

    /// Fails the test unless every lane asked at least that often, and every request was answered rightly and soon.
    #[track_caller]
    pub fn assert_clean(&self, least: u64) {
        let clean = |seen: &Seen| seen.failures.is_empty() && seen.sent >= least && seen.longest < HELD_UP;
        let all = self.0.values().all(clean);
        assert!(all, "requests failed, waited {HELD_UP:?}, or a lane sent fewer than {least}:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (lane, seen) in &self.0 {
            let Seen { sent, connections, answers, failures, longest } = seen;
            writeln!(
                f,
                "{lane:?}: {sent} requests on {connections} connections, {} failed, longest {longest:?}, answers {answers:?}",
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
    }
}
