//! One run: cold start, a series of edits, memory.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use portolan_xds::{
    ads::client::{AdsClient, ClientOptions, Received, StreamEnded},
    store::ResourceType,
};
use portolan_xds_proto::envoy::config::route::v3::VirtualHost;
use prost::Message as _;

use super::{
    control_plane::ControlPlane,
    figures::{Figure, mib, ms, quantile},
    folder::{Folder, Load},
};

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_mins(2);
/// From one edit to the next, so that each meets a control plane at rest.
const PACE: Duration = Duration::from_millis(40);
/// Edits before the measured ones: memory is paged in, buffers have their size.
const WARM_UP: usize = 20;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The `portolan` binary.
    pub portolan: PathBuf,
    /// What is in the folder.
    pub load: Load,
    /// How many edits are measured.
    pub edits: usize,
    /// The processors that the control plane may use, as `taskset` reads them.
    pub cpus: Option<String>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Files.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The control plane cannot be started.
    #[error("portolan does not start: {0}")]
    Start(String),
    /// It has ended.
    #[error("portolan ended: {0}")]
    Ended(String),
    /// Its metrics cannot be read.
    #[error("no metrics: {0}")]
    Metrics(String),
    /// The ADS stream ended.
    #[error(transparent)]
    Stream(#[from] StreamEnded),
    /// Something did not come in time.
    #[error("nothing came of {of} within {} s", PATIENCE.as_secs())]
    Late {
        /// What was awaited.
        of: String,
    },
    /// What came cannot be read.
    #[error("not a virtual host: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// Measures once.
pub async fn run(setting: &Setting) -> Result<Vec<Figure>, RunError> {
    let folder = Folder::create(setting.load)?;
    let mut plane = ControlPlane::start(&setting.portolan, folder.path(), setting.cpus.as_deref())?;
    let mut probe = Probe::connect(&mut plane).await?;
    let cold = probe.first_complete(setting.load).await?;
    let cold_cpu = plane.cpu()?;
    let after_start = plane.memory()?;
    for turn in 0..WARM_UP {
        probe.edit(&folder, turn).await?;
    }

    let timings =
        ["portolan_resolve_seconds", "portolan_lower_seconds", "portolan_xds_change_to_sent_seconds"];
    let mut before = Vec::new();
    for name in timings {
        before.push(plane.histogram(name).await?);
    }
    let cpu_before = plane.cpu()?;
    let (mut latencies, mut bytes) = (Vec::new(), 0);
    for turn in 0..setting.edits {
        let edited = probe.edit(&folder, WARM_UP + turn).await?;
        latencies.push(ms(edited.latency));
        bytes += edited.bytes;
    }
    let cpu_after = plane.cpu()?;
    let mut means = Vec::new();
    for (name, (sum, count)) in timings.into_iter().zip(before) {
        let (sum_after, count_after) = plane.histogram(name).await?;
        means.push((sum_after - sum) / (count_after - count) * 1e6);
    }
    let after_edits = plane.memory()?;
    plane.stop().await?;

    latencies.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss)] // small counts
    let per_edit = |value: f64| value / setting.edits as f64;
    let cpu =
        |after: Duration, before: Duration| per_edit((after.saturating_sub(before)).as_secs_f64() * 1e6);
    let [resolve, lower, change_to_sent] = means[..] else { return Ok(Vec::new()) };
    #[allow(clippy::cast_precision_loss)] // megabytes
    let bytes = bytes as f64;
    Ok(vec![
        Figure {
            name: "cold start to first complete response",
            numbers: vec![
                ("ms", ms(cold.complete)),
                ("process_cpu_ms", ms(cold_cpu.process)),
                ("core_thread_cpu_ms", ms(cold_cpu.core)),
                ("bytes", cold.bytes),
            ],
        },
        Figure {
            name: "file event to delta response received",
            numbers: vec![
                ("p50_ms", quantile(&latencies, 0.5)),
                ("p90_ms", quantile(&latencies, 0.9)),
                ("p99_ms", quantile(&latencies, 0.99)),
                ("max_ms", quantile(&latencies, 1.0)),
                ("event_seen_to_sent_mean_ms", change_to_sent / 1e3),
            ],
        },
        Figure {
            name: "CPU per change",
            numbers: vec![
                ("core_thread_us", cpu(cpu_after.core, cpu_before.core)),
                ("process_us", cpu(cpu_after.process, cpu_before.process)),
                ("resolve_mean_us", resolve),
                ("lower_mean_us", lower),
            ],
        },
        Figure { name: "xDS bytes per change", numbers: vec![("bytes", per_edit(bytes))] },
        Figure {
            name: "resident memory",
            numbers: vec![
                ("after_start_mib", mib(after_start.resident)),
                ("after_edits_mib", mib(after_edits.resident)),
                ("peak_mib", mib(after_edits.peak)),
            ],
        },
    ])
}

/// The client in Envoy's place: subscribes to everything, acknowledges everything, applies nothing.
struct Probe {
    client: AdsClient,
    started: Instant,
}

struct Cold {
    complete: Duration,
    bytes: f64,
}

struct Edited {
    latency: Duration,
    bytes: usize,
}

impl Probe {
    /// Connects as soon as the socket is there.
    async fn connect(plane: &mut ControlPlane) -> Result<Self, RunError> {
        let socket = plane.xds_socket()?;
        loop {
            let options = ClientOptions { node_id: "portolan-bench".into(), ..ClientOptions::default() };
            match AdsClient::connect_unix(&socket, options).await {
                Ok(client) => return Ok(Self { client, started: plane.child.started }),
                Err(_) if plane.child.started.elapsed() < PATIENCE => {
                    plane.check()?;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until every cluster, assignment, listener and route is here.
    async fn first_complete(&mut self, load: Load) -> Result<Cold, RunError> {
        self.client.subscribe_all(ResourceType::Cluster);
        self.client.subscribe_all(ResourceType::Listener);
        let (mut complete, mut bytes, mut routes) = (self.started, 0, 0);
        let (mut clusters, mut endpoints, mut listeners) = (0, 0, 0);
        while clusters < load.services
            || endpoints < load.services
            || listeners == 0
            || routes < 2 * load.routes
        {
            let received = self.next("the start").await?;
            complete = received.at;
            bytes += received.response.encoded_len();
            let resources = &received.response.resources;
            let names: Vec<&str> = resources.iter().map(|resource| resource.name.as_str()).collect();
            match ResourceType::from_type_url(&received.response.type_url) {
                Some(ResourceType::Cluster) => {
                    clusters += names.len();
                    self.client.subscribe(ResourceType::Endpoints, &names);
                }
                Some(ResourceType::Endpoints) => {
                    endpoints = self
                        .client
                        .view()
                        .get(&ResourceType::Endpoints)
                        .map_or(0, std::collections::BTreeMap::len);
                }
                Some(ResourceType::Listener) => {
                    listeners += names.len();
                    self.client.subscribe(ResourceType::RouteConfiguration, &["default/web/80"]);
                }
                Some(ResourceType::VirtualHost) => routes += count_routes(&received)?,
                _ => {}
            }
        }
        #[allow(clippy::cast_precision_loss)] // megabytes
        Ok(Cold { complete: complete.saturating_duration_since(self.started), bytes: bytes as f64 })
    }

    /// Makes one edit and waits for the response that carries it; then lets the rest of the pace pass.
    async fn edit(&mut self, folder: &Folder, turn: usize) -> Result<Edited, RunError> {
        let staged = folder.stage(turn)?;
        let mut bytes = 0;
        let start = Instant::now();
        staged.commit()?;
        let latency = loop {
            let received = self.next(&staged.marker).await?;
            bytes += received.response.encoded_len();
            if carries(&received, &staged.marker) {
                break received.at - start;
            }
        };
        tokio::time::sleep_until((start + PACE).into()).await;
        Ok(Edited { latency, bytes })
    }

    async fn next(&mut self, of: &str) -> Result<Received, RunError> {
        match tokio::time::timeout(PATIENCE, self.client.responses.recv()).await {
            Ok(Some(received)) => Ok(received),
            Ok(None) => Err(RunError::Ended("the stream is closed".into())),
            Err(_) => Err(RunError::Late { of: of.to_owned() }),
        }
    }
}

fn bodies(received: &Received) -> impl Iterator<Item = &[u8]> {
    received.response.resources.iter().filter_map(|resource| Some(&*resource.resource.as_ref()?.value))
}

fn count_routes(received: &Received) -> Result<usize, RunError> {
    let mut count = 0;
    for body in bodies(received) {
        count += VirtualHost::decode(body)?.routes.len();
    }
    Ok(count)
}

fn carries(received: &Received, marker: &str) -> bool {
    bodies(received).any(|body| body.windows(marker.len()).any(|window| window == marker.as_bytes()))
}
