//! Changes under a steady loop of requests: not one may fail, and each answer must be of one configuration, old or new.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::manifest::{gateway, http_gateway, join, route, secret, service};
use portolan_e2e::rig::{Answer, Ask, DEADLINE, Lane, Load, Shared, Target, World, table, until, websocket};

static WORLD: Shared = Shared::new();

/// The tests below change objects of their own on hosts of their own, beside each other.
async fn world() -> &'static World {
    WORLD
        .get(async || {
            World::plan()
                .backends(&["blue", "green"])
                .manifest("web.yaml", &http_gateway("web"))
                .manifest("alternating.yaml", &alternating(0))
                .manifest("burst.yaml", &burst(0))
                .manifest("reordered.yaml", &reordered(0))
                .manifest(
                    "moving.yaml",
                    &route("moving", "moving.example", "{backendRefs: [{name: blue, port: 80}]}"),
                )
                .start()
                .await
        })
        .await
}

/// Odd: green and `x-version: odd`; even: blue and `x-version: even`.
fn two_faced(name: &str, number: u32) -> String {
    let (backend, version) = if number.is_multiple_of(2) { ("blue", "even") } else { ("green", "odd") };
    let set = format!("set: [{{name: X-Version, value: {version}}}, {{name: X-Number, value: '{number}'}}]");
    let filter = format!("{{type: RequestHeaderModifier, requestHeaderModifier: {{{set}}}}}");
    let rule = format!("{{filters: [{filter}], backendRefs: [{{name: {backend}, port: 80}}]}}");
    route(name, &format!("{name}.example"), &rule)
}

fn alternating(number: u32) -> String {
    two_faced("alternating", number)
}

fn burst(number: u32) -> String {
    two_faced("burst", number)
}

/// Backend and filter of one configuration, never of two.
fn of_one_piece(answer: &Answer) -> Result<(), String> {
    let echoed = answer.echoed();
    match (echoed.instance.as_str(), echoed.header("x-version").as_slice()) {
        ("blue", ["even"]) | ("green", ["odd"]) => Ok(()),
        (instance, version) => Err(format!("backend {instance} with version {version:?}")),
    }
}

#[tokio::test]
async fn two_hundred_alternations_of_backend_and_filter() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let load = Load::start(&target, &Ask::get("alternating.example", "/"), of_one_piece);
    load.more(50).await;
    for number in 1..=200 {
        world.edit("alternating.yaml", &alternating(number)).await;
    }
    load.more(50).await;
    let report = load.stop().await;
    report.assert_clean(200);
    assert!(report.answers("blue") > 50 && report.answers("green") > 50, "{report}");
    for lane in [Lane::Kept, Lane::Http2] {
        assert_eq!(report.lane(lane).connections, 1, "a change of routes closes no connection:\n{report}");
    }
}

#[tokio::test]
async fn two_hundred_edits_as_fast_as_they_can_be_written() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let load = Load::start(&target, &Ask::get("burst.example", "/"), of_one_piece);
    load.more(50).await;
    for number in 1..=200 {
        world.write("burst.yaml", &burst(number));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The last one is in force in the end.
    let started = Instant::now();
    let last = Ask::get("burst.example", "/");
    while target.ask(&last).await.echoed().header("x-number") != ["200"] {
        assert!(started.elapsed() < DEADLINE, "the last edit is not served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    load.more(50).await;
    load.stop().await.assert_clean(50);
}

/// The same five rules in another order.
fn reordered(turn: usize) -> String {
    let mut rules: Vec<String> = ["/a", "/a/b", "/a/b/c", "/d", "/"]
        .iter()
        .enumerate()
        .map(|(index, prefix)| {
            let backend = if index % 2 == 0 { "blue" } else { "green" };
            format!(
                "{{matches: [{{path: {{value: {prefix}}}}}], backendRefs: [{{name: {backend}, port: 80}}]}}"
            )
        })
        .collect();
    rules.rotate_left(turn % 5);
    route("reordered", "reordered.example", &rules.join(", "))
}

#[tokio::test]
async fn rules_reordered() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let expect = |expected: &'static str| {
        move |answer: &Answer| {
            if answer.short() == expected { Ok(()) } else { Err(format!("answered by {}", answer.short())) }
        }
    };
    let loads = [("/a/x", "blue"), ("/a/b/x", "green"), ("/a/b/c/x", "blue"), ("/d", "green")].map(
        |(path, backend)| {
            Load::on(
                &[Lane::Kept, Lane::Http2],
                &target,
                &Ask::get("reordered.example", path),
                expect(backend),
            )
        },
    );
    for turn in 1..=40 {
        world.edit("reordered.yaml", &reordered(turn)).await;
    }
    for load in loads {
        load.more(20).await;
        load.stop().await.assert_clean(40);
    }
}

#[tokio::test]
async fn a_backend_moved_to_new_services() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let load = Load::start(&target, &Ask::get("moving.example", "/"), |_| Ok(()));
    for round in 0..12 {
        let (name, backend) = (format!("moved-{round}"), if round % 2 == 0 { "green" } else { "blue" });
        // The Service comes in the same moment as the route that needs it: its cluster must be warm before it is used.
        world.write(&format!("{name}.yaml"), &service(&name, &[world.backends.address(backend)]));
        let rule = format!("{{backendRefs: [{{name: {name}, port: 80}}]}}");
        world.edit("moving.yaml", &route("moving", "moving.example", &rule)).await;
        table(&target, [(Ask::get("moving.example", "/"), backend)]).await;
        if round > 0 {
            world.remove(&format!("moved-{}.yaml", round - 1));
        }
        load.more(30).await;
    }
    load.stop().await.assert_clean(100);
}

#[tokio::test]
async fn endpoints_rolled() {
    let world = World::plan()
        .backends(&["roll-0"])
        .manifest("web.yaml", &http_gateway("web"))
        .manifest(
            "rolled.yaml",
            &route("rolled", "rolled.example", "{backendRefs: [{name: rolled, port: 80}]}"),
        )
        .prepare();
    let endpoints = |names: &[&str]| {
        let addresses: Vec<_> = names.iter().map(|name| world.backends.address(name)).collect();
        service("rolled", &addresses)
    };
    world.write("service.yaml", &endpoints(&["roll-0"]));
    world.run();
    world.settled().await;
    let target = world.http("web", 80).await;
    let load = Load::start(&target, &Ask::get("rolled.example", "/"), |_| Ok(()));
    let asked = |name: &str| world.backends.get(name).counts().get("/").copied().unwrap_or_default();
    for round in 1..=6 {
        let (old, new) = (format!("roll-{}", round - 1), format!("roll-{round}"));
        world.backends.start(&new);
        world.write("service.yaml", &endpoints(&[&old, &new]));
        let started = Instant::now();
        while asked(&new) < 10 {
            assert!(started.elapsed() < DEADLINE, "{new} gets no requests");
            load.more(5).await;
        }
        world.write("service.yaml", &endpoints(&[&new]));
        // An endpoint ends once it gets nothing more, as a pod does that waits before it stops.
        let mut last = asked(&old);
        loop {
            assert!(started.elapsed() < DEADLINE, "{old} still gets requests");
            load.more(100).await;
            let now = asked(&old);
            if now == last {
                break;
            }
            last = now;
        }
        world.backends.end(&old);
    }
    load.more(50).await;
    load.stop().await.assert_clean(100);
}

const STEADY: &str = "{name: http, port: 80, protocol: HTTP},
    {name: https, port: 443, protocol: HTTPS, hostname: steady.example, tls: {certificateRefs: [{name: cert}]}}";

#[tokio::test]
async fn listeners_added_and_removed() {
    let authority = Authority::new("test").unwrap();
    let pair = authority.server(&["steady.example".to_owned(), "other.example".to_owned()]).unwrap();
    let world = World::plan()
        .backends(&["blue", "green"])
        .manifest("secret.yaml", &secret("cert", &pair))
        .manifest("web.yaml", &gateway("web", STEADY))
        .manifest(
            "steady.yaml",
            &route("steady", "steady.example", "{backendRefs: [{name: blue, port: 80}]}"),
        )
        .manifest("other.yaml", &route("other", "other.example", "{backendRefs: [{name: green, port: 80}]}"))
        .start()
        .await;
    let http = world.http("web", 80).await;
    let https = Target::https(world.http("web", 443).await.address(), "steady.example");
    let ask = Ask::get("steady.example", "/");
    let loads = [Load::start(&http, &ask, |_| Ok(())), Load::start(&https, &ask, |_| Ok(()))];
    // On a new port, on the port of the HTTP listener, and on the port of the HTTPS listener.
    let added = "{name: new, port: 8080, protocol: HTTP},
        {name: beside, port: 80, protocol: HTTP, hostname: other.example},
        {name: chain, port: 443, protocol: HTTPS, hostname: other.example, tls: {certificateRefs: [{name: cert}]}}";
    for _ in 0..5 {
        world.edit("web.yaml", &gateway("web", &format!("{STEADY}, {added}"))).await;
        let new = world.http("web", 8080).await;
        let chain = Target::https(https.address(), "other.example");
        let other = Ask::get("other.example", "/");
        for target in [&new, &http, &chain] {
            let served = async || target.try_ask(&other).await.is_ok_and(|answer| answer.short() == "green");
            until("a listener that was added serves", served).await;
        }
        world.edit("web.yaml", &gateway("web", STEADY)).await;
        until("a listener that was removed is gone", async || chain.try_ask(&other).await.is_err()).await;
        for load in &loads {
            load.more(30).await;
        }
    }
    for load in loads {
        let report = load.stop().await;
        report.assert_clean(40);
        for lane in [Lane::Kept, Lane::Http2] {
            assert_eq!(report.lane(lane).connections, 1, "other listeners' connections stay:\n{report}");
        }
    }
}

#[tokio::test]
async fn a_certificate_rotated() {
    let authority = Authority::new("test").unwrap();
    let made = || authority.server(&["steady.example".to_owned()]).unwrap();
    let first = made();
    let world = World::plan()
        .backend("blue")
        .manifest("cert.yaml", &secret("cert", &first))
        .manifest("web.yaml", &gateway("web", STEADY))
        .manifest(
            "steady.yaml",
            &route("steady", "steady.example", "{backendRefs: [{name: blue, port: 80}]}"),
        )
        .start()
        .await;
    let https = Target::https(world.http("web", 443).await.address(), "steady.example");
    assert!(https.connect().await.unwrap().shows(&first.certificate));
    let load = Load::start(&https, &Ask::get("steady.example", "/"), |_| Ok(()));
    for round in 0..10 {
        let pair = made();
        world.write("cert.yaml", &secret("cert", &pair));
        let started = Instant::now();
        while !https.connect().await.unwrap().shows(&pair.certificate) {
            assert!(started.elapsed() < DEADLINE, "round {round}: the new certificate is not shown");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        load.more(30).await;
    }
    load.stop().await.assert_clean(40);
}

#[tokio::test]
async fn routes_and_everything_they_need_in_one_file() {
    let world =
        World::plan().backends(&["blue", "green"]).manifest("web.yaml", &http_gateway("web")).start().await;
    let target = world.http("web", 80).await;
    let green = world.backends.address("green");
    let all = |generation: u32| {
        let name = format!("all-{generation}");
        let rule = format!("{{backendRefs: [{{name: {name}, port: 80}}]}}");
        join([service(&name, &[green]), route("all", "all.example", &rule)])
    };
    world.edit("all.yaml", &all(0)).await;
    let load = Load::start(&target, &Ask::get("all.example", "/"), |_| Ok(()));
    for generation in 1..=20 {
        // The Service of the route before goes in the same write that brings the next one.
        world.edit("all.yaml", &all(generation)).await;
        load.more(10).await;
    }
    load.stop().await.assert_clean(60);
}

#[tokio::test]
async fn a_listener_moved_to_another_certificate() {
    let authority = Authority::new("test").unwrap();
    let pairs = ["one", "two"].map(|name| (name, authority.server(&["steady.example".to_owned()]).unwrap()));
    let listener = |secret: &str| {
        let tls = format!("tls: {{certificateRefs: [{{name: {secret}}}]}}");
        gateway(
            "web",
            &format!("{{name: https, port: 443, protocol: HTTPS, hostname: steady.example, {tls}}}"),
        )
    };
    let world = World::plan()
        .backend("blue")
        .manifest("secrets.yaml", &join(pairs.iter().map(|(name, pair)| secret(name, pair))))
        .manifest("web.yaml", &listener("one"))
        .manifest(
            "steady.yaml",
            &route("steady", "steady.example", "{backendRefs: [{name: blue, port: 80}]}"),
        )
        .start()
        .await;
    let https = Target::https(world.http("web", 443).await.address(), "steady.example");
    let load = Load::start(&https, &Ask::get("steady.example", "/"), |_| Ok(()));
    for round in 1..=6 {
        let (name, pair) = &pairs[round % 2];
        world.edit("web.yaml", &listener(name)).await;
        assert!(
            https.connect().await.unwrap().shows(&pair.certificate),
            "round {round}: another certificate is shown"
        );
        load.more(30).await;
    }
    // Its connections may be asked to close, for they belong to the chain before; their requests are answered.
    load.stop().await.assert_clean(40);
}

#[tokio::test]
async fn a_request_in_flight_outlives_its_route_and_its_service() {
    let world = World::plan()
        .backends(&["blue", "green", "slow"])
        .manifest("web.yaml", &http_gateway("web"))
        .manifest("long.yaml", &route("long", "long.example", "{backendRefs: [{name: slow, port: 80}]}"))
        .start()
        .await;
    let target = world.http("web", 80).await;
    // Longer than a cluster is kept for requests that may still choose it.
    let request = tokio::spawn(async move { target.ask(&Ask::get("long.example", "/?delay=13s")).await });
    let slow = world.backends.get("slow");
    let started = Instant::now();
    while slow.counts().is_empty() {
        assert!(started.elapsed() < DEADLINE, "the request does not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.remove("long.yaml");
    world.remove("backend-slow.yaml");
    let gone = |status: &portolan_e2e::rig::Status| {
        status.object("HTTPRoute/default/long").is_none() && status.settled()
    };
    world.until("the route is gone", gone).await;
    let target = world.http("web", 80).await;
    table(&target, [(Ask::get("long.example", "/"), "404")]).await;
    assert_eq!(request.await.unwrap().short(), "slow");
}

#[tokio::test]
async fn a_request_in_flight_outlives_its_listener() {
    let both = "{name: http, port: 80, protocol: HTTP}, {name: short, port: 8080, protocol: HTTP}";
    let world = World::plan()
        .backend("blue")
        .manifest("web.yaml", &gateway("web", both))
        .manifest("any.yaml", &route("any", "any.example", "{backendRefs: [{name: blue, port: 80}]}"))
        .start()
        .await;
    let target = world.http("web", 8080).await;
    let request = tokio::spawn(async move { target.ask(&Ask::get("any.example", "/?delay=4s")).await });
    let blue = world.backends.get("blue");
    let started = Instant::now();
    while blue.counts().is_empty() {
        assert!(started.elapsed() < DEADLINE, "the request does not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.edit("web.yaml", &http_gateway("web")).await;
    assert_eq!(request.await.unwrap().short(), "blue");
}

#[tokio::test]
async fn a_websocket_stays_open_while_its_route_changes() {
    let world = world().await;
    let rule = |number: u32| {
        let set = format!("set: [{{name: X-Number, value: '{number}'}}]");
        let filter = format!("{{type: RequestHeaderModifier, requestHeaderModifier: {{{set}}}}}");
        route(
            "socket",
            "socket.example",
            &format!("{{filters: [{filter}], backendRefs: [{{name: blue, port: 82}}]}}"),
        )
    };
    world.edit("socket.yaml", &rule(0)).await;
    let address = world.http("web", 80).await.address();
    let mut socket = websocket::open(address, "socket.example", "/").await.unwrap();
    for number in 1..=20 {
        world.edit("socket.yaml", &rule(number)).await;
        assert_eq!(socket.exchange("still there").await, "still there");
    }
}
