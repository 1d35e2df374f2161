//! Make before break, proven: a real Envoy under a steady loop, changes of every kind, and not one request lost.
//!
//! Each case is short enough to be read as a specification: these manifests, this traffic, these changes, nothing lost. Besides
//! the traffic that a case is about, there is traffic on all kinds of listeners that no change is about, and that keeps its
//! connections through all of them. `docs/make-before-break.md` says what is promised; `hack/mbb` runs it.

// A failure of a case's own tools fails the case; clippy knows only tests as such.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod backends;
mod certificates;
mod control_plane;
mod listeners;
mod outcome;
mod replicas;
mod routes;
mod scene;
mod streams;
mod traffic;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::FutureExt as _;

pub use outcome::{HEADER, Outcome};

/// How long one case may take.
const LIMIT: Duration = Duration::from_mins(5);

/// How often a case repeats its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As often as the promise says.
    Full,
    /// Fewer repetitions of the same, for each change of the code.
    Quick,
}

impl Size {
    fn of<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// A case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// How it is called.
    pub name: &'static str,
    /// What changes.
    pub about: &'static str,
    /// Runs it.
    run: fn(Size) -> Running,
}

macro_rules! case {
    ($name:literal, $about:literal, $run:path) => {
        Case { name: $name, about: $about, run: |size| Box::pin($run(size)) }
    };
}

/// All cases, in the order in which they run.
pub const CASES: [Case; 15] = [
    case!("flips", "backend and filter of a route, every 200 ms", routes::flips),
    case!("reorder", "the order of a route's rules", routes::reorder),
    case!("weights", "the weights of two backends, in 20 steps", routes::weights),
    case!("hostname", "a hostname moves between two routes", routes::hostname),
    case!("service", "a route moves to a Service that comes with it", backends::service),
    case!("backend-tls", "a backend is spoken to over TLS, and in clear text again", backends::tls),
    case!("endpoints", "endpoints of a Service, 1 to 10 to 1", backends::endpoints),
    case!("listeners", "listeners are added, changed and removed", listeners::listeners),
    case!("certificates", "the certificate of a listener", certificates::rotated),
    case!("tcp", "the backend of a TCPRoute", streams::tcp),
    case!("udp", "the backend of a UDPRoute", streams::udp),
    case!("standalone", "portolan standalone killed and started", control_plane::standalone),
    case!("operator", "an operator killed and started", control_plane::restarted),
    case!("leader", "the leader killed, and the proxy was its own", control_plane::of_the_leader),
    case!("follower", "the leader killed, and the proxy was the follower's", control_plane::of_the_follower),
];

impl Case {
    /// Runs it. One that does not come to its end fails; whatever it started ends with it.
    pub async fn run(&self, size: Size) -> Outcome {
        let started = Instant::now();
        let running = AssertUnwindSafe((self.run)(size)).catch_unwind();
        let mut outcome = match tokio::time::timeout(LIMIT, running).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(reason)) => Outcome::broken(format!("it did not come to its end: {}", said(&*reason))),
            Err(_) => Outcome::broken(format!("it did not come to its end within {LIMIT:?}")),
        };
        outcome.took = started.elapsed();
        outcome
    }
}

/// What a panic said.
fn said(reason: &(dyn Any + Send)) -> &str {
    let text = reason.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| reason.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}
