//! The rules of the protocol, one test each.

mod answering;
mod hosts;
mod ordering;
mod subscribing;

use std::fmt::Write as _;

use portolan_xds_proto::envoy::config::core::v3::Node;

use super::*;
use crate::store::{Resource, Version};

use ResourceType::{Cluster, Endpoints, Listener, RouteConfiguration, Secret, VirtualHost};

/// A store, a stream and a clock. Responses are written as `cds a=1 b=2 -c`.
struct Bench {
    store: Store,
    stream: Stream,
    now: Instant,
    unanswered: BTreeMap<ResourceType, String>,
}

/// A resource of an edit: type, name, body (nothing removes it), children.
type Line<'a> = (ResourceType, &'a str, Option<&'a str>, &'a [(ResourceType, &'a str)]);

impl Bench {
    fn new() -> Self {
        Self::with(StreamConfig::default())
    }

    fn with(config: StreamConfig) -> Self {
        Self {
            store: Store::default(),
            stream: Stream::new(config),
            now: Instant::now(),
            unanswered: BTreeMap::new(),
        }
    }

    fn edit(&mut self, lines: &[Line<'_>]) -> &mut Self {
        let mut edit = self.store.edit(self.now);
        for (kind, name, body, children) in lines {
            match body {
                Some(body) => {
                    let children = children.iter().map(|(kind, name)| (*kind, Arc::from(*name))).collect();
                    edit.upsert(*kind, Resource::new(*name, body.as_bytes().to_vec().into(), children));
                }
                None => {
                    edit.remove(*kind, name);
                }
            }
        }
        self
    }

    fn put(&mut self, kind: ResourceType, name: &str, body: &str) -> &mut Self {
        self.edit(&[(kind, name, Some(body), &[])])
    }

    fn remove(&mut self, kind: ResourceType, name: &str) -> &mut Self {
        self.edit(&[(kind, name, None, &[])])
    }

    fn send(&mut self, request: &DeltaDiscoveryRequest) -> Vec<Event> {
        self.stream.on_request(&self.store, request, self.now)
    }

    fn ask(&mut self, kind: ResourceType, names: &[&str]) -> Vec<Event> {
        self.send(&DeltaDiscoveryRequest { resource_names_subscribe: strings(names), ..request(kind) })
    }

    fn drop_names(&mut self, kind: ResourceType, names: &[&str]) {
        self.send(&DeltaDiscoveryRequest { resource_names_unsubscribe: strings(names), ..request(kind) });
    }

    /// A first request after a reconnect: these names, with these versions of these bodies.
    fn resume(&mut self, kind: ResourceType, names: &[&str], has: &[(&str, &str)]) {
        let versions = has
            .iter()
            .map(|(name, body)| ((*name).to_owned(), Version::of(body.as_bytes()).to_string()))
            .collect();
        self.send(&DeltaDiscoveryRequest {
            resource_names_subscribe: strings(names),
            initial_resource_versions: versions,
            ..request(kind)
        });
    }

    fn next(&mut self) -> Option<String> {
        let response = self.stream.poll(&self.store, self.now)?;
        let kind = ResourceType::from_type_url(&response.type_url);
        if let Some(kind) = kind {
            assert!(!self.unanswered.contains_key(&kind), "two responses of {kind} in flight");
            self.unanswered.insert(kind, response.nonce.clone());
        }
        let mut text = kind.map_or(response.type_url.clone(), |kind| kind.to_string());
        for each in &response.resources {
            let any = each.resource.clone().unwrap();
            assert_eq!(any.type_url, response.type_url);
            assert_eq!(each.version, Version::of(&any.value).to_string());
            let empty = any.value == Resource::empty_endpoints(each.name.as_str()).body().to_bytes();
            let body = if empty { "empty".into() } else { String::from_utf8_lossy(&any.value) };
            write!(text, " {}={body}", each.name).unwrap();
        }
        for name in &response.removed_resources {
            write!(text, " -{name}").unwrap();
        }
        Some(text)
    }

    /// What can be sent now without any answer.
    fn all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn answer(&mut self, kind: ResourceType, error: Option<&str>) -> Vec<Event> {
        let nonce = self.unanswered.remove(&kind).expect("a response to answer");
        let error_detail = error.map(|message| Status { message: message.to_owned(), ..Status::default() });
        self.send(&DeltaDiscoveryRequest { response_nonce: nonce, error_detail, ..request(kind) })
    }

    fn ack(&mut self, kind: ResourceType) -> Vec<Event> {
        self.answer(kind, None)
    }

    /// Sends and acknowledges until there is nothing more. Gives what was sent.
    fn settle(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        loop {
            sent.extend(self.all());
            let Some(kind) = self.unanswered.keys().next().copied() else { return sent };
            self.ack(kind);
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn acked(&self) -> u64 {
        self.stream.acked_through(&self.store).0
    }
}

fn request(kind: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

const NOTHING: [&str; 0] = [];

/// A proxy like Envoy with one of everything: listener `l` → table `r` → cluster `c`, secret `s` of `l`.
fn serving() -> Bench {
    let mut bench = Bench::new();
    bench.edit(&[
        (Cluster, "c", Some("1"), &[(Endpoints, "c")]),
        (Endpoints, "c", Some("1"), &[]),
        (Secret, "s", Some("1"), &[]),
        (Listener, "l", Some("1"), &[(Secret, "s"), (RouteConfiguration, "r")]),
        (RouteConfiguration, "r", Some("1"), &[]),
    ]);
    bench.ask(Cluster, &[]);
    bench.settle();
    bench.ask(Endpoints, &["c"]);
    bench.settle();
    bench.ask(Listener, &[]);
    bench.settle();
    bench.ask(Secret, &["s"]);
    bench.ask(RouteConfiguration, &["r"]);
    bench.settle();
    bench
}
