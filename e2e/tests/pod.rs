//! A proxy as it is in a pod, with the real Envoy: its control plane over mutual TLS, certificates that are renewed under
//! it, its probes and statistics, and its end.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use portolan::{
    fleet::{
        cluster::Identity,
        status::{ProxyState, ProxyStatus},
    },
    identity::Authorities,
};
use portolan_e2e::{
    rig::{Ask, Target, binary},
    stage::{HOST, Stage},
};
use tempfile::TempDir;

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

/// A folder as the kubelet keeps it for a Secret: files are links through `..data`, which is replaced as a whole.
struct Mounted(TempDir, u32);

impl Mounted {
    fn new(identity: &Identity) -> Self {
        let mut mounted = Self(tempfile::tempdir().unwrap(), 0);
        mounted.write(identity);
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(file), mounted.0.path().join(file)).unwrap();
        }
        mounted
    }

    fn write(&mut self, identity: &Identity) {
        self.1 += 1;
        let name = format!("..turn-{}", self.1);
        let folder = self.0.path().join(&name);
        std::fs::create_dir(&folder).unwrap();
        for (file, text) in [
            ("tls.crt", &identity.certificate),
            ("tls.key", &identity.key),
            ("ca.crt", &identity.authorities),
        ] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let link = self.0.path().join("..data_tmp");
        symlink(&name, &link).unwrap();
        std::fs::rename(&link, self.0.path().join("..data")).unwrap();
    }
}

/// `portolan proxy` as a pod runs it. Dropping it ends it and its Envoy.
struct Proxy {
    child: Child,
    state: PathBuf,
    pod: SocketAddr,
    _folder: TempDir,
}

impl Proxy {
    fn start(stage: &Stage, mounted: &Mounted, min_drain: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("proxy");
        let pod = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(binary::portolan())
            .arg("proxy")
            .arg("--gateway=apps/web")
            .arg(format!("--xds-address={HOST}:{}", stage.address().port()))
            .arg(format!("--identity={}", mounted.0.path().display()))
            .arg(format!("--state-dir={}", written.display()))
            .arg(format!("--pod-port={}", pod.port()))
            .arg(format!("--min-drain-time={min_drain}"))
            .args(["--drain-time=20", "--max-detached=0", "--concurrency=1"])
            .env("PORTOLAN_POD_NAME", "web-1")
            .env("PORTOLAN_MEMORY_LIMIT", "1073741824")
            .env("PORTOLAN_ENVOY", binary::envoy())
            .spawn()
            .unwrap();
        Self { child, state: written, pod, _folder: folder }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        match Target::http(self.pod).try_ask(&Ask::get("pod", path)).await {
            Ok(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            Err(_) => (0, String::new()),
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // A second signal ends it at once.
            self.signal(rustix::process::Signal::TERM);
            self.signal(rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }
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
    let proxy = Proxy::start(&stage, &mounted, 0);
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
    let proxy = Proxy::start(&stage, &mounted, 0);
    until("ready", async || proxy.get("/ready").await, |(status, _)| *status == 200).await;
    let before = ProxyStatus::read(&proxy.state).unwrap().unwrap();
    // A control plane that neither shows nor accepts anything of before.
    let next = Authorities::new(Timestamp::now()).unwrap();
    stage.move_to(next).await;
    mounted.write(&stage.identity("apps/web"));
    until("connected again", async || connected(&stage), |nodes| nodes == &["web-1"]).await;
    let after = ProxyStatus::read(&proxy.state).unwrap().unwrap();
    assert_eq!((before.envoy, before.restarts), (after.envoy, after.restarts));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_ends_is_not_ready_at_once_and_serves_on_for_its_time() {
    let port = free_port();
    let stage = Stage::start(&MANIFESTS.replace("PORT", &port.to_string()), BIND.into()).await;
    let mounted = Mounted::new(&stage.identity("apps/web"));
    let mut proxy = Proxy::start(&stage, &mounted, 2);
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
    let gone = async || proxy.child.try_wait().unwrap();
    let status = until("ended", gone, Option::is_some).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(ended.elapsed() >= Duration::from_secs(2), "{:?}", ended.elapsed());
    let last = ProxyStatus::read(&proxy.state).unwrap().unwrap();
    assert_eq!(last.state, ProxyState::Stopped);
}
