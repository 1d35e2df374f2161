//! TCPRoute and UDPRoute: connections and datagrams that are passed on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use portolan::fleet::admin::Admin;
use portolan::model::{Kind, ObjectKey};
use portolan_e2e::rig::manifest::{echo, gateway, join};
use portolan_e2e::rig::stream::whom;
use portolan_e2e::rig::{DEADLINE, Plan, Session, Shared, Status, Stream, World};

static WORLD: Shared = Shared::new();

const BACKENDS: [&str; 3] = ["blue", "green", "red"];

/// Starts a world whose backends answer TCP and UDP on port 90.
async fn start(plan: Plan) -> World {
    let world = plan.backends(&BACKENDS).prepare();
    for name in BACKENDS {
        let addresses = world.backends.get(name).addresses().clone();
        world.write(&format!("backend-{name}.yaml"), &echo(name, &addresses));
    }
    world.run();
    world.settled().await;
    world
}

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let listeners = ["shares", "attached", "invalid", "missing", "all-invalid", "teardown", "idle", "long", "quiet"]
                .iter()
                .zip(9000..)
                .flat_map(|(name, port)| {
                    ["TCP", "UDP"].map(|protocol| {
                        let name = format!("{name}-{}", protocol.to_lowercase());
                        format!("{{name: {name}, port: {port}, protocol: {protocol}}}")
                    })
                });
            let manifest = join(
                std::iter::once(gateway("web", &listeners.collect::<Vec<_>>().join(", "))).chain(
                    [
                        both("shares", "shares", 2020, "{name: blue, port: 90, weight: 70}, {name: green, port: 90, weight: 30}, {name: red, port: 90, weight: 0}"),
                        // Made later, and before the older one in the order of names.
                        both("a-newer", "attached", 2022, "{name: red, port: 90}"),
                        both("older", "attached", 2021, "{name: blue, port: 90}"),
                        both("invalid", "invalid", 2020, "{name: blue, port: 90, weight: 60}, {name: nobody, port: 90, weight: 40}"),
                        both("all-invalid", "all-invalid", 2020, "{name: nobody, port: 90}"),
                        both("idle", "idle", 2020, "{name: green, port: 90}"),
                        both("long", "long", 2020, "{name: blue, port: 90}"),
                        both("quiet", "quiet", 2020, "{name: green, port: 90}"),
                    ]
                    .into_iter()
                    .flatten(),
                ),
            );
            start(World::plan().manifest("streams.yaml", &manifest)).await
        })
        .await
}

/// A TCPRoute and a UDPRoute of one name on the listeners of that name.
fn both(name: &str, listener: &str, year: u16, backends: &str) -> [String; 2] {
    ["TCP", "UDP"].map(|protocol| route(protocol, name, listener, year, backends))
}

fn route(protocol: &str, name: &str, listener: &str, year: u16, backends: &str) -> String {
    let section = format!("{listener}-{}", protocol.to_lowercase());
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {protocol}Route
metadata: {{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec:
  parentRefs: [{{name: web, sectionName: {section}}}]
  rules: [{{backendRefs: [{backends}]}}]
"
    )
}

async fn tcp(port: u16) -> SocketAddr {
    world().await.bound("web", &format!("{port}/tcp")).await
}

async fn udp(port: u16) -> SocketAddr {
    world().await.bound("web", &format!("{port}/udp")).await
}

type Counts = BTreeMap<String, u32>;

fn counted(answers: impl IntoIterator<Item = String>) -> Counts {
    let mut counts = Counts::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

/// Who answers each of many fresh connections.
async fn connections(address: SocketAddr, count: usize) -> Counts {
    let mut answers = Vec::new();
    while answers.len() < count {
        answers.extend(join_all((0..20).map(|_| whom(address))).await);
    }
    counted(answers)
}

/// Who answers each of many fresh sessions; `none` where nobody does within the wait.
async fn sessions(address: SocketAddr, count: usize, wait: Duration) -> Counts {
    let ask = async || {
        let session = Session::open(address).await;
        session.try_ask("hello", wait).await.unwrap_or_else(|| "none".to_owned())
    };
    let mut answers = Vec::new();
    while answers.len() < count {
        answers.extend(join_all((0..50).map(|_| ask())).await);
    }
    counted(answers)
}

/// Shares must be within five in a hundred (as the suite asks), in one of three rounds; what gets no share gets nothing at all.
async fn shared_out(round: impl AsyncFn() -> Counts, expected: &[(&str, f64)]) {
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let counts = round().await;
        let total = f64::from(counts.values().sum::<u32>());
        let near = |(name, share): &(&str, f64)| {
            (f64::from(counts.get(*name).copied().unwrap_or_default()) / total - share).abs() <= 0.05
        };
        let known = counts.keys().all(|name| expected.iter().any(|(known, _)| known == name));
        assert!(known, "answers that nothing allows: {counts:?}, expected {expected:?}");
        if expected.iter().all(near) {
            return;
        }
        rounds.push(counts);
    }
    panic!("expected shares {expected:?}, seen in three rounds {rounds:?}");
}

/// Asks until the answer is as expected.
async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !reached().await {
        assert!(started.elapsed() < DEADLINE, "not reached within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A statistic of a Gateway's Envoy; 0 where it has none of that name.
async fn figure(world: &World, gateway: &str, name: &str) -> u64 {
    let key = ObjectKey::new(Kind::Gateway, "default", gateway);
    let admin = Admin::new(&world.paths().admin_socket(&(&key).try_into().unwrap()));
    let found = admin.stats(&format!("^{}$", name.replace('.', "\\."))).await.unwrap();
    found.get(name).copied().unwrap_or_default()
}

#[tokio::test]
async fn weights_are_shares_of_connections() {
    let address = tcp(9000).await;
    shared_out(async || connections(address, 500).await, &[("blue", 0.7), ("green", 0.3)]).await;
}

#[tokio::test]
async fn weights_are_shares_of_new_sessions() {
    let address = udp(9000).await;
    let wait = Duration::from_secs(20);
    shared_out(async || sessions(address, 500, wait).await, &[("blue", 0.7), ("green", 0.3)]).await;
}

#[tokio::test]
async fn a_session_stays_with_its_backend() {
    let address = udp(9000).await;
    let open: Vec<Session> = join_all((0..20).map(|_| Session::open(address))).await;
    let mut owners = Vec::new();
    for session in &open {
        owners.push(session.ask("first").await);
    }
    assert!(owners.contains(&"blue".to_owned()) && owners.contains(&"green".to_owned()), "{owners:?}");
    for round in 0..5 {
        for (session, owner) in open.iter().zip(&owners) {
            assert_eq!(session.ask(&format!("again {round}")).await, *owner);
        }
    }
}

#[tokio::test]
async fn tcp_and_udp_share_a_port() {
    // Different backends, so that neither can be taken for the other.
    assert_eq!(whom(tcp(9006).await).await, "green");
    assert_eq!(Session::open(udp(9006).await).await.ask("hello").await, "green");
    assert_eq!(whom(tcp(9001).await).await, "blue");
}

#[tokio::test]
async fn of_several_routes_on_a_listener_all_are_attached_and_the_oldest_serves() {
    let (tcp, udp) = (tcp(9001).await, udp(9001).await);
    assert_eq!(connections(tcp, 100).await, counted(vec!["blue".to_owned(); 100]));
    assert_eq!(sessions(udp, 100, Duration::from_secs(20)).await, counted(vec!["blue".to_owned(); 100]));
    let status = world().await.status().await;
    for protocol in ["TCP", "UDP"] {
        let listener = status.listener("default/web", &format!("attached-{}", protocol.to_lowercase()));
        assert_eq!(listener.unwrap()["attachedRoutes"], 2, "{protocol}");
        for name in ["older", "a-newer"] {
            let accepted = status.condition(&format!("{protocol}Route/default/{name}"), "Accepted");
            assert!(accepted.unwrap().is_true(), "{protocol} {name}");
        }
    }
}

#[tokio::test]
async fn an_invalid_backend_keeps_its_share_of_connections_as_closed_ones() {
    let address = tcp(9002).await;
    shared_out(async || connections(address, 500).await, &[("blue", 0.6), ("closed", 0.4)]).await;
    let status = world().await.status().await;
    let resolved = status.condition("TCPRoute/default/invalid", "ResolvedRefs").unwrap();
    assert!(resolved.is_false("BackendNotFound"), "{resolved:?}");
}

#[tokio::test]
async fn an_invalid_backend_keeps_its_share_of_sessions_as_silent_ones() {
    let address = udp(9002).await;
    let wait = Duration::from_secs(2);
    shared_out(async || sessions(address, 300, wait).await, &[("blue", 0.6), ("none", 0.4)]).await;
    let status = world().await.status().await;
    let resolved = status.condition("UDPRoute/default/invalid", "ResolvedRefs").unwrap();
    assert!(resolved.is_false("BackendNotFound"), "{resolved:?}");
}

#[tokio::test]
async fn a_listener_without_a_route_or_a_valid_backend_closes_connections_and_is_silent() {
    for port in [9003, 9004] {
        assert_eq!(whom(tcp(port).await).await, "closed", "{port}");
        let session = Session::open(udp(port).await).await;
        assert_eq!(session.try_ask("hello", Duration::from_millis(500)).await, None, "{port}");
    }
    let status = world().await.status().await;
    let programmed = status.listener_condition("default/web", "missing-tcp", "Programmed").unwrap();
    assert!(programmed.is_true(), "{programmed:?}");
}

#[tokio::test]
async fn traffic_ends_when_the_route_goes_and_comes_with_the_next() {
    let world = world().await;
    let (tcp, udp) = (tcp(9005).await, udp(9005).await);
    let answers = async |name: &str| {
        let session = Session::open(udp).await.try_ask("hello", Duration::from_millis(300)).await;
        let expected = if name == "closed" { None } else { Some(name.to_owned()) };
        session == expected && whom(tcp).await == name
    };
    for backend in ["blue", "green"] {
        world.write(
            "teardown.yaml",
            &join(both("teardown", "teardown", 2020, &format!("{{name: {backend}, port: 90}}"))),
        );
        until(backend, async || answers(backend).await).await;
    }
    world.remove("teardown.yaml");
    until("nobody answers", async || answers("closed").await).await;
    let detached = |status: &Status| {
        status.listener("default/web", "teardown-tcp").is_some_and(|one| one["attachedRoutes"] == 0)
    };
    let status = world.until("nothing attached", detached).await;
    assert_eq!(status.object("TCPRoute/default/teardown"), None);
}

#[tokio::test]
async fn an_edit_of_a_route_ends_neither_connections_nor_sessions() {
    let world = world().await;
    let (tcp, udp) = (tcp(9007).await, udp(9007).await);
    let mut connection = Stream::tcp(tcp).await.unwrap();
    assert_eq!(connection.ask("first").await.unwrap(), "blue");
    let session = Session::open(udp).await;
    assert_eq!(session.ask("first").await, "blue");
    // An edit that changes shares; blue keeps one, so that what it serves may go on.
    let backends = "{name: blue, port: 90, weight: 1}, {name: red, port: 90, weight: 9}";
    world.write("long.yaml", &join(both("a-long", "long", 2019, backends)));
    until("new connections are shared out", async || whom(tcp).await == "red").await;
    until("new sessions are shared out", async || Session::open(udp).await.ask("new").await == "red").await;
    connection.ask("second").await.unwrap();
    assert_eq!(session.ask("second").await, "blue");
}

#[tokio::test]
async fn a_route_that_is_not_for_a_listener_says_so() {
    let world = world().await;
    let [tcp, udp] = [("TCP", "idle-udp"), ("UDP", "idle-tcp")].map(|(protocol, section)| {
        route(protocol, "misplaced", "x", 2020, "{name: blue, port: 90}")
            .replace(&format!("x-{}", protocol.to_lowercase()), section)
    });
    world.write("misplaced.yaml", &join([tcp, udp]));
    let judged = |status: &Status| {
        ["TCP", "UDP"].iter().all(|protocol| {
            let accepted = status.condition(&format!("{protocol}Route/default/misplaced"), "Accepted");
            accepted.is_some_and(|one| one.is_false("NotAllowedByListeners"))
        })
    };
    world.until("neither is accepted", judged).await;
    assert_eq!(whom(self::tcp(9006).await).await, "green");
}

/// A session that says nothing for a minute is forgotten; sessions of a client that comes back go where new ones go.
#[tokio::test]
async fn a_session_ends_when_it_is_idle() {
    const IDLE: Duration = Duration::from_mins(1);
    let world = world().await;
    let address = udp(9008).await;
    let session = Session::open(address).await;
    session.ask("hello").await;
    let active = async || figure(world, "web", "udp.udp_9008.downstream_sess_active").await;
    assert!(active().await > 0, "statistics per route show the session");
    let started = Instant::now();
    while active().await > 0 {
        assert!(started.elapsed() < IDLE + Duration::from_secs(15), "the session does not end");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(started.elapsed() + Duration::from_secs(5) > IDLE, "it ended after {:?}", started.elapsed());
    assert_eq!(session.ask("hello again").await, "green");
}

#[tokio::test]
async fn a_drain_waits_for_connections_and_sessions() {
    let drain = ["--drain-time", "8"];
    let gateways = join(["a", "b"].map(|name| {
        let listeners = "{name: x-tcp, port: 9000, protocol: TCP}, {name: x-udp, port: 9000, protocol: UDP}";
        gateway(name, listeners)
    }));
    let plan = World::plan().argument(drain[0]).argument(drain[1]).manifest("gateways.yaml", &gateways);
    let routes = |gateway: &str| {
        both("r", "x", 2020, "{name: blue, port: 90}").map(|one| {
            one.replace("name: web", &format!("name: {gateway}"))
                .replace("name: r,", &format!("name: {gateway},"))
        })
    };
    let plan = plan.manifest("routes.yaml", &join(["a", "b"].iter().flat_map(|name| routes(name))));
    let world = start(plan).await;
    let mut connection = Stream::tcp(world.bound("a", "9000/tcp").await).await.unwrap();
    connection.ask("first").await.unwrap();
    let session = Session::open(world.bound("b", "9000/udp").await).await;
    session.ask("first").await;
    let before = world.proxies().len();
    world.remove("gateways.yaml");
    // Both proxies drain by now; what they serve goes on until it ends or the drain time is over.
    world
        .until("both Gateways are gone", |status| {
            status.object("Gateway/default/a").is_none() && status.object("Gateway/default/b").is_none()
        })
        .await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        connection.ask("while it drains").await.unwrap();
        session.ask("while it drains").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.proxies().len(), before, "a proxy ended before what it serves");
    drop(connection);
    // The one whose connection ended goes at once, the other at the end of the drain time.
    until("the first proxy ends", async || world.proxies().len() < before).await;
    assert!(started.elapsed() < Duration::from_millis(7_500), "it waits for nobody: {:?}", started.elapsed());
    until("both end", async || world.proxies().is_empty()).await;
}
