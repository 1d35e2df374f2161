//! The resolver as a specification: given manifests, expect IR and conditions.

use std::collections::BTreeMap;

use portolan_xds::ir::{self, Delta, Transport, VirtualHost, VirtualHostKey};
use serde_json::Value;

mod any_order;
mod attachment;
mod bundles;
mod cost;
mod crowd;
mod fleet;
mod frontend;
mod listeners;
mod policies;
mod pre_routing;
mod references;
mod rules;
mod sets;
mod streams;
mod tls;

use super::*;
use crate::model::{Kind, Object, ObjectKey, parse};

const BASE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portolan}
spec: {controllerName: portolan.dev/gateway-controller}
---
kind: Gateway
metadata: {name: web, namespace: default, generation: 3}
spec:
  gatewayClassName: portolan
  listeners:
  - {name: http, port: 80, protocol: HTTP}
---
kind: Service
metadata: {name: blue}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: blue-1, labels: {kubernetes.io/service-name: blue}}
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]
";

fn objects(yaml: &str) -> Vec<(ObjectKey, Option<Object>)> {
    let parts = yaml.split("\n---\n").filter(|text| !text.trim().is_empty());
    parts
        .map(|text| {
            let json: Value = serde_saphyr::from_str(text).unwrap();
            let kind = Kind::from_name(json["kind"].as_str().unwrap()).unwrap();
            let object = parse(kind, &json).unwrap();
            (object.key().clone(), Some(object))
        })
        .collect()
}

/// What all deltas so far add up to, as a proxy would hold it.
#[derive(Debug, Default, PartialEq)]
struct Told {
    listeners: BTreeMap<ir::ListenerName, ir::Listener>,
    tables: BTreeMap<ir::RouteTableName, ir::RouteTable>,
    hosts: BTreeMap<VirtualHostKey, VirtualHost>,
    clusters: BTreeMap<ir::ClusterName, ir::Cluster>,
    endpoints: BTreeMap<ir::ClusterName, ir::Endpoints>,
    secrets: BTreeMap<ir::SecretName, ir::Secret>,
}

fn lay<K: Ord + Clone, V: Clone>(onto: &mut BTreeMap<K, V>, delta: &BTreeMap<K, Option<std::sync::Arc<V>>>) {
    for (key, value) in delta {
        match value {
            Some(value) => onto.insert(key.clone(), (**value).clone()),
            None => onto.remove(key),
        };
    }
}

impl Told {
    fn take(&mut self, delta: &Delta) {
        lay(&mut self.listeners, &delta.listeners);
        lay(&mut self.tables, &delta.tables);
        lay(&mut self.hosts, &delta.virtual_hosts);
        lay(&mut self.clusters, &delta.clusters);
        lay(&mut self.endpoints, &delta.endpoints);
        lay(&mut self.secrets, &delta.secrets);
    }

    fn host(&self, table: &str, domain: &str) -> Option<&VirtualHost> {
        self.hosts.get(&VirtualHostKey { table: table.into(), domain: domain.into() })
    }
}

#[derive(Default)]
struct Rig {
    engine: Engine,
    told: BTreeMap<ObjectKey, Told>,
    referenced: std::collections::BTreeSet<ObjectKey>,
    last: Resolved,
}

impl Rig {
    fn with(yaml: &str) -> Self {
        let mut rig = Self::default();
        rig.apply(BASE);
        rig.apply(yaml);
        rig
    }

    fn apply(&mut self, yaml: &str) {
        self.change(objects(yaml));
    }

    fn change(&mut self, changes: Vec<(ObjectKey, Option<Object>)>) {
        let resolved = self.engine.apply(changes);
        self.take(resolved);
        for (gateway, ports) in self.engine.wanted_ports() {
            let address = |port: (u16, Transport)| (port, Ok(vec![([127, 0, 0, 1], port.0).into()]));
            let placement = Placement::bound(ports.into_iter().map(address));
            let resolved = self.engine.place(&gateway, Some(placement));
            self.follow(&resolved);
        }
    }

    /// Takes what the engine says to a change that is no object's.
    fn tell(&mut self, change: impl FnOnce(&mut Engine) -> Resolved) {
        let resolved = change(&mut self.engine);
        self.take(resolved);
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        self.change(vec![(
            ObjectKey::new(kind, if kind.cluster_scoped() { "" } else { "default" }, name),
            None,
        )]);
    }

    fn take(&mut self, resolved: Resolved) {
        self.follow(&resolved);
        self.last = resolved;
    }

    fn follow(&mut self, resolved: &Resolved) {
        for (gateway, delta) in &resolved.deltas {
            self.told.entry(gateway.clone()).or_default().take(delta);
        }
        let referenced = self.engine.referenced();
        // Whoever watches what is referred to looks only when told so.
        assert!(resolved.references || referenced == self.referenced, "{:?} {referenced:?}", self.referenced);
        self.referenced = referenced;
    }

    fn web(&self) -> &Told {
        &self.told[&ObjectKey::new(Kind::Gateway, "default", "web")]
    }

    fn report(&self, kind: Kind, name: &str) -> Value {
        let key = ObjectKey::new(kind, if kind.cluster_scoped() { "" } else { "default" }, name);
        serde_json::to_value(self.engine.report(&key, &|_, _| Programmed::Yes)).unwrap()
    }

    fn condition(&self, kind: Kind, name: &str, pointer: &str, type_: &str) -> (String, String, String) {
        let report = self.report(kind, name);
        let list = report
            .pointer(pointer)
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("{pointer} of {report}"));
        let one =
            list.iter().find(|one| one["type"] == type_).unwrap_or_else(|| panic!("no {type_} in {report}"));
        let text = |field: &str| one[field].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    fn route(&self, name: &str, type_: &str) -> (String, String) {
        let (status, reason, _) = self.condition(Kind::HttpRoute, name, "/parents/0/conditions", type_);
        (status, reason)
    }

    fn listener(&self, index: usize, type_: &str) -> (String, String) {
        let pointer = format!("/listeners/{index}/conditions");
        let (status, reason, _) = self.condition(Kind::Gateway, "web", &pointer, type_);
        (status, reason)
    }
}

fn is((found, why): (String, String), status: &str, reason: &str) {
    assert_eq!((found, why), (status.to_owned(), reason.to_owned()));
}

fn http_route(name: &str, rest: &str) -> String {
    http_route_on(&["web"], name, rest)
}

fn http_route_on(gateways: &[&str], name: &str, rest: &str) -> String {
    let parents: Vec<String> = gateways.iter().map(|name| format!("{{name: {name}}}")).collect();
    let parents = parents.join(", ");
    format!(
        "kind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  parentRefs: [{parents}]\n{rest}"
    )
}

/// An authority's certificate, PEM.
fn authority() -> String {
    rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()
}

fn certificate_secret(name: &str, host: &str) -> String {
    let pair = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    secret(name, &pair.cert.pem(), &pair.signing_key.serialize_pem())
}

/// A Secret whose certificate is valid until the end of a year.
fn certificate_until(name: &str, year: i32) -> String {
    let mut parameters = rcgen::CertificateParams::new(["a.org".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(year, 12, 31);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    secret(name, &certificate.pem(), &key.serialize_pem())
}

fn secret(name: &str, chain: &str, key: &str) -> String {
    let quote = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "kind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: kubernetes.io/tls\nstringData: {{tls.crt: {}, tls.key: {}}}",
        quote(chain),
        quote(key)
    )
}

const HTTPS: &str = "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners:
  - {name: one, port: 443, protocol: HTTPS, hostname: 'a.org', tls: {certificateRefs: [{name: c}]}}
  - {name: wild, port: 443, protocol: HTTPS, hostname: '*.wild.org', tls: {certificateRefs: [{name: c}]}}
  - {name: any, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";
