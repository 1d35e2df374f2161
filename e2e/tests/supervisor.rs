//! The supervisor with a real Envoy: readiness, restarts, drain, one per Gateway, attached again by the next standalone.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portolan::fleet::lock::Lock;
use portolan::fleet::ports::{Probe, Probed, SystemProbe};
use portolan::fleet::process::ProcessId;
use portolan::fleet::status::{ProxyState, ProxyStatus};
use portolan::fleet::supervisor::{ENVOY_FILE, Ended, ProxyConfig, Stop, Supervisor, SupervisorError};
use portolan_e2e::rig::binary::envoy;
use portolan_xds::ir::Transport;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A port that was free a moment ago, on an address that only this test uses.
fn free_port(last: u8) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 99, 7, last), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// An Envoy that answers "hello" to everything, with no control plane or one that is not there.
fn bootstrap(listen: SocketAddr, admin: &Path, absent_control_plane: Option<&Path>) -> String {
    let mut bootstrap = json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": {"pipe": {"path": admin, "mode": 384}}},
        "static_resources": {"listeners": [{
            "name": "test",
            "address": {"socket_address": {"address": listen.ip(), "port_value": listen.port()}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "test",
                    "route_config": {"name": "test", "virtual_hosts": [{
                        "name": "all", "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}],
                    }]},
                    "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                },
            }]}],
        }]},
    });
    if let Some(socket) = absent_control_plane {
        bootstrap["dynamic_resources"] = json!({
            "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
            "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0.2s"},
        });
        bootstrap["static_resources"]["clusters"] = json!([{
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}},
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}]},
        }]);
    }
    bootstrap.to_string()
}

/// A supervised Envoy. Dropping it kills Envoy.
struct Supervised {
    folder: TempDir,
    listen: SocketAddr,
    stop: Stop,
    status: watch::Receiver<ProxyStatus>,
    run: JoinHandle<Result<Ended, SupervisorError>>,
}

impl Supervised {
    fn start(last: u8, change: impl FnOnce(&mut ProxyConfig, SocketAddr)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = free_port(last);
        let admin_socket = folder.path().join("admin.sock");
        let mut config = ProxyConfig {
            gateway: "default/test".to_owned(),
            envoy: envoy().to_owned(),
            bootstrap: bootstrap(listen, &admin_socket, None),
            folder: folder.path().to_owned(),
            admin_socket,
            concurrency: Some(1),
            log_level: "info".to_owned(),
            drain_time: Duration::from_secs(20),
            kill_grace: Duration::from_secs(5),
            max_detached: None,
        };
        change(&mut config, listen);
        let supervisor = Supervisor::new(config);
        let (stop, status) = (Stop::default(), supervisor.status());
        let run = tokio::spawn(supervisor.run(stop.clone()));
        Self { folder, listen, stop, status, run }
    }

    async fn until(&mut self, what: &str, reached: impl FnMut(&ProxyStatus) -> bool) -> ProxyStatus {
        let reached = tokio::time::timeout(DEADLINE, self.status.wait_for(reached));
        let reached = reached.await.map(|status| status.unwrap().clone());
        reached.unwrap_or_else(|_| panic!("{what}: not reached, now {:?}", self.status.borrow()))
    }

    async fn ready(&mut self) -> ProxyStatus {
        self.until("ready", |status| status.state == ProxyState::Ready).await
    }

    async fn end(self) -> Ended {
        tokio::time::timeout(DEADLINE, self.run).await.expect("the supervisor ends").unwrap().unwrap()
    }
}

/// Sends one request on an open connection and tells the answer's head and body.
fn ask(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with("hello") {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_envoy_comes_back() {
    let mut supervised = Supervised::start(1, |_, _| {});
    let first = supervised.ready().await;
    ask(&mut TcpStream::connect(supervised.listen).unwrap());
    // Envoy shares its port with whoever asks to share; a probe must not.
    assert_eq!(SystemProbe.probe(supervised.listen, Transport::Tcp), Probed::InUse);
    let written = ProxyStatus::read(supervised.folder.path()).unwrap().unwrap();
    assert_eq!(written.envoy, first.envoy);

    let envoy = ProcessId::of(first.envoy.unwrap()).unwrap();
    envoy.signal(rustix::process::Signal::KILL).unwrap();
    let died = supervised.until("restarting", |status| status.restarts == 1).await;
    assert_eq!(died.message.as_deref(), Some("killed by signal 9"), "and no warning of its start");
    let second = supervised.ready().await;
    assert_ne!(second.envoy, first.envoy);
    assert_eq!((second.restarts, second.message.as_deref()), (1, None));
    ask(&mut TcpStream::connect(supervised.listen).unwrap());
    supervised.stop.drain.cancel();
    assert_eq!(supervised.end().await, Ended::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_connections() {
    let mut supervised = Supervised::start(2, |_, _| {});
    let status = supervised.ready().await;
    let envoy = ProcessId::of(status.envoy.unwrap()).unwrap();
    let mut stream = TcpStream::connect(supervised.listen).unwrap();
    assert!(!ask(&mut stream).contains("connection: close"));
    supervised.stop.drain.cancel();
    supervised.until("draining", |status| status.state == ProxyState::Draining).await;
    // The open connection is served to its end, and told to leave. Draining starts a moment after it is reported.
    let started = Instant::now();
    while !ask(&mut stream).contains("connection: close") {
        assert!(started.elapsed() < DEADLINE, "clients are never told to leave");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let folder = supervised.folder.path().to_owned();
    let run = supervised.run;
    assert_eq!(tokio::time::timeout(DEADLINE, run).await.unwrap().unwrap().unwrap(), Ended::Stopped);
    assert!(started.elapsed() < Duration::from_secs(15), "it does not wait for the whole drain time");
    assert!(!envoy.is_alive());
    assert!(!folder.join(ENVOY_FILE).exists() && !folder.join("admin.sock").exists());
    assert_eq!(ProxyStatus::read(&folder).unwrap().unwrap().state, ProxyState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_when_its_time_is_over() {
    let mut supervised = Supervised::start(3, |config, _| config.drain_time = Duration::from_millis(500));
    supervised.ready().await;
    let mut idle = TcpStream::connect(supervised.listen).unwrap();
    ask(&mut idle);
    let started = Instant::now();
    supervised.stop.drain.cancel();
    assert_eq!(supervised.end().await, Ended::Stopped);
    assert!(started.elapsed() >= Duration::from_millis(500));
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stop_is_at_once() {
    let mut supervised = Supervised::start(4, |config, _| config.drain_time = Duration::from_hours(1));
    supervised.ready().await;
    let mut idle = TcpStream::connect(supervised.listen).unwrap();
    ask(&mut idle);
    supervised.stop.drain.cancel();
    supervised.until("draining", |status| status.state == ProxyState::Draining).await;
    supervised.stop.now.cancel();
    assert_eq!(supervised.end().await, Ended::Stopped);
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_bootstrap_is_told_in_envoys_words() {
    let mut supervised =
        Supervised::start(5, |config, _| config.bootstrap = r#"{"admin": {"address": 3}}"#.to_owned());
    let status = supervised.until("two failures", |status| status.restarts == 2).await;
    let message = status.message.unwrap();
    assert!(message.starts_with("exited with status 1; last words: [main] error"), "{message}");
    supervised.stop.drain.cancel();
    assert_eq!(supervised.end().await, Ended::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_control_plane_ends_in_a_drain() {
    let mut supervised = Supervised::start(6, |config, listen| {
        let absent = config.folder.join("absent.sock");
        config.bootstrap = bootstrap(listen, &config.admin_socket, Some(&absent));
        config.max_detached = Some(Duration::from_secs(2));
    });
    let status = supervised.until("connection told", |status| status.connected.is_some()).await;
    assert_eq!(status.connected, Some(false));
    assert_eq!(supervised.end().await, Ended::Detached);
}

#[tokio::test]
async fn a_missing_binary_is_an_error_at_once() {
    let supervised = Supervised::start(7, |config, _| config.envoy = "/nonexistent/envoy".into());
    let error = tokio::time::timeout(DEADLINE, supervised.run).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/envoy"), "{error}");
}

mod process {
    //! `portolan proxy` as a process, and the fleet that starts it.

    use std::collections::BTreeSet;

    use portolan::fleet::GatewayName;
    use portolan::fleet::host::{Ensured, FleetStatus, HostConfig, HostFleet};
    use portolan::fleet::proxy::LOCK_FILE;
    use portolan::fleet::state::{self, StateFolder, StatePaths};

    use super::*;

    /// A stand-in for `portolan`: this test binary, which runs the proxy's entry when told to by the environment.
    fn program(folder: &Path, listen: SocketAddr) -> PathBuf {
        let script = folder.join("portolan");
        let itself = std::env::current_exe().unwrap();
        let text = format!(
            "#!/bin/sh\nPROXY_ARGS=\"$*\" PROXY_LISTEN={listen} exec '{}' --exact --nocapture process::entry\n",
            itself.display()
        );
        // By another process: a file that is open for writing in this one may be so in a child of a test beside it, and
        // cannot be run then.
        let write = r#"printf %s "$1" >"$2.new" && chmod 755 "$2.new" && mv "$2.new" "$2""#;
        let mut command = std::process::Command::new("sh");
        assert!(command.args(["-c", write, "sh", &text]).arg(&script).status().unwrap().success());
        script
    }

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        proxy: portolan::fleet::proxy::ProxyArgs,
    }

    /// Not a test of its own: what `program` runs.
    #[test]
    fn entry() {
        let Ok(args) = std::env::var("PROXY_ARGS") else { return };
        let listen: SocketAddr = std::env::var("PROXY_LISTEN").unwrap().parse().unwrap();
        let cli = <Cli as clap::Parser>::try_parse_from(args.split(' ')).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let run = async {
            if listen.port() == 0 {
                return portolan::fleet::proxy::run(cli.proxy).await;
            }
            let text = |args: &portolan::fleet::proxy::ProxyArgs| {
                Ok(super::bootstrap(listen, &args.admin_socket(), None))
            };
            portolan::fleet::proxy::run_with(cli.proxy, text).await
        };
        runtime.block_on(run).unwrap();
    }

    struct Standalone {
        root: TempDir,
        paths: StatePaths,
        gateway: GatewayName,
        listen: SocketAddr,
    }

    impl Standalone {
        fn new(last: u8) -> Self {
            let root = tempfile::tempdir().unwrap();
            let environment = state::Environment {
                portolan_state: Some(root.path().join("state").into()),
                ..state::Environment::default()
            };
            let paths = StatePaths::of(&[root.path().to_owned()], &environment).unwrap();
            let gateway = GatewayName::new("default", "test").unwrap();
            Self { root, paths, gateway, listen: free_port(last) }
        }

        fn fleet(&self) -> HostFleet {
            HostFleet::new(HostConfig {
                program: program(self.root.path(), self.listen),
                paths: self.paths.clone(),
                envoy: Some(envoy().to_owned()),
                concurrency: Some(1),
                drain_time: Duration::from_secs(5),
                max_detached: Duration::from_mins(10),
                log_level: "info".to_owned(),
            })
        }

        async fn ready(&self, fleet: &mut HostFleet) -> FleetStatus {
            let started = Instant::now();
            loop {
                fleet.ensure(&self.gateway).unwrap();
                let status = fleet.status(&self.gateway);
                if status.ready {
                    return status;
                }
                assert!(started.elapsed() < DEADLINE, "not ready: {status:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    impl Drop for Standalone {
        /// A failed test leaves no process either.
        fn drop(&mut self) {
            let folder = self.paths.gateway(&self.gateway);
            let envoy = std::fs::read(folder.join(ENVOY_FILE)).ok();
            let envoy = envoy.and_then(|text| serde_json::from_slice::<ProcessId>(&text).ok());
            for process in Lock::holder(&folder.join(LOCK_FILE)).into_iter().chain(envoy) {
                process.signal(rustix::process::Signal::KILL).ok();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_proxy_outlives_its_standalone_and_is_found_again() {
        let host = Standalone::new(8);
        let state = StateFolder::open(host.paths.clone()).unwrap();
        let mut first = host.fleet();
        assert!(matches!(first.ensure(&host.gateway).unwrap(), Ensured::Started { .. }));
        let before = host.ready(&mut first).await;
        // What a killed standalone leaves: processes and files.
        drop((first, state));

        let _state = StateFolder::open(host.paths.clone()).unwrap();
        let mut second = host.fleet();
        assert_eq!(second.left_over().unwrap(), std::slice::from_ref(&host.gateway));
        let pid = before.pid.unwrap();
        assert_eq!(second.ensure(&host.gateway).unwrap(), Ensured::Attached { pid });
        assert_eq!(second.ensure(&host.gateway).unwrap(), Ensured::Running { pid });
        ask(&mut TcpStream::connect(host.listen).unwrap());

        second.stop(&host.gateway).await.unwrap();
        assert!(TcpStream::connect(host.listen).is_err());
        assert!(!host.paths.gateway(&host.gateway).exists());
        assert_eq!(second.left_over().unwrap(), []);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_supervisor_is_replaced_and_its_envoy_ended() {
        let host = Standalone::new(9);
        let _state = StateFolder::open(host.paths.clone()).unwrap();
        let mut fleet = host.fleet();
        let before = host.ready(&mut fleet).await;
        let folder = host.paths.gateway(&host.gateway);
        let envoy = ProcessId::of(ProxyStatus::read(&folder).unwrap().unwrap().envoy.unwrap()).unwrap();
        let supervisor = Lock::holder(&folder.join(LOCK_FILE)).unwrap();
        supervisor.signal(rustix::process::Signal::KILL).unwrap();
        assert!(supervisor.ended_within(DEADLINE).await);
        assert!(!fleet.status(&host.gateway).ready);
        let after = host.ready(&mut fleet).await;
        assert_ne!(after.pid, before.pid);
        assert!(!envoy.is_alive(), "two Envoys must not share a port");
        ask(&mut TcpStream::connect(host.listen).unwrap());
        assert!(fleet.stop_all(&BTreeSet::from([host.gateway.clone()])).await.is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_second_supervisor_refuses() {
        let host = Standalone::new(10);
        let _state = StateFolder::open(host.paths.clone()).unwrap();
        let mut fleet = host.fleet();
        let running = host.ready(&mut fleet).await;
        let output = tokio::process::Command::new(program(host.root.path(), host.listen))
            .arg("proxy")
            .args(["--gateway", "default/test", "--xds-socket", "/tmp/none.sock", "--state-dir"])
            .arg(host.paths.gateway(&host.gateway))
            .output()
            .await
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        let expected = format!("holder: Some({})", running.pid.unwrap());
        assert!(said.contains(&expected), "{said}");
        assert_eq!(fleet.status(&host.gateway), running, "the first one is not disturbed");
        fleet.stop(&host.gateway).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_bootstrap_of_a_fleet_says_that_its_control_plane_is_absent() {
        // Port 0: the real bootstrap, with the statistics that it keeps.
        let mut host = Standalone::new(11);
        host.listen.set_port(0);
        let _state = StateFolder::open(host.paths.clone()).unwrap();
        let mut fleet = host.fleet();
        fleet.ensure(&host.gateway).unwrap();
        let folder = host.paths.gateway(&host.gateway);
        let started = Instant::now();
        let connected = loop {
            if let Some(connected) = ProxyStatus::read(&folder).unwrap().and_then(|status| status.connected) {
                break connected;
            }
            assert!(started.elapsed() < DEADLINE, "{:?}", ProxyStatus::read(&folder));
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(!connected);
        assert!(!fleet.status(&host.gateway).ready, "without its first configuration it is not live");
        fleet.stop(&host.gateway).await.unwrap();
    }
}
