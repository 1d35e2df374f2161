//! The control plane on a real API server, measured from outside: B0 to B9 and two more, each a line of JSON.
//!
//! All times are of one clock, this process's: t0 a write returned, t1 an independent watch saw it, t2 a delta ADS probe received
//! what carries it, t3 Envoy acknowledged it, t4 the first 200, t5 the right status with the object's generation was seen. No
//! kubelet and no controller runs: Services, EndpointSlices and the readiness of fleets are plain objects that the harness
//! writes. Anything that serves delta ADS and has a GatewayClass can be measured ([`Target`]). Everything ends by itself, in
//! bounded time.

mod access;
mod api;
mod apply;
mod attached;
mod cold;
mod envoy;
mod error;
mod fleet;
mod floor;
mod gate;
mod held;
mod homes;
mod instructions;
mod machine;
mod meter;
mod noise;
mod objects;
mod operator;
mod plot;
mod probe;
mod propagation;
mod record;
mod report;
mod scale;
mod site;
mod sizes;
mod user;
mod watch;

use std::{io::Write as _, path::PathBuf, time::Instant};

use serde_json::Value;

pub use access::TlsFiles;
pub use error::BenchError;
pub use gate::{Verdict, gate};
pub use site::Target;

use self::{api::Writer, record::Recorded, report::Report, sizes::Sizes};
use super::process;
use crate::apiserver::{Objects, crds};

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Name {
    /// The floor: the API server's own write and watch. Every run has it.
    B0,
    /// Routes one by one: write, watch, wire, first 200, status.
    B1,
    /// B1 among many routes, at rest and while others change.
    B2,
    /// Many routes attached by several writers, then removed.
    B3,
    /// Many routes, Services and EndpointSlices, then churn.
    B4,
    /// A real Envoy applies one changed route among many.
    B5,
    /// Unrelated objects change.
    B6,
    /// Many idle streams, then routes come and go for minutes.
    B7,
    /// Cold start among many routes, and a proxy that comes back.
    B8,
    /// Instructions of resolving, lowering and encoding, in process.
    B9,
    /// An EndpointSlice changes among many.
    Endpoints,
    /// What one real Envoy keeps.
    Proxy,
}

impl Name {
    /// Those that share a site with many routes.
    const AMONG_MANY: [Self; 5] = [Self::B2, Self::B4, Self::B8, Self::Endpoints, Self::Proxy];
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whom to measure.
    pub target: Target,
    /// Which benchmarks; in the order of [`Name`].
    pub names: Vec<Name>,
    /// Fewer and shorter ones.
    pub quick: bool,
    /// A longer B7.
    pub soak: bool,
    /// Whether a real Envoy takes part.
    pub envoy: bool,
    /// The program whose instructions B9 counts; without it B9 is left out.
    pub instructions: Option<PathBuf>,
    /// The binary with fail points, for endpoints while resolving is held; without it that is left out.
    pub held: Option<PathBuf>,
    /// The folder of documents in which results, plots and the table are written.
    pub record: Option<PathBuf>,
}

/// What benchmarks have in common.
struct Bench {
    target: Target,
    writer: Writer,
    sizes: Sizes,
    envoy: bool,
    held: Option<PathBuf>,
}

/// Runs benchmarks; each line is given to `emit` as soon as it is there.
///
/// # Errors
/// Where the harness, the API server or the control plane fails. A missed bar is in a line.
pub async fn run(options: Options, mut emit: impl FnMut(&Value)) -> Result<Vec<Value>, BenchError> {
    let (machine, start) = (machine::machine(), Instant::now());
    let writer = Writer::connect().await?;
    Objects::new(writer.client().clone()).install(&crds("experimental")).await;
    let sizes = if options.quick { Sizes::quick() } else { Sizes::full(options.soak) };
    let bench = Bench { target: options.target, writer, sizes, envoy: options.envoy, held: options.held };
    let mut names = options.names;
    names.sort();
    names.dedup();
    let mut all = Vec::new();
    say("B0");
    let floor = floor::run(&bench).await?;
    let summary =
        floor.summary(&["write_p50_ms", "route_t1_t0_p50_ms", "route_t1_t0_p99_ms", "noise_percent"]);
    let mut take = |reports: Vec<Report>| {
        for report in reports {
            let line = report.line(&summary);
            emit(&line);
            all.push(Recorded { line, plot: report.plot });
        }
    };
    take(vec![floor]);
    let (among_many, alone): (Vec<Name>, Vec<Name>) =
        names.into_iter().filter(|name| *name != Name::B0).partition(|name| Name::AMONG_MANY.contains(name));
    for name in alone {
        say(&format!("{name:?}"));
        take(match name {
            Name::B1 => vec![propagation::run(&bench).await?],
            Name::B3 => attached::run(&bench).await?,
            Name::B5 if bench.envoy => apply::run(&bench).await?,
            Name::B6 => vec![noise::run(&bench).await?],
            Name::B7 => vec![fleet::run(&bench).await?],
            Name::B9 => match &options.instructions {
                Some(program) => vec![instructions::run(&bench, program).await?],
                None => Vec::new(),
            },
            _ => Vec::new(),
        });
    }
    if !among_many.is_empty() {
        say(&format!("{among_many:?}"));
        take(scale::run(&bench, &among_many).await?);
    }
    if let Some(docs) = &options.record {
        let minutes = start.elapsed().as_secs().div_ceil(60);
        record::record(docs, &format!("{machine}; it took {minutes} minutes"), &all)?;
    }
    Ok(all.into_iter().map(|recorded| recorded.line).collect())
}

/// Tells a person what runs.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}
