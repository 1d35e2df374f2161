//! The traffic of a case: several steady loops, what is expected of each, and what they saw in the end.

use std::net::SocketAddr;
use std::time::Instant;

use super::outcome::Outcome;
use crate::rig::load::Report;
use crate::rig::{Answer, Ask, Lane, Load, Target};

/// Requests that each lane must have made for a case to say anything.
const LEAST: u64 = 20;
/// New UDP sessions are few, as are requests of a lane that is there for a part of a case.
const LEAST_SESSIONS: u64 = 5;

/// Where the traffic of a Gateway goes.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) http: Target,
    pub(super) https: Target,
    pub(super) tcp: SocketAddr,
    pub(super) udp: SocketAddr,
}

/// What a change may do to a loop's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connections {
    /// Nothing: a kept one is the same from the first request to the last.
    Kept,
    /// Ask them to leave.
    MayDrain,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Traffic {
    started: Instant,
    running: Vec<(String, Connections, Load)>,
    outcome: Outcome,
    reports: Vec<(String, Report)>,
}

impl Traffic {
    /// With what no change is about: HTTP, HTTPS, TCP and UDP to listeners and routes that stay as they are.
    pub(super) fn start(place: &Place) -> Self {
        let mut traffic = Self {
            started: Instant::now(),
            running: Vec::new(),
            outcome: Outcome::default(),
            reports: Vec::new(),
        };
        let ask = Ask::get("steady.example", "/");
        for (name, target) in [("steady http", &place.http), ("steady https", &place.https)] {
            traffic.http(name, target, &ask, from("steady"));
        }
        traffic.add("steady tcp", Connections::Kept, Load::tcp(place.tcp, |name| name == "steady"));
        traffic.add("steady udp", Connections::Kept, Load::udp(place.udp, |name| name == "steady"));
        traffic
    }

    /// One more loop over HTTP, whose connections are kept.
    pub(super) fn http(
        &mut self,
        name: &str,
        target: &Target,
        ask: &Ask,
        check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.add(name, Connections::Kept, Load::start(target, ask, check));
    }

    /// One more loop.
    pub(super) fn add(&mut self, name: &str, connections: Connections, load: Load) {
        self.running.push((name.to_owned(), connections, load));
    }

    /// Waits until each loop made that many more requests.
    pub(super) async fn more(&self, requests: u64) {
        for (_, _, load) in &self.running {
            load.more(requests).await;
        }
    }

    /// Counts a change.
    pub(super) fn changed(&mut self) {
        self.outcome.changes += 1;
    }

    /// Notes that something is not as it must be.
    pub(super) fn problem(&mut self, problem: &str) {
        self.outcome.problems.push(format!("after {:.1?}: {problem}", self.started.elapsed()));
    }

    /// A loop whose listener goes: from now on new connections may be refused, and nothing else may happen to it.
    pub(super) fn may_be_refused(&self, name: &str) {
        let (_, _, load) = self.running.iter().find(|(each, ..)| each == name).expect("a loop of that name");
        load.may_be_refused();
    }

    /// Waits until a loop's listener refuses new connections, and ends the loop.
    pub(super) async fn refused(&mut self, name: &str) {
        let at = self.running.iter().position(|(each, ..)| each == name).expect("a loop of that name");
        let (name, connections, load) = self.running.remove(at);
        let report = load.refused().await;
        self.count(name, connections, report, 1);
    }

    /// Ends a loop whose subject is gone: each of its lanes must have been told so, over the connections that it has.
    pub(super) async fn not_found(&mut self, name: &str) {
        let at = self.running.iter().position(|(each, ..)| each == name).expect("a loop of that name");
        let (name, connections, load) = self.running.remove(at);
        load.more(60).await;
        let report = load.stop().await;
        if report.lanes().any(|(_, seen)| !seen.answers.contains_key("404")) {
            self.problem(&format!("{name} is gone, and a lane was not told so:\n{report}"));
        }
        self.count(name, connections, report, LEAST_SESSIONS);
    }

    fn count(&mut self, name: String, connections: Connections, report: Report, least: u64) {
        let outcome = &mut self.outcome;
        outcome.requests += report.sent();
        outcome.failed += report.failed();
        outcome.resets += report.resets();
        outcome.drained += report.drained();
        let kept = |lane: Lane| matches!(lane, Lane::Kept | Lane::Http2 | Lane::TcpKept | Lane::UdpKept);
        let mut wrong = !report.is_clean(least) || report.resets() > 0;
        if connections == Connections::Kept {
            wrong |= report.lanes().any(|(lane, seen)| kept(lane) && seen.connections != 1);
        }
        if wrong {
            outcome.problems.push(format!("{name} ({connections:?}):\n{report}"));
        }
        self.reports.push((name, report));
    }

    /// Ends all loops.
    pub(super) async fn end(mut self) -> Outcome {
        for (name, connections, load) in std::mem::take(&mut self.running) {
            let report = load.stop().await;
            let least = if name.ends_with("udp") { LEAST_SESSIONS } else { LEAST };
            self.count(name, connections, report, least);
        }
        self.outcome
    }

    /// Ends all loops; each of these backends must have answered, or the changes changed nothing.
    pub(super) async fn end_after(mut self, name: &str, backends: &[&str]) -> Outcome {
        let at = self.running.iter().position(|(each, ..)| each == name).expect("a loop of that name");
        let (name, connections, load) = self.running.remove(at);
        let report = load.stop().await;
        for backend in backends {
            if report.answers(backend) == 0 {
                self.problem(&format!("{backend} answered nothing:\n{report}"));
            }
        }
        self.count(name, connections, report, LEAST_SESSIONS);
        self.end().await
    }
}

/// The check that a backend answered.
pub(super) fn from(backend: &'static str) -> impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static {
    move |answer| match answer.instance() {
        Some(instance) if instance == backend => Ok(()),
        other => Err(format!("answered by {other:?}, not by {backend}")),
    }
}

/// The check that any backend answered.
pub(super) fn from_any(answer: &Answer) -> Result<(), String> {
    answer.instance().map(|_| ()).ok_or_else(|| "no backend answered".to_owned())
}
