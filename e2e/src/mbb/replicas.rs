//! The scene of an operator: a Gateway in a real API server, and a proxy as it is in a pod, which reaches the operator's
//! replicas through a Service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use jiff::Timestamp;
use portolan::fleet::GatewayName;
use serde_json::{Value, json};

use super::scene::{Ports, answered_by, certificate, listeners, route, steady, to};
use super::traffic::{Place, Traffic, from_any};
use crate::apiserver::{ApiServer, Front, Objects, Replica, crds, documents};
use crate::echo::cert::Authority;
use crate::rig::backends::Backends;
use crate::rig::manifest::{CLASS, echo, gateway, join, secret};
use crate::rig::{Ask, Mounted, PodProxy, Target};

/// The name by which the proxy reaches the Service of the replicas.
const HOST: &str = "localhost";

/// See the module. What it is made of ends with it, the API server last.
pub(super) struct Replicas {
    _proxy: PodProxy,
    _mounted: Mounted,
    service: Front,
    _backends: Backends,
    objects: Objects,
    namespace: String,
    place: Place,
    server: ApiServer,
}

/// The route that cases change.
fn subject(backend: &str) -> String {
    route("subject", "subject.example", &to(backend))
}

fn ask() -> Ask {
    Ask::get("subject.example", "/")
}

impl Replicas {
    /// With this many replicas, of which the first one leads, and a proxy that is connected to one of them.
    pub(super) async fn start(count: usize, connected: usize) -> (Self, Vec<Replica>) {
        let server = ApiServer::own("mbb");
        let objects = server.objects().await;
        objects.install(&crds("experimental")).await;
        let namespace = objects.namespace("mbb").await;
        let mut replicas = Vec::new();
        for number in 0..count {
            replicas.push(replica(&server, &namespace, number).await);
            replicas[0].comes_to_lead().await;
        }
        let backends = Backends::at(own_address());
        let authority = Authority::new("make before break").unwrap();
        let pair = certificate(&authority);
        let ports = Ports { http: free(), https: free(), tcp: free(), udp: free_of_udp() };
        let mut manifests = vec![
            CLASS.to_owned(),
            gateway("web", &listeners(ports)),
            secret("steady", &pair),
            steady(),
            subject("blue"),
        ];
        for name in ["steady", "blue", "green"] {
            backends.start(name);
            manifests.push(echo(name, backends.get(name).addresses()));
        }
        objects.apply(&placed(&join(manifests), &namespace)).await;

        let service = Front::open(replicas[connected].xds()).await;
        let identity = objects.authorities(&namespace).await;
        let web = GatewayName::new(&namespace, "web").unwrap();
        let identity = identity.proxy("portolan.internal", &web, Timestamp::now()).unwrap();
        let mounted = Mounted::new(&identity);
        let xds = format!("{HOST}:{}", service.address().port());
        let proxy = PodProxy::start(&web.to_string(), &xds, &mounted, &[]);
        let at = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let place = Place {
            http: Target::http(at(ports.http)),
            https: Target::https(at(ports.https), "steady.example"),
            tcp: at(ports.tcp),
            udp: at(ports.udp),
        };
        super::scene::until("the proxy is ready", async || proxy.get("/ready").await.0 == 200).await;
        let scene = Self {
            _proxy: proxy,
            _mounted: mounted,
            service,
            _backends: backends,
            objects,
            namespace,
            place,
            server,
        };
        (scene, replicas)
    }

    /// Starts one more replica, and waits until it is ready.
    pub(super) async fn another(&self, number: usize) -> Replica {
        replica(&self.server, &self.namespace, number).await
    }

    /// Leads the proxy to another replica, when it connects again.
    pub(super) fn lead_to(&self, replica: &Replica) {
        self.service.lead_to(replica.xds());
    }

    /// Starts the traffic: what no change is about, and what goes through the route that changes.
    pub(super) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::start(&self.place);
        traffic.http("subject", &self.place.http, &ask(), from_any);
        traffic.http("subject over TLS", &self.place.https, &ask(), from_any);
        traffic
    }

    /// Sends the route's traffic to another backend.
    pub(super) async fn change_to(&self, traffic: &mut Traffic, backend: &str) {
        self.objects.apply(&placed(&subject(backend), &self.namespace)).await;
        traffic.changed();
    }

    /// Waits until that is so.
    pub(super) async fn arrives(&self, backend: &str) {
        answered_by(&self.place.http, &ask(), backend).await;
    }
}

async fn replica(server: &ApiServer, namespace: &str, number: usize) -> Replica {
    let name = format!("replica-{number}");
    let arguments = ["--xds-host", HOST];
    let replica = Replica::start_with(&server.configuration(), namespace, &name, &arguments);
    replica.comes_to_be_ready().await;
    replica
}

/// Manifests of files as objects of a namespace, with a class of its name.
fn placed(yaml: &str, namespace: &str) -> String {
    let place = |mut object: Value| {
        if object["kind"] == "GatewayClass" {
            object["metadata"]["name"] = json!(namespace);
        } else {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if object["kind"] == "Gateway" {
            object["spec"]["gatewayClassName"] = json!(namespace);
        }
        object.to_string()
    };
    join(documents(yaml).into_iter().map(place))
}

/// An address of this machine that is not loopback: an API server takes no endpoint on loopback. What is sent to it does not
/// leave the machine.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Nothing is sent: it only asks by which address one would leave.
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|at| at.ip());
    match found {
        Ok(ip) if !ip.is_loopback() => ip,
        other => panic!(
            "this case needs an address that is not loopback, as API servers take no others: {other:?}"
        ),
    }
}

/// A port that was free a moment ago.
fn free() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

fn free_of_udp() -> u16 {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}
