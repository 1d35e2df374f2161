//! A proxy as it is in a pod, with the real Envoy: its control plane over mutual TLS, certificates that are renewed under
//! it, its probes and statistics, and its end.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use portolan::{
    fleet::status::{ProxyState, ProxyStatus},
    identity::Authorities,
};
use portolan_e2e::{
    rig::{Ask, Mounted, PodProxy, Target},
    stage::{HOST, Stage},
};

const DEADLINE: Duration = Duration::from_secs(30);
/// An address that only these tests use.
const BIND: Ipv4Addr = Ipv4Addr::new(127, 99, 8, 1);

const MANIFESTS: &str = "
kind: GatewayClass
metadata: {name: portolan}
spec: {controllerName: portolan.dev/gateway-controller}
---
kind: Gateway
metadata: {name: web, namespace: apps}
spec:
  gatewayClassName: portolan
  listeners: [{name: http, port: PORT, protocol: HTTP}]
---
kind: HTTPRoute
metadata: {name: moved, namespace: apps}
spec:
  parentRefs: [{name: web}]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: moved.test}}]}]
";

fn free_port() -> u16 {
    TcpListener::bind((BIND, 0)).unwrap().local_addr().unwrap().port()
}

/// Serves `apps/web` of a stage.
fn start(stage: &Stage, mounted: &Mounted, min_drain: u32) -> PodProxy {
    let xds = format!("{HOST}:{}", stage.address().port());
    PodProxy::start("apps/web", &xds, mounted, &[&format!("--min-drain-time={min_drain}")])
}

async fn until<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = ask().await;
        if good(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}; last: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn connected(stage: &Stage) -> Vec<String> {
    stage.registry().read(|all| all.iter().map(|(_, entry)| entry.summary.node.id.to_string()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pods_proxy_serves_its_gateway_and_shows_how_it_is() {
    let port = free_port();
    let stage = Stage::start(&MANIFESTS.replace("PORT", &port.to_string()), BIND.into()).await;
    let mounted = Mounted::new(&stage.identity("apps/web"));
    let proxy = start(&stage, &mounted, 0);
    until("ready", async || proxy.get("/ready").await, |(status, _)| *status == 200).await;
    assert_eq!(connected(&stage), ["web-1"]);
    let answer = Target::http(SocketAddr::new(BIND.into(), port)).ask(&Ask::get("any.test", "/")).await;
    assert_eq!(answer.status, 302);
    let (status, statistics) = proxy.get("/stats/prometheus").await;
    assert_eq!(status, 200);
    assert!(statistics.contains("envoy_server_live"), "{statistics}");
    for path in ["/config_dump", "/quitquitquit", "/stats", "/"] {
        assert_eq!(proxy.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let port = free_port();
    let mut stage = Stage::start(&MANIFESTS.replace("PORT", &port.to_string()), BIND.into()).await;
    let mut mounted = Mounted::new(&stage.identity("apps/web"));
    let proxy = start(&stage, &mounted, 0);
    until("ready", async || proxy.get("/ready").await, |(status, _)| *status == 200).await;
    let before = ProxyStatus::read(proxy.state()).unwrap().unwrap();
    // A control plane that neither shows nor accepts anything of before.
    let next = Authorities::new(Timestamp::now()).unwrap();
    stage.move_to(next).await;
    mounted.write(&stage.identity("apps/web"));
    until("connected again", async || connected(&stage), |nodes| nodes == &["web-1"]).await;
    let after = ProxyStatus::read(proxy.state()).unwrap().unwrap();
    assert_eq!((before.envoy, before.restarts), (after.envoy, after.restarts));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_ends_is_not_ready_at_once_and_serves_on_for_its_time() {
    let port = free_port();
    let stage = Stage::start(&MANIFESTS.replace("PORT", &port.to_string()), BIND.into()).await;
    let mounted = Mounted::new(&stage.identity("apps/web"));
    let mut proxy = start(&stage, &mounted, 2);
    until("ready", async || proxy.get("/ready").await, |(status, _)| *status == 200).await;
    let ended = Instant::now();
    proxy.signal(rustix::process::Signal::TERM);
    let (_, why) = until("not ready", async || proxy.get("/ready").await, |(status, _)| *status == 503).await;
    assert!(why.contains("draining"), "{why}");
    assert_eq!(proxy.get("/live").await.0, 200);
    // Nobody is connected, and yet it serves whoever comes, for as long as that news takes to spread.
    let target = Target::http(SocketAddr::new(BIND.into(), port));
    while ended.elapsed() < Duration::from_millis(1500) {
        assert_eq!(target.ask(&Ask::get("any.test", "/")).await.status, 302);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone = async || proxy.ended();
    let status = until("ended", gone, Option::is_some).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(ended.elapsed() >= Duration::from_secs(2), "{:?}", ended.elapsed());
    let last = ProxyStatus::read(proxy.state()).unwrap().unwrap();
    assert_eq!(last.state, ProxyState::Stopped);
}
