//! TLSRoute: which backend a server name reaches, through TLS that passes or ends here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::net::SocketAddr;

use portolan_e2e::echo::cert::{Authority, Pair};
use portolan_e2e::rig::manifest::{echo, gateway, join, secret};
use portolan_e2e::rig::stream::whom_tls;
use portolan_e2e::rig::{Ask, Shared, Status, Stream, Target, World};
use tokio::sync::OnceCell;

static WORLD: Shared = Shared::new();

/// Certificates are made once: two tests of one world must expect the same.
static CERTIFICATES: OnceCell<(Pair, Pair)> = OnceCell::const_new();

/// The Gateway's and the backends'.
async fn certificates() -> &'static (Pair, Pair) {
    CERTIFICATES
        .get_or_init(async || {
            let authority = Authority::new("test").unwrap();
            let pair = |host: &str| authority.server(&[host.to_owned()]).unwrap();
            (pair("gateway.example"), pair("backend.example"))
        })
        .await
}

/// Passthrough, Terminate and HTTPS on port 8883; all that a Passthrough listener for any name can mean on 8443.
const LISTENERS: &str = "
    {name: pass, port: 8883, protocol: TLS, hostname: '*.pass.example', tls: {mode: Passthrough}},
    {name: end, port: 8883, protocol: TLS, hostname: '*.end.example', tls: {mode: Terminate, certificateRefs: [{name: gateway}]}},
    {name: both, port: 8883, protocol: TLS, hostname: 'exact.end.example', tls: {mode: Passthrough}},
    {name: web, port: 8883, protocol: HTTPS, hostname: web.example, tls: {certificateRefs: [{name: gateway}]}},
    {name: any, port: 8443, protocol: TLS, tls: {mode: Passthrough}},
    {name: lost, port: 8444, protocol: TLS, hostname: '*.lost.example', tls: {mode: Passthrough}},
    {name: moving, port: 8444, protocol: TLS, hostname: '*.moving.example', tls: {mode: Passthrough}},
    {name: broken, port: 8444, protocol: TLS, hostname: broken.lost.example, tls: {mode: Terminate, certificateRefs: [{name: nobody}]}}";

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let (gateway_pair, backend_pair) = certificates().await;
            let world = World::plan()
                .manifest("gateway.yaml", &join([gateway("web", LISTENERS), secret("gateway", gateway_pair)]))
                .manifest("routes.yaml", &routes())
                .prepare();
            for name in ["blue", "green", "red"] {
                world.backends.start_tls(name, backend_pair, None);
                let addresses = world.backends.get(name).addresses().clone();
                world.write(&format!("backend-{name}.yaml"), &echo(name, &addresses));
            }
            world.run();
            world.settled().await;
            world
        })
        .await
}

fn route(name: &str, section: &str, year: u16, hostnames: &str, backend: &str, port: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec:
  parentRefs: [{{name: web, sectionName: {section}}}]
  hostnames: [{hostnames}]
  rules: [{{backendRefs: [{{name: {backend}, port: {port}}}]}}]
"
    )
}

fn routes() -> String {
    join([
        route("pass", "pass", 2020, "a.pass.example, b.pass.example", "blue", 443),
        route("end", "end", 2020, "'*.end.example'", "green", 90),
        route("both", "both", 2020, "exact.end.example", "red", 443),
        route("any-wide", "any", 2020, "'*.example'", "blue", 443),
        route("any-middle", "any", 2021, "'*.deep.example'", "green", 443),
        route("any-exact", "any", 2022, "exact.deep.example", "red", 443),
        // Younger than the one with the same hostname, and first in the order of names.
        route("a-younger", "any", 2023, "exact.deep.example", "green", 443),
        route("lost", "lost", 2020, "'*.lost.example'", "blue", 443),
        route("moving", "moving", 2020, "a.moving.example", "blue", 443),
        route("nobody", "any", 2020, "nobody.deep.example", "nobody", 443),
        route("stranger", "pass", 2020, "stranger.example", "blue", 443),
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: web, sectionName: web}]
  rules: [{backendRefs: [{name: blue, port: 80}]}]
"
        .to_owned(),
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: misplaced}
spec:
  parentRefs: [{name: web, sectionName: pass}]
  rules: [{backendRefs: [{name: blue, port: 80}]}]
"
        .to_owned(),
    ])
}

async fn address(port: u16) -> SocketAddr {
    world().await.bound("web", &format!("{port}/tcp")).await
}

/// Which backend answers HTTPS; `closed` where the connection is.
async fn whom_https(address: SocketAddr, server_name: &str) -> String {
    let answer = Target::https(address, server_name).try_ask(&Ask::get(server_name, "/")).await;
    answer.map_or_else(|_| "closed".to_owned(), |answer| answer.short())
}

/// The certificate that is shown, told apart by whose it is.
async fn shown(address: SocketAddr, server_name: &str) -> &'static str {
    let (ours, theirs) = certificates().await;
    let open = Target::https(address, server_name).connect().await.unwrap();
    if open.shows(&ours.certificate) {
        "gateway"
    } else if open.shows(&theirs.certificate) {
        "backend"
    } else {
        "another"
    }
}

#[tokio::test]
async fn a_server_name_reaches_the_route_with_the_most_specific_hostname() {
    let any = address(8443).await;
    let mut wrong = String::new();
    for (name, expected) in [
        ("a.example", "blue"),
        ("a.b.example", "blue"),
        ("other.deep.example", "green"),
        ("a.b.deep.example", "green"),
        ("exact.deep.example", "red"),
        ("deep.example", "blue"),
        ("nobody.deep.example", "closed"),
        ("example", "closed"),
        ("example.org", "closed"),
    ] {
        let seen = whom_https(any, name).await;
        if seen != expected {
            writeln!(wrong, "{name}: expected {expected}, got {seen}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn passthrough_and_terminate_live_on_one_port() {
    let mixed = address(8883).await;
    for name in ["a.pass.example", "b.pass.example"] {
        assert_eq!(whom_https(mixed, name).await, "blue", "{name}");
        assert_eq!(shown(mixed, name).await, "backend", "TLS ends at the backend");
    }
    // TLS ends here: the backend gets what is inside, in clear text.
    assert_eq!(whom_tls(mixed, Some("a.end.example")).await, "green");
    assert_eq!(shown(mixed, "a.end.example").await, "gateway");
    // A listener with a narrower hostname goes first, whatever its mode.
    assert_eq!(whom_https(mixed, "exact.end.example").await, "red");
    assert_eq!(shown(mixed, "exact.end.example").await, "backend");
    assert_eq!(whom_https(mixed, "web.example").await, "blue");
    assert_eq!(shown(mixed, "web.example").await, "gateway");
}

#[tokio::test]
async fn a_server_name_that_no_route_has_is_closed() {
    let mixed = address(8883).await;
    for name in ["c.pass.example", "pass.example", "end.example", "stranger.example", "unknown.example"] {
        assert_eq!(whom_https(mixed, name).await, "closed", "{name}");
    }
    assert_eq!(whom_tls(mixed, None).await, "closed", "without a server name");
    let mut clear = Stream::tcp(mixed).await.unwrap();
    assert!(clear.ask("GET / HTTP/1.1\r\n\r\n").await.is_err(), "clear text");
}

#[tokio::test]
async fn a_listener_without_its_certificate_keeps_its_name_closed() {
    let port = address(8444).await;
    assert_eq!(whom_https(port, "other.lost.example").await, "blue");
    assert_eq!(whom_https(port, "broken.lost.example").await, "closed", "not the wider listener's");
    let status = world().await.status().await;
    let resolved = status.listener_condition("default/web", "broken", "ResolvedRefs").unwrap();
    assert!(resolved.is_false("InvalidCertificateRef"), "{resolved:?}");
}

#[tokio::test]
async fn routes_and_listeners_say_what_is_wrong() {
    let status: Status = world().await.status().await;
    for (key, type_, reason) in [
        ("TLSRoute/default/stranger", "Accepted", "NoMatchingListenerHostname"),
        ("TLSRoute/default/nobody", "ResolvedRefs", "BackendNotFound"),
        ("HTTPRoute/default/misplaced", "Accepted", "NotAllowedByListeners"),
    ] {
        let condition = status.condition(key, type_).unwrap();
        assert!(condition.is_false(reason), "{key}: {condition:?}");
    }
    for key in ["pass", "end", "both", "any-wide", "any-exact", "a-younger"] {
        let accepted = status.condition(&format!("TLSRoute/default/{key}"), "Accepted").unwrap();
        assert!(accepted.is_true(), "{key}: {accepted:?}");
    }
    for (listener, attached) in [("pass", 1), ("end", 1), ("both", 1), ("any", 5), ("web", 1)] {
        let report = status.listener("default/web", listener).unwrap();
        assert_eq!(report["attachedRoutes"], attached, "{listener}");
        let kind = if listener == "web" { "HTTPRoute" } else { "TLSRoute" };
        let kinds = report["supportedKinds"].as_array().unwrap();
        assert_eq!(kinds.last().unwrap()["kind"], kind, "{listener}");
    }
}

#[tokio::test]
async fn an_added_route_takes_a_name_over_without_breaking_what_is_open() {
    let world = world().await;
    let port = address(8444).await;
    let mut open = Target::https(port, "a.moving.example").connect().await.unwrap();
    assert_eq!(open.ask(&Ask::get("a.moving.example", "/")).await.unwrap().short(), "blue");
    world.write("new.yaml", &route("new", "moving", 2024, "new.moving.example", "green", 443));
    world.until("the route is programmed", |status| status.programmed("TLSRoute/default/new")).await;
    assert_eq!(whom_https(port, "new.moving.example").await, "green");
    assert_eq!(open.ask(&Ask::get("a.moving.example", "/")).await.unwrap().short(), "blue");
    world.remove("new.yaml");
    let gone = |status: &Status| status.listener("default/web", "moving").unwrap()["attachedRoutes"] == 1;
    world.until("the route is gone", gone).await;
    let closed = async || whom_https(port, "new.moving.example").await == "closed";
    let started = std::time::Instant::now();
    while !closed().await {
        assert!(started.elapsed() < portolan_e2e::rig::DEADLINE, "its name is still served");
    }
    assert_eq!(open.ask(&Ask::get("a.moving.example", "/")).await.unwrap().short(), "blue");
}
