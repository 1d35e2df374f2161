//! A small delta ADS client, for tests and benchmarks: it acknowledges what it gets and keeps it.
//!
//! It can reject by predicate, say at a reconnect what it has, and follow references as Envoy does (a cluster's
//! endpoints, a listener's routes and secrets; virtual hosts where a table says that they come by themselves). It is
//! no proxy: it applies nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use portolan_xds_proto::dump::to_json;
use portolan_xds_proto::envoy::config::cluster::v3::Cluster;
use portolan_xds_proto::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use portolan_xds_proto::envoy::config::core::v3::Node;
use portolan_xds_proto::envoy::config::route::v3::RouteConfiguration;
use portolan_xds_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use portolan_xds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portolan_xds_proto::google::rpc;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::store::{ResourceType, Version};

/// How much the server may send before it is told that something was read: more than a response has, so that flow control
/// does not take part in what is measured.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;

/// Decides whether to reject a resource: the reason, if so.
pub type Reject = Arc<dyn Fn(ResourceType, &str, &[u8]) -> Option<String> + Send + Sync>;

/// The resources of a client: per type, by name.
pub type View = BTreeMap<ResourceType, BTreeMap<String, Held>>;

/// A resource that the client accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// Its version, as the server wrote it.
    pub version: String,
    /// Its encoded message.
    pub body: Bytes,
}

impl fmt::Debug for Held {
    // The body may be a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} bytes)", self.version, self.body.len())
    }
}

/// A response, and when it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it was read from the connection.
    pub at: Instant,
    /// The response.
    pub response: DeltaDiscoveryResponse,
}

/// How a client behaves.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// `node.id`.
    pub node_id: String,
    /// What to reject. A response with anything rejected is answered by a NACK; the rest of it is applied.
    pub reject: Option<Reject>,
    /// Subscribe to what clusters and listeners refer to, and unsubscribe when they go.
    pub follow: bool,
    /// What the client says that it has, in its first request of each type. See [`AdsClient::view`].
    pub has: View,
    /// Types of which it wants everything. It asks for these before the server has answered in any way: a server that is
    /// written in Go opens its half of a stream with its first response.
    pub first: Vec<ResourceType>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientOptions").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// The stream ended or never began.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the ADS stream ended: {0}")]
pub struct StreamEnded(pub Status);

/// A connected client. Dropping it closes the stream.
#[derive(Debug)]
pub struct AdsClient {
    commands: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    /// Every response, in order of arrival.
    pub responses: mpsc::UnboundedReceiver<Received>,
}

#[derive(Debug)]
struct Shared {
    view: Mutex<View>,
    ended: Mutex<Option<Status>>,
    changed: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AdsClient {
    /// Connects to a Unix socket and opens a stream.
    pub async fn connect_unix(socket: &Path, options: ClientOptions) -> Result<Self, StreamEnded> {
        let refused = |error: tonic::transport::Error| StreamEnded(Status::unavailable(chain(&error)));
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))
            .map_err(refused)?
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Self::open(endpoint.connect().await.map_err(refused)?, options).await
    }

    /// Opens a stream on a channel, which the caller made: over TCP, with TLS or without.
    pub async fn open(channel: Channel, options: ClientOptions) -> Result<Self, StreamEnded> {
        let (requests, outgoing) = mpsc::channel(16);
        let (commands, orders) = mpsc::unbounded_channel();
        let (received, responses) = mpsc::unbounded_channel();
        let (sender, changed) = watch::channel(0);
        let shared = Arc::new(Shared {
            view: Mutex::new(options.has.clone()),
            ended: Mutex::new(None),
            changed: sender,
        });
        let first: Vec<DeltaDiscoveryRequest> = options.first.iter().copied().map(everything).collect();
        let mut task = Task { shared: Arc::clone(&shared), requests, options, asked: Vec::new(), received };
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let opened = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
        // Together: the channel holds fewer than may be asked for.
        let (opened, ()) = tokio::join!(opened, task.send(first));
        let incoming = opened.map_err(StreamEnded)?.into_inner();
        tokio::spawn(task.run(incoming, orders));
        Ok(Self { commands, shared, changed, responses })
    }

    /// Subscribes to everything of a type.
    pub fn subscribe_all(&self, kind: ResourceType) {
        self.send(everything(kind));
    }

    /// Subscribes to names.
    pub fn subscribe(&self, kind: ResourceType, names: &[&str]) {
        let names = names.iter().map(ToString::to_string).collect();
        self.send(DeltaDiscoveryRequest { resource_names_subscribe: names, ..request(kind) });
    }

    /// Unsubscribes from names, and drops them.
    pub fn unsubscribe(&self, kind: ResourceType, names: &[&str]) {
        if let Some(view) = lock(&self.shared.view).get_mut(&kind) {
            view.retain(|name, _| !names.contains(&name.as_str()));
        }
        let names = names.iter().map(ToString::to_string).collect();
        self.send(DeltaDiscoveryRequest { resource_names_unsubscribe: names, ..request(kind) });
    }

    /// Sends a request as it is.
    pub fn send(&self, request: DeltaDiscoveryRequest) {
        // A closed stream is told by `ended` and the waiting methods.
        let _ = self.commands.send(request);
    }

    /// What the client has. Pass it to [`ClientOptions::has`] to reconnect.
    pub fn view(&self) -> View {
        lock(&self.shared.view).clone()
    }

    /// A resource that the client has.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<Held> {
        lock(&self.shared.view).get(&kind)?.get(name).cloned()
    }

    /// Why the stream ended, if it has.
    pub fn ended(&self) -> Option<Status> {
        lock(&self.shared.ended).clone()
    }

    /// Waits until the view is as wanted. Fails when the stream ends or the time is over.
    pub async fn wait_for(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&View) -> bool,
    ) -> Result<(), StreamEnded> {
        let waiting = async {
            loop {
                self.changed.borrow_and_update();
                if wanted(&lock(&self.shared.view)) {
                    return Ok(());
                }
                if let Some(status) = self.ended() {
                    return Err(StreamEnded(status));
                }
                if self.changed.changed().await.is_err() {
                    return Err(StreamEnded(Status::cancelled("the client is gone")));
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
            let message = format!("not as wanted after {limit:?}");
            Err(StreamEnded(Status::deadline_exceeded(message)))
        })
    }

    /// Waits until the stream ends. Gives the server's reason.
    pub async fn wait_for_end(&mut self, limit: Duration) -> Option<Status> {
        match self.wait_for(limit, |_| false).await {
            Err(_) => self.ended(),
            Ok(()) => None,
        }
    }
}

fn request(kind: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn everything(kind: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { resource_names_subscribe: vec!["*".to_owned()], ..request(kind) }
}

/// Whether a table of routes gets its virtual hosts by themselves.
fn has_hosts_apart(body: &[u8]) -> bool {
    RouteConfiguration::decode(body).is_ok_and(|table| table.vhds.is_some())
}

/// Whether a request says nothing, unless it is the first of its type.
fn is_empty(request: &DeltaDiscoveryRequest) -> bool {
    let names = &request.resource_names_subscribe;
    names.is_empty() && request.resource_names_unsubscribe.is_empty() && request.response_nonce.is_empty()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(each) = source {
        text = format!("{text}: {each}");
        source = each.source();
    }
    text
}

struct Task {
    shared: Arc<Shared>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    options: ClientOptions,
    asked: Vec<String>,
    received: mpsc::UnboundedSender<Received>,
}

impl Task {
    async fn run(
        mut self,
        mut incoming: Streaming<DeltaDiscoveryResponse>,
        mut commands: mpsc::UnboundedReceiver<DeltaDiscoveryRequest>,
    ) {
        let status = loop {
            let requests = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => vec![command],
                    None => return,
                },
                message = incoming.message() => match message {
                    Ok(Some(response)) => self.on_response(response),
                    Ok(None) => break Status::ok("the server ended the stream"),
                    Err(status) => break status,
                },
            };
            self.send(requests).await;
        };
        *lock(&self.shared.ended) = Some(status);
        self.shared.changed.send_modify(|count| *count += 1);
    }

    async fn send(&mut self, requests: Vec<DeltaDiscoveryRequest>) {
        for request in requests.into_iter().flat_map(|asked| self.with_hosts(asked)).collect::<Vec<_>>() {
            if self.asked.contains(&request.type_url) && is_empty(&request) {
                continue;
            }
            let request = self.first_of_its_kind(request);
            // A closed connection shows in the next message.
            let _ = self.requests.send(request).await;
        }
    }

    /// A client that has virtual hosts from before asks for them with route configurations, as Envoy does: for all, and once.
    fn with_hosts(
        &self,
        asked: DeltaDiscoveryRequest,
    ) -> impl Iterator<Item = DeltaDiscoveryRequest> + use<> {
        let has = self.options.has.get(&ResourceType::VirtualHost).is_some_and(|hosts| !hosts.is_empty());
        let hosts = has && asked.type_url == ResourceType::RouteConfiguration.type_url();
        [Some(asked), hosts.then(|| request(ResourceType::VirtualHost))].into_iter().flatten()
    }

    /// Adds the node to the first request, and versions to the first request of its type.
    fn first_of_its_kind(&mut self, mut request: DeltaDiscoveryRequest) -> DeltaDiscoveryRequest {
        if self.asked.is_empty() {
            request.node = Some(Node { id: self.options.node_id.clone(), ..Node::default() });
        }
        if !self.asked.contains(&request.type_url) {
            self.asked.push(request.type_url.clone());
            let kind = ResourceType::from_type_url(&request.type_url);
            if let Some(has) = kind.and_then(|kind| self.options.has.get(&kind)) {
                request.initial_resource_versions =
                    has.iter().map(|(name, held)| (name.clone(), held.version.clone())).collect();
            }
        }
        request
    }

    /// Applies a response. Gives the requests that answer it.
    fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let at = Instant::now();
        let mut answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let (mut more, mut hosts_apart) = (Vec::new(), false);
        if let Some(kind) = ResourceType::from_type_url(&response.type_url) {
            let mut view = lock(&self.shared.view);
            let held = view.entry(kind).or_default();
            let mut reasons = Vec::new();
            for resource in &response.resources {
                let body = resource.resource.as_ref().map(|any| any.value.clone()).unwrap_or_default();
                if let Some(reject) = &self.options.reject
                    && let Some(reason) = reject(kind, &resource.name, &body)
                {
                    reasons.push(format!("{}: {reason}", resource.name));
                    continue;
                }
                if self.options.follow {
                    more.extend(references(kind, &resource.name, &body));
                }
                hosts_apart |= kind == ResourceType::RouteConfiguration && has_hosts_apart(&body);
                held.insert(resource.name.clone(), Held { version: resource.version.clone(), body });
            }
            for name in &response.removed_resources {
                held.remove(name);
                // Endpoints of a name that the server gave may be another cluster's too.
                if self.options.follow && kind == ResourceType::Cluster {
                    more.push(DeltaDiscoveryRequest {
                        resource_names_unsubscribe: vec![name.clone()],
                        ..request(ResourceType::Endpoints)
                    });
                }
            }
            if self.options.follow && kind == ResourceType::Cluster {
                let gone = &response.removed_resources;
                view.entry(ResourceType::Endpoints).or_default().retain(|name, _| !gone.contains(name));
            }
            more.retain_mut(|request| {
                let kind = ResourceType::from_type_url(&request.type_url);
                let has = kind.and_then(|kind| view.get(&kind));
                request.resource_names_subscribe.retain(|name| !has.is_some_and(|it| it.contains_key(name)));
                !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty()
            });
            if !reasons.is_empty() {
                let message = reasons.join("; ");
                answer.error_detail = Some(rpc::Status { code: 3, message, ..rpc::Status::default() });
            }
        }
        self.shared.changed.send_modify(|count| *count += 1);
        // Nobody has to read them.
        let _ = self.received.send(Received { at, response });
        more.insert(0, answer);
        more.extend(hosts_apart.then(|| request(ResourceType::VirtualHost)));
        more
    }
}

/// What a resource refers to, as requests for it.
fn references(kind: ResourceType, name: &str, body: &[u8]) -> Vec<DeltaDiscoveryRequest> {
    if !matches!(kind, ResourceType::Cluster | ResourceType::Listener) {
        return Vec::new();
    }
    let Ok(json) = to_json(kind.type_url(), body) else { return Vec::new() };
    let mut found: BTreeMap<ResourceType, Vec<String>> = BTreeMap::new();
    if kind == ResourceType::Cluster {
        found.entry(ResourceType::Endpoints).or_default().extend(endpoints_of(name, body));
    }
    collect(&json, &mut found);
    let subscribe =
        |(kind, names)| DeltaDiscoveryRequest { resource_names_subscribe: names, ..request(kind) };
    found.into_iter().map(subscribe).collect()
}

/// The name of a cluster's endpoints, if it gets them by EDS: its own, or the one that the server gave them.
fn endpoints_of(name: &str, body: &[u8]) -> Option<String> {
    let cluster = Cluster::decode(body).ok()?;
    let by_eds =
        cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    let given = cluster.eds_cluster_config.map(|config| config.service_name).filter(|it| !it.is_empty());
    by_eds.then(|| given.unwrap_or_else(|| name.to_owned()))
}

fn collect(json: &serde_json::Value, found: &mut BTreeMap<ResourceType, Vec<String>>) {
    match json {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        serde_json::Value::Object(fields) => {
            let text = |key| fields.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
            let fields_that_refer = [
                (ResourceType::RouteConfiguration, text("route_config_name")),
                (ResourceType::Secret, fields.get("sds_config").and_then(|_| text("name"))),
            ];
            for (kind, name) in fields_that_refer {
                let Some(name) = name else { continue };
                let names = found.entry(kind).or_default();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            fields.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

/// The version that the server gives to a body.
pub fn version_of(body: &[u8]) -> String {
    Version::of(body).to_string()
}

#[cfg(test)]
mod tests {
    use portolan_xds_proto::envoy::config::cluster::v3::cluster::EdsClusterConfig;

    use super::*;

    #[test]
    fn endpoints_are_asked_for_by_the_name_that_the_server_gave_them() {
        let cluster = |discovery: DiscoveryType, service_name: &str| Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
            eds_cluster_config: Some(EdsClusterConfig {
                service_name: service_name.to_owned(),
                ..EdsClusterConfig::default()
            }),
            ..Cluster::default()
        };
        for (cluster, expected) in [
            (cluster(DiscoveryType::Eds, ""), Some("ns/svc/80/hash")),
            (cluster(DiscoveryType::Eds, "ns/svc/http"), Some("ns/svc/http")),
            (cluster(DiscoveryType::Static, ""), None),
        ] {
            let asked = references(ResourceType::Cluster, "ns/svc/80/hash", &cluster.encode_to_vec());
            let names: Vec<&str> =
                asked.iter().flat_map(|it| &it.resource_names_subscribe).map(String::as_str).collect();
            assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
