//! The scene of most cases: a Gateway with a listener of every kind, served by `portolan standalone` from files.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::traffic::{Place, Traffic};
use crate::echo::cert::{Authority, Pair};
use crate::rig::manifest::{echo, gateway, join, secret};
use crate::rig::{Ask, DEADLINE, Target, World};

/// The ports of the listeners that no case changes.
pub(super) const PORTS: Ports = Ports { http: 80, https: 443, tcp: 9000, udp: 9000 };
/// The host names of HTTPS.
const HOSTS: [&str; 3] = ["steady.example", "other.example", "abc.example"];

/// Ports of a Gateway of the API.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) https: u16,
    pub(super) tcp: u16,
    pub(super) udp: u16,
}

/// The listeners that no case changes, as a YAML flow sequence's items.
pub(super) fn listeners(ports: Ports) -> String {
    let Ports { http, https, tcp, udp } = ports;
    format!(
        "{{name: http, port: {http}, protocol: HTTP}},
        {{name: https, port: {https}, protocol: HTTPS, hostname: '*.example', tls: {{certificateRefs: [{{name: steady}}]}}}},
        {{name: tcp, port: {tcp}, protocol: TCP}},
        {{name: udp, port: {udp}, protocol: UDP}}"
    )
}

/// An HTTPRoute for one hostname on the listeners that no case changes.
pub(super) fn route(name: &str, hostname: &str, rules: &str) -> String {
    let all = "parentRefs: [{name: web, sectionName: http}, {name: web, sectionName: https}]";
    crate::rig::manifest::route(name, hostname, rules).replace("parentRefs: [{name: web}]", all)
}

/// A rule that sends everything to one backend.
pub(super) fn to(backend: &str) -> String {
    format!("{{backendRefs: [{{name: {backend}, port: 80}}]}}")
}

/// A TCPRoute or UDPRoute of a listener.
pub(super) fn stream(protocol: &str, listener: &str, backends: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {protocol}Route
metadata: {{name: {listener}}}
spec:
  parentRefs: [{{name: web, sectionName: {listener}}}]
  rules: [{{backendRefs: [{backends}]}}]
"
    )
}

/// The routes of the traffic that no change is about.
pub(super) fn steady() -> String {
    let stream = |protocol, listener| stream(protocol, listener, "{name: steady, port: 90}");
    join([route("steady", "steady.example", &to("steady")), stream("TCP", "tcp"), stream("UDP", "udp")])
}

/// A certificate for all hosts of HTTPS.
pub(super) fn certificate(authority: &Authority) -> Pair {
    authority.server(&HOSTS.map(str::to_owned)).unwrap()
}

/// See the module. Ends with this value.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) place: Place,
    /// What signs certificates.
    pub(super) authority: Authority,
}

impl Scene {
    /// With backends `steady`, `blue` and `green`, of which the last two are for the case, as these manifests are.
    pub(super) async fn start(manifests: &[(&str, &str)]) -> Self {
        Self::start_with(&[], "", manifests).await
    }

    /// The same, with more backends, and with more listeners: a YAML flow sequence's items.
    pub(super) async fn start_with(backends: &[&str], more: &str, manifests: &[(&str, &str)]) -> Self {
        let authority = Authority::new("make before break").unwrap();
        let pair = certificate(&authority);
        let world = World::plan().prepare();
        for name in ["steady", "blue", "green"].iter().chain(backends) {
            world.backends.start_tls(name, &pair, None);
            world.write(&format!("backend-{name}.yaml"), &echo(name, world.backends.get(name).addresses()));
        }
        world.write("secret.yaml", &secret("steady", &pair));
        world.write("web.yaml", &web(more));
        world.write("steady.yaml", &steady());
        for (file, yaml) in manifests {
            world.write(file, yaml);
        }
        world.run();
        world.settled().await;
        let bound = async |port: String| world.bound("web", &port).await;
        let place = Place {
            http: Target::http(bound(format!("{}/tcp", PORTS.http)).await),
            https: Target::https(bound(format!("{}/tcp", PORTS.https)).await, "steady.example"),
            tcp: bound(format!("{}/tcp", PORTS.tcp)).await,
            udp: bound(format!("{}/udp", PORTS.udp)).await,
        };
        Self { world, place, authority }
    }

    /// Starts the traffic that no change is about.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic::start(&self.place)
    }

    /// Where a TCP port of the Gateway is bound.
    pub(super) async fn tcp(&self, port: u16) -> SocketAddr {
        self.world.bound("web", &format!("{port}/tcp")).await
    }
}

/// The Gateway with the listeners that no case changes, and more.
pub(super) fn web(more: &str) -> String {
    let steady = listeners(PORTS);
    gateway("web", &if more.is_empty() { steady } else { format!("{steady}, {more}") })
}

/// Waits until a backend answers a question of a change, over a connection of its own.
pub(super) async fn answered_by(target: &Target, ask: &Ask, backend: &str) {
    until(&format!("{ask} is answered by {backend}"), async || {
        target.ask(ask).await.instance() == Some(backend)
    })
    .await;
}

/// Asks until the answer is yes.
pub(super) async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !reached().await {
        assert!(started.elapsed() < DEADLINE, "not reached within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
