//! Processes: what comes back after it was killed, what outlives its parent, what ends, and who may run beside whom.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::time::{Duration, Instant};

use portolan::fleet::process::ProcessId;
use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::manifest::{gateway, http_gateway, join, route, secret};
use portolan_e2e::rig::processes::{Proxy, ended_within};
use portolan_e2e::rig::{Ask, DEADLINE, Lane, Load, Plan, Status, Target, World, table};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(10);

fn hello(backend: &str) -> String {
    route("hello", "hello.example", &format!("{{backendRefs: [{{name: {backend}, port: 80}}]}}"))
}

fn ask() -> Ask {
    Ask::get("hello.example", "/")
}

fn plan() -> Plan {
    World::plan()
        .backends(&["blue", "green"])
        .manifest("web.yaml", &http_gateway("web"))
        .manifest("hello.yaml", &hello("blue"))
}

/// The one proxy of a world with one Gateway.
fn proxy(world: &World) -> Proxy {
    let mut all = world.proxies();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn text(output: &Output) -> String {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{errors}")
}

async fn refused(target: &Target) -> bool {
    target.connect().await.is_err()
}

#[tokio::test]
async fn programmed_means_that_it_serves() {
    for _ in 0..3 {
        let world = plan().prepare();
        world.run();
        let said = |status: &Status| {
            status.programmed("Gateway/default/web") && status.programmed("HTTPRoute/default/hello")
        };
        let status = world.until("programmed", said).await;
        // True when a proxy is ready and every connected one acknowledged: an acknowledged listener may still be warming.
        assert!(status.proxy_ready("default/web"), "{status}");
        table(&world.http("web", 80).await, [(ask(), "blue")]).await;
    }
}

#[tokio::test]
async fn a_killed_envoy_comes_back_with_the_configuration_of_now() {
    let world = plan().start().await;
    let target = world.http("web", 80).await;
    table(&target, [(ask(), "blue")]).await;
    // What it comes back with is not what it began with.
    world.edit("hello.yaml", &hello("green")).await;
    let first = proxy(&world).envoy.unwrap();
    first.signal(Signal::KILL).unwrap();
    let back = |status: &Status| status.restarts("default/web") == Some(1) && status.settled();
    world.until("Envoy is back", back).await;
    assert_ne!(proxy(&world).envoy.unwrap(), first);
    assert_eq!(world.http("web", 80).await.address(), target.address(), "the address is the same");
    table(&target, [(ask(), "green")]).await;
}

#[tokio::test]
async fn a_change_while_envoy_is_dead_is_served_when_it_is_back() {
    let world = plan().start().await;
    let target = world.http("web", 80).await;
    proxy(&world).envoy.unwrap().signal(Signal::KILL).unwrap();
    world.edit("hello.yaml", &hello("green")).await;
    table(&target, [(ask(), "green")]).await;
}

#[tokio::test]
async fn a_killed_supervisor_is_replaced_and_leaves_one_envoy() {
    let world = plan().start().await;
    let target = world.http("web", 80).await;
    let before = proxy(&world);
    before.supervisor.as_ref().unwrap().signal(Signal::KILL).unwrap();
    // Until the new supervisor has written its own status, the one before it counts.
    let replaced = |status: &Status| {
        let now = proxy(&world);
        now.supervisor != before.supervisor
            && now.envoy.is_some_and(|envoy| Some(&envoy) != before.envoy.as_ref())
            && status.proxy_ready("default/web")
            && status.settled()
    };
    world.until("another supervisor runs an Envoy of its own", replaced).await;
    assert!(
        ended_within(before.envoy.as_ref().unwrap(), SOON),
        "the Envoy of the killed supervisor still runs"
    );
    table(&target, [(ask(), "blue")]).await;
}

/// A standalone that is killed and started again, over everything a proxy can have: several types, a Secret among them.
#[tokio::test]
async fn a_killed_standalone_attaches_again_resends_nothing_and_drops_nothing() {
    let authority = Authority::new("test").unwrap();
    let pair = authority.server(&["hello.example".to_owned()]).unwrap();
    let listeners = "{name: http, port: 80, protocol: HTTP},
        {name: https, port: 443, protocol: HTTPS, hostname: hello.example, tls: {certificateRefs: [{name: cert}]}}";
    let world = World::plan()
        .backends(&["blue", "green"])
        .manifest("web.yaml", &join([gateway("web", listeners), secret("cert", &pair)]))
        .manifest("hello.yaml", &hello("blue"))
        .start()
        .await;
    let target = world.http("web", 80).await;
    let https = Target::https(world.http("web", 443).await.address(), "hello.example");
    let loads = [&target, &https].map(|target| Load::start(target, &ask(), |_| Ok(())));
    let before = proxy(&world);
    loads[0].more(50).await;

    world.kill();
    loads[0].more(50).await;
    world.run();
    world.settled().await;
    loads[0].more(50).await;
    assert_eq!(proxy(&world), before, "the same processes serve");
    assert_eq!(world.http("web", 80).await.address(), target.address());

    // What was sent to it since it connected again.
    let streams = world.json("/debug/streams").await;
    let streams: Vec<_> = streams.as_object().unwrap().values().collect();
    let [stream] = streams.as_slice() else { panic!("one proxy is connected: {streams:?}") };
    let types = stream["types"].as_object().unwrap();
    let resent = types.iter().map(|(kind, summary)| (kind.as_str(), summary["resources"].as_u64().unwrap()));
    let expected = [("cds", 0), ("eds", 0), ("lds", 0), ("rds", 0), ("sds", 1), ("vhds", 0)];
    assert_eq!(resent.collect::<Vec<_>>(), expected, "only Secrets go out again (design.md §6): {stream}");

    // And it follows changes again.
    world.edit("hello.yaml", &hello("green")).await;
    table(&target, [(ask(), "green")]).await;
    for load in loads {
        let report = load.stop().await;
        report.assert_clean(50);
        for lane in [Lane::Kept, Lane::Http2] {
            assert_eq!(report.lane(lane).connections, 1, "no connection is closed:\n{report}");
        }
    }
}

#[tokio::test]
async fn changes_made_while_no_standalone_ran_are_taken_up() {
    let world = plan().start().await;
    let target = world.http("web", 80).await;
    let load = Load::start(&target, &ask(), |_| Ok(()));
    let before = proxy(&world);
    world.kill();
    world.write("hello.yaml", &hello("green"));
    world.write("new.yaml", &route("new", "new.example", "{backendRefs: [{name: blue, port: 80}]}"));
    world.run();
    world
        .until("the new route is programmed", |status| {
            status.settled() && status.programmed("HTTPRoute/default/new")
        })
        .await;
    table(&target, [(ask(), "green"), (Ask::get("new.example", "/"), "blue")]).await;
    assert_eq!(proxy(&world), before, "the same processes serve");
    load.stop().await.assert_clean(20);
}

#[tokio::test]
async fn a_gateway_deleted_while_no_standalone_ran_ends_its_proxy() {
    let world = plan().manifest("second.yaml", &http_gateway("second")).start().await;
    let second = world.http("second", 80).await;
    world.kill();
    world.remove("second.yaml");
    world.run();
    world.settled().await;
    let started = Instant::now();
    while world.proxies().len() > 1 {
        assert!(started.elapsed() < DEADLINE, "{:?}", world.proxies());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused(&second).await);
}

#[tokio::test]
async fn a_clean_stop_leaves_no_process_and_no_port() {
    let world = plan().manifest("second.yaml", &http_gateway("second")).start().await;
    let addresses: Vec<SocketAddr> =
        vec![world.http("web", 80).await.address(), world.http("second", 80).await.address()];
    let proxies = world.proxies();
    assert_eq!(proxies.len(), 2);
    let standalone = world.process();
    let status = world.stop();
    assert!(status.success(), "{status}\n{}", world.log_end());
    let all =
        proxies.into_iter().flat_map(|proxy| [proxy.supervisor, proxy.envoy]).flatten().chain([standalone]);
    for process in all {
        assert!(!process.is_alive(), "pid {} is left", process.pid);
    }
    for address in addresses {
        // Not shared: what still listens would be found.
        TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    assert!(!world.paths().api_socket().exists());
    assert_eq!(std::fs::read_dir(world.paths().gateways()).unwrap().count(), 0);
    let output = world.command("status", &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("no standalone runs for"), "{}", text(&output));
}

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let world = plan().argument("--drain-time").argument("20").prepare();
    world.run();
    world.settled().await;
    let target = world.http("web", 80).await;
    let slow = tokio::spawn(async move { target.ask(&Ask::get("hello.example", "/?delay=2s")).await });
    let blue = world.backends.get("blue");
    let started = Instant::now();
    while blue.counts().is_empty() {
        assert!(started.elapsed() < DEADLINE, "the request does not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.process().signal(Signal::INT).unwrap();
    assert_eq!(slow.await.unwrap().short(), "blue");
    let status = world.stop();
    assert!(status.success(), "{status}\n{}", world.log_end());
}

#[tokio::test]
async fn a_second_signal_ends_everything_at_once() {
    let world = plan().argument("--drain-time").argument("600").prepare();
    world.run();
    world.settled().await;
    let target = world.http("web", 80).await;
    // A connection that stays open, so that the drain would wait.
    let mut open = target.connect().await.unwrap();
    assert_eq!(open.ask(&ask()).await.unwrap().short(), "blue");
    let all: Vec<ProcessId> =
        world.proxies().into_iter().flat_map(|one| [one.supervisor, one.envoy]).flatten().collect();
    world.process().signal(Signal::INT).unwrap();
    let started = Instant::now();
    while !world.log().contains("draining; a second signal") {
        assert!(started.elapsed() < DEADLINE, "{}", world.log_end());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = world.stop();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
    assert!(all.iter().all(|process| ended_within(process, SOON)), "{all:?}");
}

#[tokio::test]
async fn proxies_without_a_standalone_end_by_themselves() {
    let world = plan().argument("--max-detached").argument("1").prepare();
    world.run();
    world.settled().await;
    let target = world.http("web", 80).await;
    let before = proxy(&world);
    world.kill();
    assert!(!refused(&target).await, "it serves on for a while");
    assert!(ended_within(before.supervisor.as_ref().unwrap(), DEADLINE), "it serves for ever");
    assert!(!before.envoy.unwrap().is_alive());
}

#[tokio::test]
async fn two_standalones_run_side_by_side() {
    let one = plan().start().await;
    let two = World::plan()
        .backends(&["red"])
        .manifest("web.yaml", &http_gateway("web"))
        .manifest("hello.yaml", &hello("red"))
        .start()
        .await;
    let (first, second) = (one.http("web", 80).await, two.http("web", 80).await);
    assert_ne!(
        first.address().ip(),
        second.address().ip(),
        "Gateways of one name have addresses of their own"
    );
    table(&first, [(ask(), "blue")]).await;
    table(&second, [(ask(), "red")]).await;
    drop(two);
    table(&first, [(ask(), "blue")]).await;
}

#[tokio::test]
async fn a_second_standalone_on_the_same_folder_is_refused() {
    let world = plan().start().await;
    let output = world.standalone().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let pid = world.process().pid.to_string();
    let said = text(&output);
    assert!(said.contains("already running") && said.contains(&pid), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // The first one does not notice.
    world.edit("hello.yaml", &hello("green")).await;
    table(&world.http("web", 80).await, [(ask(), "green")]).await;
}

#[tokio::test]
async fn a_deleted_gateway_ends_its_proxy_and_no_other() {
    let world = plan().manifest("second.yaml", &http_gateway("second")).start().await;
    let (first, second) = (world.http("web", 80).await, world.http("second", 80).await);
    let gone: Vec<Proxy> = world.proxies().into_iter().filter(|one| one.folder.contains("second")).collect();
    let [gone] = gone.as_slice() else { panic!("{gone:?}") };
    let load = Load::start(&first, &ask(), |_| Ok(()));
    world.remove("second.yaml");
    for process in [&gone.supervisor, &gone.envoy].into_iter().flatten() {
        assert!(ended_within(process, DEADLINE), "pid {} runs on", process.pid);
    }
    assert!(refused(&second).await);
    let forgotten = |status: &Status| !status.gateways().contains(&"default/second".to_owned());
    world.until("it is not in the status any more", forgotten).await;
    load.more(20).await;
    load.stop().await.assert_clean(5);
    // It may come again.
    world.edit("second.yaml", &http_gateway("second")).await;
    table(&world.http("second", 80).await, [(Ask::get("hello.example", "/"), "404")]).await;
}

#[tokio::test]
async fn the_status_command_tells_what_the_endpoint_tells() {
    let world = plan().start().await;
    let output = world.command("status", &["-o", "json"]);
    assert!(output.status.success(), "{}", text(&output));
    let told = Status::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let asked = world.status().await;
    assert_eq!(told.pid(), Some(u64::from(world.process().pid)));
    assert_eq!(told.objects(), asked.objects());
    assert!(told.settled() && told.programmed("Gateway/default/web"), "{told}");
    let address = told.bound("default/web", 80).unwrap();
    assert_eq!(address, world.http("web", 80).await.address());
    let table = world.command("status", &[]);
    let shown = text(&table);
    assert!(table.status.success() && shown.contains("default/web") && shown.contains("hello"), "{shown}");
    assert!(shown.contains(&address.to_string()), "{shown}");
}

#[tokio::test]
async fn health_metrics_and_debug_pages_answer() {
    let authority = Authority::new("test").unwrap();
    let pair = authority.server(&["hello.example".to_owned()]).unwrap();
    let listeners = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}";
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::plan()
        .backend("blue")
        .argument("--admin")
        .argument(&free.to_string())
        .manifest("web.yaml", &join([gateway("web", listeners), secret("cert", &pair)]))
        .manifest("hello.yaml", &hello("blue"))
        .start()
        .await;
    let key: String = pair.key.lines().nth(1).unwrap().to_owned();
    let tcp = Target::http(free);
    for page in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/status",
        "/debug/world",
        "/debug/ir",
        "/debug/xds",
        "/debug/streams",
    ] {
        let (code, over_socket) = world.get(page).await.unwrap();
        let over_tcp = tcp.ask(&Ask::get("portolan", page)).await;
        assert_eq!((code, over_tcp.status), (200, 200), "{page}: {over_socket}");
        assert!(!over_socket.is_empty(), "{page}");
        assert!(
            !over_socket.contains(&key) && !over_socket.contains("PRIVATE KEY"),
            "{page} shows a private key"
        );
    }
    let object = "/debug/world?object=Secret/default/cert";
    let (code, shown) = world.get(object).await.unwrap();
    assert_eq!(code, 200, "{shown}");
    assert!(!shown.contains(&key) && !shown.contains("PRIVATE KEY"), "{object} shows a private key");
    let responses = world.responses().await;
    assert!(responses.get("lds ack").is_some_and(|count| *count > 0), "{responses:?}");
}
