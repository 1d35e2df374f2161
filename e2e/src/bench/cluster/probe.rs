//! A delta ADS client in Envoy's place: it acknowledges everything, applies nothing, and says when a change came (t2).
//!
//! A change is found by a text of its own (a hostname, an address, the value of a header) in whatever resource carries it, so the
//! probe knows nothing of how an implementation cuts its configuration into resources.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use portolan_xds::{
    ads::client::{AdsClient, Received, View},
    store::ResourceType,
};
use portolan_xds_proto::envoy::{
    config::route::v3::{RouteConfiguration, VirtualHost},
    service::discovery::v3::{DeltaDiscoveryResponse, Resource},
};
use portolan_xds_proto::google::protobuf::Any;
use prost::Message as _;
use regex::bytes::Regex;
use tokio::{sync::watch, task::JoinHandle};

use super::{BenchError, access::Access};

/// How many names are kept of what came.
const FIRST: usize = 8;

/// See the module. Dropping it closes the stream.
#[derive(Debug)]
pub(super) struct Probe {
    client: Arc<AdsClient>,
    log: Arc<Mutex<Log>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

/// What came so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Traffic {
    /// Bytes of responses, before the framing of gRPC.
    pub(super) bytes: usize,
    /// Responses.
    pub(super) responses: usize,
    /// Resources in them, by the last part of their type.
    pub(super) resources: BTreeMap<String, usize>,
    /// Names of resources that were said to be gone.
    pub(super) removed: usize,
    /// The first resources that came and went, for people: type, name and version.
    pub(super) first: Vec<String>,
    /// Bytes of those resources that carried an expected text: each as a resource of its own, the virtual host where a table
    /// carried it.
    pub(super) changed: usize,
}

#[derive(Debug, Default)]
struct Log {
    traffic: Traffic,
    expected: HashMap<String, Expected>,
    last: Option<Instant>,
    closed: bool,
}

#[derive(Debug)]
struct Expected {
    pattern: Regex,
    /// When it came.
    at: Option<Instant>,
}

impl Probe {
    /// Connects, and subscribes to everything.
    pub(super) async fn connect(access: &Access) -> Result<Self, BenchError> {
        Self::reconnect(access, View::new()).await
    }

    /// Connects as a proxy that has something already.
    pub(super) async fn reconnect(access: &Access, has: View) -> Result<Self, BenchError> {
        let named: Vec<(ResourceType, Vec<String>)> =
            has.iter().map(|(kind, held)| (*kind, held.keys().cloned().collect())).collect();
        let mut client = access.open(has).await?;
        let (sender, changed) = watch::channel(());
        let log = Arc::new(Mutex::new(Log::default()));
        let mut responses =
            std::mem::replace(&mut client.responses, tokio::sync::mpsc::unbounded_channel().1);
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Some(received) = responses.recv().await {
                lock(&shared).take(&received);
                sender.send_replace(());
            }
            lock(&shared).closed = true;
            sender.send_replace(());
        });
        // Envoy asks again for what its clusters and listeners refer to, and with routes for virtual hosts.
        let referred = [ResourceType::Endpoints, ResourceType::Secret, ResourceType::RouteConfiguration];
        for (kind, names) in named.iter().filter(|(kind, names)| referred.contains(kind) && !names.is_empty())
        {
            client.subscribe(*kind, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Ok(Self { client: Arc::new(client), log, changed, task })
    }

    /// What it has.
    pub(super) fn view(&self) -> View {
        self.client.view()
    }

    /// From now on, notes when this text comes.
    pub(super) fn expect(&self, text: &str) -> Result<(), BenchError> {
        let pattern =
            Regex::new(&regex::escape(text)).map_err(|error| BenchError::Setting(error.to_string()))?;
        lock(&self.log).expected.insert(text.to_owned(), Expected { pattern, at: None });
        Ok(())
    }

    /// When an expected text came (t2); it is not expected any more then.
    pub(super) async fn came(&self, text: &str) -> Result<Instant, BenchError> {
        let came = |log: &mut Log| {
            let at = log.expected.get(text)?.at?;
            log.expected.remove(text);
            Some(at)
        };
        self.until(&format!("the probe receives {text}"), Duration::from_mins(2), came).await
    }

    /// Waits until the first configuration is here: routes last, and nothing more for a moment. Where no routes come, a longer
    /// silence says that there are none.
    pub(super) async fn complete(&self) -> Result<(), BenchError> {
        let has_routes =
            |log: &mut Log| log.traffic.resources.contains_key("RouteConfiguration").then_some(());
        let waited = self.until("routes", Duration::from_secs(10), has_routes).await;
        if let Err(error) = waited
            && !matches!(error, BenchError::Late { .. })
        {
            return Err(error);
        }
        self.quiet(Duration::from_secs(1)).await.map(drop)
    }

    /// Waits until nothing came for a while, and something has come before. Gives when the last response came.
    pub(super) async fn quiet(&self, pause: Duration) -> Result<Instant, BenchError> {
        let deadline = Instant::now() + Duration::from_mins(4);
        loop {
            let last = {
                let log = lock(&self.log);
                if log.closed {
                    return Err(self.ended());
                }
                log.last
            };
            match last {
                Some(last) if last.elapsed() >= pause => return Ok(last),
                _ if Instant::now() > deadline => {
                    return Err(BenchError::Late { of: "the probe is at rest".into(), seconds: 240 });
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// What came so far.
    pub(super) fn traffic(&self) -> Traffic {
        lock(&self.log).traffic.clone()
    }

    async fn until<T>(
        &self,
        of: &str,
        limit: Duration,
        mut ask: impl FnMut(&mut Log) -> Option<T>,
    ) -> Result<T, BenchError> {
        let mut changed = self.changed.clone();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                {
                    let mut log = lock(&self.log);
                    if let Some(answer) = ask(&mut log) {
                        return Ok(answer);
                    }
                    if log.closed {
                        break;
                    }
                }
                if changed.changed().await.is_err() {
                    break;
                }
            }
            Err(self.ended())
        };
        tokio::time::timeout(limit, waiting)
            .await
            .unwrap_or_else(|_| Err(BenchError::Late { of: of.to_owned(), seconds: limit.as_secs() }))
    }

    fn ended(&self) -> BenchError {
        let why =
            self.client.ended().map_or_else(|| "no reason was given".to_owned(), |status| status.to_string());
        BenchError::Ended { what: "the probe's stream", why }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Traffic {
    /// What came since an earlier look.
    pub(super) fn since(&self, before: &Self) -> Self {
        let resources = self.resources.iter().map(|(kind, count)| {
            (kind.clone(), count - before.resources.get(kind).copied().unwrap_or_default())
        });
        Self {
            bytes: self.bytes - before.bytes,
            responses: self.responses - before.responses,
            resources: resources.filter(|(_, count)| *count > 0).collect(),
            removed: self.removed - before.removed,
            first: self.first.iter().skip(before.first.len()).cloned().collect(),
            changed: self.changed - before.changed,
        }
    }

    /// Resources of all types but this one.
    pub(super) fn resources_but(&self, kind: &str) -> usize {
        self.resources.iter().filter(|(name, _)| *name != kind).map(|(_, count)| count).sum()
    }
}

impl Log {
    fn take(&mut self, received: &Received) {
        let DeltaDiscoveryResponse { type_url, resources, removed_resources, .. } = &received.response;
        self.last = Some(received.at);
        let kind = type_url.rsplit('.').next().unwrap_or_default().to_owned();
        self.traffic.bytes += received.response.encoded_len();
        self.traffic.responses += 1;
        *self.traffic.resources.entry(kind.clone()).or_default() += resources.len();
        self.traffic.removed += removed_resources.len();
        let came = resources.iter().map(|it| format!("{kind} {} {}", it.name, it.version));
        let went = removed_resources.iter().map(|name| format!("{kind} {name} removed"));
        let room = FIRST - self.traffic.first.len().min(FIRST);
        self.traffic.first.extend(came.chain(went).take(room));
        for expected in self.expected.values_mut().filter(|expected| expected.at.is_none()) {
            for resource in resources {
                let body = resource.resource.as_ref().map(|any| &*any.value).unwrap_or_default();
                if expected.pattern.is_match(body) {
                    expected.at = Some(received.at);
                    self.traffic.changed += changed(resource, body, &expected.pattern);
                }
            }
        }
    }
}

/// How large what carries the text is as a resource of its own.
fn changed(resource: &Resource, body: &[u8], pattern: &Regex) -> usize {
    let is_table =
        resource.resource.as_ref().is_some_and(|any| any.type_url.ends_with(".RouteConfiguration"));
    let table = is_table.then(|| RouteConfiguration::decode(body).ok()).flatten();
    let Some(table) = table else { return resource.encoded_len() };
    let of = |host: &VirtualHost| {
        let bytes = host.encode_to_vec();
        pattern.is_match(&bytes).then(|| {
            let any = Any { type_url: ResourceType::VirtualHost.type_url().into(), value: bytes.into() };
            let name = format!("{}/{}", table.name, host.name);
            Resource { name, version: resource.version.clone(), resource: Some(any), ..Resource::default() }
                .encoded_len()
        })
    };
    table.virtual_hosts.iter().filter_map(of).sum()
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(kind: &str, name: &str, body: Vec<u8>) -> Resource {
        let any = Any { type_url: format!("type.googleapis.com/{kind}"), value: body.into() };
        let version = "0".repeat(32);
        Resource { name: name.into(), version, resource: Some(any), ..Resource::default() }
    }

    fn host(name: &str) -> VirtualHost {
        VirtualHost { name: name.into(), domains: vec![name.into()], ..VirtualHost::default() }
    }

    #[test]
    fn a_change_is_found_in_whatever_carries_it_and_weighs_the_same() {
        let of_its_own = resource(
            "envoy.config.route.v3.VirtualHost",
            "ns/web/80/b.example.com",
            host("b.example.com").encode_to_vec(),
        );
        let hosts = ["a.example.com", "b.example.com", "c.example.com"].map(host).to_vec();
        let table = RouteConfiguration {
            name: "ns/web/80".into(),
            virtual_hosts: hosts,
            ..RouteConfiguration::default()
        };
        let in_a_table =
            resource("envoy.config.route.v3.RouteConfiguration", "ns/web/80", table.encode_to_vec());
        let mut weights = Vec::new();
        for resource in [of_its_own, in_a_table] {
            let mut log = Log::default();
            let pattern = Regex::new(&regex::escape("b.example.com")).unwrap();
            log.expected.insert("b.example.com".into(), Expected { pattern, at: None });
            let resources = vec![resource];
            let response = DeltaDiscoveryResponse {
                type_url: resources[0].resource.as_ref().unwrap().type_url.clone(),
                resources,
                ..DeltaDiscoveryResponse::default()
            };
            log.take(&Received { at: Instant::now(), response });
            assert!(log.expected["b.example.com"].at.is_some());
            weights.push(log.traffic.changed);
        }
        assert!(weights[0] > 0);
        assert_eq!(weights[0], weights[1]);
    }
}
